"""Opposites of everyday words."""

from __future__ import annotations

from microgpt.corpus.smalltalk.checks import says
from microgpt.corpus.smalltalk.draw import Draw, listed
from microgpt.corpus.smalltalk.turns import Turn, capitalised

FAMILY = "opposites"
PAIRS = [
    listed(pair, "/")
    for pair in listed(
        "hot/cold big/small fast/slow tall/short high/low happy/sad day/night up/down left/right "
        "open/closed full/empty light/dark wet/dry hard/soft loud/quiet rich/poor strong/weak early/late "
        "clean/dirty good/bad first/last near/far thick/thin wide/narrow deep/shallow sweet/sour "
        "inside/outside win/lose buy/sell push/pull asleep/awake true/false young/old summer/winter "
        "black/white east/west north/south always/never love/hate laugh/cry"
    )
]
OPPOSITE = {a: b for pair in PAIRS for a, b in (pair, pair[::-1])}
WORDS = tuple(OPPOSITE)

WORDINGS = (
    "What is the opposite of {x}?",
    "What's the opposite of {x}?",
    "Tell me the opposite of {x}.",
    "Which word is the opposite of {x}?",
    "Do you know the opposite of {x}?",
    "Give me the opposite of {x}.",
    "Name the opposite of {x}.",
    "Can you tell me the opposite of {x}?",
    "The opposite of {x} is what?",
    "Which word means the opposite of {x}?",
)


def opposite_of(draw: Draw, word: str) -> Turn:
    """The opposite of this word."""
    wording, key = draw.wording(f"opposite of {word}", WORDINGS)
    right = OPPOSITE[word]
    check = says(right, {*WORDS} - {word})
    reply = f"The opposite of {word} is {right}."
    return Turn(wording.format(x=word), reply, capitalised(right), FAMILY, key, check)


def is_opposite(draw: Draw) -> Turn:
    """Is this word the opposite of that one?  The answer tells which one is."""
    true = draw.chance(50)

    def pair() -> tuple[str, str]:
        word = draw.pick(WORDS)
        return word, OPPOSITE[word] if true else draw.pick([w for w in WORDS if w != word])

    word, other = draw.content(pair, lambda p: f"is opposite|{p[0]}|{p[1]}")
    right = OPPOSITE[word]
    user, reply = f"Is {other} the opposite of {word}?", f"The opposite of {word} is {right}."
    check = says(right, {*WORDS} - {word})
    return Turn(user, reply, capitalised(right), FAMILY, f"is opposite|{word}|{other}", check)


def ask(draw: Draw) -> Turn:
    """One question about opposites."""
    return opposite_of(draw, draw.pick(WORDS)) if draw.chance(92) else is_opposite(draw)
