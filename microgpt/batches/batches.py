"""Windows of a token file as batches, read when they are asked for.

This is the only place where the shift is made.  Which tokens make a window is told by `packing`; training
draws windows in an order that is a pure function of (seed, epoch), evaluation takes evenly spread ones.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from microgpt.common.errors import DataError
from microgpt.core import random
from microgpt.corpus.token_file import TokenFile
from microgpt.model import IGNORED, Batch

from .packing import DOCUMENTS, STREAM, DocumentWindows, Layout, Piece, StreamWindows
from .prompts import PromptLoss


def shifted(tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ids and targets of rows of T+1 tokens: (B, T+1) -> (B, T), (B, T); targets[:, t] follows ids[:, t]."""
    return tokens[:, :-1].copy(), tokens[:, 1:].copy()


def read(tokens: TokenFile, windows: Sequence[Sequence[Piece]], seq_len: int) -> Batch:
    """Windows given by their pieces.

    The first token of a piece is no target, since nothing foretells it, nor are others that it has seen, and
    nothing behind the last piece is.  No piece sees the one before it.
    """
    rows = np.full((len(windows), seq_len + 1), IGNORED, np.int32)
    is_first, is_seen = np.zeros((2, *rows.shape), bool)
    for b, pieces in enumerate(windows):
        t = 0
        for start, length, n_seen in pieces:
            rows[b, t : t + length] = _read(tokens, start, length)
            is_first[b, t] = is_seen[b, t : t + n_seen] = True
            t += length
    ids, targets = shifted(rows)
    targets[is_seen[:, 1:]] = IGNORED
    # Behind the last piece any id will do: no target sees it.
    return Batch(np.maximum(ids, 0), targets, starts=_starts(is_first[:, :-1]))


def _starts(is_first: np.ndarray) -> np.ndarray | None:
    """Where in its row the piece of each token begins, (B, T); None if all begin with the row."""
    if not is_first[:, 1:].any():
        return None
    places = np.where(is_first, np.arange(is_first.shape[1], dtype=np.int32), 0)
    return np.maximum.accumulate(places, axis=1, dtype=np.int32)


def _read(tokens: TokenFile, start: int, length: int) -> np.ndarray:
    piece = np.asarray(tokens.ids[start : start + length])
    if int(piece.max()) >= tokens.vocab_size:
        raise DataError(f"{tokens.path}: an id outside the vocabulary near token {start}; prepare it again")
    return piece


def places(windows: Sequence[Sequence[Piece]], seq_len: int) -> np.ndarray:
    """Where in the stream each target of `read` lies, (B, T); of ignored ones, anywhere."""
    all_places = np.zeros(
        (len(windows), seq_len + 1), np.uint64
    )  # as document offsets: no copy of those is made
    for b, pieces in enumerate(windows):
        t = 0
        for start, length, _ in pieces:
            all_places[b, t : t + length] = np.arange(start, start + length)
            t += length
    return all_places[:, 1:]


def owners(tokens: TokenFile, places: np.ndarray) -> np.ndarray:
    """The number of the document that each place of the stream lies in."""
    return np.searchsorted(tokens.offsets, places, side="right") - 1


class Batches:
    """Training batches: in every epoch each window exactly once, in an order drawn from (seed, epoch).

    Batches run on across the end of an epoch, so all have the same size; a run that stops after batch i
    goes on with batch i + 1 and needs no other memory of where it was.

    Args: layout: of other windows than those of `packing`.
    """

    def __init__(
        self,
        tokens: TokenFile,
        seq_len: int,
        batch_size: int,
        seed: int,
        prompt_loss: PromptLoss | None = None,
        packing: str = STREAM,
        layout: Layout | None = None,
    ) -> None:
        if packing == STREAM and tokens.n_tokens <= seq_len:
            raise DataError(
                f"{tokens.name}: {tokens.n_tokens} tokens, shorter than one window of {seq_len} + 1; "
                "give more text or a smaller --seq-len"
            )
        self._tokens, self.seq_len, self.batch_size, self.seed = tokens, seq_len, batch_size, seed
        self._layout = layout or _layout(tokens, seq_len, packing, is_moved_back=True)
        self.packing, self.n_windows, self.fill = packing, self._layout.n_windows, self._layout.fill
        self._orders: dict[int, np.ndarray] = {}
        self._prompt_loss = prompt_loss

    def batch(self, index: int) -> Batch:
        """Batch `index`; a target that is not learned is IGNORED."""
        return self.rows(index * self.batch_size, self.batch_size)

    def rows(self, first: int, n: int) -> Batch:
        """Windows first .. first + n - 1 of the run."""
        windows = [self._layout.pieces(number) for number in self.numbers(first, n)]
        batch = read(self._tokens, windows, self.seq_len)
        if self._prompt_loss:
            self._prompt_loss.leave_out(batch, [pieces[0].start for pieces in windows], first)
        return batch

    def windows(self, index: int) -> list[int]:
        """The numbers of the windows in batch `index`, each in [0, n_windows)."""
        return self.numbers(index * self.batch_size, self.batch_size)

    def numbers(self, first: int, n: int) -> list[int]:
        """The numbers of windows first .. first + n - 1 of the run, each in [0, n_windows)."""
        places = (divmod(i, self.n_windows) for i in range(first, first + n))
        return [int(self._order(epoch)[i]) for epoch, i in places]

    def _order(self, epoch: int) -> np.ndarray:
        """The permutation of the windows in one epoch; the latest two are kept."""
        if epoch not in self._orders:
            self._orders = {e: order for e, order in self._orders.items() if e == epoch - 1}
            key = random.key(self.seed, "data order", epoch)
            self._orders[epoch] = random.permutation(key, self.n_windows)
        return self._orders[epoch]


class EvalWindows:
    """A fixed set of held-out windows, read batch by batch; targets of IGNORED are not scored.

    n_tokens counts the targets that are scored, n_bytes the bytes of text they stand for, n_documents the
    documents they lie in.  Markers such as `<|end|>` stand for no bytes but are scored, so bits per byte =
    nats summed over all targets / ln 2 / n_bytes.

    Args:     is_scored: of each document, whether its tokens are; None: all are.
              prompt_loss: leaves out targets; None: all are scored.
    """

    n_stretches = 0  # in which windows follow on each other, for what layers remember; 0: each is for itself

    def __init__(
        self,
        tokens: TokenFile,
        seq_len: int,
        layout: Layout,
        n_windows: int,
        byte_lengths: np.ndarray,
        is_scored: np.ndarray | None = None,
        prompt_loss: PromptLoss | None = None,
    ) -> None:
        self.tokens, self.seq_len, self._layout, self.n_windows = tokens, seq_len, layout, n_windows
        self._is_scored, self._prompt_loss = is_scored, prompt_loss
        self.n_tokens = self.n_bytes = 0
        self.n_all_documents = len(tokens.offsets)
        self.byte_lengths = byte_lengths
        is_met = np.zeros(self.n_all_documents, bool)
        for batch, places in zip(self.batches(batch_size=64), self.places(batch_size=64), strict=True):
            targets = batch.targets
            scored = targets[targets != IGNORED]
            self.n_tokens += scored.size
            self.n_bytes += int(byte_lengths[scored].sum(dtype=np.int64))
            is_met[self.owners(places[targets != IGNORED])] = True
        self.n_documents = int(is_met.sum())

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """All windows in order; the last batch may be smaller."""
        for windows in self._windows(batch_size):
            batch = read(self.tokens, windows, self.seq_len)
            if self._is_scored is not None:
                unscored = ~self._is_scored[self.owners(places(windows, self.seq_len))]
                batch.targets[unscored] = IGNORED
            if self._prompt_loss:
                self._prompt_loss.leave_out(batch, [pieces[0].start for pieces in windows], 0)
            yield batch

    def places(self, batch_size: int) -> Iterator[np.ndarray]:
        """Where in the stream each target of `batches` lies, (B, T); of IGNORED ones, anywhere."""
        for windows in self._windows(batch_size):
            yield places(windows, self.seq_len)

    def owners(self, places: np.ndarray) -> np.ndarray:
        """The number of the document that each place of the stream lies in."""
        return owners(self.tokens, places)

    def _windows(self, batch_size: int) -> Iterator[list[list[Piece]]]:
        for first in range(0, self.n_windows, batch_size):
            places = range(first, min(first + batch_size, self.n_windows))
            yield [self._pieces(i) for i in places]

    def _pieces(self, place: int) -> list[Piece]:
        """The window at a place of the set, evenly spread over all there are."""
        return self._layout.pieces(place * self._layout.n_windows // self.n_windows)


def eval_windows(
    tokens: TokenFile,
    seq_len: int,
    byte_lengths: np.ndarray,
    max_tokens: int | None = None,
    packing: str = STREAM,
    is_scored: np.ndarray | None = None,
    stride: int | None = None,
    prompt_loss: PromptLoss | None = None,
) -> EvalWindows:
    """Evenly spread windows of about `max_tokens` targets in all (None = every one), none scored twice.

    stride: how far each window steps on, 1 to seq_len, by default seq_len.  Every token is then scored with
    at least seq_len - stride tokens before it, or all that its stream or document has.

    Where only some documents are scored, the windows are the same; in a stream they follow on the others.

    A stream shorter than one window gives one window whose end is ignored.
    """
    refuse_too_few(tokens)
    layout = _layout(tokens, seq_len, packing, stride=stride)
    n = layout.n_windows
    n_chosen = n if max_tokens is None else max(1, min(n, max_tokens // (stride or seq_len)))
    return EvalWindows(tokens, seq_len, layout, n_chosen, byte_lengths, is_scored, prompt_loss)


def refuse_too_few(tokens: TokenFile) -> None:
    """Raises DataError: there is no token to score."""
    if tokens.n_tokens < 2:
        raise DataError(f"{tokens.name}: {tokens.n_tokens} tokens, too few to score; give more held-out text")


def _layout(
    tokens: TokenFile, seq_len: int, packing: str, is_moved_back: bool = False, stride: int | None = None
) -> Layout:
    if packing == DOCUMENTS:
        return DocumentWindows(tokens, seq_len, stride)
    return StreamWindows(tokens, seq_len, is_moved_back, stride)
