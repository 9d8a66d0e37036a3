"""Learning from answers more than from prompts.

What a user will say cannot be foreseen, and a small model that tries spends itself on it.  With a weight
below 1 only that share of the tokens outside the assistant's answers are targets.  Which ones is a pure
function of (seed, window).  Plain text has no roles and is learned whole.  The name is the one that OpenAI's
fine-tuning interface uses; there the loss is scaled, here targets are left out: the same on average.
"""

import numpy as np

from microgpt.core import random
from microgpt.corpus.chat import BOS, ROLES, role_marker
from microgpt.model import IGNORED, Batch
from microgpt.tokenizer import Tokenizer

SCAN = 1 << 20  # tokens looked through at a time
BLOCK = 1024  # tokens between two places at which it is remembered whether a message is learned
LEARNED, PROMPT = 1, 2  # kinds of markers: what follows is all learned, or to a part


class PromptLoss:
    """Leaves out targets of prompts.

    Args: ids: the packed stream, (n_tokens,).  weight: share of prompt tokens that stay targets, in [0, 1).
    """

    def __init__(self, ids: np.ndarray, tokenizer: Tokenizer, weight: float, seed: int) -> None:
        self._ids, self.weight, self._seed = ids, weight, seed
        self._known: dict[int, bool] = {0: True}  # number of a block -> what holds where it begins
        self._bos, self._assistant = (tokenizer.special_id(m) for m in (BOS, role_marker("assistant")))
        self._kinds = np.zeros(tokenizer.vocab_size, np.int8)  # of each token
        self._kinds[[self._bos, self._assistant]] = LEARNED
        self._kinds[[tokenizer.special_id(role_marker(role)) for role in ("user", "system")]] = PROMPT

    def leave_out(self, batch: Batch, starts: list[int], first: int) -> None:
        """Make IGNORED what is not learned; arguments as of `targets_kept`."""
        batch.targets[~self.targets_kept(batch.ids, starts, first)] = IGNORED

    def targets_kept(self, ids: np.ndarray, starts: list[int], first: int) -> np.ndarray:
        """Whether the target after each of ids (B, T) is learned.

        Args: starts: where each row begins.  first: number of the first row among all windows of the run.
        """
        before = np.array([self._is_learned_before(start) for start in starts])
        keys = random.keys(self._seed, "prompt loss", range(first, first + len(ids)))
        kept = np.array([random.uniform(int(key), ids.shape[1]) < self.weight for key in keys])
        return self._is_learned(ids, before) | kept

    def leaves_something(self) -> bool:
        """Whether anything in the stream is no prompt: an answer, or a document of plain text."""
        for start in range(0, len(self._ids), SCAN):
            piece = np.asarray(self._ids[start : start + SCAN + 1])
            is_chat = self._kinds[piece[1:]] == PROMPT
            if (piece == self._assistant).any() or ((piece[:-1] == self._bos) & ~is_chat).any():
                return True
        return False

    def _is_learned(self, ids: np.ndarray, before: np.ndarray) -> np.ndarray:
        """Whether the token after each id belongs to an answer or to plain text: the last marker says so."""
        kinds = self._kinds[ids]
        last = np.maximum.accumulate(np.where(kinds > 0, np.arange(ids.shape[1]), -1), axis=1)
        at_last = np.take_along_axis(kinds, np.maximum(last, 0), axis=1) == LEARNED
        return np.where(last >= 0, at_last, before[:, None])

    def _is_learned_before(self, start: int) -> bool:
        """The same for the token at `start`, by looking back to the last marker.

        However long a message is, none of its blocks is passed twice: each remembers the answer.
        """
        block, end, passed = start // BLOCK, start, []
        while (learned := self._last_marker(block * BLOCK, end)) is None:
            passed.append(block)
            if block in self._known:
                learned = self._known[block]
                break
            block, end = block - 1, block * BLOCK
        self._known.update(dict.fromkeys(passed, learned))
        return learned

    def _last_marker(self, start: int, end: int) -> bool | None:
        """Whether the last marker of a stretch begins what is learned; None if there is none in it."""
        kinds = self._kinds[np.asarray(self._ids[start:end])]
        found = kinds[kinds > 0]
        return bool(found[-1] == LEARNED) if found.size else None


class AnswerLoss(PromptLoss):
    """Leaves out every target but what the assistant says, each time up to the end of its turn; the marker
    that gives it the turn is none of it.  Documents of plain text are learned whole."""

    def __init__(self, ids: np.ndarray, tokenizer: Tokenizer) -> None:
        super().__init__(ids, tokenizer, 0.0, 0)
        self._markers = [tokenizer.special_id(role_marker(role)) for role in ROLES]

    def leaves_something(self) -> bool:
        """Whether the assistant says anything."""
        starts = range(0, len(self._ids), SCAN)
        return any((self._ids[at : at + SCAN] == self._assistant).any() for at in starts)

    def leave_out(self, batch: Batch, starts: list[int], first: int) -> None:
        """Make IGNORED what is not learned."""
        super().leave_out(batch, starts, first)
        batch.targets[np.isin(batch.targets, self._markers)] = IGNORED
