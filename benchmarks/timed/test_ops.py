"""`benchmarks.ops` for pytest-benchmark, to keep runs and compare them: pytest benchmarks --benchmark-only

Times are those inside the kernels; rate, limit and share are in `extra_info` of what --benchmark-json writes.
"""

import pytest

from benchmarks._machine import KernelClock, gemm_peak_gflops, kernel_clock, set_threads
from benchmarks.ops import at_real_size, figures, verify
from microgpt.core import native
from microgpt.core.cases import CASES

CLOCK = KernelClock()


def kernel_time():
    """Seconds that the kernels have run while the clock was theirs."""
    return CLOCK.seconds


@pytest.fixture(scope="module")
def gemm_peak():
    """The sgemm rate of all CPUs, on which operations run too."""
    threads = native.threads()
    set_threads(None)
    yield gemm_peak_gflops(384)
    native.set_threads(threads)


@pytest.mark.benchmark(timer=kernel_time)
@pytest.mark.parametrize("name", CASES)
def test_op(benchmark, name, gemm_peak):
    case = CASES[name]
    verify(name, case)
    inputs, dy = at_real_size(case)
    with kernel_clock(CLOCK):
        benchmark.pedantic(case.run, (inputs, dy), rounds=20, warmup_rounds=1)
    if benchmark.enabled:
        benchmark.extra_info.update(figures(case, benchmark.stats.stats.median, gemm_peak))
