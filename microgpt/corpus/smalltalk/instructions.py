"""Standing instructions that stay in force: one word, twice, in capitals, with the user's name."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from microgpt.corpus.smalltalk import capitals, greetings, opposites, order, things
from microgpt.corpus.smalltalk.checks import Check, is_capitals, is_one_word, is_twice, names_only
from microgpt.corpus.smalltalk.draw import Draw
from microgpt.corpus.smalltalk.names import person
from microgpt.corpus.smalltalk.turns import Turn

FAMILY = "instructions"


class Rule(NamedTuple):
    """A way to answer: how it is asked for, what it makes of a short answer, and how it is checked."""

    wordings: tuple[str, ...]
    apply: Callable[[str, str], str]  # (short answer, user's name) -> reply
    check: Callable[[Turn, str], Check]


def _once(turn: Turn) -> Check:
    assert turn.check is not None, "short answers come from questions"
    return turn.check


RULES = {
    "one word": Rule(
        (
            "Answer in one word from now on.",
            "Please answer with one word only.",
            "Use only one word for each answer.",
            "From now on, one word answers only.",
            "Give me answers of one word.",
            "I want answers of just one word.",
        ),
        lambda short, name: f"{short}.",
        lambda turn, name: is_one_word(turn.short),
    ),
    "twice": Rule(
        (
            "Say every answer twice.",
            "Please say everything twice.",
            "From now on, answer twice.",
            "Repeat each answer once.",
            "Give me each answer two times.",
            "I want to hear each answer twice.",
        ),
        lambda short, name: f"{short}. {short}.",
        lambda turn, name: is_twice(turn.short),
    ),
    "capitals": Rule(
        (
            "Answer in capitals from now on.",
            "Please write in capital letters.",
            "Use capital letters only.",
            "From now on, write everything in capitals.",
            "I want answers in capitals.",
            "Give me each answer in capital letters.",
        ),
        lambda short, name: f"{short.upper()}.",
        lambda turn, name: is_capitals(turn.short, _once(turn)),
    ),
    "name": Rule(
        (
            "Use my name {x} in every answer.",
            "My name is {x}. Say my name in each answer.",
            "I am {x}. Always add my name.",
            "End every answer with my name, {x}.",
            "Please add my name {x} to each answer.",
        ),
        lambda short, name: f"{short}, {name}.",
        lambda turn, name: _with_name(turn, name),
    ),
}
# Questions with an answer of one word; the last three have few enough answers to know them in capitals.
SHORT: tuple[Callable[[Draw], Turn], ...] = (
    lambda draw: capitals.capital_of(draw, draw.pick(capitals.COUNTRIES)),
    lambda draw: opposites.opposite_of(draw, draw.pick(opposites.WORDS)),
    lambda draw: things.colour_of(draw, draw.pick(things.COLOURED)),
    lambda draw: things.sound_of(draw, draw.pick(things.SOUNDING)),
    order.any_neighbour,
)
STOP = (
    "You can stop that now.",
    "Now answer normally again.",
    "Stop that, please.",
    "You may answer as usual again.",
)


def _with_name(turn: Turn, name: str) -> Check:
    """The right answer, and the user's name beside it."""
    right, named = _once(turn), names_only(name)

    def check(answer: str) -> bool:
        return right(answer) and named(answer.replace(turn.short, ""))

    return check


def ruled(draw: Draw, kind: str, name: str) -> Turn:
    """A question answered under the rule."""
    rule, turn = RULES[kind], draw.pick(SHORT[-3:] if kind == "capitals" else SHORT)(draw)
    reply = rule.apply(turn.short, name)
    return turn._replace(reply=reply, family=FAMILY, key=f"{kind}|{turn.key}", check=rule.check(turn, name))


def dialogue(draw: Draw) -> list[Turn]:
    """An instruction and two to four questions under it; sometimes it is lifted again."""
    kind, name = draw.pick(tuple(RULES)), person(draw)
    rule = RULES[kind]
    start = Turn(draw.pick(rule.wordings).format(x=name), rule.apply("Okay", name))
    turns = [start, *(ruled(draw, kind, name) for _ in range(draw.between(2, 4)))]
    if draw.chance(20):
        turns += [Turn(draw.pick(STOP), "Okay, I will answer as usual."), draw.pick(SHORT)(draw)]
    before = [draw.pick(SHORT)(draw)] if draw.chance(20) else []
    return [*([greetings.hello(draw)] if draw.chance(8) else []), *before, *turns]
