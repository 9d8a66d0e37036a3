"""How the cost of a token grows with the window, the batch, the depth and the width.

    python -m benchmarks.scaling [--threads 2] [--steps 5] [--sweep window ...] [--json]

A token costs 6 FLOP a parameter, whatever the window and the batch, and 6 L C T for attention.  The predicted
cost is that count at the rate of the sweep's first row, so a row above it is one that scales badly.
Attention is its share of the count, and the rest what that leaves of the measured cost: over windows and
batches it should stay flat.  In the picture, # is the rest and + is attention.
"""

import argparse
import json
import statistics
from typing import Any, NamedTuple

from microgpt.common.command import run_command
from microgpt.common.errors import ConfigError
from microgpt.common.flags import Parser
from microgpt.core import native
from microgpt.machine.cpus import add_threads_flag
from microgpt.model import ModelConfig, count_parameters, flop_per_token

from ._machine import add_precision_flag, set_threads
from .step import trial_step

BAR = 40  # characters of the longest


class Row(NamedTuple):
    """One step of a sweep."""

    value: int
    batch_size: int
    config: ModelConfig

    @property
    def attention_share(self) -> float:
        """The part of attention in the FLOP of a token."""
        return 1 - 6 * count_parameters(self.config) / flop_per_token(self.config)


def shape(C: int = 256, L: int = 4, T: int = 256, V: int = 2188) -> ModelConfig:
    """A model with heads of 32 channels."""
    return ModelConfig(n_layer=L, n_head=C // 32, n_embd=C, seq_len=T, vocab_size=V)


SWEEPS: dict[str, list[Row]] = {
    # Always 2048 tokens in a step: what changes is how far they see.
    "window": [Row(T, 2048 // T, shape(T=T)) for T in (128, 256, 512, 1024, 2048)],
    "batch": [Row(B, B, shape()) for B in (1, 2, 4, 8, 16)],
    "depth": [Row(L, 4, shape(L=L)) for L in (2, 4, 8, 16)],
    "width": [Row(C, 4, shape(C=C)) for C in (128, 256, 512, 768)],
}


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = Parser(prog="benchmarks.scaling", description=__doc__)
    parser.add_argument(
        "--sweep", nargs="+", choices=list(SWEEPS), default=list(SWEEPS), help="what to vary [default all]"
    )
    parser.add_argument("--steps", type=int, default=5, help="timed steps of each row [default 5]")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    add_precision_flag(parser)
    add_threads_flag(parser)
    return parser.parse_args(argv)


def measure(rows: list[Row], steps: int, precision: str) -> list[float]:
    """Median seconds of a step of each row, the rows taking turns."""
    trials = [trial_step(row.config, row.batch_size, precision=precision) for row in rows]
    times = [[trial.seconds() for trial in trials] for _ in range(1 + steps)][1:]  # the first turn warms up
    return [statistics.median(turn[i] for turn in times) for i in range(len(rows))]


def costs(rows: list[Row], step_s: list[float]) -> list[dict[str, Any]]:
    """Measured and predicted cost of a token of each row."""
    found: list[dict[str, Any]] = []
    for row, taken in zip(rows, step_s, strict=True):
        token_us = 1e6 * taken / (row.batch_size * row.config.seq_len)
        first = found[0] if found else {"token_us": token_us, "flop_per_token": flop_per_token(row.config)}
        predicted = first["token_us"] * flop_per_token(row.config) / first["flop_per_token"]
        found.append(
            {
                "value": row.value,
                "batch_size": row.batch_size,
                "seq_len": row.config.seq_len,
                "n_params": count_parameters(row.config),
                "flop_per_token": flop_per_token(row.config),
                "attention_share": round(row.attention_share, 4),
                "step_s": round(taken, 6),
                "token_us": round(token_us, 3),
                "predicted_token_us": round(predicted, 3),
                "rest_us": round(token_us * (1 - row.attention_share), 3),
            }
        )
    return found


def show(name: str, found: list[dict[str, Any]]) -> None:
    """The table of a sweep, with its picture."""
    columns = ("step ms", "us/token", "predicted", "attention", "the rest", "GFLOP/s")
    print(f"\n{name:>6} " + " ".join(f"{column:>9}" for column in columns))
    longest = max(row["token_us"] for row in found)
    for row in found:
        length = round(BAR * row["token_us"] / longest)
        attention = round(length * row["attention_share"])
        bar = "#" * (length - attention) + "+" * attention
        print(
            f"{row['value']:>6} {1e3 * row['step_s']:>9.1f} {row['token_us']:>9.2f} "
            f"{row['predicted_token_us']:>9.2f} {row['attention_share']:>9.0%} {row['rest_us']:>9.2f} "
            f"{row['flop_per_token'] / row['token_us'] / 1e3:>9.0f}  {bar}"
        )


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    args = parse(argv)
    if args.steps < 1:
        raise ConfigError(f"--steps {args.steps}: expected at least 1")
    precision, threads = native.choose_precision(args.precision), set_threads(args.threads)
    machine = native.info(precision)
    print(f"{threads} threads, {precision}, {machine['isa']}, BLAS {machine['blas_core']}")
    sweeps = {}
    for name in args.sweep:
        sweeps[name] = costs(SWEEPS[name], measure(SWEEPS[name], args.steps, precision))
        show(name, sweeps[name])
    if args.json:
        print(json.dumps({"threads": threads, "isa": machine["isa"], "sweeps": sweeps}))


if __name__ == "__main__":
    run_command(main)
