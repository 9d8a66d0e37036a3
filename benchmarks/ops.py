"""Time every operation, forward and backward together, after checking it against the reference.

    python -m benchmarks.ops [--threads 2] [--repeats 20] [--json] [NAME ...]
    pytest benchmarks --benchmark-only    # the same in the tables and files of pytest-benchmark, on all CPUs

Only the time inside the kernels counts.  An operation of many FLOP a byte is measured in GFLOP/s, against
the sgemm rate; any other in GB/s, against a sum of two arrays of the same traffic.  Both limits are of the
same run and the same threads: an operation is done when its share of its limit is near 1.
"""

import argparse
import json
import statistics
from typing import Any

import numpy as np

from microgpt.common.command import run_command
from microgpt.common.errors import MicrogptError
from microgpt.common.flags import Parser
from microgpt.core import native
from microgpt.core.cases import CASES, Case, Inputs, cotangent
from microgpt.machine.cpus import add_threads_flag

from ._machine import gemm_peak_gflops, kernel_clock, set_threads, stream_gb_per_s

MATRIX = 10  # FLOP a byte: from about here on, arithmetic and not memory is what an operation waits for


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = Parser(prog="benchmarks.ops", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"operations [default all]: {', '.join(CASES)}"
    )
    parser.add_argument(
        "--repeats", type=int, default=20, help="timed runs of each; the median counts [default 20]"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    add_threads_flag(parser)
    return parser.parse_args(argv)


def verify(name: str, case: Case) -> None:
    """Refuse to time an operation whose output or gradients are wrong."""
    shape = case.shapes[-1]
    found, truth = (case.run(case.inputs(shape, dtype)) for dtype in (np.float32, np.float64))
    if mistakes := case.mistakes(found, truth):
        raise MicrogptError(f"{name}: {'; '.join(mistakes)}; not timed")


def at_real_size(case: Case) -> tuple[Inputs, np.ndarray]:
    """What one forward and backward of the size to be timed take."""
    inputs = case.inputs(case.bench, np.float32)
    return inputs, cotangent(case.forward(inputs)[0])


def kernel_seconds(case: Case, repeats: int) -> float:
    """Median time inside the kernels of one forward and backward: copies made around them are not theirs."""
    inputs, dy = at_real_size(case)
    times = []
    for _ in range(1 + repeats):
        with kernel_clock() as clock:
            case.run(inputs, dy)
        times.append(clock.seconds)
    return statistics.median(times[1:])  # the first one warms up


def figures(case: Case, dt: float, gemm_peak: float) -> dict[str, Any]:
    """Time, rate and limit of one operation that takes dt seconds at its real size."""
    flop, n_bytes = case.flop(*case.bench), case.bytes(*case.bench)
    if flop > MATRIX * n_bytes:
        unit, rate, limit = "GFLOP/s", flop / dt / 1e9, gemm_peak
    else:
        unit, rate, limit = "GB/s", n_bytes / dt / 1e9, stream_gb_per_s(n_bytes)
    return {
        "shape": list(case.bench),
        "kernel_s": dt,
        "rate": round(rate, 2),
        "limit": round(limit, 2),
        "unit": unit,
        "share": round(rate / limit, 4),
    }


def main(argv: list[str] | None = None) -> None:
    """Verify, time, print."""
    args = parse(argv)
    if unknown := [name for name in args.names if name not in CASES]:
        raise MicrogptError(f"no operation {', '.join(unknown)}; there are {', '.join(CASES)}")
    if args.repeats < 1:
        raise MicrogptError(f"--repeats {args.repeats}: expected at least 1")
    threads, machine = set_threads(args.threads), native.info()
    gemm_peak = gemm_peak_gflops(384)
    print(f"{threads} threads, {machine['isa']}, BLAS {machine['blas_core']}, sgemm {gemm_peak:.0f} GFLOP/s")
    print(f"{'operation':<16} {'shape':<18} {'ms':>8} {'rate':>8} {'limit':>8} {'':<8} {'share':>6}")
    found = {}
    for name in args.names or CASES:
        verify(name, CASES[name])
        dt = kernel_seconds(CASES[name], args.repeats)
        row = found[name] = figures(CASES[name], dt, gemm_peak)
        shape = " x ".join(map(str, row["shape"]))
        print(
            f"{name:<16} {shape:<18} {row['kernel_s'] * 1e3:>8.3f} {row['rate']:>8.1f} {row['limit']:>8.1f} "
            f"{row['unit']:<8} {row['share']:>6.0%}",
            flush=True,
        )
    if args.json:
        print(json.dumps({"threads": threads, "gemm_peak_gflops": round(gemm_peak, 1), "operations": found}))


if __name__ == "__main__":
    run_command(main)
