"""Spelling, first and last letters, and how many letters a word has.

Every word is spelled in training.  For most words one of the questions first / last / how many is held out,
in every wording: it must be answered from the spelling.
"""

from __future__ import annotations

from microgpt.corpus.smalltalk.checks import letter_is, letters_are, spells
from microgpt.corpus.smalltalk.draw import Draw, digest, listed
from microgpt.corpus.smalltalk.turns import Turn

FAMILY = "spelling"
WORDS = listed(
    "ant apple baby ball bear bed bee bell bird boat book box bread bus cake candle car cat chair clock "
    "coat coin cow cup desk dog door duck ear egg eye farm fish flag fox frog game girl goat gold hand "
    "hat hen horse house ice jam king kite lamp leaf lemon lion milk moon mouse nest nose onion owl pear "
    "pen pig queen rain ring road rose salt sand seed sheep ship shoe snow soap sock soup spoon star sun "
    "table tea tent tiger tooth train tree van wall water wind wolf zebra"
)
TASKS = ("first", "last", "count")
SPELL = (
    "Spell {x}.",
    "How do you spell {x}?",
    "Can you spell {x}?",
    "Please spell {x}.",
    "Spell the word {x}.",
    "How is {x} spelled?",
    "Can you spell the word {x}?",
    "Tell me how to spell {x}.",
)
LETTER = (
    "What is the {task} letter of {x}?",
    "What's the {task} letter of {x}?",
    "Tell me the {task} letter of {x}.",
    "What is the {task} letter in the word {x}?",
    "Which letter is the {task} one in {x}?",
    "Which letter does {x} {verb} with?",
    "What letter does the word {x} {verb} with?",
)
COUNT = (
    "How many letters does {x} have?",
    "How many letters are in {x}?",
    "How many letters are in the word {x}?",
    "Count the letters of {x}.",
    "Tell me how many letters {x} has.",
)


def held_out_task(word: str) -> str:
    """The question about the word that training never asks ("" = none)."""
    return (*TASKS, "")[digest(f"letters of {word}") % 4]


TRAINED = tuple((word, task) for word in WORDS for task in TASKS if task != held_out_task(word))
HELD_OUT = tuple((word, held_out_task(word)) for word in WORDS if held_out_task(word))


def spelled(word: str) -> str:
    """C A T"""
    return " ".join(word.upper())


def spell(draw: Draw, word: str) -> Turn:
    """Spell this word."""
    wording, key = draw.wording(f"spell {word}", SPELL)
    reply = f"You spell it {spelled(word)}."
    return Turn(wording.format(x=word), reply, spelled(word), FAMILY, key, spells(word))


def letter_task(draw: Draw, word: str, task: str) -> Turn:
    """The first or last letter of this word, or how many it has; the answer spells the word on its way."""
    key, letters = f"{task} letter of {word}", spelled(word)
    if task == "count":
        user, n = draw.pick(COUNT).format(x=word), len(word)
        return Turn(
            user, f"We write {letters}, so it has {n} letters.", str(n), FAMILY, key, letters_are(n, word)
        )
    verb, letter = ("start", word[0].upper()) if task == "first" else ("end", word[-1].upper())
    user = draw.pick(LETTER).format(x=word, task=task, verb=verb)
    return Turn(
        user,
        f"We write {letters}, so it {verb}s with {letter}.",
        letter,
        FAMILY,
        key,
        letter_is(letter, word),
    )


def ask(draw: Draw) -> Turn:
    """One question about letters."""
    if draw.chance(45):
        return spell(draw, draw.pick(WORDS))
    return letter_task(draw, *draw.pick(HELD_OUT if draw.held_out else TRAINED))
