"""Feelings and advice: sorry or glad about the right thing, and a piece of advice that fits."""

from __future__ import annotations

from microgpt.corpus.smalltalk import greetings
from microgpt.corpus.smalltalk.checks import Check, both, names_only, says
from microgpt.corpus.smalltalk.draw import Draw, listed
from microgpt.corpus.smalltalk.facts import distractions
from microgpt.corpus.smalltalk.names import person
from microgpt.corpus.smalltalk.turns import Turn

FAMILY = "feelings"
BAD = listed("sad angry upset unhappy worried")
GOOD = listed("happy glad proud cheerful excited")
LOST = listed("lost/broke/forgot/dropped", "/")
FOUND = listed("found/got/fixed/bought", "/")
OWNED = listed(
    "book bike ball hat phone watch ring key bag coat kite doll scarf cup lamp umbrella guitar camera toy "
    "boat drum coin pen radio mirror clock"
)
TELL = (
    "I am {feel} because I {did} my {x}.",
    "I feel {feel}. I {did} my {x}.",
    "I {did} my {x} and now I am {feel}.",
    "Today I {did} my {x}. I am so {feel}.",
)
# state -> (advice, the word that must be in it)
ADVICE = {
    "tired": ("get some sleep", "sleep"),
    "hungry": ("eat some bread", "eat"),
    "thirsty": ("drink some water", "drink"),
    "cold": ("put on a warm coat", "coat"),
    "hot": ("sit in the shade", "shade"),
    "bored": ("read a good book", "book"),
    "ill": ("see a doctor", "doctor"),
    "lonely": ("call a friend", "call"),
    "angry": ("take a deep breath", "breath"),
    "wet": ("use a dry towel", "towel"),
    "lost": ("look at a map", "map"),
    "late": ("run to the bus", "run"),
    "dirty": ("take a bath", "bath"),
    "nervous": ("go for a slow walk", "walk"),
}
RELATIVES = listed("brother sister mother father cousin son daughter uncle")
ADVISE_ME = (
    "I am {state}. What should I do?",
    "I am so {state}. What can I do?",
    "What should I do when I am {state}?",
    "I feel {state}. Do you have any advice?",
    "I am {state}. Can you help me?",
    "I'm {state}. What now?",
)
ADVISE_RELATIVE = (
    "My {x} is {state}. What should my {x} do?",
    "My {x} is so {state}. What can my {x} do?",
    "My {x} feels {state}. Any advice for my {x}?",
    "What should my {x} do when my {x} is {state}?",
)
ADVISE_FRIEND = (
    "My friend {x} is {state}. What should {x} do?",
    "My friend {x} is so {state}. What can {x} do?",
    "My friend {x} feels {state}. Any advice for {x}?",
    "What should {x} do when {x} is {state}?",
)


def mood(draw: Draw) -> Turn:
    """The user is sad or happy about something; feeling, deed and thing together decide the side."""
    feelings, deeds, word = draw.pick(((BAD, LOST, "sorry"), (GOOD, FOUND, "glad")))

    def three() -> tuple[str, str, str]:
        return draw.pick(feelings), draw.pick(deeds), draw.pick(OWNED)

    feel, did, thing = draw.content(three, lambda m: f"mood|{'|'.join(m)}")
    user = draw.pick(TELL).format(feel=feel, did=did, x=thing)
    check = says((word, thing), {"sorry", "glad", *OWNED})
    return Turn(user, f"I am {word} about your {thing}.", "", FAMILY, f"mood|{feel}|{did}|{thing}", check)


def _advice_check(state: str) -> Check:
    right = ADVICE[state][1]
    return says(right, {word for _, word in ADVICE.values()})


def advice_for_me(draw: Draw) -> Turn:
    """What to do about one's own state."""
    state = draw.pick(tuple(ADVICE))
    wording, key = draw.wording(f"advice {state}", ADVISE_ME)
    return Turn(
        wording.format(state=state), f"You should {ADVICE[state][0]}.", "", FAMILY, key, _advice_check(state)
    )


def advice_for_relative(draw: Draw) -> Turn:
    """What a relative should do; state and relative together decide the side."""
    state, who = draw.content(
        lambda: (draw.pick(tuple(ADVICE)), draw.pick(RELATIVES)), lambda m: f"advice|{m[0]}|{m[1]}"
    )
    user = draw.pick(ADVISE_RELATIVE).format(x=who, state=state)
    check = both(_advice_check(state), says(who, RELATIVES))
    return Turn(
        user, f"I think your {who} should {ADVICE[state][0]}.", "", FAMILY, f"advice|{state}|{who}", check
    )


def advice_for_friend(draw: Draw) -> Turn:
    """What a friend with a name should do."""
    state, name = draw.pick(tuple(ADVICE)), person(draw)
    user = draw.pick(ADVISE_FRIEND).format(x=name, state=state)
    check = both(_advice_check(state), names_only(name))
    return Turn(
        user, f"I think {name} should {ADVICE[state][0]}.", "", FAMILY, f"advice|{state}|{name}", check
    )


ASKS = ((mood, 35), (advice_for_me, 25), (advice_for_relative, 20), (advice_for_friend, 20))


def dialogue(draw: Draw) -> list[Turn]:
    """Two to four exchanges about how people feel, some with another question between."""
    turns: list[Turn] = []
    for _ in range(draw.between(1, 3)):
        turns += [draw.weighted(ASKS)(draw), *distractions(draw, 1)]
    return greetings.dressed(draw, [*turns, draw.weighted(ASKS)(draw)])
