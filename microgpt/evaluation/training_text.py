"""What a model was trained on, as text that can be searched: does it say this, and how often?"""

import re
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from microgpt.corpus.token_file import TokenFile
from microgpt.tokenizer import Tokenizer

_BLOCK = 1 << 20  # tokens looked at at a time, about
_BETWEEN = re.compile(r"[^\w'\n]+")  # what stands between words


def plain_words(text: str) -> str:
    """A text as it is searched: its words in lower case, a space around each."""
    return f" {_BETWEEN.sub(' ', text.lower()).strip()} "


class Form(NamedTuple):
    """A kind of line: regular expressions of words that follow on each other, and words anywhere in it."""

    row: str
    words: tuple[str, ...]

    def is_in(self, text: str) -> bool:
        """Whether a line of a text, as `plain_words` has it, is of this kind."""
        row = re.compile(f" {self.row} ")
        lines = (line for line in text.split("\n") if all(f" {word} " in line for word in self.words))
        return any(row.search(line) for line in lines)


class TrainingText:
    """The messages and paragraphs of token files.  Reads them block by block, in little memory.

    Attributes: files: at least one.  is_all: whether a model was trained on nothing else.
    """

    def __init__(self, files: Sequence[TokenFile], tokenizer: Tokenizer, is_all: bool = True) -> None:
        self.files, self.is_all = files, is_all
        specials = [tokenizer.special_id(name) for name in tokenizer.specials]
        self._words = list(tokenizer.token_bytes)
        for i in specials:
            self._words[i] = b"\n"

    @property
    def n_blocks(self) -> int:
        """Pieces that it is read in."""
        return sum(len(_cuts(tokens)) - 1 for tokens in self.files)

    def counts(
        self,
        wanted: Sequence[Sequence[str]],
        progress: Callable[[int], Any] = lambda n: None,
        enough: int | None = None,
    ) -> list[int]:
        """In how many lines, which are messages or lines of them, all phrases of each group stand together.

        Phrases are compared word by word, without case and punctuation.  `progress` hears 1 of each block.
        enough: read no further once every group has so many; None: read all.
        """
        groups = [[plain_words(phrase) for phrase in phrases] for phrases in wanted]
        found = [0] * len(groups)
        for block in self._blocks():
            for i, phrases in enumerate(groups):
                found[i] += lines_with(block, phrases)
            progress(1)
            if enough is not None and min(found, default=enough) >= enough:
                break
        return found

    def having(self, wanted: AbstractSet[Form], progress: Callable[[int], Any] = lambda n: None) -> set[Form]:
        """Those of some forms that a line has.  Reads no further than it must; `progress` as for `counts`."""
        found: set[Form] = set()
        for block in self._blocks() if wanted else ():
            found |= {form for form in wanted - found if form.is_in(block)}
            progress(1)
            if found == wanted:
                break
        return found

    def _blocks(self) -> Iterator[str]:
        for tokens in self.files:
            for first, end in pairwise(_cuts(tokens)):
                data = b"".join([self._words[i] for i in tokens.ids[first:end].tolist()])
                text = _BETWEEN.sub(" ", data.decode("utf-8", "replace").lower())
                yield "\n " + text.replace("\n", " \n ") + " \n"


def _cuts(tokens: TokenFile) -> list[int]:
    """Where blocks begin, each at a document, and the end."""
    n, offsets = tokens.n_tokens, tokens.offsets
    firsts = np.searchsorted(offsets, np.arange(0, n, _BLOCK, dtype=np.uint64))
    starts = {int(offsets[i]) for i in firsts if i < len(offsets)}
    return [*sorted(starts), n]


def lines_with(text: str, phrases: Sequence[str]) -> int:
    """Lines of a text that hold all phrases; of no phrase, none."""
    if not phrases:
        return 0
    rarest = min(phrases, key=text.count)
    n, at = 0, text.find(rarest)
    while at >= 0:
        first, end = text.rfind("\n", 0, at + 1), text.find("\n", at + 1)
        line = text[first : end if end >= 0 else len(text)]
        n += all(phrase in line for phrase in phrases)
        at = text.find(rarest, end) if end >= 0 else -1
    return n
