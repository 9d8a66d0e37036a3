"""What this computer computes in a second, and what it calls itself."""

import platform
import time
from pathlib import Path

import numpy as np

from microgpt.core import native, ops


def product_flop_per_s(precision: str) -> float:
    """The rate of one matrix product, fp32 or bf16, on one thread."""
    n, before = 512, native.threads()
    x = np.ones((n, n), np.float32)
    native.set_threads(1)
    taken = []
    for _ in range(4):
        start = time.perf_counter()
        ops.linear_forward(x, x, precision)
        taken.append(time.perf_counter() - start)
    native.set_threads(before)
    return 2 * n**3 / min(taken)


def cpu_name() -> str:
    """What the processor calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
