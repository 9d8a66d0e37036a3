"""The three products of a linear layer on a model's shapes, by BLAS and by our own kernels in fp32 and bf16.

  python -m benchmarks.gemm --preset 10m --preset 34m --threads 2

Rates include conversion and packing of both operands, in every call.  Each product is compared with float64
before it is timed; the kernels take turns.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from microgpt.common.command import run_command
from microgpt.common.errors import ConfigError, MicrogptError
from microgpt.common.flags import Parser
from microgpt.core import native, ops, reference
from microgpt.machine.cpus import add_threads_flag
from microgpt.model import ModelConfig
from microgpt.model.architecture import products
from microgpt.model.presets import PRESETS

from ._machine import seconds, set_threads
from .step import VOCAB_SIZE

CHECKED = 64  # rows of a product that are compared


class Kernel(NamedTuple):
    """One way to multiply: --precision, and MICROGPT_GEMM of fp32."""

    name: str
    precision: str
    gemm: str

    def rounded(self, operand: np.ndarray, rows: int) -> np.ndarray:
        """An operand as this kernel multiplies it, in a product of so many rows."""
        is_bf16 = self.precision == "bf16" and rows >= native.lib.MG_PACKED_ROWS
        return reference.to_bf16(operand) if is_bf16 else operand


def kernels() -> list[Kernel]:
    """Those that this machine has."""
    found = [Kernel("blas fp32", "fp32", "blas"), Kernel("own fp32", "fp32", "native")]
    if native.choose_precision("auto") == "bf16":
        found.append(Kernel("own bf16", "bf16", "native"))
    return found


def layers(config: ModelConfig, batch_size: int) -> Iterator[tuple[int, int, int]]:
    """(N, M, K) of the linear layers of a model, the head in the rows that training gives it."""
    yield from products(config, batch_size * config.seq_len)


class Layer:
    """The products of a linear layer (N, K) -> (N, M) on random numbers."""

    def __init__(self, N: int, M: int, K: int) -> None:
        generator = np.random.default_rng(0)
        shapes = (N, K), (M, K), (N, M)
        self.x, self.weight, self.dy = (generator.standard_normal(shape, np.float32) for shape in shapes)
        self.dweight = np.zeros((M, K), np.float32)
        self.products: dict[str, Callable[[str], np.ndarray]] = {
            "y": self.y,
            "dx": self.dx,
            "dweight": self.add,
        }

    def y(self, precision: str) -> np.ndarray:
        return ops.linear_forward(self.x, self.weight, precision)

    def dx(self, precision: str) -> np.ndarray:
        return ops.linear_backward_input(self.dy, self.weight, precision)

    def add(self, precision: str) -> np.ndarray:
        ops.linear_backward_weight(self.dy, self.x, self.dweight, precision)
        return self.dweight

    def verify(self, kernel: Kernel) -> None:
        """Compare a few rows of each product with float64, operands rounded as the kernel rounds them."""
        self.dweight[:] = 0
        pairs = {"y": (self.x, self.weight.T), "dx": (self.dy, self.weight), "dweight": (self.dy.T, self.x)}
        for name, call in self.products.items():
            a, b = (kernel.rounded(array.astype(float), len(pairs[name][0])) for array in pairs[name])
            true = a[:CHECKED] @ b
            if not np.abs(call(kernel.precision)[:CHECKED] - true).max() <= 1e-5 * np.abs(true).max():
                raise MicrogptError(f"{kernel.name}: {name} of {self.x.shape} is wrong; not timed")


def measure(N: int, M: int, K: int, repeats: int) -> dict[str, dict[str, float]]:
    """Median seconds by product and kernel, the kernels taking turns."""
    layer, found = Layer(N, M, K), kernels()
    times: dict[tuple[str, str], list[float]] = {}
    for turn in range(1 + repeats):
        for kernel in found:
            native.use_gemm(kernel.gemm)
            if turn == 0:
                layer.verify(kernel)
            for name, call in layer.products.items():
                times.setdefault((name, kernel.name), []).append(seconds(call, kernel.precision))
    return {
        name: {kernel.name: statistics.median(times[name, kernel.name][1:]) for kernel in found}
        for name in layer.products
    }


def table(config: ModelConfig, batch_size: int, repeats: int) -> list[dict[str, Any]]:
    """GFLOP/s of every product of a model, printed row by row; the last row is all of them, each once."""
    rows: list[dict[str, Any]] = []
    total_flop, total_s = 0.0, dict.fromkeys((kernel.name for kernel in kernels()), 0.0)
    for N, M, K in layers(config, batch_size):
        flop = 2.0 * N * M * K
        for product, taken in measure(N, M, K, repeats).items():
            rows.append(row(f"{product} {N} x {M} x {K}", flop, taken))
            total_flop += flop
            total_s = {name: total_s[name] + taken[name] for name in taken}
    rows.append(row("all", total_flop, total_s))
    return rows


def row(name: str, flop: float, taken: dict[str, float]) -> dict[str, Any]:
    """One line of the table, printed and returned."""
    rates = {kernel: round(flop / dt / 1e9, 1) for kernel, dt in taken.items()}
    print(f"{name:<28} " + " ".join(f"{rate:>12.0f}" for rate in rates.values()), flush=True)
    return {"product": name, "gflops": rates}


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = Parser(prog="benchmarks.gemm", description=__doc__)
    parser.add_argument(
        "--preset",
        action="append",
        choices=list(PRESETS),
        metavar="NAME",
        help="shapes of a model by name; may be repeated [default 10m and 34m]",
    )
    parser.add_argument("--batch-size", type=int, default=1, help="windows in a step [default 1]")
    parser.add_argument("--repeats", type=int, default=15, help="timed calls of each product [default 15]")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    add_threads_flag(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Verify, time, print."""
    args = parse(argv)
    if args.repeats < 1 or args.batch_size < 1:
        raise ConfigError("--repeats and --batch-size: expected at least 1")
    threads, found = set_threads(args.threads), {}
    for preset in args.preset or ["10m", "34m"]:
        config = ModelConfig.from_preset(preset, VOCAB_SIZE)
        print(f"{preset}, B={args.batch_size}, {threads} threads, BLAS {native.info()['blas_core']}; GFLOP/s")
        print(f"{'N x M x K':<28} " + " ".join(f"{kernel.name:>12}" for kernel in kernels()))
        found[preset] = table(config, args.batch_size, args.repeats)
    if args.json:
        print(json.dumps({"threads": threads, "batch_size": args.batch_size, "models": found}))


if __name__ == "__main__":
    run_command(main)
