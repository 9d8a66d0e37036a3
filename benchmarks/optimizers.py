"""What the update of each optimizer takes beside the rest of a step, in turns.

    python -m benchmarks.optimizers --preset 34m --tokens 4096 --steps 5

Newton-Schulz's rate counts the multiplications that are made; the peak is that of the products of layers,
measured between the steps.
"""

import argparse
import json
import statistics
import time
from collections import Counter
from typing import Any

import numpy as np

from microgpt.common.command import run_command
from microgpt.common.flags import Parser, whole
from microgpt.core import native, ops
from microgpt.machine.cpus import add_threads_flag
from microgpt.model import GPT, ModelConfig
from microgpt.model.presets import PRESETS
from microgpt.runs.kinds import OPTIMIZERS
from microgpt.runs.settings import TrainConfig
from microgpt.training.adam import is_hidden
from microgpt.training.muon import POLYNOMIALS, blocks_of
from microgpt.training.thread_choice import TrialStep

from ._machine import add_precision_flag, gemm_peak_gflops, set_threads
from .step import VOCAB_SIZE, WARM_UP


def parser() -> Parser:
    """All flags."""
    flags = Parser(prog="benchmarks.optimizers", description=__doc__)
    flags.add_argument("--preset", choices=list(PRESETS), default="10m", help="dimensions [default 10m]")
    flags.add_argument("--tokens", type=whole(1), default=4096, help="in a step [default 4096]")
    flags.add_argument("--steps", type=whole(1), default=5, help="timed, after 2 to warm up [default 5]")
    flags.add_argument("--json", action="store_true", help="one JSON object as the last line")
    add_precision_flag(flags)
    add_threads_flag(flags)
    return flags


def trial(config: ModelConfig, optimizer: str, tokens: int, precision: str) -> TrialStep:
    """A step of a model with initial weights."""
    train = TrainConfig(threads="1", optimizer=optimizer, precision=precision)
    step = TrialStep(config, train, max(1, tokens // config.seq_len))
    step.model.init(0)
    return step


def timed(step: TrialStep) -> tuple[float, float]:
    """Seconds of forward and backward, and of the update with its norm."""
    times = [time.perf_counter()]
    _, n = step.model.loss_and_grad(step.batch, step.keys)
    times.append(time.perf_counter())
    step.optimizer.update(1e-5, step.optimizer.grad_norm(n), n)
    times.append(time.perf_counter())
    return times[1] - times[0], times[2] - times[1]


def stacks_of(model: GPT) -> list[np.ndarray]:
    """An array (n, M, K) for each shape of the matrices that Muon makes orthogonal."""
    hidden = [parameter for parameter in model.params.parameters if is_hidden(parameter)]
    shapes = Counter(model.params[p.name][block].shape for p in hidden for block in blocks_of(p))
    rng = np.random.default_rng(0)
    return [rng.standard_normal((n, *shape), np.float32) for shape, n in shapes.items()]


def newton_schulz_flop(M: int, K: int) -> float:
    """Of five steps: those of a long matrix in rounds of two and three, symmetric products by half."""
    s, size = min(M, K), M * K
    return 6 * size * s + 14 * s**3 if 2 * max(M, K) >= 3 * s else 15 * size * s + 5 * s**3


def newton_schulz_s(stacks: list[np.ndarray], precision: str) -> float:
    """Seconds for all matrices of a model."""
    polynomials, margin = POLYNOMIALS["newton-schulz"]
    start = time.perf_counter()
    for x in stacks:
        ops.newton_schulz(x, np.array(polynomials), margin, precision)
    return time.perf_counter() - start


def result(args: argparse.Namespace) -> dict[str, Any]:
    """Everything that the JSON line says."""
    precision, threads = native.choose_precision(args.precision), set_threads(args.threads)
    config = ModelConfig.from_preset(args.preset, VOCAB_SIZE, dropout=0.0)
    steps = {name: trial(config, name, args.tokens, precision) for name in OPTIMIZERS}
    stacks = stacks_of(steps["muon"].model)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    products, peak = [], 0.0
    for i in range(args.steps + WARM_UP):
        for name, step in steps.items():
            times[name].append(timed(step))
        products.append(newton_schulz_s(stacks, precision))
        if i >= WARM_UP:
            peak = max(peak, gemm_peak_gflops(config.n_embd, 2, precision))
    found: dict[str, Any] = {"preset": args.preset, "precision": precision, "threads": threads}
    for name, both in times.items():
        rest, update = (statistics.median(column) for column in zip(*both[WARM_UP:], strict=True))
        found |= {
            f"{name}_update_s": update,
            f"{name}_rest_s": rest,
            f"{name}_share": update / (rest + update),
        }
    seconds = statistics.median(products[WARM_UP:])
    flop = sum(len(x) * newton_schulz_flop(*x.shape[1:]) for x in stacks)
    return found | {"newton_schulz_s": seconds, "gflops": flop / seconds / 1e9, "peak_gflops": peak}


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    args = parser().parse_args(argv)
    found = result(args)
    for name in OPTIMIZERS:
        update, rest, share = (found[f"{name}_{what}"] for what in ("update_s", "rest_s", "share"))
        print(f"{name}: update {1e3 * update:.0f} ms beside {1e3 * rest:.0f} ms, {share:.1%} of the step")
    print(
        f"newton_schulz {1e3 * found['newton_schulz_s']:.0f} ms, {found['gflops']:.0f} GFLOP/s of "
        f"{found['peak_gflops']:.0f}"
    )
    if args.json:
        print(json.dumps(found))


if __name__ == "__main__":
    run_command(main)
