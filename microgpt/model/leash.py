"""A leash: what holds a model near the distribution of another one, exactly and over the whole vocabulary."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Leash(NamedTuple):
    """strength * KL(model || other) nats is added to the loss at every scored target.

    logits: of the other model, (n, V), at some rows of the batch, by their numbers among B T.
    """

    strength: float
    logits: Callable[[np.ndarray], np.ndarray]


def divergence(logits: np.ndarray, lse: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """KL(p || q) = sum_v p (ln p - ln q) of each row, in nats, (N,), and its gradient by `logits`, (N, V),
    p (ln p - ln q - KL).

    Args: logits, others: (N, V), of p and q.  lse: of logits, (N,).
    Source: Kullback & Leibler 1951.
    """
    most = others.max(-1, keepdims=True)
    apart = (logits - lse[:, None]) - (others - most)
    apart += np.log(np.exp(others - most).sum(-1, keepdims=True))
    probs = np.exp(logits - lse[:, None])
    kl = (probs * apart).sum(-1)
    return kl, probs * (apart - kl[:, None])
