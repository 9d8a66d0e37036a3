"""Two models on the same documents: how far apart they are, and how far chance moves that.

Most of what makes a document hard makes it hard for both, so the difference of two models is known much
better than either loss: documents are drawn again and again, with what both models lose on each (paired
bootstrap; Efron, Tibshirani 1993, chapter 8; Koehn 2004 for models of language).
"""

import math
from typing import NamedTuple

import numpy as np

from microgpt.common.errors import DataError

from .loss import Documents, standard_error
from .statistics import student_quantile

N_DRAWS = 10_000
N_CLUSTERS = 4096  # documents are drawn one by one up to so many, then in groups
_AT_ONCE = 1 << 20  # documents drawn at a time


class Side(NamedTuple):
    """One of the two: sums by document, and what makes it like the other or not.

    tokenizer, corpus: hashes.  policy: what stands before a token when it is scored, for people.
    """

    name: str
    documents: Documents
    tokenizer: str
    corpus: str
    policy: str


class Difference(NamedTuple):
    """Second less first, with the interval that holds the truth in 95 of 100 cases, and in how many of the
    draws the second is lower."""

    value: float
    low: float
    high: float
    share_lower: float

    @property
    def is_clear(self) -> bool:
        """Whether chance would hardly make as much of it."""
        return self.low > 0 or self.high < 0


class Comparison(NamedTuple):
    """Two sides on the documents that both were measured on.  loss: in nats per token; None: their tokens
    differ, or what stands before them."""

    n_documents: int
    bpb: Difference
    loss: Difference | None


def unlike(a: Side, b: Side) -> list[str]:
    """In what two sides differ besides their weights, for people."""
    return [
        *(
            [f"tokenizers differ: {a.tokenizer[:12]}, {b.tokenizer[:12]}"]
            if a.tokenizer != b.tokenizer
            else []
        ),
        *([f"corpora differ: {a.corpus[:12]}, {b.corpus[:12]}"] if a.corpus != b.corpus else []),
        *([f"the contexts of a token differ: {a.policy}; {b.policy}"] if a.policy != b.policy else []),
    ]


def compare(a: Side, b: Side, seed: int = 0, n_draws: int = N_DRAWS) -> Comparison:
    """How far apart they are.  The same to the last bit for equal sides and seeds.

    Raises: DataError: they were not measured on the same documents.
    """
    if len(a.documents.tokens) != len(b.documents.tokens):
        n, m = len(a.documents.tokens), len(b.documents.tokens)
        raise DataError(f"{a.name}: measured on {n} documents, {b.name} on {m}; name one text with --data")
    is_both = (a.documents.tokens > 0) & (b.documents.tokens > 0)
    one, other = (Documents(*(sums[is_both] for sums in side.documents)) for side in (a, b))
    if not is_both.any() or (one.bytes != other.bytes).any():
        raise DataError(
            f"{a.name} and {b.name} were not measured on the same documents; name one text with --data"
        )
    nats = other.nats - one.nats
    is_alike = not unlike(a, b)
    return Comparison(
        int(is_both.sum()),
        difference(nats / math.log(2), one.bytes, seed, n_draws),
        difference(nats, one.tokens, seed, n_draws) if is_alike else None,
    )


def difference(above: np.ndarray, below: np.ndarray, seed: int, n_draws: int = N_DRAWS) -> Difference:
    """sum(above) / sum(below), one of each a document, with its interval by the bootstrap.

    How many of its own standard errors a draw is from what it was drawn of: the interval goes as far as 95 of
    100 draws do (the symmetric bootstrap-t interval; Hall 1988, Journal of the Royal Statistical Society B
    50), and no less far than Student's distribution says, for draws of one document alone have no error.
    """
    above, below = _clustered(above, below)
    value, n = float(above.sum()) / float(below.sum()), len(above)
    drawn, errors = draws(above, below, seed, n_draws)
    half = 0.0
    if error := standard_error(above, below):
        has_error = errors > 0
        away = np.abs(drawn[has_error] - value) / errors[has_error]
        half = error * max(
            float(np.quantile(away, 0.95)) if len(away) else 0.0, student_quantile(n - 1, 0.975)
        )
    return Difference(value, value - half, value + half, float((drawn < 0).mean()))


def _clustered(above: np.ndarray, below: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums over groups of documents, where there are more documents than groups."""
    groups = np.arange(len(above)) % N_CLUSTERS
    return np.bincount(groups, above), np.bincount(groups, below)


def draws(above: np.ndarray, below: np.ndarray, seed: int, n_draws: int) -> tuple[np.ndarray, np.ndarray]:
    """The ratio of sums over as many documents, drawn anew with return, and its standard error (as of
    `loss.standard_error`), (n_draws,) each."""
    rng, n = np.random.default_rng(seed), len(above)
    ratios, errors = np.empty((2, n_draws))
    for first in range(0, n_draws, at_once := max(1, _AT_ONCE // n)):
        part = slice(first, min(first + at_once, n_draws))
        chosen = rng.integers(n, size=(part.stop - first, n))
        a, b = above[chosen], below[chosen]
        total = b.sum(1)
        ratios[part] = a.sum(1) / total
        rest = a - ratios[part, None] * b
        errors[part] = np.sqrt(n / max(1, n - 1) * (rest**2).sum(1)) / total
    return ratios, errors
