"""Quality on held-out windows: mean loss, how far chance moves it, and bits per byte, which compares across
tokenizers."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from microgpt.batches.batches import EvalWindows
from microgpt.model import GPT, IGNORED

# What a person must know to compare bits per byte with those of others.
BPB_NOTE = (
    "bits per byte count the loss at markers, but no bytes for markers or for blank lines between paragraphs"
)
INTERVAL_NOTE = "+- 95 % interval, had other such documents been held out"


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """`loss` in nats per token; `bpb` in bits per byte of text.

    error: the standard error of `loss`, had other documents of the same kind been held out; None: there is
    only one document.  n_documents: those it was measured on.
    """

    loss: float
    bpb: float
    error: float | None = None
    n_documents: int = 0

    @property
    def half_width(self) -> float | None:
        """How far the true mean may be from `loss`, in 95 of 100 cases."""
        return half_width(self.error, self.n_documents)


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
    for batch, owners in zip(windows.batches(batch_size), windows.owners(batch_size), strict=True):
        if stop:
            return None
        losses, is_scored = model.token_losses(batch), batch.targets != IGNORED
        nats += float(losses.sum(dtype=np.float64))
        np.add.at(of_documents[0], owners[is_scored], losses[is_scored])
        np.add.at(of_documents[1], owners[is_scored], 1)
        progress(len(losses))
    bpb = nats / math.log(2) / max(1, windows.n_bytes)
    error = standard_error(*of_documents)
    return Evaluation(nats / windows.n_tokens, bpb, error, windows.n_documents)


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


def half_width(error: float | None, n_documents: int) -> float | None:
    """Half of the 95 % interval around a mean whose standard error is estimated from so many documents."""
    return None if error is None or n_documents < 2 else error * student_975(n_documents - 1)


def student_975(degrees: int) -> float:
    """What a variable of Student's distribution stays below in 97.5 of 100 cases, to within 1 %.

    From three degrees of freedom on by the expansion around the normal's (Abramowitz, Stegun 26.7.5).
    """
    if degrees < 3:
        return (12.706, 4.303)[degrees - 1]
    z = 1.959964
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + sum(term / degrees**i for i, term in enumerate(terms, 1))


def with_interval(loss: float, half_width: float | None) -> str:
    """A loss for people, with the interval around it, if that is known."""
    return f"{loss:.4f}" if half_width is None else f"{loss:.4f} +- {half_width:.4f}"
