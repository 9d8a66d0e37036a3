"""Greetings and farewells; whoever gave a name is greeted and sent off by name."""

from __future__ import annotations

from microgpt.corpus.smalltalk import persona
from microgpt.corpus.smalltalk.checks import names_only, says
from microgpt.corpus.smalltalk.draw import Draw
from microgpt.corpus.smalltalk.facts import distractions
from microgpt.corpus.smalltalk.names import person
from microgpt.corpus.smalltalk.turns import Turn

FAMILY = "greetings"
# What the user says -> how the reply begins.
HELLO = {
    "Hello": "Hello",
    "Hi": "Hello",
    "Hey": "Hello",
    "Hi there": "Hello",
    "Good morning": "Good morning",
    "Good afternoon": "Good afternoon",
    "Good evening": "Good evening",
}
INTRODUCTIONS = (
    "{hello}, my name is {x}.",
    "{hello}, I am {x}.",
    "{hello}, I'm {x}.",
    "{hello}! My name is {x}.",
    "{hello}! I am {x}.",
    "{hello}! I'm {x}.",
    "{hello}, you can call me {x}.",
    "{hello}, this is {x}.",
    "{hello}! {x} here.",
)
FAREWELL = {
    "Goodbye.": "Goodbye",
    "Bye.": "Goodbye",
    "Bye for now.": "Goodbye",
    "I have to go now.": "Goodbye",
    "I must leave. Bye.": "Goodbye",
    "See you tomorrow.": "See you tomorrow",
    "Until tomorrow.": "See you tomorrow",
    "See you later.": "See you later",
    "Talk to you later.": "See you later",
    "Good night.": "Good night",
    "I am going to bed now.": "Good night",
    "I will sleep now.": "Good night",
    "Thank you.": "You are welcome",
    "Thanks a lot.": "You are welcome",
    "Thank you for your help.": "You are welcome",
    "Thanks for the chat.": "You are welcome",
}
REPLIES = (
    "Hello",
    "Good morning",
    "Good afternoon",
    "Good evening",
    "Goodbye",
    "See you tomorrow",
    "See you later",
    "Good night",
    "You are welcome",
)


def introduction(draw: Draw, name: str) -> Turn:
    """The user says hello and who they are."""
    hello = draw.pick(tuple(HELLO))
    user, begin = draw.pick(INTRODUCTIONS).format(hello=hello, x=name), HELLO[hello]
    check = names_only(name, right=(begin,))
    return Turn(user, f"{begin}, {name}! Nice to meet you.", "", FAMILY, f"hello|{name}", check)


def farewell(draw: Draw, name: str = "") -> Turn:
    """The user goes, or says thank you."""
    user = draw.pick(tuple(FAREWELL))
    begin = FAREWELL[user]
    if not name:
        return Turn(user, f"{begin}!")
    spoken_name, spoken = names_only(name), says(begin, REPLIES)
    return Turn(
        user, f"{begin}, {name}!", "", FAMILY, f"farewell|{name}", lambda a: spoken_name(a) and spoken(a)
    )


def hello(draw: Draw) -> Turn:
    """A greeting without a name."""
    if draw.chance(35):
        return persona.how_are_you(draw)
    greeting = draw.pick(tuple(HELLO))
    return Turn(f"{greeting}{draw.pick('.!')}", f"{HELLO[greeting]}! How can I help you?")


def dressed(draw: Draw, turns: list[Turn], name: str = "") -> list[Turn]:
    """The dialogue with, now and then, a greeting before it and a farewell behind."""
    before = [hello(draw)] if draw.chance(8) else []
    behind = [farewell(draw, name)._replace(check=None)] if draw.chance(12) else []
    return [*before, *turns, *behind]


def dialogue(draw: Draw) -> list[Turn]:
    """Hello with a name, perhaps a question or two, and goodbye to the same person."""
    name = person(draw)
    how = [persona.how_are_you(draw)] if draw.chance(25) else []
    return [introduction(draw, name), *how, *distractions(draw, 2), farewell(draw, name)]
