"""Short stories about two people, and a question or two about what happened."""

from __future__ import annotations

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
COLOURS = listed("red blue green yellow white black old new small big")
PLACES = listed(
    "park market school beach forest garden harbour library mill bridge castle station farm lake church "
    "bakery river museum"
)
INFINITIVE = {"had": "have", "found": "find", "bought": "buy"}
FOODS = listed("bread soup rice cake cheese fish pasta salad plums nuts")
DRINKS = listed("tea milk water juice coffee cocoa")
HIDING = (
    "under the bed", "behind the door", "in the drawer", "on the roof", "under the tree", "in the kitchen",
    "behind the wall", "in the boat", "on the shelf", "under the stairs", "in the barn", "near the well",
)
OPEN = ("It was a {day} {time}.", "One {day} {time}, something happened.", "It happened on a {day} {time}.")
DAYS = listed("sunny rainy cold warm windy snowy foggy quiet")
TIMES = listed("morning evening day afternoon")
INTRO = ("Listen to this story. ", "Here is a story. ", "A short story. ", "Let me tell you a story. ", "")
CLOSE = (
    "Then they went home.", "They had a good time.", "In the end they were tired.", "Both were happy.", "",
)


class Scene(NamedTuple):
    """The sentences of a story and the questions it can answer: (question, reply, check)."""

    key: str
    sentences: list[str]
    questions: list[Turn]


def _ask(user: str, reply: str, key: str, check: Check) -> Turn:
    return Turn(user, reply, "", FAMILY, key, check)


def owning(draw: Draw, a: str, b: str) -> Scene:
    """Each has something."""
    x, y = draw.sample(THINGS, 2)
    p, q = draw.sample(COLOURS, 2)
    verb = draw.pick(tuple(INFINITIVE))
    key = f"{a}|{b}|{x}|{y}"
    questions = []
    for name, thing in ((a, x), (b, y)):
        questions.append(
            _ask(f"Who {verb} the {thing}?", f"{name} {verb} the {thing}.", key, names_only(name))
        )
        user = f"What did {name} {INFINITIVE[verb]}?"
        questions.append(_ask(user, f"{name} {verb} the {thing}.", key, says(thing, (x, y))))
    return Scene(
        key, [f"{a} {verb} {with_article(f'{p} {x}')}.", f"{b} {verb} {with_article(f'{q} {y}')}."], questions
    )


def going(draw: Draw, a: str, b: str) -> Scene:
    """Each goes somewhere."""
    x, y = draw.sample(PLACES, 2)
    verb = draw.pick(("went", "walked", "ran", "drove"))
    key = f"{a}|{b}|{x}|{y}"
    questions = []
    for name, place in ((a, x), (b, y)):
        questions.append(_ask(f"Where is {name}?", f"{name} is at the {place}.", key, says(place, (x, y))))
        questions.append(_ask(f"Who is at the {place}?", f"{name} is at the {place}.", key, names_only(name)))
    return Scene(key, [f"{a} {verb} to the {x}.", f"{b} {verb} to the {y}."], questions)


def hiding(draw: Draw, a: str, b: str) -> Scene:
    """Each puts something somewhere."""
    x, y = draw.sample(THINGS, 2)
    p, q = draw.sample(HIDING, 2)
    verb = draw.pick(("put", "hid", "left"))
    key = f"{a}|{b}|{x}|{y}"
    questions = []
    for name, thing, place in ((a, x, p), (b, y, q)):
        questions.append(_ask(f"Where is the {thing}?", f"The {thing} is {place}.", key, says(place, (p, q))))
        questions.append(
            _ask(f"Who {verb} the {thing} {place}?", f"{name} {verb} it {place}.", key, names_only(name))
        )
    return Scene(key, [f"{a} {verb} {with_article(x)} {p}.", f"{b} {verb} {with_article(y)} {q}."], questions)


def meal(draw: Draw, a: str, b: str) -> Scene:
    """One eats, the other drinks."""
    food, drink = draw.pick(FOODS), draw.pick(DRINKS)
    key = f"{a}|{b}|{food}|{drink}"
    first, second = f"{a} was hungry and ate {food}.", f"{b} was thirsty and drank {drink}."
    questions = [
        _ask(f"What did {a} eat?", f"{a} ate {food}.", key, says(food, FOODS)),
        _ask(f"What did {b} drink?", f"{b} drank {drink}.", key, says(drink, DRINKS)),
        _ask("Who was hungry?", f"{a} was hungry.", key, names_only(a)),
        _ask("Who was thirsty?", f"{b} was thirsty.", key, names_only(b)),
    ]
    return Scene(key, draw.sample((first, second), 2), questions)


def giving(draw: Draw, a: str, b: str) -> Scene:
    """Something changes hands."""
    thing = draw.pick(THINGS)
    key = f"{a}|{b}|{thing}"
    had = f"{a} had {with_article(thing)}."
    gave = draw.pick(
        (f"{a} gave the {thing} to {b}.", f"{b} took the {thing} from {a}.", f"{a} sold it to {b}.")
    )
    questions = [
        _ask(f"Who has the {thing} now?", f"{b} has the {thing} now.", key, names_only(b)),
        _ask(f"Who had the {thing} at first?", f"{a} had the {thing} at first.", key, names_only(a)),
    ]
    return Scene(key, [had, gave], questions)


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
