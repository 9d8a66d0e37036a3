"""The user's name, remembered across one to five turns of distraction."""

from __future__ import annotations

from microgpt.corpus.smalltalk import greetings, persona
from microgpt.corpus.smalltalk.checks import names_only
from microgpt.corpus.smalltalk.draw import Draw
from microgpt.corpus.smalltalk.facts import distractions
from microgpt.corpus.smalltalk.names import person
from microgpt.corpus.smalltalk.turns import Turn

FAMILY = "name"
TELL = (
    "My name is {x}.",
    "I am {x}.",
    "I'm {x}.",
    "You can call me {x}.",
    "Call me {x}.",
    "People call me {x}.",
    "I am called {x}.",
    "My friends call me {x}.",
    "Please remember my name, it is {x}.",
)
ASK = (
    "What is my name?",
    "What's my name?",
    "Do you remember my name?",
    "Who am I?",
    "Can you tell me my name?",
    "What was my name again?",
    "Tell me my name.",
    "Say my name.",
    "Do you still know my name?",
    "What am I called?",
)
UNKNOWN = "You have not told me your name yet."


def tell(draw: Draw, name: str) -> Turn:
    """The user gives a name."""
    if draw.chance(40):
        return greetings.introduction(draw, name)._replace(check=None)
    return Turn(draw.pick(TELL).format(x=name), f"Nice to meet you, {name}!")


def recall(draw: Draw, name: str) -> Turn:
    """The user asks for the name given before."""
    return Turn(draw.pick(ASK), f"Your name is {name}.", name, FAMILY, f"name|{name}", names_only(name))


def dialogue(draw: Draw) -> list[Turn]:
    """A name, distractions, the name again; now and then asked for before it was given, or once more."""
    name = person(draw)
    early = [Turn(draw.pick(ASK), UNKNOWN)] if draw.chance(8) else []
    own = [persona.trait(draw)._replace(check=None)] if draw.chance(15) else []
    n_turns = draw.weighted(((1, 38), (2, 27), (3, 20), (4, 9), (5, 6))) - len(own)
    turns = [*early, tell(draw, name), *distractions(draw, n_turns, n_turns), *own, recall(draw, name)]
    if n_turns < 3 and draw.chance(25):
        turns += [*distractions(draw, 1, 1), recall(draw, name)]
    return greetings.dressed(draw, turns, name)
