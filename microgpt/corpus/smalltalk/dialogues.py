"""The families with their weights, and the two ways to use them: endless dialogues, and an exam."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import count

from microgpt.corpus.chat import Message
from microgpt.corpus.smalltalk import (
    arithmetic,
    capitals,
    corrections,
    feelings,
    greetings,
    instructions,
    memory,
    opposites,
    order,
    persona,
    repeating,
    spelling,
    stories,
    things,
    two_facts,
)
from microgpt.corpus.smalltalk.draw import Draw
from microgpt.corpus.smalltalk.facts import dialogue_of
from microgpt.corpus.smalltalk.turns import Question, Turn, to_messages, to_question

Maker = Callable[[Draw], list[Turn]]

# family -> (how its dialogues are made, its share of the dialogues).  Harder families get more practice;
# single questions are practised as distractions in the others too.
TABLE: dict[str, tuple[Maker, int]] = {
    greetings.FAMILY: (greetings.dialogue, 5),
    memory.FAMILY: (memory.dialogue, 20),
    corrections.FAMILY: (corrections.dialogue, 12),
    two_facts.FAMILY: (two_facts.dialogue, 18),
    persona.FAMILY: (dialogue_of(persona.ask), 3),
    arithmetic.FAMILY: (dialogue_of(arithmetic.ask), 10),
    order.FAMILY: (dialogue_of(order.ask), 7),
    opposites.FAMILY: (dialogue_of(opposites.ask), 2),
    things.FAMILY: (dialogue_of(things.ask), 4),
    capitals.FAMILY: (dialogue_of(capitals.ask), 2),
    spelling.FAMILY: (dialogue_of(spelling.ask), 6),
    repeating.FAMILY: (dialogue_of(repeating.ask), 9),
    instructions.FAMILY: (instructions.dialogue, 12),
    feelings.FAMILY: (feelings.dialogue, 7),
    stories.FAMILY: (stories.dialogue, 20),
}
FAMILIES = tuple(TABLE)
WEIGHTS = tuple((maker, weight) for maker, weight in TABLE.values())


def turns_of(seed: int, index: int, held_out: bool = False) -> list[Turn]:
    """Dialogue number `index`, a pure function of its arguments."""
    draw = Draw(f"smalltalk {seed} {index} {held_out}", held_out)
    return draw.weighted(WEIGHTS)(draw)


def generate(n_bytes: int, seed: int = 0, held_out: bool = False) -> Iterator[list[Message]]:
    """Make dialogues until their messages hold `n_bytes` bytes of text.

    held_out: make them of the content that training dialogues never hold.
    """
    index = made = 0
    while made < n_bytes:
        messages = to_messages(turns_of(seed, index, held_out))
        yield messages
        made += sum(len(message.content.encode()) for message in messages)
        index += 1


def _askable(turns: list[Turn], family: str) -> list[int]:
    """Where the dialogue can be cut: at the family's own questions that were not answered before."""
    replies = [turn.reply for turn in turns]
    fresh = [i for i, reply in enumerate(replies) if reply not in replies[:i]]
    return [i for i in fresh if turns[i].family == family and turns[i].check]


def exam_of(family: str, n: int, seed: int = 0) -> list[Question]:
    """`n` different questions of one family, made of held-out content."""
    questions: dict[tuple[Message, ...], Question] = {}
    index = 0
    while len(questions) < n:
        question = _question(family, Draw(f"exam {family} {seed} {index}", held_out=True))
        if question is not None:
            questions.setdefault(tuple(question.messages), question)
        index += 1
    return list(questions.values())


def _question(family: str, draw: Draw) -> Question | None:
    """A question of a family; None: the dialogue that was drawn has none."""
    turns = TABLE[family][0](draw)
    at = _askable(turns, family)
    return to_question(turns, draw.pick(at)) if at else None


def practice(family: str, seed: int, index: int) -> Question:
    """Question number `index` to be practised, a pure function of its arguments: of content that training
    dialogues may hold, so none of it is in any exam."""
    draws = (Draw(f"practice {family} {seed} {index} {attempt}") for attempt in count())
    return next(question for draw in draws if (question := _question(family, draw)))


def exam(n_per_family: int, seed: int = 0) -> list[Question]:
    """`n_per_family` questions of every family, none of whose content occurs in training."""
    return [question for family in FAMILIES for question in exam_of(family, n_per_family, seed)]


def sample_text(n: int, seed: int = 0, held_out: bool = False) -> str:
    """The first `n` dialogues as JSON Lines in the `messages` format."""
    lines = []
    for index in range(n):
        messages = to_messages(turns_of(seed, index, held_out))
        lines.append(json.dumps({"messages": [message._asdict() for message in messages]}) + "\n")
    return "".join(lines)
