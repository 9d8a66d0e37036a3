"""Measure a model on text that it was not trained on.

  microgpt eval runs/x                   the held-out part of the run's own corpus
  microgpt eval x y@best                 several, and a table that compares them
  microgpt eval runs/x --data my.txt     another text, all of it that was not trained on
  microgpt eval runs/x --data smalltalk --show-errors     the embedded corpus and its exam

Loss is in nats per token, with its 95 % interval: by the standard error over documents.
Bits per byte of text compare models of different vocabularies.  A run knows its corpus by the content, in any
place and under any name, and measures only its held-out part; of other text, documents that it was trained on
are told and left out.  A model of the embedded corpus also answers questions about names, numbers and facts
that its training never held.
"""

import argparse
from collections.abc import Sequence
from typing import Any

from microgpt.batches.packing import DOCUMENTS, PACKINGS
from microgpt.common.bars import progress_bar
from microgpt.common.errors import ConfigError
from microgpt.common.flags import Parser, add_settings, given, whole
from microgpt.common.output import escaped, json_line, tell
from microgpt.common.words import counted
from microgpt.core import native
from microgpt.corpus.reading.options import ReadOptions
from microgpt.corpus.smalltalk import SEEN, exam
from microgpt.evaluation.exam import ExamResult, table, take_exam
from microgpt.evaluation.held_out import HeldOut, packing_of, score, text_to_measure, windows_of
from microgpt.evaluation.loss import BPB_NOTE, INTERVAL_NOTE, with_interval
from microgpt.model import count_parameters

from ._model_flags import Loaded, add_model_flags, choice_notes, open_checkpoint


def parser() -> Parser:
    """All flags."""
    flags = Parser(prog="microgpt eval", description=__doc__)
    add_model_flags(flags, several=True)
    flags.add_argument_group("data").add_argument(
        "--data",
        nargs="+",
        action="extend",
        metavar="FILE",
        dest="files",
        help="text or chats, files or folders, or `smalltalk` [default what it was trained on]",
    )
    add_settings(flags, ReadOptions)
    flags.add_argument(
        "--max-tokens",
        type=whole(1),
        metavar="TOKENS",
        help="score about this many held-out tokens, evenly spread [default all]",
    )
    flags.add_argument(
        "--packing",
        choices=PACKINGS,
        help="windows as training makes them with this --packing; to compare runs, measure both on the same "
        "[default that of the run]",
    )
    flags.add_argument(
        "--questions",
        type=whole(0),
        default=100,
        metavar="COUNT",
        help="exam questions of each family; 0: no exam [default 100]",
    )
    flags.add_argument(
        "--show-errors",
        type=whole(1),
        nargs="?",
        const=3,
        default=0,
        metavar="COUNT",
        help="show so many wrong answers of each family [3 if no number is given]",
    )
    flags.add_argument("--json", action="store_true", help="print one JSON object each instead of lines")
    return flags


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = parser().parse_args(argv)
    reports = [evaluated(args, name) for name in args.checkpoints or [None]]
    if len(reports) > 1 and not args.json:
        print("", *comparison(reports), sep="\n")
    return 0


def evaluated(args: argparse.Namespace, name: str | None) -> dict[str, Any]:
    """Measure one checkpoint and print what came out."""
    loaded = open_checkpoint(args, name)
    how = given(args, ReadOptions)
    held_out = text_to_measure(loaded.path, loaded.tokenizer, args.files, native.threads(), how)
    report: dict[str, Any] = {
        "checkpoint": str(loaded.path),
        "step": loaded.state.get("step"),
        "n_params": count_parameters(loaded.model.config),
    }
    report |= measured(loaded, held_out, args.max_tokens, args.packing or packing_of(loaded.path))
    if not args.json:
        print(*map(escaped, [*loaded.describe(), *loss_lines(report)]), sep="\n", flush=True)
        if held_out.has_exam:
            print(f"its conversations are new; {SEEN}", flush=True)
    result = examined(loaded, held_out, args.questions)
    report |= {"exam": result and result.to_dict() | errors_of(result, args.show_errors)}
    if args.json:
        tell(*choice_notes(loaded.path))
        print(json_line(report))
    elif result:
        print(*map(escaped, exam_lines(result, args)), sep="\n")
    return report


def measured(loaded: Loaded, held_out: HeldOut, max_tokens: int | None, packing: str) -> dict[str, Any]:
    """Loss with the counts behind it."""
    windows = windows_of(held_out, loaded.tokenizer, loaded.model.config.seq_len, max_tokens, packing)
    with progress_bar("scoring", windows.n_windows, "window") as progress:
        result = score(loaded.model, windows, progress.update)
    return {
        "data": held_out.names,
        "part": held_out.part,
        "packing": packing,
        "n_documents": windows.n_documents,
        "n_tokens": windows.n_tokens,
        "n_bytes": windows.n_bytes,
        "n_trained_documents": None if held_out.is_trained is None else held_out.n_trained,
        "are_trained_measured": held_out.is_own,
        "loss": result.loss,
        "loss_standard_error": result.error,
        "loss_half_width": result.half_width,
        "bpb": result.bpb,
    }


def examined(loaded: Loaded, held_out: HeldOut, n_per_family: int) -> ExamResult | None:
    """The exam, where the text has one and the window has room for its questions."""
    if not held_out.has_exam or not n_per_family:
        return None
    questions = exam(n_per_family)
    try:
        with progress_bar("exam", len(questions), "question") as progress:
            return take_exam(loaded.model, loaded.tokenizer, questions, progress.update)
    except ConfigError as reason:
        tell(f"no exam: {reason}")
        return None


def loss_lines(report: dict[str, Any]) -> list[str]:
    """What was measured on, and the two numbers."""
    packed = ", packed whole" if report["packing"] == DOCUMENTS else ""
    half = report["loss_half_width"]
    return [
        f"on {' '.join(report['data'])} ({report['part']}): "
        f"{counted(report['n_documents'], 'document')}{packed}, "
        f"{report['n_tokens']:,} tokens, {report['n_bytes']:,} bytes",
        *trained_lines(report),
        f"loss {with_interval(report['loss'], half)} nats/token, {report['bpb']:.4f} bits per byte",
        *([f"  {INTERVAL_NOTE}"] if half is not None else []),
        f"  {BPB_NOTE}",
    ]


def comparison(reports: list[dict[str, Any]]) -> list[str]:
    """The numbers of several checkpoints side by side."""
    width = max(len(report["checkpoint"]) for report in reports)
    title = "exam" if any(report["exam"] for report in reports) else ""
    lines = [f"{'':{width}}{'parameters':>13}{'nats/token':>12}{'bits/byte':>11}{title:>8}"]
    for report in reports:
        share = f"{report['exam']['share']:.1%}" if report["exam"] else ""
        lines.append(
            f"{report['checkpoint']:{width}}{report['n_params']:13,}{report['loss']:12.4f}"
            f"{report['bpb']:11.4f}{share:>8}"
        )
    lines = [line.rstrip() for line in lines]
    texts = {(*report["data"], report["part"], report["n_documents"]) for report in reports}
    if len(texts) > 1:
        lines.append("measured on different texts; to compare, name one with --data")
    return lines


def trained_lines(report: dict[str, Any]) -> list[str]:
    """What the run has seen of the text."""
    n_trained, is_own = report["n_trained_documents"], report["are_trained_measured"]
    if n_trained is None and not is_own:
        return ["  whether any of it was trained on cannot be told: the run has no record of its documents"]
    if not n_trained:
        return []
    if is_own:
        return [f"  {counted(n_trained, 'document')} of it occur in the training text as well, word for word"]
    return [f"  left out: {counted(n_trained, 'document')} that the run was trained on"]


def exam_lines(result: ExamResult, args: argparse.Namespace) -> list[str]:
    """The table, then wrong answers if they are wanted."""
    lines = ["", "exam: held-out questions, greedy answers", *table(result)]
    for answer in result.wrong(args.show_errors):
        lines += ["", f"{answer.question.family}:"]
        lines += [f"  {message.role:9}  {message.content}" for message in answer.question.messages]
        lines += [f"  {'answered':9}  {answer.text}", f"  {'such as':9}  {answer.question.expected}"]
    return lines


def errors_of(result: ExamResult, n_per_family: int) -> dict[str, Any]:
    """Wrong answers for JSON."""
    errors = [
        {
            "family": answer.question.family,
            "answer": answer.text,
            "expected": answer.question.expected,
            "messages": [message._asdict() for message in answer.question.messages],
        }
        for answer in result.wrong(n_per_family)
    ]
    return {"errors": errors}
