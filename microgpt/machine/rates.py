"""What this computer computes in a second, and what it calls itself."""

import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from microgpt.core import arrays, native, ops

STREAM_BYTES = 96 << 20  # of three arrays together: more than caches hold


def product_flop_per_s(precision: str, threads: int = 1) -> float:
    """The rate of one matrix product, fp32 or bf16, on so many threads."""
    n = 512 if threads == 1 else 1024
    x = np.ones((n, n), np.float32)
    return 2 * n**3 / _least_s(lambda: ops.linear_forward(x, x, precision), threads)


def bandwidth_bytes_per_s(threads: int) -> float:
    """The rate at which y = a + b moves memory, on so many threads."""
    n, keys = STREAM_BYTES // 12, np.zeros(1, np.uint64)
    a, b = np.ones(n, np.float32), np.ones(n, np.float32)
    return 12 * n / _least_s(lambda: ops.residual_forward(a, b, 0.0, keys), threads)


def _least_s(work: Callable[[], object], threads: int) -> float:
    """The least of a few times on so many threads; nothing else needs arrays of such sizes."""
    before, taken = native.threads(), []
    native.set_threads(threads)
    for _ in range(4):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    native.set_threads(before)
    arrays.release()
    return min(taken)


def cpu_name() -> str:
    """What the processor calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
