"""What this machine can do: the ceilings that a benchmark's figures are shares of, measured in the same run;
and how much of a time is spent in C."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from microgpt.common.flags import Parser
from microgpt.core import native, ops
from microgpt.machine.cpus import thread_count


def seconds(call: Callable[..., object], *args: object) -> float:
    """Wall-clock time of one call."""
    start = time.perf_counter()
    call(*args)
    return time.perf_counter() - start


def gemm_peak_gflops(n_embd: int, repeats: int = 5, precision: str = "fp32") -> float:
    """The best rate of our product in a precision, over shapes of a model of this width."""
    best = 0.0
    for N, M, K in [(2048, 4 * n_embd, n_embd), (2048, n_embd, 4 * n_embd), (1024, 1024, 1024)]:
        x, weight = np.ones((N, K), np.float32), np.ones((M, K), np.float32)
        for _ in range(repeats):
            dt = seconds(ops.linear_forward, x, weight, precision)
            best = max(best, 2 * N * M * K / dt / 1e9)
    return best


def stream_gb_per_s(n_bytes: float, repeats: int = 5) -> float:
    """Bandwidth of y = a + b on the threads now set, over arrays of n_bytes together, the best of several.

    The same traffic as the operation beside it, so that what fits into a cache is compared with that cache.
    """
    n = max(1, int(n_bytes / 12))
    a, b = np.ones(n, np.float32), np.ones(n, np.float32)
    best, keys = 0.0, np.zeros(1, np.uint64)
    for _ in range(repeats + 1):
        with kernel_clock() as clock:
            ops.residual_forward(a, b, 0.0, keys)
        best = max(best, 12 * n / clock.seconds / 1e9)
    return best


def add_precision_flag(flags: Parser) -> None:
    """--precision of a benchmark; `native.choose_precision` reads it."""
    flags.add_argument(
        "--precision", choices=native.PRECISIONS, default="fp32", help="of matrix products [default fp32]"
    )


def set_threads(text: str | None) -> int:
    """Run on `text` threads, a number or "auto" for all CPUs; returns how many."""
    native.set_threads(thread_count(text))
    return native.threads()


class KernelClock:
    """Adds up the time inside kernels."""

    def __init__(self) -> None:
        self.seconds = 0.0


class Timed:
    """Stands in for the kernels of one level; a clock hears of the time inside them."""

    def __init__(self, kernels: Any, clock: KernelClock) -> None:
        self._kernels, self._clock = kernels, clock

    def __getattr__(self, name: str) -> Any:
        value, clock = getattr(self._kernels, name), self._clock
        if not callable(value):
            return value

        def timed(*args: Any) -> Any:
            start = time.perf_counter()
            result = value(*args)
            clock.seconds += time.perf_counter() - start
            return result

        setattr(self, name, timed)  # found without this detour from now on
        return timed


@contextmanager
def kernel_clock(clock: KernelClock | None = None) -> Iterator[KernelClock]:
    """Time calls into C while this lasts, by a clock that is given or a new one; its `seconds` is the sum."""
    kernels, products, clock = native.lib, native.products, clock or KernelClock()
    native.lib = Timed(kernels, clock)
    native.products = {
        precision: found._replace(lib=Timed(found.lib, clock)) for precision, found in products.items()
    }
    try:
        yield clock
    finally:
        native.lib, native.products = kernels, products
