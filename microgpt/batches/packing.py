"""How documents come to lie in windows of T+1 tokens: cut from the stream, or whole ones side by side.

`stream` cuts a window every T tokens wherever that falls, so most begin in the middle of a document.
`documents` begins every window at a `<|bos|>`, as a chat begins, and cuts only documents longer than a
window: those fill windows of their own, one after the other, and what is left of them opens a window that
shorter documents fill up.  There no document sees the one before it, for a conversation does not begin behind
another one; in a stream it does.  Either way the place of everything follows from the document offsets
alone.

Training steps on by a whole window.  To be measured with more context, windows may step on by a `stride` of
fewer tokens: each begins with tokens that the one before it has scored, and scores those that follow.
"""

from typing import NamedTuple, Protocol

import numpy as np

from microgpt.common.errors import DataError
from microgpt.corpus.token_file import TokenFile

STREAM, DOCUMENTS = "stream", "documents"
PACKINGS = (STREAM, DOCUMENTS)


class Piece(NamedTuple):
    """`length` tokens of the stream from `start` on; the first `n_seen` of them are no targets."""

    start: int
    length: int
    n_seen: int = 1


class Layout(Protocol):
    """Windows by number, each a list of pieces that lie one after the other, T+1 tokens at most in all.

    Targets are the tokens of each piece but the first `n_seen`.  fill: share of the windows' room that is
    used.
    """

    n_windows: int
    fill: float

    def pieces(self, number: int) -> list[Piece]:
        """What window `number` in [0, n_windows) consists of."""


def count_windows(n_tokens: np.ndarray, seq_len: int, stride: int | None = None) -> np.ndarray:
    """Windows of seq_len targets that cover runs of n_tokens tokens, each in its own; after the first of a
    run each scores the next `stride` targets, by default as many as it has."""
    rest = np.maximum(n_tokens - 1 - seq_len, 0)
    return np.minimum(n_tokens - 1, 1) - (-rest // (stride or seq_len))


def _n_seen(seq_len: int, stride: int | None) -> int:
    """Of T+1 tokens of a window that goes on after another one, how many that one has scored or seen."""
    return seq_len + 1 - (stride or seq_len)


class StreamWindows:
    """Window k is the T+1 tokens from token k*T on, or k*stride; together they score every token but the
    first.

    The last one ends with the stream: it is short, or with `is_moved_back` begins earlier to be full.
    """

    def __init__(
        self, tokens: TokenFile, seq_len: int, is_moved_back: bool = False, stride: int | None = None
    ) -> None:
        self._n_tokens, self._seq_len, self._is_moved_back = tokens.n_tokens, seq_len, is_moved_back
        self._stride, self._n_seen = stride or seq_len, _n_seen(seq_len, stride)
        self.n_windows = int(count_windows(np.array(tokens.n_tokens), seq_len, stride))
        self.fill = 1.0

    def pieces(self, number: int) -> list[Piece]:
        """One piece."""
        start = number * self._stride
        if self._is_moved_back:
            start = min(start, self._n_tokens - 1 - self._seq_len)
        n_seen = self._n_seen if number else 1
        return [Piece(start, min(self._seq_len + 1, self._n_tokens - start), n_seen)]


class DocumentWindows:
    """Every window begins with a document, or goes on with one that is longer than a window.

    Every token of every document but its first is a target in exactly one window.  Memory: 16 bytes a piece
    and 8 a window.

    Raises: DataError: the offsets are out of order, or no document has two tokens.
    """

    def __init__(self, tokens: TokenFile, seq_len: int, stride: int | None = None) -> None:
        capacity = seq_len + 1
        starts, lengths = _documents(tokens)
        is_short = lengths <= capacity
        cut_starts, cut_lengths, n_seen = _cut(starts[~is_short], lengths[~is_short], seq_len, stride)
        is_short &= lengths > 1  # a document of one token has no target
        starts, lengths = starts[is_short], lengths[is_short]
        windows = best_fit(lengths, capacity - cut_lengths, capacity)
        # Stable: first what is left of a long document, then short ones in the order of the corpus.
        windows = np.concatenate([np.arange(len(cut_starts)), windows])
        order = np.argsort(windows, kind="stable")
        self._starts = np.concatenate([cut_starts, starts])[order]
        self._lengths = np.concatenate([cut_lengths, lengths])[order].astype(np.int32)
        self._n_seen = np.concatenate([n_seen, np.ones(len(lengths), np.int32)])[order]
        self._ends = np.cumsum(np.bincount(windows))
        self.n_windows = len(self._ends)
        if not self.n_windows:
            raise DataError(f"{tokens.name}: no document of two tokens or more; give more text")
        self.fill = int(self._lengths.sum(dtype=np.int64)) / (self.n_windows * capacity)

    def pieces(self, number: int) -> list[Piece]:
        """The continued document first, if there is one, then whole ones."""
        of_window = slice(self._ends[number - 1] if number else 0, self._ends[number])
        parts = (part[of_window].tolist() for part in (self._starts, self._lengths, self._n_seen))
        return list(map(Piece, *parts))


def _documents(tokens: TokenFile) -> tuple[np.ndarray, np.ndarray]:
    """Where each document begins and how many tokens it has, int64 each."""
    starts = tokens.offsets.astype(np.int64)
    lengths = np.diff(starts, append=tokens.n_tokens)
    if starts[0] != 0 or (lengths < 0).any():
        raise DataError(f"{tokens.path}: the document offsets are out of order; prepare the corpus again")
    return starts, lengths


def _cut(
    starts: np.ndarray, lengths: np.ndarray, seq_len: int, stride: int | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Starts, lengths and tokens seen of windows over long documents; neighbours share the token between
    them, or more."""
    counts = count_windows(lengths, seq_len, stride)
    number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)  # in its document
    cut_starts = np.repeat(starts, counts) + number * (stride or seq_len)
    left = np.repeat(starts + lengths, counts) - cut_starts
    n_seen = np.where(number, _n_seen(seq_len, stride), 1).astype(np.int32)
    return cut_starts, np.minimum(left, seq_len + 1), n_seen


def best_fit(lengths: np.ndarray, room: np.ndarray, capacity: int) -> np.ndarray:
    """The bin of each item: the longest first, each into the fullest bin that has room, or a new one.

    Best-fit decreasing (Johnson et al. 1974), for documents as in Ding et al. 2024 (arXiv 2404.10830).  All
    items of one length meet all bins of one room at once, so the work in Python is at most capacity^2 / 2
    steps however many items there are.

    Args: lengths: of the items, each in [1, capacity].
          room: of bins 0 .. len(room)-1, there already, each in [0, capacity).
    """
    bins = np.empty(len(lengths), np.int64)
    by_room = _by_value(room, capacity)
    n_bins = len(room)
    for length, items in reversed(list(enumerate(_by_value(lengths, capacity)))):
        for size in range(length, capacity + 1):
            if not len(items):
                break
            each = size // length
            wanted = -(-len(items) // each)
            if size == capacity:
                by_room[size] = np.arange(n_bins, n_bins + wanted)  # new ones
                n_bins += wanted
            if not len(by_room[size]):
                continue
            used, by_room[size] = np.split(by_room[size], [wanted])
            taken, items = np.split(items, [len(used) * each])
            bins[taken] = np.repeat(used, each)[: len(taken)]
            _put(by_room, used, len(taken), length, size)
    return bins


def _by_value(values: np.ndarray, largest: int) -> list[np.ndarray]:
    """For each value 0 .. largest the places that hold it, in order."""
    ends = np.cumsum(np.bincount(values, minlength=largest + 1))
    return np.split(np.argsort(values, kind="stable"), ends[:-1])


def _put(by_room: list[np.ndarray], used: np.ndarray, n_items: int, length: int, size: int) -> None:
    """File the bins that took n_items of a length, all as many as fit but perhaps the last, by new room."""
    each = size // length
    n_full = n_items // each
    for bins, count in ((used[:n_full], each), (used[n_full:], n_items % each)):
        left = size - count * length
        if len(bins) and left:
            by_room[left] = np.concatenate([by_room[left], bins])
