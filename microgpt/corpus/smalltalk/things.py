"""Colours and sounds of everyday things."""

from __future__ import annotations

from microgpt.corpus.smalltalk.checks import says
from microgpt.corpus.smalltalk.draw import Draw
from microgpt.corpus.smalltalk.turns import Turn, capitalised

FAMILY = "things"
COLOURS = {
    "green": ("grass", "a frog", "a cucumber", "a leaf", "a pea"),
    "white": ("snow", "milk", "salt", "a swan", "flour"),
    "black": ("coal", "a crow", "tar"),
    "yellow": ("the sun", "a lemon", "a banana", "butter"),
    "red": ("blood", "a tomato", "a strawberry", "a cherry"),
    "blue": ("the sky", "the sea"),
    "orange": ("a carrot", "a pumpkin"),
    "brown": ("chocolate", "a bear", "mud", "coffee"),
    "grey": ("an elephant", "a rain cloud", "ash"),
    "pink": ("a pig", "a flamingo"),
}
COLOUR_OF = {thing: colour for colour, things in COLOURS.items() for thing in things}
COLOURED = tuple(COLOUR_OF)
SOUND_OF = {
    "a cow": "moo",
    "a dog": "woof",
    "a cat": "meow",
    "a sheep": "baa",
    "a duck": "quack",
    "a pig": "oink",
    "a bee": "buzz",
    "a snake": "hiss",
    "a lion": "roar",
    "a horse": "neigh",
    "a bird": "tweet",
    "a mouse": "squeak",
    "an owl": "hoot",
    "a frog": "croak",
    "a crow": "caw",
    "a wolf": "howl",
    "a clock": "tick",
    "a bell": "ding",
    "a drum": "boom",
    "a balloon": "pop",
    "a train": "choo",
}
SOUNDING = tuple(SOUND_OF)
SOUNDS = tuple(SOUND_OF.values())

ASK_COLOUR = (
    "What colour is {x}?",
    "Which colour is {x}?",
    "What is the colour of {x}?",
    "Tell me the colour of {x}.",
    "Do you know the colour of {x}?",
    "Name the colour of {x}.",
    "Can you tell me what colour {x} is?",
    "What colour does {x} have?",
)
ASK_SOUND = (
    "What sound does {x} make?",
    "Which sound does {x} make?",
    "What noise does {x} make?",
    "How does {x} sound?",
    "Tell me the sound of {x}.",
    "Can you make the sound of {x}?",
    "What is the sound of {x}?",
    "Do you know the sound of {x}?",
)
ASK_MAKER = (
    "What goes {x}?",
    "What makes the sound {x}?",
    "Which one goes {x}?",
    "What is it that goes {x}?",
    "Can you tell me what goes {x}?",
    "Who or what goes {x}?",
)


def _bare(thing: str) -> str:
    """The thing without its article."""
    return thing.split(" ", 1)[-1] if thing.startswith(("a ", "an ", "the ")) else thing


def colour_of(draw: Draw, thing: str) -> Turn:
    """The colour of this thing."""
    wording, key = draw.wording(f"colour of {thing}", ASK_COLOUR)
    colour = COLOUR_OF[thing]
    user = wording.format(x=thing)
    return Turn(
        user, f"{capitalised(thing)} is {colour}.", capitalised(colour), FAMILY, key, says(colour, COLOURS)
    )


def is_colour(draw: Draw) -> Turn:
    """Has this thing that colour?  The answer tells which one it has."""
    true = draw.chance(50)

    def pair() -> tuple[str, str]:
        thing = draw.pick(COLOURED)
        return thing, COLOUR_OF[thing] if true else draw.pick(tuple(COLOURS))

    thing, colour = draw.content(pair, lambda p: f"is colour|{p[0]}|{p[1]}")
    real, key = COLOUR_OF[thing], f"is colour|{thing}|{colour}"
    reply = f"{capitalised(thing)} is {real}."
    return Turn(f"Is {thing} {colour}?", reply, capitalised(real), FAMILY, key, says(real, COLOURS))


def which_is(draw: Draw) -> Turn:
    """Which of two things has this colour?"""

    def pair() -> list[str]:
        while True:
            two = draw.sample(COLOURED, 2)
            if COLOUR_OF[two[0]] != COLOUR_OF[two[1]]:
                return two

    right, other = draw.content(pair, lambda p: f"which colour|{'|'.join(sorted(p))}")
    colour = COLOUR_OF[right]
    first, second = draw.sample((right, other), 2)
    key = f"which colour|{'|'.join(sorted((right, other)))}"
    check = says(_bare(right), [_bare(other), *COLOURS.keys() - {colour}])
    return Turn(
        f"Which is {colour}, {first} or {second}?",
        f"{capitalised(right)} is {colour}.",
        "",
        FAMILY,
        key,
        check,
    )


def sound_of(draw: Draw, thing: str) -> Turn:
    """The sound of this thing."""
    wording, key = draw.wording(f"sound of {thing}", ASK_SOUND)
    sound = SOUND_OF[thing]
    reply = f"{capitalised(thing)} goes {sound}."
    return Turn(wording.format(x=thing), reply, capitalised(sound), FAMILY, key, says(sound, SOUNDS))


def maker_of(draw: Draw) -> Turn:
    """What makes this sound?"""
    thing = draw.pick(SOUNDING)
    sound = SOUND_OF[thing]
    wording, key = draw.wording(f"maker of {sound}", ASK_MAKER)
    check = says(_bare(thing), map(_bare, SOUNDING))
    return Turn(wording.format(x=sound), f"{capitalised(thing)} goes {sound}.", "", FAMILY, key, check)


def ask(draw: Draw) -> Turn:
    """One question about colours or sounds."""
    at = draw.below(100)
    if at < 35:
        return colour_of(draw, draw.pick(COLOURED))
    if at < 60:
        return sound_of(draw, draw.pick(SOUNDING))
    return is_colour(draw) if at < 70 else which_is(draw) if at < 80 else maker_of(draw)
