"""Judging in the terminal: one pair after the other, a choice and, if one likes, marks."""

import shutil
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import TextIO

from microgpt.common.output import harmless
from microgpt.evaluation.judgements import MARKS, RUBRIC, SIDES, TIE, Judgement

from .blind import Shown

HELP = f"""\
Which answer is better?  1 or 2, = if neither is; s: later; q: end for today.
Then marks of 1 to 5 for {", ".join(RUBRIC)},
one digit each and in this order, such as 43545; nothing: no marks."""
WIDEST = 80
KEYS = {"1": 0, "2": 1, "=": None}


def ask(
    found: Sequence[Shown],
    models: tuple[str, str],
    rater: str,
    read: Callable[[str], str],
    out: TextIO,
) -> Iterator[Judgement]:
    """Judgements, as they are made.

    Args: read: gives a line that somebody types after a prompt; EOFError ends it.
    """
    print(HELP, file=out)
    later: list[Shown] = []
    for number, one in enumerate(found, 1):
        print(*_lines(one, f"{number} of {len(found)}"), sep="\n", file=out)
        try:
            key = _typed(read, "better (1 2 = s q)> ", lambda text: text in (*KEYS, "s", "q"), out)
            if key == "q":
                return
            if key == "s":
                later.append(one)
                continue
            marks = _marks(one, read, out)
        except EOFError:
            return
        place = KEYS[key]
        choice = TIE if place is None else _sides(one)[place]
        yield one.judged(models, rater, choice, marks)
    if later and len(later) < len(found):
        yield from ask(later, models, rater, read, out)


def _sides(one: Shown) -> tuple[str, str]:
    """Whose answers stand first and second."""
    return (one.first, SIDES[one.first == "a"])


def _marks(one: Shown, read: Callable[[str], str], out: TextIO) -> dict[str, int]:
    """Marks of both answers, by column."""
    found: dict[str, int] = {}
    for place, side in enumerate(_sides(one), 1):
        text = _typed(read, f"marks of answer {place}> ", _is_marks, out)
        found |= {f"{name}_{side}": int(mark) for name, mark in zip(RUBRIC, text, strict=False)}
    return found


def _is_marks(text: str) -> bool:
    return not text or (len(text) == len(RUBRIC) and all(mark in map(str, MARKS) for mark in text))


def _typed(read: Callable[[str], str], prompt: str, is_good: Callable[[str], bool], out: TextIO) -> str:
    """What somebody types, asked again until it is what is wanted."""
    while not is_good(text := read(prompt).strip().lower()):
        print(HELP, file=out)
    return text


def _lines(one: Shown, place: str) -> list[str]:
    """A pair, in lines of the terminal's width."""
    width = min(WIDEST, shutil.get_terminal_size().columns)
    lines = ["", f"-- {place} ".ljust(width, "-"), *_wrapped(one.pair.prompt.text, width, "> ")]
    for number, answer in enumerate(one.answers, 1):
        lines += ["", *_wrapped(answer or "(nothing)", width, f"[{number}] ")]
    return [*lines, ""]


def _wrapped(text: str, width: int, mark: str) -> list[str]:
    """Text behind a mark, its own line breaks kept."""
    lines: list[str] = []
    for line in harmless(text).splitlines() or [""]:
        lines += textwrap.wrap(line, width - len(mark)) or [""]
    return [(mark if number == 0 else " " * len(mark)) + line for number, line in enumerate(lines)]
