"""Quality on held-out windows: mean loss, how far chance moves it, and bits per byte, which compares across
tokenizers."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from microgpt.batches.batches import EvalWindows
from microgpt.core import arrays
from microgpt.model import GPT, IGNORED

from .statistics import student_quantile

# What a person must know to compare bits per byte with those of others.
BPB_NOTE = (
    "bits per byte count the loss at markers, but no bytes for markers or for blank lines between paragraphs"
)
INTERVAL_NOTE = "+- 95 % interval, had other such documents been held out"


class Documents(NamedTuple):
    """What was measured, summed over each document: nats, tokens scored, bytes of text that they stand for,
    and how many of them the model held most likely, (n_documents,) float64 each."""

    nats: np.ndarray
    tokens: np.ndarray
    bytes: np.ndarray
    right: np.ndarray


class Scored(NamedTuple):
    """Tokens of one batch that were scored, (n,) each: what they are, where in the stream they lie, in which
    document, their loss in nats, and whether the model held them most likely."""

    targets: np.ndarray
    places: np.ndarray
    owners: np.ndarray
    nats: np.ndarray
    is_right: np.ndarray


Observer = Callable[[Scored], None]


class Ratio(NamedTuple):
    """A ratio of two sums over documents.

    error: its standard error, had other documents of the same kind been drawn; None: there is only one.
    n_documents: those with anything in them.
    """

    value: float
    error: float | None
    n_documents: int

    @property
    def half_width(self) -> float | None:
        """How far the true ratio may be from `value`, in 95 of 100 cases."""
        return half_width(self.error, self.n_documents)


def ratio(above: np.ndarray, below: np.ndarray) -> Ratio:
    """sum(above) / sum(below), one of each a document."""
    n = int(((above != 0) | (below != 0)).sum())
    return Ratio(float(above.sum()) / max(float(below.sum()), 1.0), standard_error(above, below), n)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """`loss` in nats per token; `bpb` in bits per byte of text.

    error: the standard error of `loss`, had other documents of the same kind been held out; None: there is
    only one document.  n_documents: those it was measured on.  documents: the sums behind it.
    """

    loss: float
    bpb: float
    error: float | None = None
    n_documents: int = 0
    documents: Documents | None = None

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
    observers: Sequence[Observer] = (),
) -> Evaluation | None:
    """Measure the model on a fixed set of windows, a batch at a time.

    bpb = (sum of all token losses, markers such as <|end|> included) / (ln 2 * bytes of text)
    error: documents are drawn, not tokens, so the loss is a ratio of two sums over documents

    Args:     stop: once true, give up.  progress: hears of each batch how many windows it had.
              observers: see each batch's tokens one by one; without any, what is right is not counted.
    Returns:  None if stopped.
    """
    nats, n_rows = 0.0, batch_size
    sums = Documents(*np.zeros((len(Documents._fields), windows.n_all_documents)))
    for batch, places in zip(windows.batches(batch_size), windows.places(batch_size), strict=True):
        if stop:
            return None
        if len(batch.ids) != n_rows:  # its arrays are of other sizes, and would stay beside those of steps
            n_rows = len(batch.ids)
            arrays.release()
        if observers:
            losses, is_right = model.token_results(batch)
        else:
            losses = model.token_losses(batch)
            is_right = np.zeros(losses.shape, bool)
        is_scored = batch.targets != IGNORED
        nats += float(losses.sum(dtype=np.float64))
        targets, where = batch.targets[is_scored], places[is_scored]
        scored = Scored(targets, where, windows.owners(where), losses[is_scored], is_right[is_scored])
        add(sums, scored, windows.byte_lengths)
        for see in observers:
            see(scored)
        progress(len(losses))
    if n_rows != batch_size:
        arrays.release()
    bpb = nats / math.log(2) / max(1, windows.n_bytes)
    error = standard_error(sums.nats, sums.tokens)
    return Evaluation(nats / windows.n_tokens, bpb, error, windows.n_documents, sums)


def add(sums: Documents, scored: Scored, byte_lengths: np.ndarray) -> None:
    """Add tokens to the sums of their documents."""
    np.add.at(sums.nats, scored.owners, scored.nats)
    np.add.at(sums.tokens, scored.owners, 1)
    np.add.at(sums.bytes, scored.owners, byte_lengths[scored.targets])
    np.add.at(sums.right, scored.owners, scored.is_right)


def standard_error(above: np.ndarray, below: np.ndarray) -> float | None:
    """The standard error of sum(above) / sum(below), one of each a document; those without either aside.

    A ratio r of two sums over n documents has the variance
    n / (n - 1) * sum((above - r below)^2) / sum(below)^2  (Cochran, Sampling Techniques, 1977, section 6.4).
    """
    is_scored = (above != 0) | (below != 0)
    n, total = int(is_scored.sum()), float(below.sum())
    if n < 2 or not total:
        return None
    with np.errstate(all="ignore"):  # of a model whose losses are no numbers, this is none either
        rest = above[is_scored] - above.sum() / total * below[is_scored]
        return math.sqrt(n / (n - 1) * float((rest**2).sum())) / total


def half_width(error: float | None, n_documents: int) -> float | None:
    """Half of the 95 % interval around a mean whose standard error is estimated from so many documents, by
    Student's distribution."""
    if error is None or n_documents < 2:
        return None
    return error * student_quantile(n_documents - 1, 0.975)


def with_interval(loss: float, half_width: float | None) -> str:
    """A loss for people, with the interval around it, if that is known."""
    return f"{loss:.4f}" if half_width is None else f"{loss:.4f} +- {half_width:.4f}"
