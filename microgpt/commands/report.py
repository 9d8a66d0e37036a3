"""Write all that is known of a run into one HTML page, which opens anywhere and needs nothing beside it.

  microgpt report                     the newest run, into runs/NAME/report.html
  microgpt report runs/x --exam 20    with an exam of 20 questions a family, if it learned the embedded corpus

Pictures, plan and reality, what the time was spent on, what it said over time, alarms, settings, and the
command that trains it again.  Needs matplotlib: pip install microgpt-cpu[plot]
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from microgpt.common.bars import progress_bar
from microgpt.common.errors import ConfigError
from microgpt.common.flags import Parser, whole
from microgpt.common.output import show, tell
from microgpt.corpus.prepared.corpus import SMALLTALK
from microgpt.corpus.smalltalk import exam
from microgpt.evaluation.exam import take_exam
from microgpt.files.written import put_file
from microgpt.reporting.history import read_history, run_named, state_of
from microgpt.reporting.page import Facts, facts_of, page
from microgpt.runs.checkpoint import load_model

PAGE = "report.html"


def parser() -> Parser:
    """All flags."""
    flags = Parser(prog="microgpt report", description=__doc__)
    flags.add_argument(
        "run",
        nargs="?",
        metavar="RUN",
        help="a run, by its path or as in runs/NAME [default the one that wrote its log last]",
    )
    flags.add_argument(
        "--out", type=Path, metavar="FILE", help=f"where to write the page [default {PAGE} in the run]"
    )
    flags.add_argument(
        "--exam",
        type=whole(0),
        default=0,
        metavar="COUNT",
        help="questions of each family that the model answers for the page; 0: no exam [default 0]",
    )
    return flags


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = parser().parse_args(argv)
    run = run_named(args.run)
    history, facts = read_history(run), facts_of(run)
    out = args.out or run / PAGE
    text = page(history, facts, state_of(run, history), examined(facts, args.exam))
    put_file(out, text.encode(), "--out")
    show(f"written: {out}")
    return 0


def examined(facts: Facts | None, n_per_family: int) -> dict[str, Any] | None:
    """The exam of the run's newest checkpoint, where its corpus has one."""
    if not n_per_family:
        return None
    if facts is None or SMALLTALK not in facts.plan.data.data:
        tell("no exam: it asks what the embedded corpus teaches, which this run has no checkpoint of")
        return None
    model, tokenizer, _ = load_model(facts.path)
    questions = exam(n_per_family)
    try:
        with progress_bar("exam", len(questions), "question") as progress:
            return take_exam(model, tokenizer, questions, progress.update).to_dict()
    except ConfigError as reason:
        tell(f"no exam: {reason}")
        return None
