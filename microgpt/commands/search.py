"""Search for settings of a run that are good in several ways at once: small, fast and of few bits per byte.

  microgpt search init search.toml           a file with all settings of a search, each with what it means
  microgpt search run search.toml            candidates in runs/search-<name of the file>; again: it goes on
  microgpt search frontier runs/search-x     what none is better than, and where each came from
  microgpt search export-seed runs/search-x --out-dir seed      one of it: settings, weights, results
  microgpt search hop seed --to 34m --budget 1h     ten times as large on ten times the tokens, foretold first

Candidates are drawn by random, TPE or NSGA-II (pip install microgpt-cpu[search]) and all planned for as many
tokens.  After a share of them, the rung, those that are no better than the median end; the others go on from
where they are.  A search that is stopped or killed goes on to the same result.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from microgpt.common.errors import ConfigError
from microgpt.common.flags import Parser, whole
from microgpt.common.output import escaped, show, tell
from microgpt.common.words import parse_amount, parse_duration
from microgpt.files import durable
from microgpt.research.finals import by_seeds, run_finals
from microgpt.research.hop import TIMES, Wanted, run_hop
from microgpt.research.hop_page import hop_page, outcome, stability
from microgpt.research.search import RunTrainer, run_search
from microgpt.research.search_file import read_search, write_search
from microgpt.research.search_table import csv_text, draw, json_text, markdown, members
from microgpt.research.seed import export_seed, read_seed
from microgpt.research.trials import read_trials
from microgpt.runs.layout import RUNS
from microgpt.training.console import Console

from .ablate import brief


def parser() -> Parser:
    """All flags."""
    flags = Parser(prog="microgpt search", description=__doc__)
    which = flags.add_subparsers(dest="which", required=True, metavar="WHAT")
    made = which.add_parser("init", help="write a search.toml with all settings, to be changed")
    made.add_argument("file", type=Path, metavar="FILE", help="that is to be written")
    run = which.add_parser("run", help="search, or go on with a search")
    run.add_argument("file", type=Path, metavar="FILE", help="the search, as init makes one")
    run.add_argument("--out-dir", type=Path, metavar="DIR", help="of the search [default runs/search-<FILE>]")
    front = which.add_parser("frontier", help="show what none is better than")
    front.add_argument("folder", type=Path, metavar="DIR", help="of a search")
    front.add_argument("--plot", type=Path, metavar="PICTURE", help="draw it, .png or .svg")
    export = which.add_parser("export-seed", help="copy a candidate, with settings and results, to a folder")
    export.add_argument("folder", type=Path, metavar="DIR", help="of a search")
    export.add_argument(
        "--candidate", type=whole(0), metavar="NUMBER", help="[default of fewest bits per byte]"
    )
    export.add_argument("--out-dir", type=Path, required=True, metavar="DIR", help="of the seed")
    jump = which.add_parser("hop", help="train a larger model of a seed, foretold before, with a report")
    jump.add_argument("folder", type=Path, metavar="DIR", help="of a seed")
    jump.add_argument("--to", required=True, metavar="SIZE", help="parameters, as in 350m")
    jump.add_argument("--budget", metavar="TIME", help="as in 1h; fewer tokens where they would take longer")
    jump.add_argument(
        "--times",
        type=float,
        default=TIMES,
        metavar="NUMBER",
        help=f"of the seed's tokens [default {TIMES:g}]",
    )
    jump.add_argument("--out-dir", type=Path, metavar="DIR", help="of the hop [default runs/hop-<SIZE>]")
    form = front.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print a JSON list instead of the table")
    form.add_argument("--csv", action="store_true", help="print all draws as CSV instead")
    return flags


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    args = parser().parse_args(argv)
    {"init": init, "run": run, "frontier": frontier, "export-seed": export, "hop": hop}[args.which](args)


def init(args: argparse.Namespace) -> None:
    """Write a search.toml."""
    write_search(args.file)
    tell(f"written: {args.file}; change [run] and [space], then microgpt search run {args.file}")


def run(args: argparse.Namespace) -> None:
    """Search, and show what was found."""
    search = read_search(args.file)
    folder = args.out_dir or RUNS / f"search-{args.file.stem}"
    listeners = [brief(Console())]
    trials = run_search(search, folder, RunTrainer(folder, listeners))
    run_finals(search, trials, folder, listeners)
    found = members(trials, search.config.objectives, by_seeds(folder))
    show(*map(escaped, markdown(found, trials).split("\n")))


def frontier(args: argparse.Namespace) -> None:
    """Show the front of a search, also of one that is not over."""
    search, trials = read_trials(args.folder)
    objectives = search.config.objectives
    found = members(trials, objectives, by_seeds(args.folder))
    if args.csv:
        show(*csv_text(trials, objectives).rstrip("\n").split("\n"))
    elif args.json:
        show(json_text(found))
    else:
        show(*map(escaped, markdown(found, trials).split("\n")))
    if args.plot:
        draw(trials, objectives, args.plot)


def export(args: argparse.Namespace) -> None:
    """Copy a candidate to a folder of its own."""
    tell(f"written: {export_seed(args.folder, args.candidate, args.out_dir)}")


def hop(args: argparse.Namespace) -> None:
    """Train a larger model of a seed, and write a page about it."""
    if not 0 < args.times < math.inf:
        raise ConfigError(f"--times {args.times:g}: expected a number above 0")
    seconds = parse_duration(args.budget, "--budget") if args.budget else math.inf
    folder = args.out_dir or RUNS / f"hop-{args.to}"
    wanted = Wanted(parse_amount(args.to), seconds, args.times)
    result = run_hop(read_seed(args.folder), wanted, folder, [brief(Console())])
    page = folder / "report.html"
    durable.replace_file(page, [hop_page(result).encode()])
    show(*map(escaped, [*outcome(result), *stability(result)]))
    tell(f"written: {page}")
