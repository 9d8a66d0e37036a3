"""The table that `microgpt plan --budget` chooses by: how runs of several lengths end, by preset and text.

    python -m benchmarks.choices --preset tiny --preset 1m --tokens 250k --tokens 1M [--seed 0]
    python -m benchmarks.choices --kind dialogue --data dailydialog.txt --preset 10m --tokens 20M

Each run has the settings that `microgpt train` would give it, and its whole schedule of rates: one that is
stopped early ends higher.  A row of microgpt/planning/quality.csv is one run; the same again replaces it.
"""

import argparse
import csv
import itertools
import tempfile
from pathlib import Path
from typing import Any

from microgpt.common.command import run_command
from microgpt.common.errors import ConfigError
from microgpt.common.flags import Parser
from microgpt.common.words import parse_count
from microgpt.corpus.prepared.corpus import SMALLTALK
from microgpt.model import count_parameters
from microgpt.model.presets import PRESETS
from microgpt.planning.choice import TABLE
from microgpt.runs.checkpoint import read_config
from microgpt.runs.settings import RECIPES
from microgpt.runs.spec import DEFAULT_RECIPE, Plan, Spec
from microgpt.training.run import train_run

NEVER = 1 << 40  # steps
COLUMNS = ("kind", "preset", "params", "tokens", "bpb", "seed", "recipe")
KEY = ("kind", "preset", "tokens", "seed", "recipe")


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = Parser(prog="benchmarks.choices", description=__doc__)
    parser.add_argument("--kind", default=SMALLTALK, help=f"name of the kind of text [default {SMALLTALK}]")
    parser.add_argument("--data", nargs="+", metavar="FILE", help="text of that kind [default embedded]")
    parser.add_argument("--preset", action="append", choices=list(PRESETS), required=True, metavar="NAME")
    parser.add_argument("--tokens", action="append", required=True, metavar="NUMBER", help="such as 4M")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--recipe", choices=tuple(RECIPES), default=DEFAULT_RECIPE)
    return parser.parse_args(argv)


def ended(args: argparse.Namespace, preset: str, tokens: int) -> dict[str, Any]:
    """Train a run and tell how it ended."""
    spec = Spec.of(
        preset,
        data=args.data or SMALLTALK,
        tokens=tokens,
        seed=args.seed,
        recipe=args.recipe,
        eval_every=NEVER,
        sample_every=0,
        save_every=0,
    )
    with tempfile.TemporaryDirectory() as folder:
        outcome = train_run(spec, Path(folder) / "run", [])
        plan = Plan.from_dict(read_config(outcome.checkpoint))
    trained = outcome.step * plan.train.batch_size * plan.train.grad_accum * plan.model.seq_len
    params, bpb = count_parameters(plan.model), round(outcome.metrics["val_bpb"], 4)
    values = (args.kind, preset, params, trained, bpb, args.seed, args.recipe)
    return dict(zip(COLUMNS, values, strict=True))


def keep(row: dict[str, Any], path: Path = TABLE) -> None:
    """Put a run into the table, in the place of an older one of the same settings."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = [old for old in csv.DictReader(file) if any(old[name] != str(row[name]) for name in KEY)]
    order = list(PRESETS)
    rows.append(row)
    rows.sort(key=lambda r: (r["kind"], order.index(r["preset"]), int(r["tokens"]), int(r["seed"])))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main(argv: list[str] | None = None) -> None:
    """Train and keep."""
    args = parse(argv)
    if (args.data is None) != (args.kind == SMALLTALK):
        raise ConfigError("--kind names the kind of text that --data is; give both or neither")
    for preset, text in itertools.product(args.preset, args.tokens):
        row = ended(args, preset, parse_count(text))
        keep(row)
        how = f"{row['bpb']:.4f} bits per byte after {row['tokens']:,} tokens"
        print(f"{row['kind']} {preset}: {how}", flush=True)


if __name__ == "__main__":
    run_command(main)
