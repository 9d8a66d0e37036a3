"""A short conversation as a person would begin one, with names that are new each time."""

from __future__ import annotations

from microgpt.corpus.chat import Message
from microgpt.corpus.smalltalk.capitals import CAPITALS
from microgpt.corpus.smalltalk.checks import Check, names_only, number_is, says
from microgpt.corpus.smalltalk.draw import Draw
from microgpt.corpus.smalltalk.greetings import REPLIES
from microgpt.corpus.smalltalk.names import people
from microgpt.corpus.smalltalk.turns import Question


def conversation(seed: int) -> list[Question]:
    """Its messages, one a question; the seed draws the names, none of which training holds."""
    own, cat, dog = people(Draw(f"conversation {seed}", held_out=True), 3)
    turns = (
        (f"Hello! My name is {own}.", f"Hello, {own}! Nice to meet you.", names_only(own)),
        ("What is 7 plus 5?", "That is 7 + 5 = 12.", number_is(12, (7, 5))),
        (
            f"My cat is called {cat} and my dog is called {dog}.",
            f"Okay, your cat is {cat} and your dog is {dog}.",
            names_only(cat, dog),
        ),
        (
            "What is the capital of France?",
            "The capital of France is Paris.",
            says("Paris", CAPITALS.values()),
        ),
        ("Do you remember my name?", f"Your name is {own}.", names_only(own)),
        ("What is my dog called?", f"Your dog is {dog}.", names_only(dog)),
        ("Bye for now.", f"Goodbye, {own}!", _goodbye(own)),
    )
    return [Question("", [Message("user", user)], reply, user, check) for user, reply, check in turns]


def _goodbye(name: str) -> Check:
    """The answer says goodbye, to this person or to nobody by name."""
    parts, by_name, nameless = says("Goodbye", REPLIES), names_only(name), names_only()
    return lambda answer: parts(answer) and (by_name(answer) or nameless(answer))
