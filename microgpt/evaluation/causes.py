"""Why a question was answered wrong: is it something the training text never says, or a missing ability?

    told         the answer stands in the conversation, and had to be copied from there
    worked out   it is made of numbers or letters, which follow by a rule
    no such      so it is, but the training text has nothing of the kind: missing data
    read         the training text says it, so many times
    never        the training text never says it, and nothing else tells: missing data

What an answer says is known by its words: a line of the training text says it that has all of them.  A line
is of the kind of an answer by a rule if it has its words, and other numbers or letters in a row.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from microgpt.corpus.smalltalk import Question
from microgpt.corpus.smalltalk.draw import listed

from .training_text import Form, TrainingText, plain_words

TOLD, WORKED_OUT, READ, NEVER, UNKNOWN = "told", "worked out", "read", "never", "unknown"
NO_SUCH = "no such"
MISSING_DATA = (NEVER, NO_SUCH)
IN_A_ROW = 3  # numbers or letters that show the kind of an answer which has more
MEANING = {
    TOLD: "missing ability: to use what the conversation told",
    WORKED_OUT: "missing ability: to work it out",
    READ: "missing ability: to know what it has read",
    NEVER: "missing data: its training text never says it",
    NO_SUCH: "missing data: its training text has nothing of the kind",
    UNKNOWN: "its training text, or some of it, is not kept here, so missing data or missing ability cannot "
    "be told apart",
}
SMALL_WORDS = frozenset(
    listed(
        "a an the of is are am was were be do does did to in on at it its i you your my me he she they we "
        "and or so that this there here has have had with from for by as will would can could should not no "
        "yes okay ok sorry oh well please tell name what which who whom where how when why"
    )
)


class Answered(NamedTuple):
    """A question that was put to a model: of an exam's family or a canary."""

    category: str
    question: Question
    answer: str
    is_right: bool


class Cause(NamedTuple):
    """One of the kinds above.  n: how many lines of the training text say it; None: not looked for."""

    kind: str
    n: int | None = None


def content(text: str) -> list[str]:
    """The words of a text that carry what it says, each once."""
    return [word for word in dict.fromkeys(plain_words(text).split()) if word not in SMALL_WORDS]


def is_by_rule(text: str) -> bool:
    """Whether an answer is made of numbers, or of letters that stand alone."""
    return any(word.isdigit() or (len(word) == 1 and word not in "ai") for word in plain_words(text).split())


def in_a_row(text: str) -> list[str]:
    """Numbers and letters of an answer by a rule that stand side by side, IN_A_ROW at most."""
    groups = itertools.groupby(plain_words(text).split(), lambda word: word.isdigit() or len(word) == 1)
    rows = [list(words) for is_alone, words in groups if is_alone]
    return max((row for row in rows if is_by_rule(" ".join(row))), key=len)[:IN_A_ROW]


def is_told(one: Answered) -> bool:
    """Whether what the answer lacks of a right one stands in the conversation; of one that lacks nothing and
    says too much, whether all of a right one does."""
    words = content(one.question.expected)
    said = plain_words(one.answer).split()
    lacking = [word for word in words if word not in said] or words
    return told_words(one.question).issuperset(lacking)


def told_words(question: Question) -> set[str]:
    """All words of the conversation."""
    return {word for message in question.messages for word in plain_words(message.content).split()}


def causes(
    wrong: Sequence[Answered],
    training: TrainingText | None,
    progress: Callable[[int], Any] = lambda n: None,
) -> list[Cause]:
    """Why each of some wrong answers is wrong.

    progress: hears 1 of each block of the training text, which is read twice, and a third time until all that
              is sought is found.
    """
    if training is None:
        return [_unsought(one) or Cause(UNKNOWN) for one in wrong]
    sought = [one.question for one in wrong if not is_told(one)]
    words = sorted({word for question in sought for word in content(question.expected)})
    seen = dict(zip(words, training.counts([[word] for word in words], progress), strict=True))
    counts = training.counts([_phrases(question, seen) for question in sought], progress)
    forms = [_form(one.expected) if is_by_rule(one.expected) else None for one in sought]
    there = training.having({form for form in forms if form}, progress)
    looked_for = [_found(form, n, there) for form, n in zip(forms, counts, strict=True)]
    # What is not in some of the text may be in the rest of it.
    is_sure = training.is_all
    found = iter([one if is_sure or one.kind not in MISSING_DATA else Cause(UNKNOWN) for one in looked_for])
    return [Cause(TOLD) if is_told(one) else next(found) for one in wrong]


def _unsought(one: Answered) -> Cause | None:
    """What can be said without the training text."""
    if is_told(one):
        return Cause(TOLD)
    return Cause(WORKED_OUT) if is_by_rule(one.question.expected) else None


def _found(form: Form | None, n: int, there: set[Form]) -> Cause:
    """form: of an answer by a rule.  n: lines that say the answer.  there: forms that the text has."""
    if form:
        return Cause(WORKED_OUT if form in there else NO_SUCH, n)
    return Cause(READ if n else NEVER, n)


def _phrases(question: Question, seen: dict[str, int]) -> list[str]:
    """What a line must hold to say the answer: all its words, but for names and such that the conversation
    tells and no text has; of numbers and letters also their order.

    seen: in how many lines each word is.
    """
    if is_by_rule(question.expected):
        return [question.expected]
    told = told_words(question)
    return [word for word in content(question.expected) if seen[word] or word not in told]


def _form(answer: str) -> Form:
    """What a line must hold to be of the same kind as an answer by a rule."""
    row = " ".join(r"\d+" if word.isdigit() else r"[^\W\d_]" for word in in_a_row(answer))
    return Form(row, tuple(word for word in content(answer) if not is_by_rule(word)))
