"""Time one training step: forward, backward, gradient norm, Adam.

    python -m benchmarks.step --preset 34m --batch-size 1 --threads 2 --steps 7 [--vs-torch] [--json]

The dimensions can be given by flags instead of a preset.  The matrix-product peak, and with --vs-torch the
same step in PyTorch, are measured between the steps of the same run, so that no ratio mixes two states of a
shared machine.  python_share is the part of a step outside the C kernels, measured in further steps.
Dropout is 0 unless asked for.
"""

import argparse
import contextlib
import json
import statistics
import sys
from typing import Any

from microgpt.common.command import run_command
from microgpt.common.errors import ConfigError
from microgpt.common.flags import Parser, add_settings, given, settings_from
from microgpt.core import native
from microgpt.machine.cpus import add_threads_flag
from microgpt.machine.memory import peak_memory
from microgpt.model import ModelConfig, count_parameters, flop_per_token
from microgpt.model.presets import PRESETS
from microgpt.runs.settings import TrainConfig
from microgpt.training.thread_choice import TrialStep

from ._machine import add_precision_flag, gemm_peak_gflops, kernel_clock, set_threads
from ._torch_peer import TorchPeer

WARM_UP = 2
PROFILED = 3
VOCAB_SIZE = 4261


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = Parser(prog="benchmarks.step", description=__doc__)
    parser.add_argument("--preset", choices=list(PRESETS), help="dimensions by name")
    parser.add_argument("--batch-size", type=int, default=1, help="windows in a step [default 1]")
    add_precision_flag(parser)
    parser.add_argument("--steps", type=int, default=7, help="timed steps, after 2 to warm up [default 7]")
    parser.add_argument("--vs-torch", action="store_true", help="beside the same step in PyTorch")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--recompute", action="store_true", help="keep only the inputs of layers")
    add_threads_flag(parser)
    add_settings(parser, ModelConfig)
    return parser.parse_args(argv)


def model_config(args: argparse.Namespace) -> ModelConfig:
    """The preset, without dropout, changed by the flags."""
    if args.preset:
        changes = {"vocab_size": VOCAB_SIZE, "dropout": 0.0, **given(args, ModelConfig)}
        return ModelConfig.from_preset(args.preset, **changes)
    return settings_from(args, ModelConfig, vocab_size=VOCAB_SIZE, dropout=0.0)


def trial_step(
    config: ModelConfig, batch_size: int, recompute: bool = False, precision: str = "fp32"
) -> TrialStep:
    """A step of a model with initial weights."""
    train = TrainConfig(threads="1", recompute=recompute, precision=precision)
    step = TrialStep(config, train, batch_size)
    step.model.init(0)
    return step


def measure(step: TrialStep, steps: int, peer: TorchPeer | None) -> dict[str, float]:
    """Median times of our step and the peer's, their median ratio, and the best sgemm GFLOP/s between."""
    ours, theirs, peak, threads = [], [], 0.0, native.threads()
    for i in range(steps + WARM_UP):
        ours.append(step.seconds())
        if peer:
            theirs.append(peer.seconds(threads))
        if i >= WARM_UP:
            peak = max(peak, gemm_peak_gflops(step.model.config.n_embd, 2, step.model.precision))
    ours, theirs = ours[WARM_UP:], theirs[WARM_UP:]
    found = {"step_s": statistics.median(ours), "gemm_peak_gflops": peak}
    return found | against(ours, theirs)


def against(ours: list[float], theirs: list[float]) -> dict[str, float]:
    """The peer's median time and its median ratio to ours, turn by turn; nothing without a peer."""
    if not theirs:
        return {}
    ratio = statistics.median(theirs[i] / ours[i] for i in range(len(ours)))
    return {"torch_step_s": round(statistics.median(theirs), 5), "ratio": round(ratio, 3)}


def python_share(step: TrialStep) -> float:
    """The part of a step's time that is not spent in C: 1 - time inside the kernels / time of the step."""
    shares = []
    for _ in range(PROFILED):
        with kernel_clock() as clock:
            step_s = step.seconds()
        shares.append(1 - clock.seconds / step_s)
    return statistics.median(shares)


def result(args: argparse.Namespace) -> dict[str, Any]:
    """Everything that the JSON line says."""
    if args.steps < 1 or args.batch_size < 1:
        raise ConfigError("--steps and --batch-size: expected at least 1")
    precision, threads = native.choose_precision(args.precision), set_threads(args.threads)
    config, machine = model_config(args), native.info(precision)
    with contextlib.ExitStack() as stack:
        peer = None
        if args.vs_torch:
            peer = stack.enter_context(TorchPeer(config, args.batch_size, precision))
        step = trial_step(config, args.batch_size, args.recompute, precision)
        found = measure(step, args.steps, peer)
    step_s, peak = found["step_s"], found["gemm_peak_gflops"]
    n_tokens = args.batch_size * config.seq_len
    gflops = n_tokens * flop_per_token(config) / step_s / 1e9
    shape = {name: getattr(config, name) for name in ("n_embd", "n_layer", "n_head", "seq_len", "vocab_size")}
    return {
        "preset": args.preset,
        "n_params": count_parameters(config),
        **shape,
        "batch_size": args.batch_size,
        "precision": precision,
        "threads": threads,
        "isa": machine["isa"],
        "blas_core": machine["blas_core"],
        "dropout": config.dropout,
        "recompute": args.recompute,
        **found,
        "step_s": round(step_s, 5),
        "tok_per_s": round(n_tokens / step_s, 1),
        "model_gflops": round(gflops, 1),
        "gemm_peak_gflops": round(peak, 1),
        "mfu": round(gflops / peak, 4),
        "python_share": round(python_share(step), 4),
        "peak_rss_bytes": int(peak_memory()),
    }


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    args = parse(argv)
    found = result(args)
    if warning := native.warning(found["precision"]):
        print(warning, file=sys.stderr)
    print(
        f"{found['n_params']:,} parameters, B={found['batch_size']}, T={found['seq_len']}, "
        f"{found['threads']} threads, {found['precision']}, {found['isa']}, BLAS {found['blas_core']}\n"
        f"step {found['step_s'] * 1e3:.0f} ms, {found['tok_per_s']:.0f} tok/s, {found['model_gflops']:.0f} "
        f"GFLOP/s of {found['gemm_peak_gflops']:.0f} (mfu {found['mfu']:.0%}), "
        f"peak memory {found['peak_rss_bytes'] / 1e9:.2f} GB, {found['python_share']:.1%} outside the kernels"
    )
    if "ratio" in found:
        print(f"PyTorch {found['torch_step_s'] * 1e3:.0f} ms, {found['ratio']:.2f} times ours")
    if args.json:
        print(json.dumps(found))


if __name__ == "__main__":
    run_command(main)
