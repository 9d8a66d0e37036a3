"""Where a model fails, and what is missing: data or ability.

  microgpt failures runs/x               its worst held-out documents, tokens and questions
  microgpt failures x y                  where the second is worse than the first, too
  microgpt failures x --data my.txt --questions 50 --items 0

Held-out text is that of `eval`.  A chat model answers the exam and the canaries; of each wrong answer it is
told whether the conversation told it, whether it follows by a rule, or how often the training text says it:
what it never says, and an answer by a rule where it has nothing of the kind, is missing data, which is always
told, all else a missing ability.  What limits the model most comes first.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from microgpt.common.bars import progress_bar
from microgpt.common.errors import ConfigError
from microgpt.common.flags import Parser, given, whole
from microgpt.common.output import escaped, json_line, tell
from microgpt.core import native
from microgpt.corpus.prepared.fingerprints import fingerprints
from microgpt.corpus.reading.options import ReadOptions
from microgpt.corpus.smalltalk import exam
from microgpt.evaluation.breakdown import Breakdown, groupings
from microgpt.evaluation.canaries import run_canaries
from microgpt.evaluation.canary_items import CANARIES
from microgpt.evaluation.causes import MEANING, Answered, causes
from microgpt.evaluation.exam import take_exam
from microgpt.evaluation.failures import (
    BadDocument,
    BadToken,
    Limitation,
    TokenLosses,
    by_category,
    limitations,
    worst_documents,
    worst_tokens,
)
from microgpt.evaluation.held_out import HeldOut, packing_of, score, text_to_measure, windows_of
from microgpt.evaluation.ngrams import count_tokens
from microgpt.evaluation.results import refuse_taken, write_result
from microgpt.evaluation.statistics import gain
from microgpt.evaluation.taught import text_that_taught
from microgpt.evaluation.training_text import TrainingText

from ._model_flags import Loaded, add_model_flags, add_text_flags, named, open_checkpoint

TOP = 5  # limitations


def parser() -> Parser:
    """All flags."""
    flags = Parser(prog="microgpt failures", description=__doc__)
    add_model_flags(flags, several=True)
    add_text_flags(flags, "what it was trained on")
    for name, default, what in (
        ("--questions", 50, "exam questions of each family; 0: no exam"),
        ("--items", 50, "of each canary; 0: no canaries"),
        ("--show", 5, "documents, tokens and limitations to tell"),
    ):
        flags.add_argument(
            name, type=whole(0), default=default, metavar="COUNT", help=f"{what} [default {default}]"
        )
    flags.add_argument("--out", type=Path, metavar="FILE", help="write all of it to a new file, as JSON")
    flags.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    return flags


class Studied(NamedTuple):
    """One model: what it loses where, what it answered, and the text."""

    loaded: Loaded
    held_out: HeldOut
    losses: TokenLosses
    breakdown: Breakdown
    training: TrainingText | None
    n_trained: np.ndarray | None
    answered: list[Answered]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = parser().parse_args(argv)
    names = named(args)
    if len(names) > 2:
        raise ConfigError(f"{len(names)} checkpoints; failures takes one, or two to compare")
    refuse_taken(args.out)
    studied = [study(args, name) for name in names]
    if len(studied) == 2:
        check_alike(studied[0], studied[1])
    found = [weak_points(one) for one in studied]
    document = {
        "models": [report(one, limits, args.show) for one, limits in zip(studied, found, strict=True)],
        "second_is_worse": worse_dict(studied[0], studied[1], args.show) if len(studied) == 2 else None,
    }
    if args.json:
        print(json_line(document))
    else:
        for one, limits in zip(studied, found, strict=True):
            print(*map(escaped, lines_of(one, limits, args.show)), "", sep="\n")
        if len(studied) == 2:
            print(*map(escaped, worse_lines(studied[0], studied[1], args.show)), sep="\n")
    if args.out:
        write_result(args.out, document)
    return 0


def study(args: argparse.Namespace, name: str | None) -> Studied:
    """Measure one model on held-out text, and ask it."""
    loaded = open_checkpoint(args, name)
    model, tokenizer = loaded.model, loaded.tokenizer
    how = given(args, ReadOptions)
    held_out = text_to_measure(loaded.path, tokenizer, args.files, native.threads(), how)
    training = text_that_taught(loaded.path, tokenizer, held_out.training)
    n_trained = None if training is None else np.sum([*map(count_tokens, training.files)], 0)
    losses = TokenLosses(held_out.tokens)
    breakdown = Breakdown(groupings(held_out.tokens, tokenizer, n_trained))
    which = model.config.seq_len, args.max_tokens, packing_of(loaded.path)
    windows = windows_of(held_out, tokenizer, *which)
    with progress_bar("scoring", windows.n_windows, "window") as progress:
        score(model, windows, progress.update, [losses, breakdown])
    answered = asked(args, loaded, training)
    return Studied(loaded, held_out, losses, breakdown, training, n_trained, answered)


def asked(args: argparse.Namespace, loaded: Loaded, training: TrainingText | None) -> list[Answered]:
    """The exam and the canaries, of a model that has learned to hold conversations."""
    model, tokenizer = loaded.model, loaded.tokenizer
    if not loaded.knows_chats():
        return []
    answered: list[Answered] = []
    questions = exam(args.questions)
    try:
        with progress_bar("exam", len(questions), "question") as progress:
            marked = take_exam(model, tokenizer, questions, progress.update).answers
        answered += [Answered(one.question.family, one.question, one.text, one.correct) for one in marked]
    except ConfigError as reason:
        tell(f"no exam: {reason}")
    if args.items:
        with progress_bar("canaries", args.items * len(CANARIES), "item") as progress:
            how = training, True, args.items, 0, progress.update
            found = run_canaries(model, tokenizer, *how).asked
        answered += [
            Answered(f"{one.canary.name} {one.canary.title}", o.question, o.answer, o.is_right)
            for one in found
            for o in one.outcomes
            if o
        ]
    return answered


def weak_points(one: Studied) -> list[Limitation]:
    """What limits a model, the most first."""
    wrong = [answer for answer in one.answered if not answer.is_right]
    n_blocks = 3 * one.training.n_blocks if one.training else 0
    with progress_bar("searching the training text", n_blocks, "block") as progress:
        return limitations(one.answered, causes(wrong, one.training, progress.update))


def check_alike(a: Studied, b: Studied) -> None:
    """Refuse two that cannot be compared token by token."""
    if a.loaded.tokenizer.sha256 != b.loaded.tokenizer.sha256:
        raise ConfigError("the two have other tokens; failures compares token by token, compare by bytes")
    if not np.array_equal(fingerprints(a.held_out.tokens), fingerprints(b.held_out.tokens)):
        raise ConfigError("the two were measured on other documents; name a text for both with --data")


def report(one: Studied, limits: list[Limitation], n: int) -> dict[str, Any]:
    """One model for JSON."""
    tokenizer = one.loaded.tokenizer
    return {
        "checkpoint": str(one.loaded.path),
        "data": one.held_out.names,
        "part": one.held_out.part,
        "limitations": [limit.to_dict() for limit in limits],
        "documents": [d._asdict() for d in worst_documents(one.losses, tokenizer, n)],
        "tokens": [t._asdict() for t in worst_tokens(one.losses, tokenizer, n, one.n_trained)],
        "by": one.breakdown.to_dict(),
    }


def worse_dict(a: Studied, b: Studied, n: int) -> dict[str, Any]:
    """Where the second is worse, for JSON."""
    tokenizer = a.loaded.tokenizer
    return {
        "documents": [d._asdict() for d in worst_documents(a.losses, tokenizer, n, b.losses)],
        "tokens": [t._asdict() for t in worst_tokens(a.losses, tokenizer, n, a.n_trained, b.losses)],
        "questions": {
            category: counts._asdict() | {"gain": gain(counts)._asdict(), "p": counts.p}
            for category, counts in by_category(*in_common(a, b)).items()
        },
    }


def in_common(a: Studied, b: Studied) -> tuple[list[Answered], list[Answered]]:
    """The answers of both to the same first questions."""
    others = {_asked(one): one for one in b.answered}
    both = [(one, others[key]) for one in a.answered if (key := _asked(one)) in others]
    return [one for one, _ in both], [other for _, other in both]


def _asked(one: Answered) -> tuple[str, str]:
    """A question by what the user says in it, for what the model said before may differ."""
    said = "\n".join(message.content for message in one.question.messages if message.role == "user")
    return one.category, said


def lines_of(one: Studied, limits: list[Limitation], n: int) -> list[str]:
    """One model for people."""
    tokenizer = one.loaded.tokenizer
    text = f"on {' '.join(one.held_out.names)} ({one.held_out.part})"
    documents = worst_documents(one.losses, tokenizer, n)
    return [
        *one.loaded.describe(),
        "",
        "what limits it most, by wrong answers",
        *(limit_lines(limits, max(n, TOP)) or ["  no question was asked, or none answered wrong"]),
        "",
        f"worst documents {text}, nats/token",
        *(line for document in documents for line in document_lines(document)),
        "",
        f"tokens where most of the loss lies {text}",
        *token_lines(worst_tokens(one.losses, tokenizer, n, one.n_trained)),
        "",
        "share of the loss, and of the tokens",
        *group_lines(one.breakdown),
    ]


def limit_lines(limits: Sequence[Limitation], n: int) -> list[str]:
    """The first n, each with its place, its reason and examples; of the others those that are missing data,
    which no training on the same text mends, however few they are; and how many are left out."""
    told = [(place, one) for place, one in enumerate(limits, 1) if place <= n or one.is_missing_data]
    lines = []
    for place, one in told:
        wrong = one.wrong
        read = "" if one.n_lines is None or one.is_missing_data else f", in {one.n_lines:,} lines of it"
        lines += [
            f"{place}. {one.category}: {wrong.n} of {wrong.of} wrong "
            f"(95 % {wrong.low:.0%} to {wrong.high:.0%})",
            f"   {MEANING[one.kind]}{read}",
        ]
        for example, _ in one.examples:
            answer = example.answer or "(did not end)"
            asked, right = example.question.messages[-1].content, example.question.expected
            lines.append(f"      {asked}  ->  {answer}  such as: {right}")
    if n_more := len(limits) - len(told):
        lines.append(f"   and {n_more} more; --show {len(limits)} tells all")
    return lines


def document_lines(one: BadDocument) -> list[str]:
    """Its loss, its beginning, and its worst place."""
    token, before, nats = one.worst
    other = "" if one.other is None else f" -> {one.other:.3f}"
    return [
        f"  {one.loss:.3f}{other}  document {one.number}, {one.n_tokens:,} tokens: {flat(one.text)}",
        f"         worst: {nats:.1f} nats at {token!r} after {flat(before)!r}",
    ]


def flat(text: str) -> str:
    """On one line."""
    return " ".join(text.split())


def token_lines(tokens: Sequence[BadToken]) -> list[str]:
    """A table."""
    lines = [f"  {'token':16}{'held out':>10}{'nats each':>18}{'of the loss':>13}{'in training':>13}"]
    for one in tokens:
        each = f"{one.loss:.3f}" + ("" if one.other is None else f" -> {one.other:.3f}")
        trained = "" if one.n_trained is None else f"{one.n_trained:,}"
        lines.append(f"  {one.text!r:16}{one.n:10,}{each:>18}{one.share_of_loss:13.1%}{trained:>13}")
    return lines


def group_lines(breakdown: Breakdown) -> list[str]:
    """By whose words they are, and by how often the training text has the token."""
    lines = []
    for name, title in (("role", "of"), ("frequency", "in training")):
        rows = breakdown.rows(name) if name in breakdown.to_dict() else []
        nats, n_tokens = sum(float(row.nats.sum()) for row in rows), sum(row.n_tokens for row in rows)
        lines += [
            f"  {title + ' ' + row.label:28}{float(row.nats.sum()) / nats:8.1%}{row.n_tokens / n_tokens:8.1%}"
            for row in rows
        ]
    return lines


def worse_lines(a: Studied, b: Studied, n: int) -> list[str]:
    """Where the second is worse, for people."""
    tokenizer = a.loaded.tokenizer
    documents = worst_documents(a.losses, tokenizer, n, b.losses)
    lines = [
        f"where {b.loaded.path} is worse than {a.loaded.path}",
        "documents, nats/token",
        *(line for document in documents for line in document_lines(document)),
        "tokens",
        *token_lines(worst_tokens(a.losses, tokenizer, n, a.n_trained, b.losses)),
    ]
    compared = by_category(*in_common(a, b))
    if compared:
        lines += ["questions", f"  {'':40}{'only first':>11}{'only second':>12}{'gain':>8}{'p':>9}"]
    for category, counts in compared.items():
        lines.append(
            f"  {category:40}{counts.only_first:11d}{counts.only_second:12d}"
            f"{gain(counts).value:+8.1%}{counts.p:9.2g}"
        )
    return lines
