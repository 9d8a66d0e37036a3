"""Measure a model on text that it was not trained on.

  microgpt eval runs/x                   the held-out part of the run's own corpus
  microgpt eval x y@best                 several, and a table that compares them
  microgpt eval runs/x --data my.txt     another text, all of it that was not trained on
  microgpt eval runs/x --stride 64       every token with much before it: windows slide by so many
  microgpt eval runs/x --data smalltalk --show-errors     the embedded corpus and its exam
  microgpt eval runs/x --suite ood,long  unusual text, and text longer than the window

Loss is in nats per token, with its 95 % interval: by the standard error over documents.
Bits per byte of text compare models of different vocabularies.  Beside it stands what counting the training
text would give: n-grams by interpolated Kneser-Ney; and where the loss lies: by place in the document, by
role, by how often a token occurs in training.  `microgpt compare` tells two models apart.  A run knows its
corpus by the content, in any place and under any name, and measures only its held-out part; of other text,
documents that it was trained on are told and left out.  A model of the embedded corpus also answers questions
about names, numbers and facts that its training never held.
"""

import argparse
import math
from collections.abc import Sequence
from typing import Any

from microgpt.batches.packing import DOCUMENTS, PACKINGS
from microgpt.common.bars import progress_bar
from microgpt.common.errors import ConfigError
from microgpt.common.flags import Parser, given, whole
from microgpt.common.output import escaped, json_line, tell
from microgpt.common.words import counted
from microgpt.core import native
from microgpt.corpus.reading.options import ReadOptions
from microgpt.corpus.smalltalk import SEEN, exam
from microgpt.evaluation.exam import ExamResult, table, take_exam
from microgpt.evaluation.held_out import HeldOut, packing_of, text_to_measure, windows_of
from microgpt.evaluation.loss import BPB_NOTE, INTERVAL_NOTE, with_interval
from microgpt.evaluation.measure import context_policy, measure, too_little
from microgpt.model import count_parameters

from ._model_flags import (
    Loaded,
    add_carry_flag,
    add_model_flags,
    add_text_flags,
    choice_notes,
    is_carried,
    named_to_slide,
    open_checkpoint,
)
from ._suites import add_suite_flags, suite_results


def parser() -> Parser:
    """All flags."""
    flags = Parser(prog="microgpt eval", description=__doc__)
    add_model_flags(flags, several=True)
    add_text_flags(flags, "what it was trained on")
    flags.add_argument(
        "--packing",
        choices=PACKINGS,
        help="windows as training makes them with this --packing; to compare runs, measure both on the same "
        "[default that of the run]",
    )
    flags.add_argument(
        "--stride",
        type=whole(1),
        metavar="TOKENS",
        help="windows slide by so many tokens, so that each token is scored with at least the window less "
        "these before it; smaller is slower [default the window: as in training]",
    )
    add_carry_flag(flags)
    add_suite_flags(flags)
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
    flags.add_argument(
        "--brief", action="store_true", help="the loss and the exam alone: no n-grams, and not where it lies"
    )
    flags.add_argument("--json", action="store_true", help="print one JSON object each instead of lines")
    return flags


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = parser().parse_args(argv)
    reports = [evaluated(args, name) for name in named_to_slide(args)]
    if len(reports) > 1 and not args.json:
        print("", *comparison(reports), sep="\n")
    return 0


def evaluated(args: argparse.Namespace, name: str | None) -> dict[str, Any]:
    """Measure one checkpoint and print what came out."""
    loaded = open_checkpoint(args, name)
    how, carries = given(args, ReadOptions), is_carried(loaded, args)
    held_out = text_to_measure(loaded.path, loaded.tokenizer, args.files, native.threads(), how)
    if args.brief:
        held_out = held_out._replace(training=None)  # what n-grams are counted in
    report: dict[str, Any] = {
        "checkpoint": str(loaded.path),
        "step": loaded.state.get("step"),
        "n_params": count_parameters(loaded.model.config),
    }
    report |= measured(loaded, held_out, args, carries)
    if not args.json:
        lines = [*loaded.describe(), *loss_lines(report)]
        if not args.brief:
            lines += [*baseline_lines(report), *breakdown_lines(report)]
        print(*map(escaped, lines), sep="\n", flush=True)
        if held_out.has_exam:
            print(f"its conversations are new; {SEEN}", flush=True)
    result = examined(loaded, held_out, args.questions)
    report |= {"exam": result and result.to_dict() | errors_of(result, args.show_errors)}
    lines, report["suites"] = suite_results(loaded, held_out, args)
    if result:
        lines = [*exam_lines(result, args), *lines]
    if args.json:
        tell(*choice_notes(loaded.path))
        print(json_line(report))
    elif lines:
        print(*map(escaped, lines), sep="\n", flush=True)
    return report


def measured(loaded: Loaded, held_out: HeldOut, args: argparse.Namespace, carries: bool) -> dict[str, Any]:
    """All numbers with the counts behind them."""
    seq_len, stride, packing = (
        loaded.model.config.seq_len,
        args.stride,
        args.packing or packing_of(loaded.path),
    )
    how = args.max_tokens, packing, stride, carries
    windows = windows_of(held_out, loaded.tokenizer, seq_len, *how)
    with progress_bar("scoring", windows.n_windows, "window") as progress:
        result = measure(loaded.model, loaded.tokenizer, held_out, windows, progress.update)
    return {
        "data": held_out.names,
        "part": held_out.part,
        "packing": packing,
        "seq_len": seq_len,
        "stride": stride or seq_len,
        "n_stretches": windows.n_stretches,
        "n_documents": windows.n_documents,
        "n_tokens": windows.n_tokens,
        "n_bytes": windows.n_bytes,
        "n_trained_documents": None if held_out.is_trained is None else held_out.n_trained,
        "are_trained_measured": held_out.is_own,
        "too_little": too_little(result.quality.loss),
        **result.to_dict(),
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
    """What was measured on and how, and the numbers."""
    packed = ", packed whole" if report["packing"] == DOCUMENTS else ""
    half, bpb_half = report["loss_half_width"], report["bpb_half_width"]
    known = half is not None
    between = f" ({exp_of(report['loss'] - half)} to {exp_of(report['loss'] + half)})" if known else ""
    first = "each document" if report["packing"] == DOCUMENTS else "the text"
    return [
        f"on {' '.join(report['data'])} ({report['part']}): "
        f"{counted(report['n_documents'], 'document')}{packed}, "
        f"{report['n_tokens']:,} tokens, {report['n_bytes']:,} bytes",
        f"  {context_policy(report['packing'], report['seq_len'], report['stride'], report['n_stretches'])}",
        *trained_lines(report),
        f"loss {with_interval(report['loss'], half)} nats/token, "
        f"{with_interval(report['bpb'], bpb_half)} bits per byte",
        f"perplexity {report['perplexity']:.2f}{between}, {report['accuracy']:.1%} of tokens foretold right",
        *([f"  {INTERVAL_NOTE}"] if known else []),
        *([f"  {report['too_little']}"] if report["too_little"] else []),
        f"  scored are all tokens but the first of {first}; {BPB_NOTE}",
    ]


def exp_of(loss: float) -> str:
    """A perplexity for people."""
    return f"{math.exp(min(loss, 700.0)):.2f}"


def baseline_lines(report: dict[str, Any]) -> list[str]:
    """The table of baselines, the best first, with this model in it."""
    if not report["baselines"]:
        return ["no baselines beside it: the text that it was trained on is not kept here any more"]
    n, of = report["n_counted_tokens"], report["n_training_tokens"]
    all_of = f"the {of:,} tokens" if n == of else f"{n:,} of the {of:,} tokens, evenly spread,"
    rows = [("this model", report), *reversed(report["baselines"].items())]
    width = max(len(name) for name, _ in rows)
    return [
        "",
        f"{'':{width}}  {'nats/token':>19}  {'bits/byte':>19}",
        *(f"{name:{width}}  {cell(one, 'loss'):>19}  {cell(one, 'bpb'):>19}" for name, one in rows),
        f"  counted in {all_of} that it was trained on; n-grams by interpolated Kneser-Ney",
    ]


def cell(values: dict[str, Any], name: str) -> str:
    """A number of a table, with its interval."""
    return with_interval(values[name], values[f"{name}_half_width"])


TITLES = {
    "position": "tokens of its document before it",
    "role": "whose words",
    "frequency": "times in training",
}


def breakdown_lines(report: dict[str, Any]) -> list[str]:
    """Where the loss lies."""
    lines = []
    width = max(map(len, TITLES.values()))
    for name, rows in report["by"].items():
        lines += ["", f"{TITLES[name]:{width}}{'tokens':>12}{'nats/token':>12}{'right':>8}"]
        lines += [
            f"{label:{width}}{row['n_tokens']:12,}{row['loss']:12.4f}{row['accuracy']:8.1%}"
            for label, row in rows.items()
        ]
    return lines


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
