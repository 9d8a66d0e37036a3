"""Short stories about two people, and a question or two about what happened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from microgpt.corpus.smalltalk import greetings
from microgpt.corpus.smalltalk.checks import Check, names_only, says
from microgpt.corpus.smalltalk.draw import Draw, listed
from microgpt.corpus.smalltalk.facts import distractions
from microgpt.corpus.smalltalk.names import people
from microgpt.corpus.smalltalk.turns import Turn, with_article

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
GET = (("found", "find"), ("bought", "buy"), ("made", "make"), ("sold", "sell"))
GO = (("went", "go"), ("walked", "walk"), ("ran", "run"), ("drove", "drive"))
FOODS = listed("bread soup rice cake cheese fish pasta salad plums nuts")
DRINKS = listed("tea milk water juice coffee cocoa")
HIDING = (
    "under the bed",
    "behind the door",
    "in the drawer",
    "on the roof",
    "under the tree",
    "in the kitchen",
    "behind the wall",
    "in the boat",
    "on the shelf",
    "under the stairs",
    "in the barn",
    "near the well",
)
OPEN = ("It was a {day} {time}.", "One {day} {time}, something happened.", "It happened on a {day} {time}.")
DAYS = listed("sunny rainy cold warm windy snowy foggy quiet")
TIMES = listed("morning evening day afternoon")
INTRO = (
    "Listen to this story. ",
    "Here is a story. ",
    "A short story. ",
    "Let me tell you a story. ",
    "This is my story. ",
)
CLOSE = (
    "Then they went home.",
    "They had a good time.",
    "In the end they were tired.",
    "Both were happy.",
    "",
)


class Scene(NamedTuple):
    """The sentences of a story, and the questions that it answers."""

    key: str
    sentences: list[str]
    questions: list[Turn]


def _asks(key: str, *asked: tuple[str, str, Check]) -> list[Turn]:
    """The questions of a scene, each with its reply and its check."""
    return [Turn(user, reply, "", FAMILY, key, check) for user, reply, check in asked]


def _found(draw: Draw) -> tuple[str, str, str, str]:
    """Two different things, each with its look."""
    (x, y), (p, q) = draw.sample(THINGS, 2), draw.sample(LOOKS, 2)
    return x, y, f"{p} {x}", f"{q} {y}"


def _deeds(draw: Draw, deeds: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """What the one did and what the other did: most often different things."""
    return draw.sample(deeds, 2) if draw.chance(75) else [draw.pick(deeds)] * 2


def getting(draw: Draw, a: str, b: str) -> Scene:
    """Each gets something; asked is what."""
    x, y, p, q = _found(draw)
    (got, get), (won, win) = _deeds(draw, GET)
    key = f"{a}|{b}|{x}|{y}"
    first, second = f"{a} {got} {with_article(p)}", f"{b} {won} {with_article(q)}"
    questions = _asks(
        key,
        (f"What did {a} {get}?", f"I think {first}.", says(x, (y,))),
        (f"What did {b} {win}?", f"I think {second}.", says(y, (x,))),
    )
    return Scene(key, [f"{first}.", f"{second}."], questions)


def getting_by(draw: Draw, a: str, b: str) -> Scene:
    """Something is got by each; asked is who."""
    x, y, p, q = _found(draw)
    (got, _), (won, _) = _deeds(draw, GET)
    key = f"{a}|{b}|{x}|{y}"
    questions = _asks(
        key,
        (f"Who {got} the {x}?", f"The {x} was {got} by {a}.", names_only(a)),
        (f"Who {won} the {y}?", f"The {y} was {won} by {b}.", names_only(b)),
    )
    return Scene(key, [f"The {p} was {got} by {a}.", f"The {q} was {won} by {b}."], questions)


def going(draw: Draw, a: str, b: str) -> Scene:
    """Each goes somewhere."""
    x, y = draw.sample(PLACES, 2)
    (went, go), (ran, run) = _deeds(draw, GO)
    key = f"{a}|{b}|{x}|{y}"
    questions = _asks(
        key,
        (f"Where did {a} {go}?", f"I think {a} {went} to the {x}.", says(x, (y,))),
        (f"Where did {b} {run}?", f"I think {b} {ran} to the {y}.", says(y, (x,))),
    )
    return Scene(key, [f"{a} {went} to the {x}.", f"{b} {ran} to the {y}."], questions)


def hiding(draw: Draw, a: str, b: str) -> Scene:
    """Each puts something somewhere."""
    x, y = draw.sample(THINGS, 2)
    p, q = draw.sample(HIDING, 2)
    past = draw.pick(("put", "hid", "left"))
    key = f"{a}|{b}|{x}|{y}"
    questions = _asks(
        key,
        (f"Where is the {x}?", f"The {x} is {p}.", says(p, (q,))),
        (f"Where is the {y}?", f"The {y} is {q}.", says(q, (p,))),
    )
    return Scene(key, [f"{a} {past} the {x} {p}.", f"{b} {past} the {y} {q}."], questions)


def meal(draw: Draw, a: str, b: str) -> Scene:
    """One eats, the other drinks."""
    food, drink = draw.pick(FOODS), draw.pick(DRINKS)
    key = f"{a}|{b}|{food}|{drink}"
    eats, drinks = f"{a} was hungry and ate some {food}.", f"{b} was thirsty and drank some {drink}."
    questions = _asks(
        key,
        (f"What did {a} eat?", f"I think {a} ate some {food}.", says(food, FOODS)),
        (f"What did {b} drink?", f"I think {b} drank some {drink}.", says(drink, DRINKS)),
    )
    return Scene(key, draw.sample((eats, drinks), 2), questions)


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


SCENES = ((getting, 20), (getting_by, 15), (going, 20), (hiding, 20), (meal, 10), (giving, 15))


def dialogue(draw: Draw) -> list[Turn]:
    """A story with its first question, and perhaps more questions about it."""
    make = draw.weighted(SCENES)
    scene = draw.content(lambda: make(draw, *people(draw, 2)), lambda s: f"story|{s.key}")
    setting = draw.pick(OPEN).format(day=draw.pick(DAYS), time=draw.pick(TIMES)) if draw.chance(35) else ""
    parts = [setting, *scene.sentences, draw.pick(CLOSE) if draw.chance(35) else ""]
    asked = draw.sample(scene.questions, 2 if draw.chance(80) else 1)
    story = draw.pick(INTRO) + " ".join(part for part in parts if part)
    first = asked[0]._replace(user=f"{story} {asked[0].user}")
    n = 1 if len(asked) == 1 or draw.chance(30) else 0
    return greetings.dressed(draw, [first, *asked[1:], *distractions(draw, n, n)])
