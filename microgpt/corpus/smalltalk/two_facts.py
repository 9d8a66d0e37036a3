"""Two facts told together and kept apart: pets, people, favourites, and how many of what."""

from __future__ import annotations

from microgpt.corpus.smalltalk import greetings
from microgpt.corpus.smalltalk.checks import names_only, number_is, says
from microgpt.corpus.smalltalk.draw import Draw, listed
from microgpt.corpus.smalltalk.facts import distractions
from microgpt.corpus.smalltalk.names import people
from microgpt.corpus.smalltalk.turns import Turn, with_article

FAMILY = "two_facts"
PETS = listed("cat dog horse bird rabbit fish goat mouse")
PEOPLE = listed("friend teacher cousin neighbour doctor boss coach driver")
THINGS = listed("apples pens books coins cups balls cards hats keys lamps bikes dolls")
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
    "My {a} is called {x} and my {b} is called {y}.", "My {a} is {x} and my {b} is {y}.",
    "I have {an_a} called {x} and {an_b} called {y}.", "My {a}'s name is {x}. My {b}'s name is {y}.",
    "The name of my {a} is {x} and the name of my {b} is {y}.",
)
ASK_NAME = (
    "What is my {a} called?", "What is the name of my {a}?", "What is my {a}'s name?",
    "Do you remember the name of my {a}?", "What was the name of my {a}?", "Tell me the name of my {a}.",
    "What name does my {a} have?",
)
TELL_FAVOURITES = (
    "My favourite {a} is {x} and my favourite {b} is {y}.",
    "My favourite {a} is {x}. My favourite {b} is {y}.",
    "The {a} I like best is {x} and the {b} I like best is {y}.",
)
ASK_FAVOURITE = (
    "What is my favourite {a}?", "What's my favourite {a}?", "Which {a} do I like best?",
    "Do you remember my favourite {a}?", "Tell me my favourite {a}.", "What was my favourite {a}?",
)
TELL_NUMBERS = (
    "I have {x} {a} and {y} {b}.", "I own {x} {a} and {y} {b}.", "There are {x} {a} and {y} {b} in my bag.",
)
ASK_NUMBER = (
    "How many {a} do I have?", "How many {a} are mine?", "Do you remember how many {a} I have?",
    "Tell me how many {a} I have.",
)
DISTANCES = ((0, 35), (1, 35), (2, 18), (3, 12))
NOTED = ("I will remember that.", "Okay, I will remember.")


def _two(tell: Turn, first: Turn, second: Turn, draw: Draw) -> list[Turn]:
    """Tell both, ask one after up to three distractions, and perhaps the other."""
    asked = draw.sample((first, second), 2)
    turns = [tell, *distractions(draw, n := draw.weighted(DISTANCES), n), asked[0]]
    return [*turns, *distractions(draw, 1), asked[1]] if draw.chance(55) else turns


def names(draw: Draw) -> list[Turn]:
    """The names of two pets or people."""
    a, b = draw.sample(draw.pick((PETS, PEOPLE)), 2)
    x, y = people(draw, 2)
    told = draw.pick(TELL_NAMES).format(a=a, b=b, x=x, y=y, an_a=with_article(a), an_b=with_article(b))
    tell = Turn(told, draw.pick(NOTED))

    def ask(kind: str, name: str) -> Turn:
        user = draw.pick(ASK_NAME).format(a=kind)
        return Turn(
            user, f"Your {kind} is called {name}.", name, FAMILY, f"two names|{x}|{y}", names_only(name)
        )

    return _two(tell, ask(a, x), ask(b, y), draw)


def favourites(draw: Draw) -> list[Turn]:
    """Two favourite things of different kinds; the two values together decide the side."""

    def four() -> tuple[str, str, str, str]:
        a, b = draw.sample(tuple(FAVOURITES), 2)
        return a, b, draw.pick(FAVOURITES[a]), draw.pick(FAVOURITES[b])

    def key(made: tuple[str, str, str, str]) -> str:
        return f"favourites|{'|'.join(sorted(made[2:]))}"

    made = draw.content(four, key)
    a, b, x, y = made
    tell = Turn(draw.pick(TELL_FAVOURITES).format(a=a, b=b, x=x, y=y), draw.pick(NOTED))

    def ask(kind: str, value: str, other: str) -> Turn:
        check = says(value, {*FAVOURITES[kind], other})
        reply = f"Your favourite {kind} is {value}."
        return Turn(draw.pick(ASK_FAVOURITE).format(a=kind), reply, "", FAMILY, key(made), check)

    return _two(tell, ask(a, x, y), ask(b, y, x), draw)


def numbers(draw: Draw) -> list[Turn]:
    """How many of two things; the numbers and things together decide the side."""

    def four() -> tuple[str, str, int, int]:
        a, b = draw.sample(THINGS, 2)
        x, y = draw.sample(range(2, 20), 2)
        return a, b, x, y

    def key(made: tuple[str, str, int, int]) -> str:
        a, b, x, y = made
        return f"numbers|{'|'.join(sorted((f'{x} {a}', f'{y} {b}')))}"

    made = draw.content(four, key)
    a, b, x, y = made
    tell = Turn(draw.pick(TELL_NUMBERS).format(a=a, b=b, x=x, y=y), draw.pick(NOTED))

    def ask(thing: str, number: int) -> Turn:
        reply = f"You have {number} {thing}."
        return Turn(
            draw.pick(ASK_NUMBER).format(a=thing), reply, str(number), FAMILY, key(made), number_is(number)
        )

    return _two(tell, ask(a, x), ask(b, y), draw)


def dialogue(draw: Draw) -> list[Turn]:
    """Two facts of one kind."""
    return greetings.dressed(draw, draw.weighted(((names, 55), (favourites, 30), (numbers, 15)))(draw))
