"""Time one training step: forward, backward, gradient norm, Adam.

    python -m benchmarks.step --preset 34m --batch-size 1 --threads 2 --steps 7 [--json]

The dimensions can be given by flags instead of a preset.  The matrix-product peak is measured between the
steps of the same run, so mfu does not mix two states of a shared machine.  Dropout is 0 unless asked for.
"""

import argparse
import json
import statistics
import sys
from typing import Any

import numpy as np

from microgpt.common.errors import ConfigError
from microgpt.common.flags import Parser, add_settings, run_command, settings_from
from microgpt.core import native, random
from microgpt.model import GPT, ModelConfig
from microgpt.model.config import PRESETS
from microgpt.training.config import TrainConfig
from microgpt.training.optim import Adam
from microgpt.training.report import peak_memory

from ._machine import gemm_peak_gflops, seconds, set_threads

WARM_UP = 2


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = Parser(prog="benchmarks.step", description=__doc__)
    parser.add_argument("--preset", choices=list(PRESETS), help="dimensions by name")
    parser.add_argument("--batch-size", type=int, default=1, help="windows in a step [default 1]")
    parser.add_argument(
        "--precision", choices=["fp32"], default="fp32", help="of matrix products [default fp32]"
    )
    parser.add_argument("--threads", default="auto", help="CPU threads [default auto: all]")
    parser.add_argument("--steps", type=int, default=7, help="timed steps, after 2 to warm up [default 7]")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    add_settings(parser, ModelConfig)
    return parser.parse_args(argv)


def model_config(args: argparse.Namespace) -> ModelConfig:
    """The preset, without dropout, changed by the flags."""
    base = {"vocab_size": 4261, **(PRESETS[args.preset] if args.preset else {}), "dropout": 0.0}
    return settings_from(args, ModelConfig, **base)


def random_tokens(config: ModelConfig, batch_size: int) -> np.ndarray:
    """Tokens (B, T): the time of a step does not depend on what they say."""
    n = batch_size * config.seq_len
    draws = random.uniform(random.key(0, "benchmark tokens"), n)
    return (draws * config.vocab_size).astype(np.int32).reshape(batch_size, -1)


def measure(config: ModelConfig, batch_size: int, steps: int) -> tuple[float, float]:
    """(median seconds of a step, best sgemm GFLOP/s seen between the steps)."""
    model = GPT(config).init(0)
    adam = Adam(model, TrainConfig())
    ids = random_tokens(config, batch_size)

    def step() -> None:
        model.grads.flat[:] = 0
        model.loss_and_grad(ids, ids, key=adam.updates)
        adam.update(1e-5, adam.grad_norm())

    times, peak = [], 0.0
    for i in range(steps + WARM_UP):
        times.append(seconds(step))
        peak = max(peak, gemm_peak_gflops(config.n_embd, repeats=2)) if i >= WARM_UP else 0.0
    return statistics.median(times[WARM_UP:]), peak


def result(args: argparse.Namespace) -> dict[str, Any]:
    """Everything that the JSON line says."""
    if args.steps < 1 or args.batch_size < 1:
        raise ConfigError("--steps and --batch-size: expected at least 1")
    threads, config = set_threads(args.threads), model_config(args)
    step_s, peak = measure(config, args.batch_size, args.steps)
    n_tokens = args.batch_size * config.seq_len
    gflops = n_tokens * config.flop_per_token() / step_s / 1e9
    shape = {name: getattr(config, name) for name in ("n_embd", "n_layer", "n_head", "seq_len", "vocab_size")}
    return {
        "preset": args.preset, "n_params": config.n_params, **shape, "batch_size": args.batch_size,
        "precision": args.precision, "threads": threads, "isa": native.info()["isa"],
        "blas_core": native.info()["blas_core"], "dropout": config.dropout, "step_s": round(step_s, 5),
        "tok_per_s": round(n_tokens / step_s, 1), "model_gflops": round(gflops, 1),
        "gemm_peak_gflops": round(peak, 1), "mfu": round(gflops / peak, 4),
        "peak_rss_bytes": int(peak_memory()),
    }  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    args = parse(argv)
    if warning := native.warning():
        print(warning, file=sys.stderr)
    found = result(args)
    print(
        f"{found['n_params']:,} parameters, B={found['batch_size']}, T={found['seq_len']}, "
        f"{found['threads']} threads, {found['isa']}, BLAS {found['blas_core']}\n"
        f"step {found['step_s'] * 1e3:.0f} ms, {found['tok_per_s']:.0f} tok/s, {found['model_gflops']:.0f} "
        f"GFLOP/s of {found['gemm_peak_gflops']:.0f} (mfu {found['mfu']:.0%}), "
        f"peak memory {found['peak_rss_bytes'] / 1e9:.2f} GB"
    )
    if args.json:
        print(json.dumps(found))


if __name__ == "__main__":
    run_command(main)
