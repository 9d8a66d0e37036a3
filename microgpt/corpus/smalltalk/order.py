"""Counting, and the order of days, months and numbers."""

from __future__ import annotations

from microgpt.corpus.smalltalk.checks import Check, counts, number_is, says
from microgpt.corpus.smalltalk.draw import Draw, listed
from microgpt.corpus.smalltalk.turns import Turn

FAMILY = "order"
DAYS = listed("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = listed("January February March April May June July August September October November December")
LIMIT = 20

NEXT = (
    "What {kind} comes {way} {x}?",
    "Which {kind} comes {way} {x}?",
    "What is the {kind} {way} {x}?",
    "What comes {way} {x}?",
    "Tell me the {kind} {way} {x}.",
    "Which is the {kind} {way} {x}?",
    "Do you know the {kind} {way} {x}?",
    "Name the {kind} {way} {x}.",
)
EARLIER = (
    "Which comes first in the year, {a} or {b}?",
    "What is earlier in the year, {a} or {b}?",
    "Which month is earlier, {a} or {b}?",
)
COUNT = (
    "Count {way} from {a} to {b}.",
    "Please count {way} from {a} to {b}.",
    "Can you count {way} from {a} to {b}?",
    "Count {way} for me, from {a} to {b}.",
)


def _neighbour(items: tuple[str, ...], item: str, way: str) -> str:
    """The item after or before this one, going round at the ends."""
    return items[(items.index(item) + (1 if way == "after" else -1)) % len(items)]


def neighbour_of(draw: Draw, kind: str, item: str, way: str) -> Turn:
    """The day or month after or before this one."""
    items = DAYS if kind == "day" else MONTHS
    wording, key = draw.wording(f"{way} {item}", NEXT)
    right = _neighbour(items, item, way)
    check = says(right, {*items} - {item})
    reply = f"The {kind} {way} {item} is {right}."
    return Turn(wording.format(kind=kind, way=way, x=item), reply, right, FAMILY, key, check)


def next_number(draw: Draw) -> Turn:
    """The number after or before this one."""
    number, way = draw.between(1, LIMIT - 1), draw.pick(("after", "before"))
    wording, key = draw.wording(f"{way} {number}", NEXT)
    right = number + 1 if way == "after" else number - 1
    reply = f"The number {way} {number} is {right}."
    user = wording.format(kind="number", way=way, x=number)
    return Turn(user, reply, str(right), FAMILY, key, number_is(right, (number,)))


def count(draw: Draw) -> Turn:
    """Count from one number to another, upwards or downwards."""

    def ends() -> tuple[int, int]:
        low = draw.between(1, LIMIT - 2)
        high = draw.between(low + 2, min(low + 6, LIMIT))
        return (low, high) if draw.chance(60) else (high, low)

    a, b = draw.content(ends, lambda p: f"count|{p[0]}|{p[1]}")
    numbers = range(a, b + 1) if a < b else range(a, b - 1, -1)
    user = draw.pick(COUNT).format(way="up" if a < b else "down", a=a, b=b)
    return Turn(user, f"Okay: {', '.join(map(str, numbers))}.", "", FAMILY, f"count|{a}|{b}", counts(numbers))


def earlier(draw: Draw) -> Turn:
    """Which of two months is earlier in the year?"""
    a, b = draw.content(lambda: draw.sample(MONTHS, 2), lambda p: f"earlier|{'|'.join(sorted(p))}")
    right, other = sorted((a, b), key=MONTHS.index)
    key = f"earlier|{'|'.join(sorted((a, b)))}"
    reply = f"{right} comes before {other}."
    return Turn(draw.pick(EARLIER).format(a=a, b=b), reply, right, FAMILY, key, _earlier_check(right, other))


def _earlier_check(right: str, other: str) -> Check:
    """The right month, or a sentence that puts it before the other."""
    alone, sentence = (
        says(right, {*MONTHS}),
        says(f"{right} comes before {other}", {*MONTHS} - {right, other}),
    )
    return lambda answer: alone(answer) or sentence(answer)


def any_neighbour(draw: Draw) -> Turn:
    """The day or month after or before some other."""
    kind = draw.pick(("day", "month"))
    return neighbour_of(
        draw, kind, draw.pick(DAYS if kind == "day" else MONTHS), draw.pick(("after", "before"))
    )


def ask(draw: Draw) -> Turn:
    """One question about counting or order."""
    at = draw.below(100)
    if at < 35:
        return any_neighbour(draw)
    return next_number(draw) if at < 50 else count(draw) if at < 90 else earlier(draw)
