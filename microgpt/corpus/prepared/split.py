"""Which documents are held out for validation: a pure function of a document's own content.

Every document has a place in [0, 2^64) from a hash of its roles and texts, so copies of a document always
land on the same side, whatever file they come from and in whatever order.  Documents whose place is below a
limit are held out.

The limit is the first of 1 %, 2 %, 5 %, 10 % that holds out at least 500 documents, 8192 characters, and at
most half of the text; if none does, the largest that holds out anything and no more than half; else the one
document of the two lowest places that is not over half of the text; and a corpus that is one single document
has its last tenth held out.  So a corpus of any size has both sides.

Why 500: quality is told with an interval over documents, whose width goes with 1 / sqrt(their number).  Of
DailyDialog the loss of 117 is known to 1.3 % of itself, that of 560 so to 0.6 %.  What is held out teaches
nothing, so no more than a tenth is.

Who wants another part held out names it in `HeldOutWanted`: a share, which is then the limit, or files.
"""

import argparse
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain

from microgpt.common.errors import ConfigError, DataError
from microgpt.common.flags import Parser, add_settings, given
from microgpt.common.setting import Range, refused, setting
from microgpt.common.words import counted
from microgpt.corpus.chat import Document, Message, n_characters

PLACES = 1 << 64
RATES = (0.01, 0.02, 0.05, 0.10)
MIN_HELD_OUT = 8192  # characters
ENOUGH_DOCUMENTS = 500
FAR_MORE = 1.5  # times as much as was to be held out
EVEN = 0.05  # one of RATES: advised where one part of a corpus is held out more than another
TAIL = 0.1  # share of a single document that is held out


@dataclass(frozen=True)
class HeldOutWanted:
    """What is to be held out, where that is not left to the rule.

    held_out: files and folders whose documents are the held-out part; they are taken out of the rest, of
    which nothing else is held out.
    """

    held_out: tuple[str, ...] = ()
    held_out_share: float = setting(
        0.0,
        "share of the documents to hold out, such as 0.02; 0: 1 %, or up to 10 % where that is less than "
        f"{ENOUGH_DOCUMENTS} documents, too little to measure on",
        "share",
        group="data",
        within=Range(0, 1),
    )

    def __post_init__(self) -> None:
        if refused(self):
            raise ConfigError(f"--held-out-share {self.held_out_share:g}: expected 0 to 1, such as 0.02")
        if self.held_out and self.held_out_share:
            raise ConfigError("--held-out-share: --held-out says what is held out; give one of the two")


def add_held_out_flags(flags: Parser) -> None:
    """The flags of HeldOutWanted."""
    flags.add_argument_group("data").add_argument(
        "--held-out",
        nargs="+",
        action="extend",
        default=argparse.SUPPRESS,
        metavar="FILE",
        help="files or folders whose documents are the held-out part; the rest is all trained on, but for "
        "copies of these documents [default a part of the corpus]",
    )
    add_settings(flags, HeldOutWanted)


def held_out_wanted(args: argparse.Namespace) -> HeldOutWanted:
    """What was typed."""
    return HeldOutWanted(**given(args, HeldOutWanted) | {"held_out": tuple(getattr(args, "held_out", ()))})


def place(document: Document) -> int:
    """The document's place in [0, 2^64), the same for equal documents only (but for chance)."""
    if isinstance(document, str):
        content = f"{len(document)}|{document}"
    else:
        parts = list(chain.from_iterable(document))
        content = "".join([",".join(map(str, map(len, parts))), "|", *parts])
    return int.from_bytes(hashlib.blake2b(content.encode(), digest_size=8).digest(), "little")


@dataclass(frozen=True)
class Split:
    """Documents with a place in [low, high) are held out.

    tail: 0, or the share of the only document that is held out instead, at its end.
    """

    low: int = 0
    high: int = int(RATES[0] * PLACES)
    tail: float = 0

    @property
    def share(self) -> float:
        """What share of the text is to be held out; where that is one document, a tenth at most."""
        n_places = self.high - self.low
        return self.tail or (RATES[-1] if n_places == 1 else n_places / PLACES)

    def holds(self, where: int) -> bool:
        """Whether documents of this place are held out."""
        return self.low <= where < self.high

    def sides(self, document: Document, where: int) -> list[tuple[bool, Document]]:
        """The document of this place as (held out?, document); two parts if its tail is held out."""
        if self.tail:
            return list(zip((False, True), cut_tail(document, self.tail), strict=True))
        return [(self.holds(where), document)]


DEFAULT = Split()
EVERYTHING = Split(0, PLACES)
NOTHING = Split(0, 0)


class Survey:
    """What choosing a limit needs to know, in constant memory: `add` every document, then `choose`."""

    def __init__(self, share: float = 0) -> None:
        self._share = share
        self.n_documents = self.n_characters = 0
        self._below = dict.fromkeys([share] if share else RATES, 0)  # characters
        self._documents_below = dict(self._below)
        self._highest_limit = int(max(self._below) * PLACES)
        self._lowest: dict[int, int] = {}  # characters of text at the two lowest places
        self._second_lowest = PLACES

    def add(self, document: Document) -> int:
        """Count one document; its place."""
        where, size = place(document), n_characters(document)
        self.n_documents += 1
        self.n_characters += size
        if where < self._highest_limit:
            for rate in self._below:
                if where < int(rate * PLACES):
                    self._below[rate] += size
                    self._documents_below[rate] += 1
        if where <= self._second_lowest:
            self._lowest[where] = self._lowest.get(where, 0) + size
            if len(self._lowest) > 2:
                del self._lowest[max(self._lowest)]
            self._second_lowest = max(self._lowest) if len(self._lowest) == 2 else PLACES
        return where

    def is_even(self) -> bool:
        """Whether the rule was free, and EVEN of the documents would have been about EVEN of the text."""
        part = self._below.get(EVEN, 0) / max(self.n_characters, 1)
        return not self._share and EVEN / FAR_MORE <= part <= EVEN * FAR_MORE

    def choose(self) -> Split:
        """The split for the documents seen; the module's docstring is its rule."""
        if self.n_documents == 0:
            raise DataError("the corpus has no document; give files with text")
        if self._share:
            return self._choose_share()
        usable = [rate for rate, n in self._below.items() if 0 < n <= self.n_characters / 2]
        if usable:
            rate = next(filter(self._is_enough, usable), usable[-1])
            return Split(0, int(rate * PLACES))
        if len(self._lowest) == 1:
            return Split(tail=TAIL)
        where = min(self._lowest, key=lambda at: (self._lowest[at] > self.n_characters / 2, at))
        return Split(where, where + 1)

    def _is_enough(self, rate: float) -> bool:
        """Whether what lies below a limit is."""
        return self._below[rate] >= MIN_HELD_OUT and self._documents_below[rate] >= ENOUGH_DOCUMENTS

    def _choose_share(self) -> Split:
        if len(self._lowest) == 1:
            return Split(tail=self._share)
        if not 0 < self._below[self._share] < self.n_characters:
            what = "all" if self._below[self._share] else "none"
            raise DataError(
                f"--held-out-share {self._share:g} holds out {what} of the corpus's {self.n_documents} "
                "documents; give another share, or leave it out"
            )
        return Split(0, int(self._share * PLACES))


def few_note(n_documents: int) -> str | None:
    """What to tell of a held-out part of so many documents; None: they are enough."""
    if n_documents >= ENOUGH_DOCUMENTS:
        return None
    return (
        f"{counted(n_documents, 'document')} held out: numbers on so few have wide intervals; "
        "--held-out-share or --held-out holds out more"
    )


def share_note(split: Split, n_bytes: int, n_held_out: int, n_documents: int) -> str | None:
    """What to tell where far more of a text is held out than was to be; None: it is not.

    Args: n_bytes, n_documents: of all of it.  n_held_out: bytes that are held out.
    """
    wanted = split.share
    if n_held_out <= FAR_MORE * wanted * n_bytes:
        return None
    return (
        f"{_percent(n_held_out / n_bytes)} of the text is held out, {_percent(wanted)} was to be: it has "
        f"{counted(n_documents, 'document')}, and each stays whole; --held-out FILE names another part, or "
        "divide the text by blank lines"
    )


def _percent(share: float) -> str:
    return f"{share:.{0 if share >= 0.1 else 1}%}".replace(".0%", "%")


def proportions_note(shares: Mapping[str, float], is_even: bool) -> str | None:
    """What to tell where of one part of a corpus far more is held out than of another; None: of none is.

    Args: shares: of each part that is held out.  is_even: whether --held-out-share makes them alike.
    """
    if max(shares.values()) <= FAR_MORE * min(shares.values()):
        return None
    ordered = sorted(shares.items(), key=lambda item: item[1])
    told = " and ".join(f"{_percent(share)} of {name}" for name, share in ordered)
    share, file = f"--held-out-share {EVEN:g} takes as much of each", "--held-out FILE names another part"
    advice = share if is_even else file
    return f"held out are {told}: held-out results count {ordered[-1][0]} more than training does; {advice}"


def cut_tail(document: Document, share: float = TAIL) -> tuple[Document, Document]:
    """Set the end of a document apart: text is cut at a line or word, a chat at a question."""
    if not isinstance(document, str):
        return _cut_chat(document, share)
    near = len(document) * round(1000 * (1 - share)) // 1000
    blank = re.compile(r"\n").search(document, near) or re.compile(r"\s").search(document, near)
    cut = blank.end() if blank and document[blank.end() :].strip() else near
    if not document[:cut].strip() or not document[cut:].strip():
        raise DataError("the corpus is one short text, too little to have a part held out; give more text")
    return document[:cut], document[cut:]


def _cut_chat(messages: list[Message], share: float) -> tuple[Document, Document]:
    starts = [i for i, message in enumerate(messages) if message.role == "user" and i > 0]
    if not starts:
        raise DataError("the corpus is one single exchange, nothing can be held out; give more conversations")
    cut = min(starts, key=lambda i: abs(i - (1 - share) * len(messages)))
    return messages[:cut], messages[cut:]
