"""Which documents are held out for validation: a pure function of a document's own content.

Every document has a place in [0, 2^64) from a hash of its roles and texts, so copies of a document always
land on the same side, whatever file they come from and in whatever order.  Documents whose place is below a
limit are held out.

The limit is the first of 1 %, 2 %, 5 %, 10 % that holds out at least 8192 characters and at most half of it;
if none does, 10 % where that holds out anything; else the one document of the two lowest places that is not
over half of the text; and a corpus that is one single document has its last tenth held out.  So a corpus of
any size has both sides.
"""

import hashlib
import re
from dataclasses import dataclass
from itertools import chain

from microgpt.common.errors import DataError

from .chat import Document, Message, n_characters

PLACES = 1 << 64
RATES = (0.01, 0.02, 0.05, 0.10)
MIN_HELD_OUT = 8192  # characters
_HIGHEST_LIMIT = int(max(RATES) * PLACES)


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
    """Documents with a place in [low, high) are held out; `tail`: the end of the only document is, too."""

    low: int = 0
    high: int = int(RATES[0] * PLACES)
    tail: bool = False

    def holds(self, where: int) -> bool:
        """Whether documents of this place are held out."""
        return self.low <= where < self.high

    def sides(self, document: Document, where: int) -> list[tuple[bool, Document]]:
        """The document of this place as (held out?, document); two parts if its tail is held out."""
        if self.tail:
            return list(zip((False, True), cut_tail(document), strict=True))
        return [(self.holds(where), document)]


DEFAULT = Split()
EVERYTHING = Split(0, PLACES)


class Survey:
    """What choosing a limit needs to know, in constant memory: `add` every document, then `choose`."""

    def __init__(self) -> None:
        self.n_documents = self.n_characters = 0
        self._below = dict.fromkeys(RATES, 0)
        self._lowest: dict[int, int] = {}  # characters of text at the two lowest places
        self._second_lowest = PLACES

    def add(self, document: Document) -> int:
        """Count one document; its place."""
        where, size = place(document), n_characters(document)
        self.n_documents += 1
        self.n_characters += size
        if where < _HIGHEST_LIMIT:
            for rate in RATES:
                if where < int(rate * PLACES):
                    self._below[rate] += size
        if where <= self._second_lowest:
            self._lowest[where] = self._lowest.get(where, 0) + size
            if len(self._lowest) > 2:
                del self._lowest[max(self._lowest)]
            self._second_lowest = max(self._lowest) if len(self._lowest) == 2 else PLACES
        return where

    def choose(self) -> Split:
        """The split for the documents seen; the module's docstring is its rule."""
        if self.n_documents == 0:
            raise DataError("the corpus has no document; give files with text")
        usable = {rate: n for rate, n in self._below.items() if 0 < n <= self.n_characters / 2}
        for rate in RATES:
            if usable.get(rate, 0) >= MIN_HELD_OUT or (rate == RATES[-1] and rate in usable):
                return Split(0, int(rate * PLACES))
        if len(self._lowest) == 1:
            return Split(tail=True)
        where = min(self._lowest, key=lambda at: (self._lowest[at] > self.n_characters / 2, at))
        return Split(where, where + 1)


def cut_tail(document: Document) -> tuple[Document, Document]:
    """Set the last tenth of a document apart: text is cut at a line or word, a chat at a question."""
    if not isinstance(document, str):
        return _cut_chat(document)
    near = len(document) * 9 // 10
    blank = re.compile(r"\n").search(document, near) or re.compile(r"\s").search(document, near)
    cut = blank.end() if blank and document[blank.end() :].strip() else near
    if not document[:cut].strip() or not document[cut:].strip():
        raise DataError("the corpus is one short text, too little to have a part held out; give more text")
    return document[:cut], document[cut:]


def _cut_chat(messages: list[Message]) -> tuple[Document, Document]:
    starts = [i for i, message in enumerate(messages) if message.role == "user" and i > 0]
    if not starts:
        raise DataError("the corpus is one single exchange, nothing can be held out; give more conversations")
    cut = min(starts, key=lambda i: abs(i - 0.9 * len(messages)))
    return messages[:cut], messages[cut:]
