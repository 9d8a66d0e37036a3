"""Two facts told together and kept apart: names, favourites, ages."""

from __future__ import annotations

from microgpt.corpus.smalltalk import greetings, memory
from microgpt.corpus.smalltalk.checks import names_only, number_is, says
from microgpt.corpus.smalltalk.draw import Draw, listed
from microgpt.corpus.smalltalk.facts import distractions
from microgpt.corpus.smalltalk.names import people
from microgpt.corpus.smalltalk.turns import Turn, with_article

FAMILY = "two_facts"
PETS = listed("cat dog horse bird rabbit fish goat mouse")
PEOPLE = listed("friend teacher cousin neighbour doctor boss coach driver")
YOUNG = (*PETS[:5], *listed("brother sister cousin friend neighbour son daughter"))
FAVOURITES = {
    "colour": listed("red blue green yellow white black pink brown"),
    "food": listed("bread soup rice cake cheese fish pasta salad"),
    "drink": listed("tea milk water juice coffee cocoa lemonade"),
    "animal": listed("lion horse owl tiger rabbit wolf bear fox"),
    "day": listed("Monday Tuesday Wednesday Thursday Friday Saturday Sunday"),
    "season": listed("spring summer autumn winter"),
    "game": listed("chess football tennis cards golf hockey"),
}
TELL_NAMES = (
    "My {a} is called {x} and my {b} is called {y}.",
    "My {a} is {x} and my {b} is {y}.",
    "I have {an_a} called {x} and {an_b} called {y}.",
    "My {a}'s name is {x}. My {b}'s name is {y}.",
    "The name of my {a} is {x} and the name of my {b} is {y}.",
)
TELL_NAME = (
    "My {a} is called {x}.",
    "My {a} is {x}.",
    "I have {an_a} called {x}.",
    "My {a}'s name is {x}.",
)
ASK_NAME = (
    "What is my {a} called?",
    "What is the name of my {a}?",
    "What is my {a}'s name?",
    "Do you remember the name of my {a}?",
    "What was the name of my {a}?",
    "Tell me the name of my {a}.",
    "What name does my {a} have?",
)
TELL_FAVOURITES = (
    "My favourite {a} is {x} and my favourite {b} is {y}.",
    "My favourite {a} is {x}. My favourite {b} is {y}.",
    "The {a} I like best is {x} and the {b} I like best is {y}.",
)
ASK_FAVOURITE = (
    "What is my favourite {a}?",
    "What's my favourite {a}?",
    "Which {a} do I like best?",
    "Do you remember my favourite {a}?",
    "Tell me my favourite {a}.",
    "What was my favourite {a}?",
)
TELL_AGES = (
    "My {a} is {x} years old and my {b} is {y} years old.",
    "My {a} is {x} and my {b} is {y} years old.",
    "My {a} is {x} years old. My {b} is {y}.",
)
ASK_AGE = (
    "How old is my {a}?",
    "What is the age of my {a}?",
    "Tell me how old my {a} is.",
    "Do you remember how old my {a} is?",
)
DISTANCES = ((0, 35), (1, 35), (2, 18), (3, 12))


def _noted(first: Turn, second: Turn) -> str:
    """The reply to two facts: both of them, said back."""
    replies = (first.reply, second.reply)
    return "Okay, " + " and ".join(reply[0].lower() + reply[1:-1] for reply in replies) + "."


def _two(draw: Draw, told: list[Turn], first: Turn, second: Turn) -> list[Turn]:
    """Tell both, ask one after up to three distractions, and perhaps the other."""
    asked, n = draw.sample((first, second), 2), draw.weighted(DISTANCES)
    turns = [*told, *distractions(draw, n, n), asked[0]]
    if not draw.chance(80):
        return turns
    return [*turns, *(distractions(draw, 1) if draw.chance(40) else []), asked[1]]


def named(draw: Draw, kind: str, name: str) -> Turn:
    """One of the two is named alone."""
    user = draw.pick(TELL_NAME).format(a=kind, x=name, an_a=with_article(kind))
    return Turn(user, f"Okay, your {kind} is {name}.")


def names(draw: Draw) -> list[Turn]:
    """The names of two pets or people, told at once or one by one; at times the user's own beside them."""
    a, b = draw.sample(draw.pick((PETS, PEOPLE)), 2)
    x, y, own = people(draw, 3)

    def ask(kind: str, name: str) -> Turn:
        user, reply = draw.pick(ASK_NAME).format(a=kind), f"Your {kind} is {name}."
        return Turn(user, reply, name, FAMILY, f"two names|{x}|{y}", names_only(name))

    first, second = ask(a, x), ask(b, y)
    together = draw.pick(TELL_NAMES).format(a=a, b=b, x=x, y=y, an_a=with_article(a), an_b=with_article(b))
    told = [Turn(together, _noted(first, second))]
    if draw.chance(25):
        told = [named(draw, a, x), named(draw, b, y)]
    if not draw.chance(35):
        return _two(draw, told, first, second)
    before = [memory.tell(draw, own), *distractions(draw, 1)]
    return [*before, *_two(draw, told, first, second), memory.recall(draw, own)]


def favourites(draw: Draw) -> list[Turn]:
    """Two favourite things of different kinds; the two values together decide the side."""

    def four() -> tuple[str, str, str, str]:
        a, b = draw.sample(tuple(FAVOURITES), 2)
        return a, b, draw.pick(FAVOURITES[a]), draw.pick(FAVOURITES[b])

    def key(made: tuple[str, str, str, str]) -> str:
        return f"favourites|{'|'.join(sorted(made[2:]))}"

    made = draw.content(four, key)
    a, b, x, y = made
    told = draw.pick(TELL_FAVOURITES).format(a=a, b=b, x=x, y=y)

    def ask(kind: str, value: str, other: str) -> Turn:
        user, reply = draw.pick(ASK_FAVOURITE).format(a=kind), f"Your favourite {kind} is {value}."
        return Turn(user, reply, "", FAMILY, key(made), says(value, {*FAVOURITES[kind], other}))

    first, second = ask(a, x, y), ask(b, y, x)
    return _two(draw, [Turn(told, _noted(first, second))], first, second)


def ages(draw: Draw) -> list[Turn]:
    """How old two of them are; who and how old together decide the side."""

    def four() -> tuple[str, str, int, int]:
        a, b = draw.sample(YOUNG, 2)
        x, y = draw.sample(range(2, 20), 2)
        return a, b, x, y

    def key(made: tuple[str, str, int, int]) -> str:
        a, b, x, y = made
        return f"ages|{'|'.join(sorted((f'{a} {x}', f'{b} {y}')))}"

    made = draw.content(four, key)
    a, b, x, y = made
    told = draw.pick(TELL_AGES).format(a=a, b=b, x=x, y=y)

    def ask(kind: str, age: int) -> Turn:
        user, reply = draw.pick(ASK_AGE).format(a=kind), f"Your {kind} is {age} years old."
        return Turn(user, reply, str(age), FAMILY, key(made), number_is(age))

    first, second = ask(a, x), ask(b, y)
    return _two(draw, [Turn(told, _noted(first, second))], first, second)


def dialogue(draw: Draw) -> list[Turn]:
    """Two facts of one kind."""
    return greetings.dressed(draw, draw.weighted(((names, 60), (favourites, 24), (ages, 16)))(draw))
