"""Climb from one size to the next: each rung is foretold, trained with several seeds, measured and judged.

  microgpt ladder init ladder.toml     write a file to begin with: 1m, 3.5m, 8m, 30m, 125m, all thresholds
  microgpt ladder run ladder.toml      train the rungs, as far as the gates let; goes on where it stopped
  microgpt ladder status ladder.toml   gates and the checklist of four questions, with evidence
  microgpt ladder report ladder.toml   all of it on one HTML page, runs/ladder-<name>/report.html

No rung is skipped, and one seed is no evidence.  Before a rung is trained stand its hypothesis, and what the
law of the rungs below foretells; then gates pass, fail, or say that there is not enough evidence.  One that
does not pass ends the climb with what comes next: extend, change, or stop.  Runs lie in runs/ladder-<name of
the file>; a ladder that was killed goes on with the same command, to the same results.  Exit code 1 stands
for a gate that was not passed, nor gone past with --force.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from microgpt.common.errors import ConfigError
from microgpt.common.flags import Parser
from microgpt.common.output import escaped, json_line, show
from microgpt.common.words import format_amount, format_duration, parse_duration
from microgpt.files import durable
from microgpt.files.written import put_file
from microgpt.reporting.ladder_page import ladder_page
from microgpt.research.ladder.document import document
from microgpt.research.ladder.engine import climb, told_of
from microgpt.research.ladder.rungs import read_ladder
from microgpt.research.ladder.state import State
from microgpt.research.ladder.template import RUNGS, template
from microgpt.runs.layout import RUNS
from microgpt.training.console import Console

from .ablate import brief

FILE = Path("ladder.toml")
PAGE = "report.html"


def parser() -> Parser:
    """All flags."""
    flags = Parser(prog="microgpt ladder", description=__doc__)
    below = flags.add_subparsers(dest="command", required=True, metavar="init | run | status | report")
    init = below.add_parser("init", help="write a file with every setting, its default and what it means")
    init.add_argument("file", type=Path, nargs="?", default=FILE, metavar="FILE", help=f"[default {FILE}]")
    init.add_argument(
        "--rungs",
        default=",".join(RUNGS),
        metavar="PRESETS",
        help=f"from small to large [default {','.join(RUNGS)}]",
    )
    init.add_argument(
        "--data",
        nargs="+",
        default=["smalltalk"],
        metavar="TEXT",
        help="files or folders [default smalltalk]",
    )
    run = _of_file(below, "run", "train, measure and judge the rungs")
    run.add_argument(
        "--budget",
        metavar="TIME",
        help="fit all rungs into a time, such as 6h, by steps that are timed: each gets the same share of "
        "its tokens",
    )
    run.add_argument(
        "--force", action="store_true", help="go on past gates that did not pass; which ones is recorded"
    )
    status = _of_file(below, "status", "gates of each rung, and the four questions with evidence")
    status.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    report = _of_file(below, "report", "write all of it into one HTML page")
    report.add_argument(
        "--out", type=Path, metavar="FILE", help=f"of the page [default {PAGE} beside the runs]"
    )
    return flags


def _of_file(below: Any, name: str, text: str) -> Parser:
    """A word that is followed by the file of a ladder."""
    flags: Parser = below.add_parser(name, help=text)
    flags.add_argument("file", type=Path, nargs="?", default=FILE, metavar="FILE", help=f"[default {FILE}]")
    flags.add_argument("--out-dir", type=Path, metavar="DIR", help="of the runs [default runs/ladder-<FILE>]")
    return flags


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    args: argparse.Namespace = parser().parse_args(argv)
    return {"init": init, "run": run, "status": status, "report": report}[args.command](args)


def init(args: argparse.Namespace) -> int:
    """Write a file to begin with."""
    text = template([name.strip() for name in args.rungs.split(",")], args.data)
    try:
        durable.write_file(args.file, [text.encode()])
    except FileExistsError:
        raise ConfigError(f"{args.file} is there already; name another file") from None
    except OSError as error:
        raise ConfigError(f"{args.file}: {error.strerror}") from error
    show(f"written: {args.file}; read it, then: microgpt ladder run {args.file}")
    return 0


def run(args: argparse.Namespace) -> int:
    """Climb."""
    budget_s = parse_duration(args.budget, "--budget") if args.budget else None
    ladder, folder = read_ladder(args.file), folder_of(args)
    found = climb(ladder, folder, [brief(Console())], args.force, budget_s)
    show(*map(escaped, lines_of(document(ladder, State.read(folder)))))
    return 0 if found[-1].is_left else 1


def status(args: argparse.Namespace) -> int:
    """Tell where a ladder stands."""
    told = known(args)
    show(json_line(told) if args.json else "\n".join(map(escaped, lines_of(told))))
    return 0


def report(args: argparse.Namespace) -> int:
    """Write the page."""
    out = args.out or folder_of(args) / PAGE
    put_file(out, ladder_page(known(args)).encode(), "--out")
    show(f"written: {out}")
    return 0


def folder_of(args: argparse.Namespace) -> Path:
    """Where the runs of a ladder lie."""
    return args.out_dir or RUNS / f"ladder-{args.file.stem}"


def known(args: argparse.Namespace) -> dict[str, Any]:
    """All that is known of a ladder.  Raises: ConfigError: it was not begun."""
    ladder, state = read_ladder(args.file), State.read(folder_of(args))
    if not state.begun:
        raise ConfigError(
            f"{folder_of(args)}: no rung was begun; begin with: microgpt ladder run {args.file}"
        )
    state.refuse_another(ladder)
    return document(ladder, state)


# ------------------------------------------------------------------------------------------ for people


def lines_of(told: dict[str, Any]) -> list[str]:
    """A ladder in lines."""
    lines: list[str] = []
    if told["fitted"]:
        share, budget = told["fitted"]["share"], format_duration(told["fitted"]["budget_s"])
        lines.append(f"budget   {budget}: each rung has {share:.1%} of its tokens")
    for rung in told["rungs"]:
        lines += ["", *rung_lines(rung)]
    if one := told["in_training"]:
        steps = ", ".join(f"{name} at step {step:,}" for name, step in one["steps"].items())
        lines += ["", f"rung     {one['name']}, in training: {steps} of {one['max_steps'] or 0:,}"]
        lines += [f"  shows  {one['hypothesis']}", f"  law    {told_of(one['foretold'])}"]
    lines += ["", *law_lines(told["law"]), *checklist_lines(told["checklist"])]
    lines += ["", f"next     {told['next']['step']}", *(f"  - {text}" for text in told["next"]["what"])]
    return lines


def rung_lines(rung: dict[str, Any]) -> list[str]:
    """One rung: what it was to show, what it showed, its gates."""
    lines = [f"rung     {rung['name']}, {format_amount(rung['n_params'])} parameters, begun {rung['began']}"]
    lines += [f"  shows  {rung['hypothesis']}", f"  law    {told_of(rung['foretold'])}"]
    for run in rung["runs"]:
        lines.append(f"  run    {run_line(run)}")
    for gate in rung["gates"]:
        lines.append(f"  {MARKS[gate['verdict']]:7}{gate['title']}: {gate['text']}")
    if rung["changed_gates"]:
        lines.append(f"  note   thresholds changed since the rung began: {', '.join(rung['changed_gates'])}")
    if rung["forced"]:
        lines.append(f"  FORCED past {', '.join(rung['forced'])}")
    return lines


MARKS = {"pass": "ok", "fail": "FAIL", "not enough evidence": "open", "not asked": "-"}


def run_line(run: dict[str, Any]) -> str:
    """One run."""
    if "diverged" in run:
        return f"{run['run']}: diverged"
    return (
        f"{run['run']}: {run['bpb']:.4f} bits per byte, {format_amount(run['tokens'])} tokens in "
        f"{format_duration(run['seconds'])}, {run['tok_per_s']:,.0f} tok/s; "
        f"holds it back: {run['holds_back']}"
    )


def law_lines(law: dict[str, Any]) -> list[str]:
    """The law of all rungs."""
    if "why_not" in law:
        return [f"law      none: {law['why_not']}"]
    E, A, alpha = (law["law"][name] for name in ("E", "A", "alpha"))
    more = "" if law["law"]["ratio"] else f" + {law['law']['B']:.4g} D^-{law['law']['beta']:.4g}"
    return [
        f"law      {E:.4g} + {A:.4g} N^-{alpha:.4g}{more}, R^2 {law['r_squared']:.4f}, a run lies "
        f"{law['spread']:.2%} about it"
    ]


def checklist_lines(questions: list[dict[str, Any]]) -> list[str]:
    """The four questions."""
    lines = []
    for question in questions:
        lines += ["", f"{question['title']}: {question['answer']}"]
        for part in question["parts"]:
            lines.append(f"  [{BOXES[part['answer']]}] {part['question']}  {part['evidence']}")
    return lines


BOXES = {"yes": "x", "no": "-", "not enough evidence": "?"}
