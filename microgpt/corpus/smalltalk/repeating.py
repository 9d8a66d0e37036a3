"""Saying names and words again, in the order in which they came."""

from __future__ import annotations

from microgpt.corpus.smalltalk.checks import repeats
from microgpt.corpus.smalltalk.draw import Draw
from microgpt.corpus.smalltalk.names import people
from microgpt.corpus.smalltalk.spelling import WORDS
from microgpt.corpus.smalltalk.turns import Turn

FAMILY = "repeating"
WORDINGS = (
    "Repeat after me: {x}.",
    "Please repeat: {x}.",
    "Say this again: {x}.",
    "Can you say: {x}?",
    "Say after me: {x}.",
    "Repeat this: {x}.",
)


def _turn(draw: Draw, items: list[str]) -> Turn:
    said = ", ".join(items)
    key = f"repeat|{'|'.join(items)}"
    return Turn(draw.pick(WORDINGS).format(x=said), f"Okay: {said}.", "", FAMILY, key, repeats(items))


def repeat_words(draw: Draw) -> Turn:
    """Three to six words; the words in their order decide the side."""
    items = draw.content(lambda: draw.sample(WORDS, draw.between(3, 6)), lambda w: f"repeat|{'|'.join(w)}")
    return _turn(draw, items)


def repeat_names(draw: Draw) -> Turn:
    """One to five names."""
    return _turn(draw, people(draw, draw.between(1, 5)))


def ask(draw: Draw) -> Turn:
    """Names or words to be repeated."""
    return repeat_names(draw) if draw.chance(70) else repeat_words(draw)
