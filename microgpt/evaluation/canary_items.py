"""The items of canaries: short scripts of conversations, over the world of the embedded corpus.

A canary is one ability, such as to recall a fact after ten other exchanges, asked in many items: names, sums
and combinations that training never holds, each in one of several wordings.  An item is a list of steps; the
model answers where a step has a check, and goes on from its own answers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from microgpt.common.errors import ConfigError
from microgpt.corpus.chat import Message, prompt_ids, render
from microgpt.corpus.smalltalk import (
    arithmetic,
    corrections,
    greetings,
    instructions,
    memory,
    opposites,
    order,
    persona,
    things,
    two_facts,
)
from microgpt.corpus.smalltalk.checks import Check, is_twice, names_only, says
from microgpt.corpus.smalltalk.draw import Draw
from microgpt.corpus.smalltalk.names import people, person
from microgpt.corpus.smalltalk.turns import Turn, capitalised
from microgpt.tokenizer import Tokenizer

MOST_DRAWS = 50  # for each item that is wanted: draws that come again are few, until there is nothing new
SPARE_TOKENS = 8  # that a good answer may be longer than the one that was expected
UNRELATED = (  # short exchanges, so that many of them fit a small window
    arithmetic.ask,
    order.any_neighbour,
    order.next_number,
    opposites.ask,
    things.ask,
)
RECALLS = ("your name is", "your favourite")


class Step(NamedTuple):
    """A message of the user.

    reply: a good answer.  check: marks the model's own; None: the reply is put down as if it had said it.
    who: number of the conversation; most items have one.
    """

    user: str
    reply: str
    check: Check | None = None
    who: int = 0


class Room(NamedTuple):
    """What a model can be asked: so many tokens, prompt and answer together."""

    tokenizer: Tokenizer
    window: int

    def needed(self, steps: list[Step]) -> int:
        """Tokens that the longest conversation of some steps takes, if every answer is as expected."""
        talks: dict[int, list[Message]] = {}
        most = 0
        for step in steps:
            talk = talks.setdefault(step.who, [])
            talk.append(Message("user", step.user))
            if step.check:
                answer = len(self.tokenizer.encode(step.reply)) + SPARE_TOKENS
                most = max(most, len(prompt_ids(talk, self.tokenizer)) + answer)
            talk.append(Message("assistant", step.reply))
        return most

    def taken(self, steps: list[Step]) -> int:
        """Tokens that some steps of one conversation add to it."""
        talk = [Message(*said) for step in steps for said in (("user", step.user), ("assistant", step.reply))]
        return len(render(talk, self.tokenizer)) - 1


Make = Callable[[Draw, Room], list[Step]]


class Canary(NamedTuple):
    """One ability.

    mark:  share of right items that it asks for.
    signs: phrases of which a corpus that teaches it holds some; none of them: it holds nothing of the kind.
    """

    name: str
    title: str
    mark: float
    signs: tuple[str, ...]
    make: Make

    @property
    def category(self) -> str:
        """C1 of C1a."""
        return self.name[:2]


def said(*turns: Turn) -> list[Step]:
    """Exchanges that are put down as they are."""
    return [Step(turn.user, turn.reply) for turn in turns]


def asked(turn: Turn, who: int = 0) -> Step:
    """A question to the model."""
    assert turn.check is not None, "only a turn with a check can be asked"
    return Step(turn.user, turn.reply, turn.check, who)


def unrelated(draw: Draw, n: int) -> list[Step]:
    """So many exchanges about something else."""
    return said(*(draw.pick(UNRELATED)(draw) for _ in range(n)))


# -------------------------------------------------------------------------- C1: facts


class Fact(NamedTuple):
    """Something that the user tells, and the question for it."""

    told: Turn
    question: Turn


def own_name(draw: Draw) -> Fact:
    """The user's name."""
    name = person(draw)
    return Fact(memory.tell(draw, name), memory.recall(draw, name))


def friend_name(draw: Draw) -> Fact:
    """The name of a pet or of a person."""
    kind, name = draw.pick((*two_facts.PETS, *two_facts.PEOPLE)), person(draw)
    question = Turn(
        draw.pick(two_facts.ASK_NAME).format(a=kind), f"Your {kind} is {name}.", check=names_only(name)
    )
    return Fact(two_facts.named(draw, kind, name), question)


def favourite(draw: Draw) -> Fact:
    """What the user likes best of some kind."""
    kind = draw.pick(tuple(two_facts.FAVOURITES))
    values = two_facts.FAVOURITES[kind]
    value = draw.pick(values)
    told = Turn(f"My favourite {kind} is {value}.", "I will remember that.")
    user = draw.pick(two_facts.ASK_FAVOURITE).format(a=kind)
    return Fact(told, Turn(user, f"Your favourite {kind} is {value}.", check=says(value, values)))


FACTS = (own_name, friend_name, favourite)


def fact_after(n: int) -> Make:
    """One fact, so many other exchanges, the question for it."""

    def make(draw: Draw, room: Room) -> list[Step]:
        fact = draw.pick(FACTS)(draw)
        return [*said(fact.told), *unrelated(draw, n), asked(fact.question)]

    return make


def two_facts_after(n: int) -> Make:
    """Two facts of different kinds, so many other exchanges, both questions."""

    def make(draw: Draw, room: Room) -> list[Step]:
        a, b = (kind(draw) for kind in draw.sample(FACTS, 2))
        first, second = draw.sample((a, b), 2)
        told = said(a.told, b.told)
        return [*told, *unrelated(draw, n), asked(first.question), asked(second.question)]

    return make


# -------------------------------------------------------------------------- C2: a long context


def filled(draw: Draw, room: Room, made: Callable[[list[Step]], list[Step]]) -> list[Step]:
    """The steps that `made` makes of other exchanges, as many as the window has room for."""
    fill: list[Step] = []
    left = room.window - room.needed(made(fill))
    while (left := left - room.taken(more := unrelated(draw, 1))) >= 0:
        fill += more
    return made(fill)


def fact_at(place: str) -> Make:
    """A name early, a fact in the middle and one late in a context that fills the window; one is asked."""

    def make(draw: Draw, room: Room) -> list[Step]:
        facts = {"early": own_name(draw), "middle": friend_name(draw), "late": favourite(draw)}

        def made(fill: list[Step]) -> list[Step]:
            half, last = len(fill) // 2, max(0, len(fill) - 1)
            early, middle, late = (said(fact.told) for fact in facts.values())
            told = [*early, *fill[:half], *middle, *fill[half:last], *late, *fill[last:]]
            return [*told, asked(facts[place].question)]

        return filled(draw, room, made)

    return make


def implicit(draw: Draw, room: Room) -> list[Step]:
    """A name told at the beginning of a long context, and a farewell that nobody asked to be by name."""
    name = person(draw)
    told, bye = greetings.introduction(draw, name), greetings.farewell(draw, name)
    return filled(draw, room, lambda fill: [*said(told), *fill, asked(bye)])


# -------------------------------------------------------------------------- C3: the state of a dialogue


def preference(draw: Draw, room: Room) -> list[Step]:
    """A favourite, four other exchanges, the question for it."""
    fact = favourite(draw)
    return [*said(fact.told), *unrelated(draw, 4), asked(fact.question)]


def reference(draw: Draw, room: Room) -> list[Step]:
    """A question, and another that says only in what it differs from it: "No, I meant Spain." """
    first, second = (corrections.total if draw.chance(20) else corrections.question)(draw)
    return [*said(first), asked(second)]


def corrected(draw: Draw, room: Room) -> list[Step]:
    """A fact that is taken back; the question for it after a few other exchanges."""
    turns = draw.pick((corrections.name, corrections.favourite))(draw)
    return [*said(*turns[:2]), *unrelated(draw, 2), asked(turns[-1])]


# -------------------------------------------------------------------------- C4: instructions


def ruled(*kinds: str) -> Make:
    """A rule for all answers, and two questions under it."""

    def make(draw: Draw, room: Room) -> list[Step]:
        kind, name = draw.pick(kinds), person(draw)
        rule = instructions.RULES[kind]
        start = Turn(draw.pick(rule.wordings).format(x=name), rule.apply("Okay", name))
        first = second = instructions.ruled(draw, kind, name)
        while second.reply == first.reply:
            second = instructions.ruled(draw, kind, name)
        return [*said(start), asked(first), asked(second)]

    return make


def three_rules(draw: Draw, room: Room) -> list[Step]:
    """Three rules at once: in capitals, twice, with the user's name."""
    name = person(draw)
    kinds = draw.sample(("capitals", "twice", "name"), 3)
    orders = (draw.pick(instructions.RULES[kind].wordings).format(x=name) for kind in kinds)
    turn = instructions.ruled(draw, "capitals", name)
    is_right, twice = turn.check, is_twice(turn.short)
    assert is_right is not None, "questions under a rule have a check"

    def check(answer: str) -> bool:
        return is_right(answer) and twice(answer) and answer.count(name.upper()) == 2

    def reply(short: str) -> str:
        return " ".join([f"{short}, {name}.".upper()] * 2)

    return [*said(Turn(" ".join(orders), reply("Okay"))), Step(turn.user, reply(turn.short), check)]


# -------------------------------------------------------------------------- C5: persona


def emerges(draw: Draw, room: Room) -> list[Step]:
    """A question about the model itself.  A few dozen are held out, so items differ in what stands before."""
    return [*unrelated(draw, draw.between(1, 2)), asked(persona.trait(draw))]


def holds(draw: Draw, room: Room) -> list[Step]:
    """The same trait before and after five other exchanges, asked in other words."""
    first = again = persona.trait(draw)
    while first.user == again.user or first.reply != again.reply:
        first, again = persona.trait(draw), persona.trait(draw)
    return [asked(first), *unrelated(draw, 5), asked(again)]


def contradicted(draw: Draw, room: Room) -> list[Step]:
    """What it is, and a question whether it is something else."""
    first = persona.TRAITS[draw.below(2)]
    told = Turn(capitalised(draw.pick(first.wordings)), first.reply)
    return [*said(told), asked(draw.pick((persona.job, persona.called))(draw))]


# -------------------------------------------------------------------------- C6: conversations apart


def there_and_back(draw: Draw, room: Room) -> list[Step]:
    """Conversation A tells a name, B does not know it, A does."""
    name = person(draw)
    question = memory.recall(draw, name)
    unknown = Turn(draw.pick(memory.ASK), memory.UNKNOWN, check=names_only())
    return [asked(greetings.introduction(draw, name)), asked(unknown, 1), asked(question)]


def two_users(draw: Draw, room: Room) -> list[Step]:
    """Two conversations in turns, each with a name of its own."""
    names = people(draw, 2)
    hellos = [asked(greetings.introduction(draw, name), who) for who, name in enumerate(names)]
    return [*hellos, *(asked(memory.recall(draw, name), who) for who, name in enumerate(names))]


CATEGORIES = {
    "C1": "facts",
    "C2": "facts in a long context",
    "C3": "state of a dialogue",
    "C4": "instructions that persist",
    "C5": "persona",
    "C6": "conversations apart",
}
CANARIES = (
    Canary("C1a", "a fact, at once", 0.95, RECALLS, fact_after(0)),
    Canary("C1b", "after 5 other exchanges", 0.85, RECALLS, fact_after(5)),
    Canary("C1c", "after 10 other exchanges", 0.70, RECALLS, fact_after(10)),
    Canary("C1d", "two facts, after 5", 0.80, RECALLS, two_facts_after(5)),
    Canary("C2a", "early in a full window", 0.75, RECALLS, fact_at("early")),
    Canary("C2b", "in its middle", 0.75, RECALLS, fact_at("middle")),
    Canary("C2c", "late in it", 0.75, RECALLS, fact_at("late")),
    Canary("C2d", "used without being asked for", 0.60, ("goodbye",), implicit),
    Canary("C3a", "a preference after 4 exchanges", 0.90, ("your favourite",), preference),
    Canary("C3b", "a reference to the question before", 0.80, ("i meant",), reference),
    Canary("C3c", "a fact that was corrected", 0.85, ("i meant",), corrected),
    Canary("C4a", "a format, twice", 0.90, ("one word", "twice"), ruled("one word", "twice")),
    Canary("C4b", "a manner, twice", 0.80, ("in capitals", "my name in"), ruled("capitals", "name")),
    Canary("C4c", "three instructions at once", 0.70, ("in capitals", "twice"), three_rules),
    Canary("C5a", "who it is", 0.85, ("language model",), emerges),
    Canary("C5b", "the same after 5 exchanges", 0.80, ("language model",), holds),
    Canary("C5c", "contradicted", 0.75, ("language model",), contradicted),
    Canary("C6a", "another conversation between", 0.90, RECALLS[:1], there_and_back),
    Canary("C6b", "two users in turns", 0.85, RECALLS[:1], two_users),
)


def items_of(canary: Canary, n: int, room: Room, seed: int = 0) -> list[list[Step]]:
    """`n` different items, made of held-out content: a function of the arguments, and where the window has to
    be filled, of that.

    Raises: ConfigError: there are not so many.
    """
    found: dict[tuple[tuple[str, int], ...], list[Step]] = {}
    for index in range(MOST_DRAWS * n):
        if len(found) == n:
            break
        steps = canary.make(Draw(f"canary {canary.name} {seed} {index}", held_out=True), room)
        found.setdefault(tuple((step.user, step.who) for step in steps), steps)
    if len(found) < n:
        raise ConfigError(
            f"{canary.name}, {canary.title}: holds only {len(found)} different items, {n} are wanted; ask "
            "for fewer with --items"
        )
    return list(found.values())
