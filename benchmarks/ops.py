"""Time every operation, forward and backward together, after checking it against the reference.

    python -m benchmarks.ops [--threads 2] [--repeats 20] [NAME ...]

Prints milliseconds, GFLOP/s and GB/s.  Beside them stand the sgemm rate and the copy bandwidth that this
machine showed in the same run: an operation is done when it is near one of them.
"""

import argparse
import statistics

import numpy as np

from microgpt.common.errors import MicrogptError
from microgpt.common.flags import Parser, run_command
from microgpt.core import native
from microgpt.core.cases import CASES, Case, Inputs, normal

from ._machine import gemm_peak_gflops, seconds, set_threads


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = Parser(prog="benchmarks.ops", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"operations [default all]: {', '.join(CASES)}"
    )
    parser.add_argument("--threads", default="auto", help="CPU threads [default auto: all]")
    parser.add_argument(
        "--repeats", type=int, default=20, help="timed runs of each; the median counts [default 20]"
    )
    return parser.parse_args(argv)


def inputs_of(case: Case, shape: tuple[int, ...], dtype: type) -> Inputs:
    """The inputs of a case with its floats in one type."""
    made = case.make(*shape)
    return {name: x.astype(dtype) if x.dtype.kind == "f" else x for name, x in made.items()}


def run(case: Case, inputs: Inputs, dy: np.ndarray) -> dict[str, np.ndarray]:
    """Forward and backward; the gradients."""
    _, saved = case.forward(inputs)
    return case.backward(dy, inputs, saved, lambda name: np.zeros_like(inputs[name]))


def verify(name: str, case: Case) -> None:
    """Refuse to time an operation whose gradients are wrong."""
    shape = case.shapes[-1]
    inputs = inputs_of(case, shape, np.float32)
    truth = inputs_of(case, shape, np.float64)
    dy = normal("dy", *case.forward(truth)[0].shape)
    expected = run(case, truth, dy)
    for key, grad in run(case, inputs, dy.astype(np.float32)).items():
        if np.abs(grad - expected[key]).max() > 1e-4 * np.abs(expected[key]).max():
            raise MicrogptError(f"{name}: d{key} is wrong; not timed")


def copy_gb_per_s(repeats: int) -> float:
    """Bytes read and written by a large copy on one thread, the best of several."""
    x = np.ones(1 << 26, np.float32)
    y = np.empty_like(x)
    return max(2 * x.nbytes / seconds(np.copyto, y, x) / 1e9 for _ in range(repeats))


def main(argv: list[str] | None = None) -> None:
    """Verify, time, print."""
    args = parse(argv)
    if unknown := [name for name in args.names if name not in CASES]:
        raise MicrogptError(f"no operation {', '.join(unknown)}; there are {', '.join(CASES)}")
    if args.repeats < 1:
        raise MicrogptError(f"--repeats {args.repeats}: expected at least 1")
    threads = set_threads(args.threads)
    print(
        f"{threads} threads, {native.info()['isa']}, BLAS {native.info()['blas_core']}: "
        f"sgemm {gemm_peak_gflops(384):.0f} GFLOP/s, copy on one thread {copy_gb_per_s(5):.1f} GB/s"
    )
    print(f"{'operation':<14} {'shape':<18} {'ms':>9} {'GFLOP/s':>9} {'GB/s':>7}")
    for name in args.names or CASES:
        case = CASES[name]
        verify(name, case)
        inputs = inputs_of(case, case.bench, np.float32)
        dy = normal("dy", *case.forward(inputs)[0].shape).astype(np.float32)
        dt = statistics.median(seconds(run, case, inputs, dy) for _ in range(args.repeats))
        shape = " x ".join(map(str, case.bench))
        print(
            f"{name:<14} {shape:<18} {dt * 1e3:>9.2f} {case.flop(*case.bench) / dt / 1e9:>9.1f} "
            f"{case.bytes(*case.bench) / dt / 1e9:>7.1f}"
        )


if __name__ == "__main__":
    run_command(main)
