"""Windows of a token file as batches, each a pure function of (seed, index).

Documents lie one after the other in a packed stream; a window is T+1 tokens of it: ids and, shifted by one,
targets. This is the only place where the shift is made.  Window k starts at token k*T; the last one is moved
back to end with the stream, so every token but the very first is a target and none is out of reach.
"""

from typing import NamedTuple

import numpy as np

from microgpt.common.errors import DataError
from microgpt.core import random

from .prompt_loss import PromptLoss
from .token_file import TokenFile

IGNORED = -1  # a target that is not scored


def shifted(tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ids and targets of rows of T+1 tokens: (B, T+1) -> (B, T), (B, T); targets[:, t] follows ids[:, t]."""
    return tokens[:, :-1].copy(), tokens[:, 1:].copy()


def count_windows(n_tokens: int, seq_len: int) -> int:
    """Windows of seq_len targets that cover a stream; the last two may overlap."""
    return -(-(n_tokens - 1) // seq_len)


class Batches:
    """Training batches: in every epoch each window exactly once, in an order drawn from (seed, epoch).

    Batches run on across the end of an epoch, so all have the same size; a run that stops after batch i
    goes on with batch i + 1 and needs no other memory of where it was.
    """

    def __init__(
        self,
        tokens: TokenFile,
        seq_len: int,
        batch_size: int,
        seed: int,
        prompt_loss: PromptLoss | None = None,
    ) -> None:
        if tokens.n_tokens <= seq_len:
            raise DataError(
                f"{tokens.path}: {tokens.n_tokens} tokens, shorter than one window of {seq_len} + 1; "
                "give more text or a smaller --seq-len"
            )
        self._tokens, self.seq_len, self.batch_size, self.seed = tokens, seq_len, batch_size, seed
        self.n_windows = count_windows(tokens.n_tokens, seq_len)
        self._orders: dict[int, np.ndarray] = {}
        self._prompt_loss = prompt_loss

    def batch(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """ids and targets of batch `index`, (B, T) int32 each; a target that is not learned is IGNORED."""
        starts = [self._start(number) for number in self.windows(index)]
        rows = np.stack([_read(self._tokens, start, self.seq_len + 1) for start in starts])
        ids, targets = shifted(rows)
        if self._prompt_loss:
            targets[~self._prompt_loss.targets_kept(ids, starts, index)] = IGNORED
        return ids, targets

    def windows(self, index: int) -> list[int]:
        """The numbers of the windows in batch `index`, each in [0, n_windows)."""
        first = index * self.batch_size
        places = (divmod(i, self.n_windows) for i in range(first, first + self.batch_size))
        return [int(self._order(epoch)[i]) for epoch, i in places]

    def _order(self, epoch: int) -> np.ndarray:
        """The permutation of the windows in one epoch; the latest two are kept."""
        if epoch not in self._orders:
            self._orders = {e: order for e, order in self._orders.items() if e == epoch - 1}
            key = random.key(self.seed, "data order", epoch)
            self._orders[epoch] = random.permutation(key, self.n_windows)
        return self._orders[epoch]

    def _start(self, number: int) -> int:
        """Where a window begins in the stream."""
        return min(number * self.seq_len, self._tokens.n_tokens - 1 - self.seq_len)


class EvalWindows(NamedTuple):
    """A fixed set of held-out windows: ids and targets (N, T) int32, targets of IGNORED are not scored.

    n_tokens counts the targets that are scored, n_bytes the bytes of text they stand for.  Markers such as
    `<|end|>` stand for no bytes but are scored, so bits per byte = nats summed over all targets / ln 2 /
    n_bytes.
    """

    ids: np.ndarray
    targets: np.ndarray
    n_tokens: int
    n_bytes: int


def eval_windows(
    tokens: TokenFile, seq_len: int, byte_lengths: np.ndarray, max_tokens: int | None = None
) -> EvalWindows:
    """Evenly spread windows of about `max_tokens` targets in all (None = every one), none scored twice.

    A stream shorter than one window gives one window whose end is ignored.
    """
    if tokens.n_tokens < 2:
        raise DataError(f"{tokens.path}: {tokens.n_tokens} tokens, too few to score; give more held-out text")
    n = count_windows(tokens.n_tokens, seq_len)
    n_chosen = n if max_tokens is None else max(1, min(n, max_tokens // seq_len))
    windows = [_eval_window(tokens, i * n // n_chosen, seq_len) for i in range(n_chosen)]
    ids, targets = shifted(np.stack(windows))
    np.maximum(ids, 0, out=ids)  # behind the end of the stream any id will do
    scored = targets[targets != IGNORED]
    return EvalWindows(ids, targets, scored.size, int(byte_lengths[scored].sum(dtype=np.int64)))


def _eval_window(tokens: TokenFile, number: int, seq_len: int) -> np.ndarray:
    """Window `number` from its own start, filled up with IGNORED behind the end of the stream."""
    start = number * seq_len
    window = np.full(seq_len + 1, IGNORED, np.int32)
    length = min(seq_len + 1, tokens.n_tokens - start)
    window[:length] = _read(tokens, start, length)
    return window


def _read(tokens: TokenFile, start: int, length: int) -> np.ndarray:
    window = np.asarray(tokens.ids[start : start + length])
    if int(window.max()) >= tokens.vocab_size:
        raise DataError(f"{tokens.path}: an id outside the vocabulary near token {start}; prepare it again")
    return window.astype(np.int32)
