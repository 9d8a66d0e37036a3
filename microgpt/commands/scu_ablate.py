"""Compare adapters under control of their information with the same adapters at fixed strengths.

  microgpt scu-ablate --from mine --data talk.jsonl --target-s 0.01 --max-steps 500 --seeds 3
  microgpt scu-ablate --from mine --data talk.jsonl --scu auto --epochs 2 --lambdas 0,1

Each is a fine-tuning as `microgpt sft` makes one, of as many steps, with the same seeds; no run ends earlier
than another.  Runs lie in runs/scu-ablate-<name of the parent>, with results.md, .csv, .json and
control.json.  The same command goes on where it was stopped or killed, and adds strengths and seeds.  All are
compared with the first strength, and so is the parent itself, on the answers in held-out documents.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from microgpt.common.flags import Parser, whole
from microgpt.common.output import escaped, json_line, show, tell
from microgpt.files import durable
from microgpt.research.ablation import Arm, all_trained, claim, rows_of
from microgpt.research.ablation_table import json_text, markdown, write
from microgpt.runs.layout import RUNS
from microgpt.training.console import Console
from microgpt.tuning.scu import write_metadata
from microgpt.tuning.scu_ablation import (
    LAMBDAS,
    arms_of,
    control_of,
    control_table,
    side_after,
    side_before,
)

from . import sft
from .ablate import brief

SHOWN = ",".join(f"{value:g}" for value in LAMBDAS)


def parser() -> Parser:
    """All flags."""
    flags = Parser(prog="microgpt scu-ablate", description=__doc__)
    flags.add_argument(
        "--lambdas",
        type=numbers,
        default=list(LAMBDAS),
        metavar="NUMBERS",
        help=f"fixed strengths, by commas; the others are compared with the first [default {SHOWN}]",
    )
    flags.add_argument(
        "--seeds", type=whole(1, 1000), default=2, metavar="NUMBER", help="runs of each strength [default 2]"
    )
    flags.add_argument(
        "--out-dir",
        type=Path,
        metavar="DIR",
        help="of the runs [default runs/scu-ablate-<name of the parent>]",
    )
    flags.add_argument("--json", action="store_true", help="print results.json instead of results.md")
    sft.add_tuning_flags(flags)
    return flags


def numbers(text: str) -> list[float]:
    """Numbers by commas, each named once."""
    try:
        found = [float(one) for one in text.split(",")]
    except ValueError:
        found = []
    if not found or len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"{text!r}: expected different numbers by commas, such as 0,0.5,1")
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    args = parser().parse_args(argv)
    args.scu = args.scu or ""
    arms = [Arm(*arm) for arm in arms_of(sft.spec_from(args), args.lambdas)]
    folder = args.out_dir or RUNS / f"scu-ablate-{Path(args.parent).name}"
    claim(folder, arms[0])
    found = all_trained(arms, args.seeds, folder, [brief(Console())])
    rows = rows_of(arms, found, side_after, side_before)
    first = arms[0].plan.train.seed
    runs = [
        (name, seed, checkpoint.parent)
        for name, checkpoints in found.items()
        for seed, checkpoint in enumerate(checkpoints, first)
        if checkpoint is not None
    ]
    for _, _, run in runs:
        write_metadata(run)
    control = control_of(runs)
    written = write(rows, folder)
    durable.replace_file(folder / "control.json", [json_line(control).encode() + b"\n"])
    tell(f"written: {' '.join(map(str, [*written, folder / 'control.json']))}")
    show(json_text(rows) if args.json else "\n".join(map(escaped, markdown(rows).split("\n"))))
    if not args.json:
        show("", *control_table(control))
