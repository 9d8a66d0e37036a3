"""Marking answers: the right key as a whole word, and no other candidate beside it.

Each function makes a check, `check(answer) -> bool`.  Checks look at keys, not at phrasing, so that a model
is not punished for its own wording; naming several candidates at once is always wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from microgpt.corpus.smalltalk.draw import listed

Check = Callable[[str], bool]

WORD = re.compile(r"[^\W_]+(?:'[^\W\d_]+)?")
LONG_WORD = re.compile(r"[^\W\d_]{2,}")
# Words that an answer may begin with in capitals without naming anybody.
NOT_NAMES = frozenset(
    listed(
        "A An The I It Is You Your My His Her He She They Their This That These There Then Here Yes No "
        "Not Now So Well And But Oh Okay Ok Sure Sorry Of Course Please Thank Thanks Welcome Hello Hi Hey "
        "Good Goodbye Bye See Nice Morning Afternoon Evening Night Later Soon Tomorrow Name Remember In "
        "At On To What Who Nobody Only Still First Last"
    )
)


def words(text: str) -> list[str]:
    """The words and numbers of a text, in lower case."""
    return WORD.findall(text.lower())


def _padded(text: str) -> str:
    return f" {' '.join(words(text))} "


def says(right: str | Sequence[str], wrong: Iterable[str] = ()) -> Check:
    """Every phrase of `right` occurs as whole words, none of `wrong` does."""
    needed = [_padded(phrase) for phrase in ([right] if isinstance(right, str) else right)]
    refused = [phrase for phrase in map(_padded, wrong) if phrase not in needed]

    def check(answer: str) -> bool:
        text = _padded(answer)
        return all(phrase in text for phrase in needed) and not any(phrase in text for phrase in refused)

    return check


def names_only(*names: str, right: Sequence[str] = ()) -> Check:
    """The answer names these people or animals, to the letter, and nobody else; it says all of `right`."""
    says_rest = says(right)

    def check(answer: str) -> bool:
        rest = answer
        for name in names:  # made into a pattern here, for most checks are never asked
            rest, times = re.subn(rf"(?<![\w'-]){re.escape(name)}(?!['-]?\w)", " ", rest)
            if not times:
                return False
        others = {word for word in LONG_WORD.findall(rest) if word[0].isupper()} - NOT_NAMES
        return not others and says_rest(answer)

    return check


def decides(right: str, wrong: Iterable[str] = ()) -> Check:
    """The answer says `right` (yes or no) and not its contrary, and none of `wrong`."""
    return says(right, {"yes", "no", *wrong} - {right})


def number_is(right: int, operands: Sequence[int] = ()) -> Check:
    """The last number is the right one; before it only the operands may stand."""
    allowed = {right, *operands}

    def check(answer: str) -> bool:
        numbers = [int(digits) for digits in re.findall(r"\d+", answer)]
        return bool(numbers) and numbers[-1] == right and allowed.issuperset(numbers)

    return check


def counts(numbers: Sequence[int]) -> Check:
    """The numbers of the answer are exactly these, in this order."""
    return lambda answer: [int(digits) for digits in re.findall(r"\d+", answer)] == list(numbers)


def repeats(items: Sequence[str]) -> Check:
    """The answer is these words in this order, after "okay" at most."""
    wanted = [word for item in items for word in words(item)]

    def check(answer: str) -> bool:
        said = words(answer)
        return said[said[:1] == ["okay"] :] == wanted

    return check


def letters_in(answer: str) -> str:
    """The letters that stand alone in the answer, "I" before another word not counted."""
    return "".join(re.findall(r"\b[A-Z]\b", re.sub(r"\bI (?=[a-z])", " ", answer)))


def spells(word: str) -> Check:
    """The letters of the word stand in the answer one by one, and no others."""
    return lambda answer: letters_in(answer) == word.upper()


def letter_is(right: str, word: str) -> Check:
    """The right letter stands alone in the answer, or behind the word spelled in full."""
    return lambda answer: letters_in(answer) in (right, word.upper() + right)


def letters_are(n: int, word: str) -> Check:
    """The number of letters is right; the word, and no other, may be spelled beside it."""
    number = number_is(n)
    return lambda answer: number(answer) and letters_in(answer) in ("", word.upper())


def is_one_word(right: str) -> Check:
    """Nothing but the right word."""
    return lambda answer: words(answer) == words(right)


def is_twice(right: str) -> Check:
    """The same words said twice, with the right one among them."""
    key = _padded(right)

    def check(answer: str) -> bool:
        said = words(answer)
        half = said[: len(said) // 2]
        return len(said) == 2 * len(half) and half == said[len(half) :] and key in f" {' '.join(half)} "

    return check


def is_capitals(right: str, rest: Check) -> Check:
    """All letters are capitals, and `rest` holds."""

    def check(answer: str) -> bool:
        return answer == answer.upper() and right.upper() in answer and rest(answer)

    return check


def both(first: Check, second: Check) -> Check:
    """Both checks hold."""
    return lambda answer: first(answer) and second(answer)
