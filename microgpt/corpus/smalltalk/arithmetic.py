"""Sums and differences up to 20, and which of two numbers is bigger.

b + c = a, c + b = a, a - b = c and a - c = b belong together.  Of some of these groups one question is held
out, in every wording, while its sisters are trained.  Replies say sums with the bigger number first, one
fact for both orders; a sum is held out with the smaller number first, so that it must be turned round and
recalled.  A difference that is held out must be worked out: no text ever says it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from microgpt.corpus.smalltalk.checks import number_is
from microgpt.corpus.smalltalk.draw import Draw, digest, listed
from microgpt.corpus.smalltalk.turns import Turn

FAMILY = "arithmetic"
LIMIT = 20
HELD_OUT_PERCENT = 40  # of the groups of four


class Sum(NamedTuple):
    """One fact: a op b = result."""

    a: int
    op: str
    b: int

    @property
    def result(self) -> int:
        return self.a + self.b if self.op == "+" else self.a - self.b


def all_sums() -> list[Sum]:
    """Every sum and difference with numbers from 0 to LIMIT."""
    pairs = [(a, b) for a in range(LIMIT + 1) for b in range(LIMIT + 1 - a)]
    return [Sum(a, "+", b) for a, b in pairs] + [Sum(a + b, "-", b) for a, b in pairs]


def held_out_sums() -> Iterator[Sum]:
    """At most one member of each group, a sum or a difference alike, never with a zero or two equal parts."""
    for b in range(1, LIMIT + 1):
        for c in range(b + 1, LIMIT + 1 - b):
            at = digest(f"sums {b} {c}")
            if at % 100 < HELD_OUT_PERCENT:
                total = Sum(b, "+", c)
                yield (total, total, Sum(b + c, "-", b), Sum(b + c, "-", c))[at // 100 % 4]


HELD_OUT = tuple(held_out_sums())
TRAINED = tuple(fact for fact in all_sums() if fact not in HELD_OUT)

PLUS = (
    "What is {a} plus {b}?",
    "What is {a} + {b}?",
    "What's {a} plus {b}?",
    "How much is {a} plus {b}?",
    "How much is {a} + {b}?",
    "Tell me {a} plus {b}.",
    "Can you add {a} and {b}?",
    "Add {a} and {b}.",
    "I have {a} {things} and get {b} more. How many do I have?",
    "There are {a} {things} and {b} more. How many is that?",
)
MINUS = (
    "What is {a} minus {b}?",
    "What is {a} - {b}?",
    "What's {a} minus {b}?",
    "How much is {a} minus {b}?",
    "How much is {a} - {b}?",
    "Tell me {a} minus {b}.",
    "Can you take {b} from {a}?",
    "Take {b} away from {a}.",
    "I have {a} {things} and lose {b}. How many are left?",
    "There are {a} {things} and {b} go away. How many are left?",
)
N_BARE = 8  # so many of them are about numbers alone, where a zero sounds right
THINGS = listed("eggs plums shells stones nuts cakes stamps buttons flowers tickets")
COMPARE = ("Which is {w}, {a} or {b}?", "Which number is {w}, {a} or {b}?", "What is {w}, {a} or {b}?")


def sum_turn(draw: Draw, fact: Sum) -> Turn:
    """Ask this sum."""
    a, b, result = fact.a, fact.b, fact.result
    wordings = PLUS if fact.op == "+" else MINUS
    wording = draw.pick(wordings if a and b else wordings[:N_BARE])
    user = wording.format(a=a, b=b, things=draw.pick(THINGS) if "{things}" in wording else "")
    first, second = (max(a, b), min(a, b)) if fact.op == "+" else (a, b)
    reply = f"That is {first} {fact.op} {second} = {result}."
    key = f"sum|{a} {fact.op} {b}"
    return Turn(user, reply, str(result), FAMILY, key, number_is(result, (a, b)))


def any_sum(draw: Draw) -> Sum:
    """A sum on the draw's side of the held-out line."""
    while True:
        fact = draw.pick(HELD_OUT if draw.held_out else TRAINED)
        if (fact.a and fact.b and fact.result) or draw.chance(25):  # zeros are easy
            return fact


def compare(draw: Draw) -> Turn:
    """Which of two numbers is bigger, or smaller?"""

    def pair() -> list[int]:
        return draw.sample(range(LIMIT + 1), 2)

    a, b = draw.content(pair, lambda p: f"compare|{min(p)}|{max(p)}")
    word, choose = draw.pick((("bigger", max), ("smaller", min)))
    right = choose(a, b)
    user = draw.pick(COMPARE).format(w=word, a=a, b=b)
    key = f"compare|{min(a, b)}|{max(a, b)}"
    return Turn(user, f"The {word} number is {right}.", str(right), FAMILY, key, number_is(right))


def ask(draw: Draw) -> Turn:
    """One question about numbers."""
    return sum_turn(draw, any_sum(draw)) if draw.chance(80) else compare(draw)
