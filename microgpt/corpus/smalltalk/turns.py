"""The parts of a dialogue: a turn is one exchange, a question is a dialogue cut where it can be marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from microgpt.corpus.chat import Message
from microgpt.corpus.smalltalk.checks import Check, words

SPARE_WORDS = 8  # how much longer than expected an answer may be


class Turn(NamedTuple):
    """One exchange.

    short: the reply as a single word, for standing instructions ("" = there is none).
    family, key, check: set where the exchange can be an exam question; the key names its content.
    """

    user: str
    reply: str
    short: str = ""
    family: str = ""
    key: str = ""
    check: Check | None = None


@dataclass(frozen=True)
class Question:
    """An exam question: a conversation that ends with the user's question, and how to mark the answer."""

    family: str
    messages: list[Message]
    expected: str
    key: str
    check: Check

    def is_correct(self, answer: str) -> bool:
        """Whether the answer holds the right key and no other.

        The question read back never counts, nor does an answer that goes on and on.
        """
        said = words(answer)
        if said == words(self.messages[-1].content) or len(said) > len(words(self.expected)) + SPARE_WORDS:
            return False
        return self.check(answer)


def to_messages(turns: Sequence[Turn]) -> list[Message]:
    """The turns as alternating user and assistant messages."""
    messages = []
    for turn in turns:
        messages += [Message("user", turn.user), Message("assistant", turn.reply)]
    return messages


def to_question(turns: Sequence[Turn], at: int) -> Question:
    """Cut the dialogue at turn `at`: what came before stays as it was said."""
    turn = turns[at]
    assert turn.check is not None, "only a turn with a check can be asked"
    messages = [*to_messages(turns[:at]), Message("user", turn.user)]
    return Question(turn.family, messages, turn.reply, turn.key, turn.check)


def with_article(noun: str) -> str:
    """a cat, an owl"""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def capitalised(text: str) -> str:
    """The text with its first letter in capitals."""
    return text[:1].upper() + text[1:]
