"""Undo the word spacing of pre-tokenised dialogue: `It ' s fine , thanks .` -> `It's fine, thanks.`

DailyDialog is written with spaces around every mark, curly and straight quotes mixed, full stops glued to
the next sentence (`right.But`) and the odd artefact (`I ' Ve`, `。`).  The rules below run in order over one
turn; each states what it cures.  What is ambiguous stays as it is: better a stray space than a wrong word.
"""

import re
from typing import NamedTuple

_PLAIN = str.maketrans({"’": "'", "‘": "'", "′": "'", "“": '"', "”": '"', "。": ".", "、": ","})
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_GLUED = re.compile(r"[.?!,;][A-Za-z]")


class _Rule(NamedTuple):
    """Replace a pattern; `needle` is a literal that every match contains, a cheap test before the search."""

    needle: str
    pattern: re.Pattern[str]
    replacement: str


def _rule(needle: str, pattern: str, replacement: str) -> _Rule:
    return _Rule(needle, re.compile(pattern), replacement)


_WORDS = (
    _rule(" ' Ve", r"(?<=\w) ' Ve\b", "'ve"),  # I ' Ve -> I've
    _rule(" ' ", r"(?<=\w) ' (?=(?:s|t|m|d|re|ve|ll|clock|am|all)\b)", "'"),  # don ' t, o ' clock, ma ' am
    _rule("O ' ", r"\bO ' (?=[A-Z][a-z])", "O'"),  # O ' Connell
    _rule("' ", r"(?<!\w)' (?=(?:em|cause|til)\b)", "'"),  # take ' em
    _rule(" . m", r"\b([ap]) \. m\b(?: \.)?", r"\1.m."),  # 9 a . m .
    _rule(" . ", r"\b([A-Z]) \. (?=[A-Z] \.)", r"\1."),  # U . S .
    _rule("www . ", r"\bwww \. ", "www."),
    _rule(". ", r"(?<=\w) ?\. (?=(?:com|net|org|edu)\b)", "."),  # example . com
    _rule(" , 000", r"(?<=\d) , (?=000\b)", ","),  # 5 , 000
    _rule(" . ", r"([$£¥] \d+) \. (?=\d\d\b)", r"\1."),  # $ 16 . 50
    _rule(": ", r"\b(\d\d?) ?: (?=\d\d\b)", r"\1:"),  # 9 : 30
    _rule(" - ", r"(?<=\d) - (?=[a-z])", "-"),  # a 15 - inch screen
    _rule(" - ", r"\b([A-Z]) - (?=[A-Z]\b|\d)", r"\1-"),  # H - U - A - N
    _rule(" / ", r"(?<=\w) / (?=\w)", "/"),  # he / she
    _rule(" & ", r"\b([A-Z]) & (?=[A-Z]\b)", r"\1&"),  # R & B
)
_MARKS = (
    _rule(". .", r"(?<=\.) (?=\.)", ""),  # . . . -> ...
    _rule(" ", r" +(?=(?:[.,?!;:)\]]|\.\.+)(?:\W|$))", ""),
    _rule(" %", r"(?<=\d) %", "%"),
    _rule("( ", r"\( +", "("),
    _rule("[ ", r"\[ +", "["),
    _rule("$ ", r"\$ (?=\d)", "$"),
    _rule("# ", r"# (?=\d)", "#"),
    _rule("£ ", r"£ (?=\d)", "£"),
    _rule("¥ ", r"¥ (?=\d)", "¥"),
)
_SENTENCES = (
    # A stop or mark glued to the next word.  Names such as shop.com, U.S. and 9.30 are left alone.
    _rule("", r"(?<=[a-z0-9)'\"])([.?!])(?=[A-Z](?:[a-z']|\b))", r"\1 "),
    # {1,40}: a run of apostrophes without end must not be searched from each of them to its end.
    _rule(
        ".",
        r"(?<![.@\w])(?!www\.)([a-z']{1,40})\.(?!(?:com|net|org|edu|gov|cn|co|uk)\b)(?=[a-z]{2})",
        r"\1. ",
    ),
    _rule("OK.", r"\bOK\.(?=[A-Za-z])", "OK. "),
    _rule("", r"(?<=[A-Za-z])([?!,;])(?=[A-Za-z])", r"\1 "),
)


def detokenize(text: str) -> str:
    """One turn of pre-tokenised dialogue as people write it."""
    if not (text.isascii() and text.isprintable()):
        text = _CONTROL.sub(" ", text.translate(_PLAIN))
    text = _apply(_WORDS, " ".join(text.split()))
    text = _close_quotes(_close_quotes(text, '"'), "'")
    text = _apply(_MARKS, text)
    return _apply(_SENTENCES, text) if _GLUED.search(text) else text


def _apply(rules: tuple[_Rule, ...], text: str) -> str:
    for needle, pattern, replacement in rules:
        if needle in text:
            text = pattern.sub(replacement, text)
    return text


def _close_quotes(text: str, mark: str) -> str:
    """Attach free-standing quote marks: the first of a pair to the word after, the second to the one before.

    An odd single mark after a word in s is a plural's apostrophe (`the boys ' room`), not a quotation.
    """
    if mark not in text:
        return text
    words = text.split(" ")
    left, pieces, is_open, awaits_word = words.count(mark), [""], False, False
    for word in words:
        if word != mark:
            if awaits_word:
                pieces[-1] += word
            else:
                pieces.append(word)
            awaits_word = False
            continue
        is_plural = mark == "'" and left % 2 == 1 and pieces[-1].endswith("s")
        left -= 1
        if is_open or is_plural:
            pieces[-1] += mark
            is_open = awaits_word = False
        else:
            pieces.append(mark)
            is_open = awaits_word = True
    return " ".join(pieces[1:])
