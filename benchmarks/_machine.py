"""What this machine can do: the ceiling that a benchmark's figure is a share of, measured in the same run."""

import time
from collections.abc import Callable

import numpy as np

from microgpt.core import native, ops
from microgpt.training.config import TrainConfig


def seconds(call: Callable[..., object], *args: object) -> float:
    """Wall-clock time of one call."""
    start = time.perf_counter()
    call(*args)
    return time.perf_counter() - start


def gemm_peak_gflops(n_embd: int, repeats: int = 5) -> float:
    """The best sgemm rate over shapes of a model of this width, on the threads now set."""
    best = 0.0
    for N, M, K in [(2048, 4 * n_embd, n_embd), (2048, n_embd, 4 * n_embd), (1024, 1024, 1024)]:
        x, weight = np.ones((N, K), np.float32), np.ones((M, K), np.float32)
        for _ in range(repeats):
            best = max(best, 2 * N * M * K / seconds(ops.linear_forward, x, weight) / 1e9)
    return best


def set_threads(text: str) -> int:
    """Run on `text` threads, a number or "auto" for all CPUs; returns how many."""
    native.set_threads(TrainConfig(threads=text).n_threads)
    return native.threads()
