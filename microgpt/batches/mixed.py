"""Several texts in one run, each with its share of the windows, to the window.

Shares hold from the first window on: after any number of them each text has had its share of these, give or
take one.  Which text a window is of is a function of its number alone, so nothing has to be remembered.
"""

from collections.abc import Sequence

import numpy as np

from microgpt.common.errors import ConfigError
from microgpt.model import Batch

from .batches import Batches

ROUND = 1000  # windows, after which texts follow on each other as before: shares are told to a thousandth
ENOUGH = 1e-6  # how far shares may miss 1 together


class MixedBatches(Batches):
    """Training batches whose windows are of several texts.  Each text has an order and epochs of its own.

    Args:   parts: batches of each text.  shares: of each in the windows; they add up to 1.
    Raises: ConfigError: shares that do not add up, or one below a thousandth.
    """

    def __init__(self, parts: Sequence[Batches], shares: Sequence[float], batch_size: int) -> None:
        self.parts, self.shares, self.batch_size = list(parts), list(shares), batch_size
        first = parts[0]
        self.seq_len, self.seed, self.packing, self.fill = (
            first.seq_len,
            first.seed,
            first.packing,
            first.fill,
        )
        self._order_of_parts = spread(shares)
        is_of = self._order_of_parts[:, None] == np.arange(len(parts))
        self._had = np.concatenate([np.zeros((1, len(parts)), np.int64), is_of.cumsum(0)])
        self.n_windows = round(first.n_windows * ROUND / int(self._had[-1, 0]))  # until the first is through

    def rows(self, first: int, n: int) -> Batch:
        """Windows first .. first + n - 1 of the run."""
        of = self._order_of_parts[np.arange(first, first + n) % ROUND]
        batches = {}
        for k in np.unique(of).tolist():
            begin = self._count(k, first)
            batches[k] = self.parts[k].rows(begin, self._count(k, first + n) - begin)
        ids = np.empty((n, self.seq_len), np.int32)
        targets, starts = np.empty_like(ids), np.zeros_like(ids)
        for k, batch in batches.items():
            ids[of == k], targets[of == k] = batch.ids, batch.targets
            if batch.starts is not None:
                starts[of == k] = batch.starts
        return Batch(ids, targets, starts=starts if starts.any() else None)

    def _count(self, part: int, n: int) -> int:
        """How many of the first n windows of the run are of a text."""
        rounds, rest = divmod(n, ROUND)
        return int(rounds * self._had[-1, part] + self._had[rest, part])


def spread(shares: Sequence[float]) -> np.ndarray:
    """The text of each window of a round, (ROUND,), every text evenly over the round."""
    if abs(sum(shares) - 1) > ENOUGH or min(shares) * ROUND < 1:
        told = " + ".join(f"{share:g}" for share in shares)
        raise ConfigError(f"shares {told}: expected numbers from {1 / ROUND:g} on that add up to 1")
    exact = np.array(shares) * ROUND
    counts = np.floor(exact + ENOUGH).astype(int)
    left = ROUND - counts.sum()
    counts[np.argsort(counts - exact, kind="stable")[:left]] += 1
    places = np.concatenate([(np.arange(count) + 0.5) / count for count in counts])
    texts = np.repeat(np.arange(len(shares)), counts)
    return texts[np.argsort(places, kind="stable")]
