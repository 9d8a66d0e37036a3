"""Byte-level BPE in its shortest form.  This is the definition; csrc/tokenizer must give the same answers.

Text is bytes.  It is cut into chunks that no token crosses, by the pattern of GPT-2:

    's|'t|'re|'ve|'m|'ll|'d | ?letters | ?numbers | ?others | whitespace not before a non-space | whitespace

A byte at which no well-formed UTF-8 sequence starts is a character of its own, of class "other".
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import pairwise

from microgpt.tokenizer.alphabet import tie_rank
from microgpt.tokenizer.unicode_classes import LETTERS, NUMBERS
from microgpt.tokenizer.unicode_tables import OTHER, SPACE, classes_from_ranges

CONTRACTIONS = (b"'s", b"'t", b"'re", b"'ve", b"'m", b"'ll", b"'d")

Pair = tuple[int, int]


# ---- splitting -----------------------------------------------------------------------------------------


def split(text: bytes) -> list[bytes]:
    """Cut text into chunks; joined they are the text again.

    split(b"It's 42,  ok") == [b"It", b"'s", b" 42", b",", b" ", b" ok"]
    """
    starts, kinds = _characters(text)
    chunks, i = [], 0
    while i < len(kinds):
        j = _chunk_end(text, starts, kinds, i)
        chunks.append(text[starts[i] : starts[j]])
        i = j
    return chunks


def _chunk_end(text: bytes, starts: list[int], kinds: list[int], i: int) -> int:
    """Index of the character after the chunk that starts at character i."""
    for contraction in CONTRACTIONS:
        if text.startswith(contraction, starts[i]):
            return i + len(contraction)
    j = i + (text[starts[i]] == ord(" "))
    if j < len(kinds) and kinds[j] != SPACE:
        return _run_end(kinds, j)
    j = _run_end(kinds, i)
    return j if j == len(kinds) or j == i + 1 else j - 1  # the last space belongs to what follows


def _run_end(kinds: list[int], i: int) -> int:
    """End of the run of one class that starts at character i."""
    j = i
    while j < len(kinds) and kinds[j] == kinds[i]:
        j += 1
    return j


def _characters(text: bytes) -> tuple[list[int], list[int]]:
    """Start offsets (with the end of the text appended) and classes of the characters."""
    starts, kinds, i = [0], [], 0
    while i < len(text):
        length = 1 if text[i] < 0x80 else 2 if text[i] < 0xE0 else 3 if text[i] < 0xF0 else 4
        try:
            kind = _kind(ord(text[i : i + length].decode("utf-8")))
        except (UnicodeDecodeError, TypeError):  # TypeError: ord of two characters
            kind, length = OTHER, 1
        i += length
        starts.append(i)
        kinds.append(kind)
    return starts, kinds


def _kind(code_point: int) -> int:
    """Class of a code point."""
    edges, kinds = _unicode()
    return kinds[bisect_right(edges, code_point) - 1]


@cache
def _unicode() -> tuple[list[int], list[int]]:
    """Code points at which the class changes, and the class from there on."""
    classes = [*classes_from_ranges(LETTERS, NUMBERS), OTHER]
    edges = [c for c in range(len(classes)) if c == 0 or classes[c] != classes[c - 1]]
    return edges, [classes[c] for c in edges]


# ---- training and encoding -----------------------------------------------------------------------------


def train(documents: Iterable[bytes], n_merges: int, single_digits: bool = False) -> list[Pair]:
    """Learn up to n_merges merges: always the most frequent pair, ties by `alphabet.tie_rank`.

    A pair is counted at every position, overlapping ones too ("aaa" holds (a, a) twice), times the number of
    occurrences of its chunk.  Fewer merges come back when no pair is left.  With single_digits no pair holds
    a digit.
    """
    apart = {*b"0123456789"} if single_digits else set()
    words = Counter(chunk for text in documents for chunk in split(text))
    spelled = {word: list(word) for word in words}
    merges: list[Pair] = []
    while len(merges) < n_merges:
        counts: Counter[Pair] = Counter()
        for word, ids in spelled.items():
            for pair in pairwise(ids):
                if not apart.intersection(pair):
                    counts[pair] += words[word]
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], tie_rank(pair[0]), tie_rank(pair[1])))
        spelled = {word: merge(ids, best, 256 + len(merges)) for word, ids in spelled.items()}
        merges.append(best)
    return merges


def encode(text: bytes, merges: Sequence[Pair]) -> list[int]:
    """Ids of a text: in every chunk, apply the earliest learnt merge that is possible until none is."""
    new_ids = {pair: 256 + i for i, pair in enumerate(merges)}
    out: list[int] = []
    for chunk in split(text):
        ids = list(chunk)
        while found := [pair for pair in pairwise(ids) if pair in new_ids]:
            best = min(found, key=new_ids.__getitem__)
            ids = merge(ids, best, new_ids[best])
        out += ids
    return out


def merge(ids: list[int], pair: Pair, new: int) -> list[int]:
    """Replace every occurrence of a pair, left to right: merge([1, 1, 1], (1, 1), 2) == [2, 1]."""
    out: list[int] = []
    i = 0
    while i < len(ids):
        here = tuple(ids[i : i + 2]) == pair
        out.append(new if here else ids[i])
        i += 1 + here
    return out
