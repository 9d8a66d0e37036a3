"""How well a model foretells tokens by where in its window they stand."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from microgpt.batches.batches import EvalWindows
from microgpt.model import GPT, IGNORED

from .loss import ratio

PARTS = 8  # of a window


class Stretch(NamedTuple):
    """Positions first .. last of the windows: mean loss in nats a token, of how many, and how far chance may
    have moved it, had other such windows been read (95 %); None: there is one window."""

    first: int
    last: int
    loss: float
    n_tokens: int
    half_width: float | None


def loss_by_position(
    model: GPT, windows: EvalWindows, batch_size: int, n_parts: int = PARTS
) -> list[Stretch]:
    """Mean loss of each part of the windows, counted from 0; of a part without a target it is NaN.

    Where a window holds several documents, a position is counted from the beginning of its window.
    """
    T = windows.seq_len
    edges = np.linspace(0, T, min(n_parts, T) + 1).astype(int)
    nats: list[np.ndarray] = []  # of each window and part
    counts: list[np.ndarray] = []
    for batch in windows.batches(batch_size):
        losses = model.token_losses(batch).astype(np.float64)
        nats += list(np.add.reduceat(losses, edges[:-1], axis=1))
        counts += list(np.add.reduceat((batch.targets != IGNORED).astype(np.int64), edges[:-1], axis=1))
    parts = zip(pairwise(edges), np.transpose(nats), np.transpose(counts), strict=True)
    return [_stretch(int(first), int(end) - 1, *sums) for (first, end), *sums in parts]


def _stretch(first: int, last: int, nats: np.ndarray, counts: np.ndarray) -> Stretch:
    n, found = int(counts.sum()), ratio(nats, counts)
    return Stretch(first, last, found.value if n else float("nan"), n, found.half_width)
