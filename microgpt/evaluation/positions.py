"""How well a model foretells tokens by where in its window they stand."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from microgpt.batches.batches import EvalWindows
from microgpt.model import GPT, IGNORED

PARTS = 8  # of a window


class Stretch(NamedTuple):
    """Positions first .. last of the windows: mean loss in nats a token, and of how many."""

    first: int
    last: int
    loss: float
    n_tokens: int


def loss_by_position(
    model: GPT, windows: EvalWindows, batch_size: int, n_parts: int = PARTS
) -> list[Stretch]:
    """Mean loss of each part of the windows, counted from 0; of a part without a target it is NaN.

    Where a window holds several documents, a position is counted from the beginning of its window.
    """
    T = windows.seq_len
    nats, counts = np.zeros(T), np.zeros(T, np.int64)
    for batch in windows.batches(batch_size):
        nats += model.token_losses(batch).sum(0, dtype=np.float64)
        counts += (batch.targets != IGNORED).sum(0)
    edges = np.linspace(0, T, min(n_parts, T) + 1).astype(int)
    parts = [(a, b, nats[a:b].sum(), int(counts[a:b].sum())) for a, b in pairwise(edges)]
    return [Stretch(int(a), int(b) - 1, float(sums) / n if n else float("nan"), n) for a, b, sums, n in parts]
