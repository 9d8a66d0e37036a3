"""Why a question was answered wrong: is it something the training text never says, or a missing ability?

    told         the answer stands in the conversation, and had to be copied from there
    worked out   it is made of numbers or letters, which follow by a rule
    read         the training text says it, so many times
    never        the training text never says it, and nothing else tells: missing data

What an answer says is known by its words: a line of the training text says it that has all of them.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from microgpt.corpus.smalltalk import Question
from microgpt.corpus.smalltalk.draw import listed

from .training_text import TrainingText, plain_words

TOLD, WORKED_OUT, READ, NEVER, UNKNOWN = "told", "worked out", "read", "never", "unknown"
MEANING = {
    TOLD: "missing ability: to use what the conversation told",
    WORKED_OUT: "missing ability: to work it out",
    READ: "missing ability: to know what it has read",
    NEVER: "missing data: its training text never says it",
    UNKNOWN: "its training text is not kept here, so missing data or missing ability cannot be told apart",
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

    progress: hears 1 of each block of the training text, which is read twice.
    """
    if training is None:
        return [_unsought(one) or Cause(UNKNOWN) for one in wrong]
    sought = [one.question for one in wrong if not is_told(one)]
    words = sorted({word for question in sought for word in content(question.expected)})
    seen = dict(zip(words, training.counts([[word] for word in words], progress), strict=True))
    counts = iter(training.counts([_phrases(question, seen) for question in sought], progress))
    return [Cause(TOLD) if is_told(one) else _found(one, next(counts)) for one in wrong]


def _unsought(one: Answered) -> Cause | None:
    """What can be said without the training text."""
    if is_told(one):
        return Cause(TOLD)
    return Cause(WORKED_OUT) if is_by_rule(one.question.expected) else None


def _found(one: Answered, n: int) -> Cause:
    if is_by_rule(one.question.expected):
        return Cause(WORKED_OUT, n)
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
