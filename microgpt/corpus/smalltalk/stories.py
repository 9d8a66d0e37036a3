"""Short stories about two people, and a question or two about what happened."""

from __future__ import annotations

from typing import NamedTuple

from microgpt.corpus.smalltalk import greetings
from microgpt.corpus.smalltalk.checks import Check, names_only, says
from microgpt.corpus.smalltalk.draw import Draw, listed
from microgpt.corpus.smalltalk.facts import distractions
from microgpt.corpus.smalltalk.names import people
from microgpt.corpus.smalltalk.turns import Turn, capitalised, with_article

FAMILY = "stories"
THINGS = listed(
    "ball kite drum hat coin map lamp ring book cup key bell doll rope shell apple basket stick stone "
    "feather whistle candle brush box"
)
LOOKS = listed("red blue green yellow white black old new small big")
PLACES = listed(
    "park market school beach forest garden harbour library mill bridge castle station farm lake church "
    "bakery river museum"
)
FOODS = listed("bread soup rice cake cheese fish pasta salad plums nuts")
DRINKS = listed("tea milk water juice coffee cocoa")
HIDING = (
    "under the bed", "behind the door", "in the drawer", "on the roof", "under the tree", "in the kitchen",
    "behind the wall", "in the boat", "on the shelf", "under the stairs", "in the barn", "near the well",
)
OPEN = ("It was a {day} {time}.", "One {day} {time}, something happened.", "It happened on a {day} {time}.")
DAYS = listed("sunny rainy cold warm windy snowy foggy quiet")
TIMES = listed("morning evening day afternoon")
INTRO = (
    "Listen to this story. ", "Here is a story. ", "A short story. ", "Let me tell you a story. ",
    "This is my story. ",
)
CLOSE = (
    "Then they went home.", "They had a good time.", "In the end they were tired.", "Both were happy.", "",
)


class Scene(NamedTuple):
    """The sentences of a story, and the questions that it answers."""

    key: str
    sentences: list[str]
    questions: list[Turn]


def _asks(key: str, *asked: tuple[str, str, Check]) -> list[Turn]:
    """The questions of a scene, each with its reply and its check."""
    return [Turn(user, reply, "", FAMILY, key, check) for user, reply, check in asked]


def _it_was(name: str) -> tuple[str, Check]:
    """The answer to a question that asks who."""
    return f"It was {name}.", names_only(name)


def owning(draw: Draw, a: str, b: str) -> Scene:
    """Each gets something."""
    x, y = draw.sample(THINGS, 2)
    p, q = (
        with_article(f"{look} {thing}") for look, thing in zip(draw.sample(LOOKS, 2), (x, y), strict=True)
    )
    past, verb = draw.pick((("found", "find"), ("bought", "buy"), ("made", "make")))
    key = f"{a}|{b}|{x}|{y}"
    questions = _asks(
        key,
        (f"What did {a} {verb}?", f"{capitalised(p)}.", says(x, (y,))),
        (f"What did {b} {verb}?", f"{capitalised(q)}.", says(y, (x,))),
        (f"Who {past} the {x}?", *_it_was(a)),
        (f"Who {past} the {y}?", *_it_was(b)),
    )
    return Scene(key, [f"{a} {past} {p}.", f"{b} {past} {q}."], questions)


def going(draw: Draw, a: str, b: str) -> Scene:
    """Each goes somewhere."""
    x, y = draw.sample(PLACES, 2)
    verb = draw.pick(("went", "walked", "ran", "drove"))
    key = f"{a}|{b}|{x}|{y}"
    questions = _asks(
        key,
        (f"Where is {a}?", f"At the {x}.", says(x, (y,))),
        (f"Where is {b}?", f"At the {y}.", says(y, (x,))),
        (f"Who {verb} to the {x}?", *_it_was(a)),
        (f"Who {verb} to the {y}?", *_it_was(b)),
    )
    return Scene(key, [f"{a} {verb} to the {x}.", f"{b} {verb} to the {y}."], questions)


def hiding(draw: Draw, a: str, b: str) -> Scene:
    """Each puts something somewhere."""
    x, y = draw.sample(THINGS, 2)
    p, q = draw.sample(HIDING, 2)
    verb = draw.pick(("put", "hid", "left"))
    key = f"{a}|{b}|{x}|{y}"
    questions = _asks(
        key,
        (f"Where is the {x}?", f"The {x} is {p}.", says(p, (q,))),
        (f"Where is the {y}?", f"The {y} is {q}.", says(q, (p,))),
        (f"Who {verb} the {x} {p}?", *_it_was(a)),
        (f"Who {verb} the {y} {q}?", *_it_was(b)),
    )
    return Scene(key, [f"{a} {verb} the {x} {p}.", f"{b} {verb} the {y} {q}."], questions)


def meal(draw: Draw, a: str, b: str) -> Scene:
    """One eats, the other drinks."""
    food, drink = draw.pick(FOODS), draw.pick(DRINKS)
    key = f"{a}|{b}|{food}|{drink}"
    questions = _asks(
        key,
        (f"What did {a} eat?", f"Some {food}.", says(food, FOODS)),
        (f"What did {b} drink?", f"Some {drink}.", says(drink, DRINKS)),
        ("Who was hungry?", *_it_was(a)),
        ("Who was thirsty?", *_it_was(b)),
    )
    sentences = [f"{a} was hungry and ate some {food}.", f"{b} was thirsty and drank some {drink}."]
    return Scene(key, draw.sample(sentences, 2), questions)


def giving(draw: Draw, a: str, b: str) -> Scene:
    """Something changes hands."""
    thing = draw.pick(THINGS)
    key = f"{a}|{b}|{thing}"
    gave = draw.pick((f"{a} gave the {thing} to {b}.", f"{b} took the {thing} from {a}."))
    questions = _asks(
        key,
        (f"Who has the {thing} now?", f"Now {b} has it.", names_only(b)),
        (f"Who had the {thing} first?", f"First {a} had it.", names_only(a)),
    )
    return Scene(key, [f"{a} had {with_article(thing)}.", gave], questions)


SCENES = ((owning, 25), (going, 25), (hiding, 20), (meal, 15), (giving, 15))


def dialogue(draw: Draw) -> list[Turn]:
    """A story with its first question, and perhaps more questions about it."""
    make = draw.weighted(SCENES)
    scene = draw.content(lambda: make(draw, *people(draw, 2)), lambda s: f"story|{s.key}")
    setting = draw.pick(OPEN).format(day=draw.pick(DAYS), time=draw.pick(TIMES)) if draw.chance(50) else ""
    parts = [setting, *scene.sentences, draw.pick(CLOSE) if draw.chance(50) else ""]
    asked = draw.sample(scene.questions, draw.between(1, 2))
    story = draw.pick(INTRO) + " ".join(part for part in parts if part)
    first = asked[0]._replace(user=f"{story} {asked[0].user}")
    return greetings.dressed(draw, [first, *asked[1:], *distractions(draw, 1, 2 - len(asked))])
