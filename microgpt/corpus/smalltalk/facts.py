"""The families of single questions: as a distraction between two turns, and as dialogues of their own."""

from __future__ import annotations

from collections.abc import Callable

from microgpt.corpus.smalltalk import (
    arithmetic,
    capitals,
    opposites,
    order,
    persona,
    repeating,
    spelling,
    things,
)
from microgpt.corpus.smalltalk.draw import Draw
from microgpt.corpus.smalltalk.turns import Turn

Ask = Callable[[Draw], Turn]

# What a distraction is made of: (family, weight).
ASKS: tuple[tuple[Ask, int], ...] = (
    (arithmetic.ask, 24),
    (order.ask, 18),
    (opposites.ask, 5),
    (things.ask, 10),
    (capitals.ask, 5),
    (spelling.ask, 10),
    (persona.ask, 3),
    (persona.how_are_you, 5),
    (repeating.repeat_words, 10),
)


def distraction(draw: Draw) -> Turn:
    """A real question from some other family, with its right answer."""
    return draw.weighted(ASKS)(draw)


def distractions(draw: Draw, at_most: int, at_least: int = 0) -> list[Turn]:
    """Several distractions; the exam does not ask them."""
    return [distraction(draw)._replace(check=None) for _ in range(draw.between(at_least, at_most))]


def dialogue_of(ask: Ask) -> Callable[[Draw], list[Turn]]:
    """A dialogue that mostly asks questions of one family."""

    def dialogue(draw: Draw) -> list[Turn]:
        return [ask(draw) if draw.chance(60) else distraction(draw) for _ in range(draw.between(1, 4))] + [
            ask(draw)
        ]

    return dialogue
