"""The text in order: each row of a batch goes on where that row of the batch before ended.

So recurrent layers can carry on what they remember.  The stream is cut into stretches, one for each row, that
are read side by side, window after window.  Where documents are packed whole no document sees the one before
it, and as windows follow on each other, none need be cut for its length: windows are of the stream, with the
borders of its documents in them.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from microgpt.common.errors import DataError
from microgpt.corpus.token_file import TokenFile
from microgpt.model import Batch

from .batches import Batches, EvalWindows, refuse_too_few
from .packing import DOCUMENTS, STREAM, Piece, StreamWindows
from .prompts import PromptLoss

N_STRETCHES = 8  # of text that is measured, at most; more would begin with nothing remembered too often

Memory = dict[str, np.ndarray]


class Stretches:
    """Windows in order: number k * n_stretches + r is window k of stretch r.

    All stretches have as many windows, all full, so that some tokens at their borders lie in two.  In an
    epoch every token but the first of the text, and of documents that do not see each other, is a target;
    of a single stretch, what does not fill a window at the end of the text is not.

    Raises: DataError: there is not a window for each stretch.
    """

    fill = 1.0

    def __init__(self, tokens: TokenFile, seq_len: int, n_stretches: int, packing: str) -> None:
        n_targets = tokens.n_tokens - 1
        if n_targets < n_stretches * seq_len:
            raise DataError(
                f"{tokens.name}: --carry-state reads {n_stretches} stretches side by side, of at least one "
                f"window of {seq_len} tokens; {tokens.n_tokens} tokens are too few: give more text, or less "
                "--batch-size, --grad-accum or --seq-len"
            )
        self._tokens, self._seq_len, self._packing = tokens, seq_len, packing
        self._n_stretches, self._n_each = n_stretches, -(-n_targets // (seq_len * n_stretches))
        if n_stretches == 1:
            self._n_each = n_targets // seq_len
        self._spare = n_targets - self._n_each * seq_len
        self.n_windows = n_stretches * self._n_each

    def pieces(self, number: int) -> list[Piece]:
        """The documents in a window, or parts of them, if they do not see each other; else one piece."""
        return cut(self._tokens, self._start(number), self._seq_len + 1, self._packing)

    def begins(self, number: int) -> bool:
        """Whether nothing before a window goes with it."""
        is_first = number < self._n_stretches
        return is_first or begins_document(self._tokens, self._start(number), self._packing)

    def _start(self, number: int) -> int:
        k, r = divmod(number, self._n_stretches)
        return r * self._spare // max(1, self._n_stretches - 1) + k * self._seq_len


def cut(tokens: TokenFile, start: int, length: int, packing: str) -> list[Piece]:
    """Tokens of the stream, cut at the documents in them if these do not see each other."""
    if packing != DOCUMENTS:
        return [Piece(start, length)]
    stop = start + length
    first, last = np.searchsorted(tokens.offsets, np.array([start + 1, stop], tokens.offsets.dtype))
    borders = [start, *map(int, tokens.offsets[first:last]), stop]
    return [Piece(a, b - a) for a, b in pairwise(borders)]


def begins_document(tokens: TokenFile, start: int, packing: str) -> bool:
    """Whether a document that sees none before it begins at a token."""
    place = np.searchsorted(tokens.offsets, np.array(start, tokens.offsets.dtype))
    is_one = place < tokens.n_documents and int(tokens.offsets[place]) == start
    return packing == DOCUMENTS and bool(is_one)


def continued(memory: Memory, is_new: np.ndarray) -> Memory:
    """What the first rows of a memory go on with, in new arrays: nothing in rows that begin anew.

    Args: is_new: (B,), of as many rows as go on.
    """
    shapes = {name: (-1,) + (1,) * (rows.ndim - 1) for name, rows in memory.items()}
    return {
        name: np.where(is_new.reshape(shapes[name]), np.zeros((), rows.dtype), rows[: len(is_new)])
        for name, rows in memory.items()
    }


class BatchesInOrder(Batches):
    """Training batches whose rows go on: those of batch i + grad_accum follow on those of batch i.

    In an epoch each stretch is read once; then all begin anew.
    """

    def __init__(
        self,
        tokens: TokenFile,
        seq_len: int,
        batch_size: int,
        grad_accum: int,
        prompt_loss: PromptLoss | None,
        packing: str,
    ) -> None:
        self._stretches = Stretches(tokens, seq_len, batch_size * grad_accum, packing)
        super().__init__(tokens, seq_len, batch_size, 0, prompt_loss, packing, self._stretches)

    def numbers(self, first: int, n: int) -> list[int]:
        """The numbers of windows first .. first + n - 1 of the run, each in [0, n_windows)."""
        return [i % self.n_windows for i in range(first, first + n)]

    def begins(self, index: int) -> np.ndarray:
        """Which rows of a batch begin anew, (B,) bool."""
        return np.array([self._stretches.begins(number) for number in self.windows(index)])


class EvalInOrder(EvalWindows):
    """Held-out windows that follow on each other in a few stretches, which are read side by side.

    No token is scored twice.  Of a part of the text, each stretch begins where it does in the whole.

    Args: max_tokens: about as many targets as these are scored; None: all.  Others as of `eval_windows`.
    """

    def __init__(
        self,
        tokens: TokenFile,
        seq_len: int,
        byte_lengths: np.ndarray,
        max_tokens: int | None = None,
        packing: str = STREAM,
        is_scored: np.ndarray | None = None,
    ) -> None:
        refuse_too_few(tokens)
        layout = StreamWindows(tokens, seq_len)
        n_all = layout.n_windows
        n = n_all if max_tokens is None else max(1, min(n_all, max_tokens // seq_len))
        self.n_stretches, self._packing = min(N_STRETCHES, n), packing
        counts = self._shares(n_all)  # of all windows there are
        self._firsts = np.cumsum(counts) - counts
        self._counts = self._shares(n)
        super().__init__(tokens, seq_len, layout, n, byte_lengths, is_scored)

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """Window after window of all stretches, whatever the batch size; what is remembered goes along."""
        memory: Memory = {}
        for numbers, batch in zip(self._steps(), super().batches(batch_size), strict=True):
            starts = [number * self.seq_len for number in numbers]
            is_new = [begins_document(self.tokens, start, self._packing) for start in starts]
            memory.update(continued(memory, np.array(is_new)))
            yield batch._replace(memory=memory)

    def _windows(self, batch_size: int) -> Iterator[list[list[Piece]]]:
        for numbers in self._steps():
            pieces = [self._layout.pieces(number)[0] for number in numbers]
            yield [cut(self.tokens, piece.start, piece.length, self._packing) for piece in pieces]

    def _steps(self) -> Iterator[list[int]]:
        """The windows of each batch; the last has those of the longer stretches, which are first."""
        for k in range(int(self._counts.max())):
            yield [int(first + k) for first in self._firsts[self._counts > k]]

    def _shares(self, n: int) -> np.ndarray:
        """Of n windows, those of each stretch, the larger shares first."""
        return n // self.n_stretches + (np.arange(self.n_stretches) < n % self.n_stretches)
