"""Quality on held-out windows: mean loss, how far chance moves it, and bits per byte, which compares across
tokenizers."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from microgpt.corpus.batches import IGNORED, EvalWindows
from microgpt.model import GPT

# What a person must know to compare bits per byte with those of others.
BPB_NOTE = (
    "bits per byte: the loss at markers such as <|end|> counts, but no bytes do for them, nor for the blank "
    "lines between paragraphs"
)
INTERVAL_NOTE = "+-: 95 % interval, had other such documents been held out"
QUANTILE_95 = 1.96  # standard errors on either side of the mean


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """`loss` in nats per token; `bpb` in bits per byte of text.

    error: the standard error of `loss`, had other documents of the same kind been held out; None: there is
    only one document.
    """

    loss: float
    bpb: float
    error: float | None = None


def evaluate(
    model: GPT,
    windows: EvalWindows,
    batch_size: int,
    stop: object = None,
    progress: Callable[[int], Any] = lambda n: None,
) -> Evaluation | None:
    """Measure the model on a fixed set of windows, a batch at a time.

    bpb = (sum of all token losses, markers such as <|end|> included) / (ln 2 * bytes of text)
    error: documents are drawn, not tokens, so the loss is a ratio of two sums over documents

    Args:     stop: once true, give up.  progress: hears of each batch how many windows it had.
    Returns:  None if stopped.
    """
    nats = 0.0
    of_documents = np.zeros((2, windows.n_all_documents))  # nats, and tokens
    for (ids, targets), owners in zip(windows.batches(batch_size), windows.owners(batch_size), strict=True):
        if stop:
            return None
        losses, is_scored = model.token_losses(ids, targets), targets != IGNORED
        nats += float(losses.sum(dtype=np.float64))
        np.add.at(of_documents[0], owners[is_scored], losses[is_scored])
        np.add.at(of_documents[1], owners[is_scored], 1)
        progress(len(ids))
    bpb = nats / math.log(2) / max(1, windows.n_bytes)
    return Evaluation(nats / windows.n_tokens, bpb, standard_error(*of_documents))


def standard_error(nats: np.ndarray, n_tokens: np.ndarray) -> float | None:
    """The standard error of sum(nats) / sum(n_tokens), one of each a document; those without tokens aside.

    A ratio r of two sums over n documents has the variance n / (n - 1) * sum((nats - r tokens)^2) / tokens^2
    (Cochran, Sampling Techniques, 1977, section 6.4).
    """
    is_scored = n_tokens > 0
    n, total = int(is_scored.sum()), float(n_tokens.sum())
    if n < 2:
        return None
    with np.errstate(all="ignore"):  # of a model whose losses are no numbers, this is none either
        rest = nats[is_scored] - nats.sum() / total * n_tokens[is_scored]
        return math.sqrt(n / (n - 1) * float((rest**2).sum())) / total


def with_interval(loss: float, error: float | None) -> str:
    """A loss for people, with the interval that holds it in 95 of 100 cases."""
    return f"{loss:.4f}" if error is None else f"{loss:.4f} +- {QUANTILE_95 * error:.4f}"
