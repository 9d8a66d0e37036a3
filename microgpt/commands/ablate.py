"""Change one setting of a run at a time, train each change on as many tokens, and tell what it gives.

  microgpt ablate run.toml --change lr=3e-4,1e-3 --change dropout=0 --seeds 3

Runs lie in runs/ablate-<name of the file>, with results.md, results.csv and results.json.  The same command
goes on where it was stopped or killed, and adds changes and seeds to those that are done.  Each change is
compared with the run as it is on the same held-out documents: the mean over seeds, and each seed by itself.
"""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from microgpt.common.errors import ConfigError
from microgpt.common.flags import Parser, whole
from microgpt.common.output import escaped, show, tell
from microgpt.common.plain import typed_value
from microgpt.research.ablation import ablate, arms_of
from microgpt.research.ablation_table import json_text, markdown, write
from microgpt.runs.events import Began, Ended, Event, EventListener
from microgpt.runs.layout import RUNS
from microgpt.runs.spec_file import read_spec
from microgpt.training.console import Console


def parser() -> Parser:
    """All flags."""
    flags = Parser(prog="microgpt ablate", description=__doc__)
    flags.add_argument("spec", type=Path, metavar="FILE", help="the run, as train --write-spec makes one")
    flags.add_argument(
        "--change",
        action="append",
        required=True,
        metavar="SETTING=VALUE[,VALUE...]",
        help="a setting of the model or of training, and what to try for it; may be given again",
    )
    flags.add_argument(
        "--seeds", type=whole(1, 1000), default=3, metavar="NUMBER", help="runs of each change [default 3]"
    )
    flags.add_argument("--out-dir", type=Path, metavar="DIR", help="of the runs [default runs/ablate-<FILE>]")
    flags.add_argument("--json", action="store_true", help="print results.json instead of results.md")
    return flags


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    args: argparse.Namespace = parser().parse_args(argv)
    changes = [one for text in args.change for one in changes_of(text)]
    arms = arms_of(read_spec(args.spec), changes)
    folder = args.out_dir or RUNS / f"ablate-{args.spec.stem}"
    rows = ablate(arms, args.seeds, folder, [brief(Console())])
    tell(f"written: {' '.join(map(str, write(rows, folder)))}")
    show(json_text(rows) if args.json else "\n".join(map(escaped, markdown(rows).split("\n"))))


def brief(listener: EventListener) -> EventListener:
    """Hears what happens, without the lines that a single run begins and ends with on stdout."""

    def hear(event: Event) -> None:
        match event:
            case Began():
                event = dataclasses.replace(event, header=())
            case Ended():
                event = dataclasses.replace(event, summary=())
        listener(event)

    return hear


def changes_of(text: str) -> list[tuple[str, Any]]:
    """Of `lr=3e-4,1e-3`: a change for each value.  Raises: ConfigError: it is not of that form."""
    name, _, values = text.partition("=")
    if not name or not all(values.split(",")):
        raise ConfigError(f"--change {text}: expected SETTING=VALUE or SETTING=VALUE,VALUE")
    return [(name.replace("-", "_"), typed_value(value)) for value in values.split(",")]
