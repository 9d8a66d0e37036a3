"""What models of different kinds learn from the same text: held-out bits per byte at equal tokens.

    python -m benchmarks.kinds mixers --data train.txt --held-out validation.txt --out runs/kinds

Each kind is tried at some peak learning rates on a part of the tokens; at the best of them it is trained with
several seeds.  Every run is a run like any other, so what was interrupted goes on where it was, and what is
done is not done again.  Prints a table; --json prints the numbers of each run.

Sets: mixers (10m class), fusions (3.5m class: the start shares of a fusion), heads (3.5m class: query heads
for each head of keys and values).
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from microgpt.common.command import run_command
from microgpt.common.flags import Parser, whole
from microgpt.model import ModelConfig, count_parameters
from microgpt.model.architecture import state_bytes
from microgpt.runs.spec import Spec
from microgpt.training.console import Console
from microgpt.training.run import Outcome, train_run

BATCH_SIZE = 8


class Kind(NamedTuple):
    """A model of a set: a preset, and what it has of its own."""

    preset: str
    settings: dict[str, Any]


RWKV = {"mixer": "rwkv7", "mlp": "rwkv7"}
FUSION = {"mixer": "rwkv7+mamba2", "mlp": "rwkv7", "fusion": "channel"}
LLAMA = {"mlp": "swiglu", "n_kv_head": 4}
MOE = {"mlp": "moe", "n_expert": 4, "top_k": 2}
SETS: dict[str, dict[str, Kind]] = {
    "mixers": {  # about ten million parameters in all, with a vocabulary of 2188
        "gelu": Kind("10m", {}),
        "llama": Kind("10m", {**LLAMA, "n_layer": 13}),
        "moe": Kind("10m", {**MOE, "n_layer": 8}),
        "rwkv7": Kind("10m", {**RWKV, "n_layer": 11}),
        "mamba2": Kind("10m", {"mixer": "mamba2", "n_layer": 10}),
        "fusion": Kind("10m", {**FUSION, "n_layer": 7}),
    },
    "fusions": {f"share {share}": Kind("3.5m-fusion", {"fusion_share": share}) for share in (0.3, 0.5, 0.7)},
    "heads": {f"groups of {8 // n}": Kind("3.5m", {"n_head": 8, "n_kv_head": n}) for n in (8, 4, 2)},
}


def parser() -> Parser:
    """All flags."""
    flags = Parser(prog="benchmarks.kinds", description=__doc__)
    flags.add_argument("set", choices=SETS, help="which kinds")
    flags.add_argument("--only", nargs="+", metavar="KIND", help="only these kinds of the set")
    flags.add_argument("--data", nargs="+", default=["smalltalk"], metavar="FILE", help="[default smalltalk]")
    flags.add_argument("--held-out", nargs="+", default=None, metavar="FILE", help="instead of one in 100")
    flags.add_argument("--merges", type=whole(0), default=1927, help="of the tokenizer [default 1927]")
    flags.add_argument("--tokens", type=whole(1), default=500_000, help="of a run [default 500000]")
    flags.add_argument("--try-tokens", type=whole(1), default=200_000, help="of a trial [default 200000]")
    flags.add_argument(
        "--rates",
        type=float,
        nargs="+",
        default=[4e-3, 8e-3, 16e-3],
        help="peak rates to try; a single one is taken untried",
    )
    flags.add_argument("--seeds", type=whole(1), default=2, help="runs at the best rate [default 2]")
    flags.add_argument(
        "--eval-tokens", type=whole(1), default=400_000, help="held out, at most [default 400000]"
    )
    flags.add_argument("--threads", default="auto", help="of each run [default auto]")
    flags.add_argument("--out", type=Path, default=Path("runs/kinds"), help="folder of the runs")
    flags.add_argument("--json", action="store_true", help="the numbers of each run, a line each")
    return flags


def learned(args: argparse.Namespace, name: str, kind: Kind, rate: float, seed: int, tokens: int) -> Outcome:
    """Train one model, or go on with it, or find it done."""
    model = ModelConfig.from_preset(kind.preset, 1000, **kind.settings)
    steps = max(1, tokens // (BATCH_SIZE * model.seq_len))
    settings = {
        **kind.settings,
        **{"data": args.data, "merges": args.merges, "seed": seed, "threads": args.threads},
        "batch_size": BATCH_SIZE,
        **{"lr": rate, "min_lr": rate / 10, "max_steps": steps, "warmup_steps": max(1, steps // 10)},
        **{"eval_every": steps, "eval_tokens": args.eval_tokens, "sample_every": 0, "save_every": 0},
        "dropout": 0.0,
    }
    if args.held_out:
        settings["held_out"] = args.held_out
    run = args.out / f"{name}-{tokens}-{rate:g}-{seed}".replace(" ", "-")
    return train_run(Spec.of(kind.preset, **settings), run, [Console()] if not args.json else [])


def figures(args: argparse.Namespace, name: str, kind: Kind) -> dict[str, Any]:
    """Of one kind: the best rate, and the held-out bits per byte of each seed at it."""
    several = args.rates if len(args.rates) > 1 else []
    tried = {rate: bpb(learned(args, name, kind, rate, 0, args.try_tokens)) for rate in several}
    best = min(tried, key=lambda rate: tried[rate]) if tried else args.rates[0]
    outcomes = [learned(args, name, kind, best, seed, args.tokens) for seed in range(args.seeds)]
    config = ModelConfig.from_preset(kind.preset, 256 + 5 + args.merges, **kind.settings)
    found = {
        "kind": name,
        "parameters": count_parameters(config),
        "state_bytes_a_token": state_bytes(config),
        "tried": tried,
        "rate": best,
        "bpb": [bpb(outcome) for outcome in outcomes],
        "tokens": outcomes[0].step * BATCH_SIZE * config.seq_len,
        "tok_per_s": [outcome.metrics.get("tok_per_s") for outcome in outcomes],
    }
    if args.json:
        print(json.dumps(found), flush=True)
    return found


def bpb(outcome: Outcome) -> float:
    """What the run came to."""
    return float(outcome.metrics["val_bpb"])


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Lines of Markdown, the best kind first."""
    lines = ["| kind | parameters | state, bytes a token | rate | held-out bits per byte, each seed | mean |"]
    lines.append("|---|---|---|---|---|---|")
    for row in sorted(rows, key=lambda row: statistics.fmean(row["bpb"])):
        seeds, mean = ", ".join(f"{value:.4f}" for value in row["bpb"]), statistics.fmean(row["bpb"])
        state = f"{row['state_bytes_a_token']:,}"
        lines.append(
            f"| {row['kind']} | {row['parameters']:,} | {state} | {row['rate']:g} | {seeds} | {mean:.4f} |"
        )
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = parser().parse_args(argv)
    kinds = {name: kind for name, kind in SETS[args.set].items() if not args.only or name in args.only}
    rows = [figures(args, name, kind) for name, kind in kinds.items()]
    if not args.json:
        print("\n".join(table(rows)))
    return 0


if __name__ == "__main__":
    run_command(main)
