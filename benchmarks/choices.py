"""The table that `microgpt plan --budget` chooses by: how runs of several lengths end, by preset and text.

    python -m benchmarks.choices --preset tiny --preset 1m --tokens 250k --tokens 1M [--seed 0]
    python -m benchmarks.choices --kind dialogue --data dailydialog.txt --preset 10m --tokens 20M

Each run has the settings that `microgpt train` would give it, and its whole schedule of rates: one that is
stopped early ends higher.  A row of microgpt/planning/quality.csv is one run.  The same command goes on
where it was killed: rows that are there are left out, and a run that was begun lies in runs/choices.
"""

import argparse
import csv
import itertools
import shutil
from pathlib import Path
from typing import Any

from microgpt.common.command import run_command
from microgpt.common.errors import ConfigError
from microgpt.common.flags import Parser
from microgpt.common.output import tell
from microgpt.common.words import parse_count
from microgpt.corpus.prepared.corpus import SMALLTALK
from microgpt.model import count_parameters
from microgpt.model.presets import PRESETS
from microgpt.planning.choice import TABLE
from microgpt.planning.rehearsal import open_plan
from microgpt.runs.layout import RUNS
from microgpt.runs.settings import RECIPES
from microgpt.runs.spec import DEFAULT_RECIPE, Plan, Spec
from microgpt.training.run import train_run

NEVER = 1 << 40  # steps
PLACE = RUNS / "choices"
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
    parser.add_argument("--again", action="store_true", help="train also what the table has, and replace it")
    parser.add_argument("--recipe", choices=tuple(RECIPES), default=DEFAULT_RECIPE)
    return parser.parse_args(argv)


def spec_of(args: argparse.Namespace, preset: str, tokens: int) -> Spec:
    """A run, as `microgpt train` would make it, measured at its end alone."""
    return Spec.of(
        preset,
        data=args.data or SMALLTALK,
        tokens=tokens,
        seed=args.seed,
        recipe=args.recipe,
        eval_every=NEVER,
        sample_every=0,
        keep=1,
    )


def about(args: argparse.Namespace, plan: Plan) -> dict[str, Any]:
    """A row of the table, but for how it ended."""
    trained = plan.planned_tokens
    values = (args.kind, plan.preset, count_parameters(plan.model), trained, None, args.seed, args.recipe)
    return dict(zip(COLUMNS, values, strict=True))


def ended(spec: Spec, place: Path) -> float:
    """Train a run, or go on with it, and tell the bits per byte where it ended; it is removed then."""
    outcome = train_run(spec, place, [])
    shutil.rmtree(place)
    return round(outcome.metrics["val_bpb"], 4)


def rows_in(path: Path) -> list[dict[str, str]]:
    """The table."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def has(row: dict[str, Any], rows: list[dict[str, str]]) -> bool:
    """Whether the run of a row is among some."""
    return any(all(old[name] == str(row[name]) for name in KEY) for old in rows)


def keep(row: dict[str, Any], path: Path = TABLE) -> None:
    """Put a run into the table, in the place of an older one of the same settings."""
    rows: list[dict[str, Any]] = [old for old in rows_in(path) if not has(row, [old])]
    order = list(PRESETS)
    rows.append(row)
    rows.sort(key=lambda r: (r["kind"], order.index(r["preset"]), int(r["tokens"]), int(r["seed"])))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main(argv: list[str] | None = None, table: Path = TABLE) -> None:
    """Train and keep."""
    args = parse(argv)
    if (args.data is None) != (args.kind == SMALLTALK):
        raise ConfigError("--kind names the kind of text that --data is; give both or neither")
    for preset, text in itertools.product(args.preset, args.tokens):
        spec = spec_of(args, preset, parse_count(text))
        row = about(args, open_plan(spec, tell)[0])
        name = f"{row['kind']} {preset}"
        if has(row, rows_in(table)) and not args.again:
            print(f"{name}: {row['tokens']:,} tokens are in the table; --again trains it anew", flush=True)
            continue
        place = PLACE / "-".join(str(row[key]) for key in KEY)
        keep(row | {"bpb": ended(spec, place)}, table)
        print(f"{name}: {row['tokens']:,} tokens are in the table now", flush=True)


if __name__ == "__main__":
    run_command(main)
