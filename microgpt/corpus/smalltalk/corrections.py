"""Corrections: the user takes something back, and only the new version counts."""

from __future__ import annotations

from collections.abc import Callable

from microgpt.corpus.smalltalk import (
    arithmetic,
    capitals,
    greetings,
    memory,
    opposites,
    order,
    spelling,
    things,
    two_facts,
)
from microgpt.corpus.smalltalk.checks import names_only, says
from microgpt.corpus.smalltalk.draw import Draw
from microgpt.corpus.smalltalk.facts import distractions
from microgpt.corpus.smalltalk.names import people
from microgpt.corpus.smalltalk.turns import Turn

FAMILY = "corrections"
MEANT = (
    "No, I meant {y}.",
    "Sorry, I meant {y}.",
    "I meant {y}, not {x}.",
    "No, not {x}. I meant {y}.",
    "Wait, I meant {y}.",
    "Oh, I wanted to say {y}.",
    "I mean {y}, not {x}.",
    "Not {x}, I meant {y}.",
)
WRONG_NAME = (
    "No, I meant {y}.",
    "Sorry, I meant {y}.",
    "No, my name is {y}, not {x}.",
    "I meant {y}, not {x}.",
    "Wait, my name is {y}.",
    "That was wrong, my name is {y}.",
)

Redo = Callable[[Draw, str], Turn]
# What can be asked again about something else: how to ask it, and about what.
QUESTIONS: tuple[tuple[Redo, tuple[str, ...]], ...] = (
    (capitals.capital_of, capitals.COUNTRIES),
    (opposites.opposite_of, opposites.WORDS),
    (things.colour_of, things.COLOURED),
    (things.sound_of, things.SOUNDING),
    (spelling.spell, spelling.WORDS),
    (lambda draw, day: order.neighbour_of(draw, "day", day, draw.pick(("after", "before"))), order.DAYS),
)


def question(draw: Draw) -> list[Turn]:
    """A question, answered; then the user meant another thing.  The pair decides the side."""
    redo, items = draw.pick(QUESTIONS)
    x, y = draw.content(lambda: draw.sample(items, 2), lambda p: f"meant|{p[0]}|{p[1]}")
    seed = draw.below(1 << 32)
    first, second = redo(Draw(f"{seed}", draw.held_out), x), redo(Draw(f"{seed}", draw.held_out), y)
    return [first._replace(check=None), _corrected(draw, second, x, y, f"meant|{x}|{y}")]


def total(draw: Draw) -> list[Turn]:
    """A sum, answered; then the user meant another sum of the same kind."""
    first = arithmetic.any_sum(draw)
    while (second := arithmetic.any_sum(draw)).op != first.op or second == first:
        pass
    x, y = (f"{fact.a} {'plus' if fact.op == '+' else 'minus'} {fact.b}" for fact in (first, second))
    turn = arithmetic.sum_turn(draw, second)
    return [arithmetic.sum_turn(draw, first)._replace(check=None), _corrected(draw, turn, x, y, turn.key)]


def _corrected(draw: Draw, turn: Turn, x: str, y: str, key: str) -> Turn:
    return turn._replace(user=draw.pick(MEANT).format(x=x, y=y), family=FAMILY, key=key)


def name(draw: Draw) -> list[Turn]:
    """A name, taken back; later only the new one counts."""
    x, y = people(draw, 2)
    user = draw.pick(WRONG_NAME).format(x=x, y=y)
    right = Turn(user, f"I see, your name is {y}.", y, FAMILY, f"name|{y}", names_only(y))
    recall = memory.recall(draw, y)._replace(family=FAMILY)
    return [memory.tell(draw, x), right, *distractions(draw, 2), recall]


def favourite(draw: Draw) -> list[Turn]:
    """A favourite thing, taken back; the pair of old and new decides the side."""

    def three() -> tuple[str, str, str]:
        kind = draw.pick(tuple(two_facts.FAVOURITES))
        x, y = draw.sample(two_facts.FAVOURITES[kind], 2)
        return kind, x, y

    kind, x, y = draw.content(three, lambda p: f"favourite|{'|'.join(p)}")
    values = two_facts.FAVOURITES[kind]
    reply, key, check = f"Your favourite {kind} is {y}.", f"favourite|{kind}|{x}|{y}", says(y, values)
    told = Turn(f"My favourite {kind} is {x}.", "I will remember that.")
    right = Turn(
        draw.pick(MEANT).format(x=x, y=y), f"I see, your favourite {kind} is {y}.", "", FAMILY, key, check
    )
    asked = Turn(draw.pick(two_facts.ASK_FAVOURITE).format(a=kind), reply, "", FAMILY, key, check)
    return [told, right, *distractions(draw, 2), asked]


def dialogue(draw: Draw) -> list[Turn]:
    """One correction, sometimes with a question before it."""
    turns = draw.weighted(((question, 45), (total, 10), (name, 28), (favourite, 17)))(draw)
    return greetings.dressed(draw, [*distractions(draw, 1), *turns])
