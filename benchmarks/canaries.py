"""What three times the size buys, ability by ability; and whether a gap in the training text is found.

    python -m benchmarks.canaries [--steps N] [--seeds N] [--items N] [--dir DIR] [--gap COUNTRY]

Trains the quickstart's model and one of three times its size, as long and with the same recipe, with several
seeds, and asks all of them the canaries: a table with intervals, guessing and a bigram beside.  With --gap it
instead trains the quickstart's model on the embedded corpus without one country and its capital, and shows
what `microgpt failures` says limits it.  Stopped, it goes on where it was when it is started again.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from microgpt.commands import canaries, failures, train
from microgpt.commands.quickstart import PRESET, RECIPE
from microgpt.common.command import run_command
from microgpt.common.errors import ConfigError
from microgpt.common.flags import Parser, given, whole
from microgpt.corpus.prepared.config import DataConfig
from microgpt.corpus.smalltalk import generate
from microgpt.corpus.smalltalk.capitals import CAPITALS
from microgpt.evaluation.canary_items import CANARIES
from microgpt.files.durable import write_file
from microgpt.model import ModelConfig
from microgpt.runs.settings import TrainConfig
from microgpt.runs.spec import Spec
from microgpt.training.run import train_run

SIZES: dict[str, dict[str, Any]] = {"1x": {}, "3x": {"n_layer": 6, "n_embd": 192, "n_head": 6}}


def flags() -> argparse.ArgumentParser:
    """What can be asked for."""
    parser = Parser(prog="benchmarks.canaries", description=__doc__)
    for name, default, what in (
        ("--steps", 5000, "of each run; of 1,024 tokens"),
        ("--seeds", 2, "runs of each size"),
        ("--items", 200, "of each canary"),
    ):
        parser.add_argument(
            name, type=whole(1), default=default, metavar="N", help=f"{what} [default {default}]"
        )
    parser.add_argument(
        "--dir", type=Path, default=Path("runs/canaries"), help="of runs and results [default runs/canaries]"
    )
    parser.add_argument("--gap", metavar="COUNTRY", help="leave out a country and its capital")
    return parser


def recipe() -> dict[str, Any]:
    """The settings of the quickstart but for its time."""
    words = [word for flag in RECIPE.split("--")[1:] for word in f"--{flag}".split()]
    args = train.parser().parse_args(words)
    settings = given(args, ModelConfig) | given(args, TrainConfig) | given(args, DataConfig)
    return {name: value for name, value in settings.items() if name != "max_time"}


def trained(place: Path, steps: int, seed: int, **settings: Any) -> str:
    """A run of the quickstart's recipe, trained now if it is not yet."""
    spec = Spec.of(PRESET, **recipe() | settings, max_steps=steps, seed=seed, sample_every=0)
    print(f"{place}: {steps:,} steps", flush=True)
    return str(train_run(spec, place).run)


def results(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Of each seed what the canaries say of both sizes."""
    for seed in range(args.seeds):
        runs = [
            trained(args.dir / f"{name}-{seed}", args.steps, seed, **shape) for name, shape in SIZES.items()
        ]
        out = args.dir / f"canaries-{seed}-{args.steps}-{args.items}.json"
        if not out.exists():
            canaries.main([*runs, "--items", str(args.items), "--out", str(out)])
        yield json.loads(out.read_text(encoding="utf-8"))


def cell(one: dict[str, Any]) -> str:
    """A share with its interval."""
    if one["why_not"]:
        return "does not fit" if "fit" in one["why_not"] else "-"
    return f"{one['share']:.1%} ({100 * one['low']:.0f} to {100 * one['high']:.0f})"


def beside(one: dict[str, Any], name: str) -> str:
    """The share of a baseline."""
    return f"{one[name]:.1%}" if name in one else "-"


def table(found: list[dict[str, Any]]) -> list[str]:
    """Markdown: a row for each canary, a column for each run, baselines, what the larger gained."""
    models = [(f"{size} seed {seed}", of) for i, size in enumerate(SIZES) for seed, of in _column(found, i)]
    gains = [f"gain, seed {seed}" for seed in range(len(found))]
    head = ["canary", "mark", *(name for name, _ in models), "random", "bigram", *gains]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for canary in CANARIES:
        ones = [of["canaries"][canary.name] for _, of in models]
        against = [one["against_first"][0].get(canary.name) for one in found]
        told = ["-" if v is None else f"{v['gain']:+.1%} (p {v['p']:.2g})" for v in against]
        row = [f"{canary.name} {canary.title}", f"{canary.mark:.0%}", *map(cell, ones)]
        row += [beside(ones[0], "random"), beside(ones[0], "bigram"), *told]
        lines.append("| " + " | ".join(row) + " |")
    scores = ["-" if of["score"] is None else f"{of['score']:.1%}" for _, of in models]
    return [*lines, "| " + " | ".join(["mean over categories", "", *scores, *[""] * (2 + len(gains))]) + " |"]


def _column(found: list[dict[str, Any]], i: int) -> list[tuple[int, dict[str, Any]]]:
    return [(seed, one["models"][i]) for seed, one in enumerate(found)]


def gapped(args: argparse.Namespace) -> str:
    """The run of a corpus that never says the country nor its capital."""
    if args.gap not in CAPITALS:
        raise ConfigError(f"--gap {args.gap}: expected one of {', '.join(CAPITALS)}")
    words, path = (args.gap, CAPITALS[args.gap]), args.dir / f"without-{args.gap}.jsonl"
    args.dir.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        talks = ([message._asdict() for message in talk] for talk in generate(DataConfig().smalltalk_bytes))
        lines = (json.dumps({"messages": talk}) + "\n" for talk in talks)
        write_file(path, (line.encode() for line in lines if not any(word in line for word in words)))
    return trained(args.dir / f"without-{args.gap}", args.steps, 0, data=str(path))


def main() -> int:
    """Run it."""
    args = flags().parse_args()
    if args.gap:
        run = gapped(args)
        return failures.main([run, "--questions", str(args.items), "--items", "0", "--show", "10"])
    print(*table(list(results(args))), sep="\n")
    return 0


if __name__ == "__main__":
    run_command(main)
