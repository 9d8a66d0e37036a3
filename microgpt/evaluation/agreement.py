"""How far raters agree beyond chance: kappas by statsmodels, with intervals of 95 %.

1: always, 0: as often as chance would have it.  Two raters: Cohen 1960, with weights for ordered marks Cohen
1968; more: Fleiss 1971, which for two raters is Scott's pi and not Cohen's kappa.
"""

import importlib
import math
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from microgpt.common.errors import MicrogptError

from .statistics import student_quantile

Marks = Sequence[int] | np.ndarray
LINEAR, QUADRATIC = "linear", "quadratic"  # how much marks count that are some steps apart


class Kappa(NamedTuple):
    """Agreement beyond chance, its interval, and what it rests on.

    Not a number where all marks are the same, for then nothing could disagree.
    """

    value: float
    low: float
    high: float
    n_items: int
    n_raters: int


def cohen(table: np.ndarray, weights: str | None = None) -> Kappa:
    """Of two raters, from how often the first gave mark i where the second gave j, (k, k).

    weights: LINEAR or QUADRATIC in the steps between marks; None: any difference counts the same.
    """
    table = np.asarray(table, float)
    n = round(table.sum())
    if _is_settled(table):
        return Kappa(math.nan, math.nan, math.nan, n, 2)
    with np.errstate(all="ignore"):  # of its test of no agreement, which nobody asks for
        found = _inter_rater().cohens_kappa(table, wt=weights)
    low, high = max(-1.0, float(found.kappa_low)), min(1.0, float(found.kappa_upp))
    return Kappa(float(found.kappa), low, high, n, 2)


def _is_settled(table: np.ndarray) -> bool:
    """Whether both raters gave one and the same mark to all."""
    return bool(np.diag(table).max() == table.sum())


def table_of(first: Marks, second: Marks, k: int) -> np.ndarray:
    """How often the marks 0 .. k-1 of two raters fell together, (k, k)."""
    table = np.zeros((k, k))
    np.add.at(table, (np.asarray(first), np.asarray(second)), 1)
    return table


def fleiss(counts: np.ndarray) -> Kappa:
    """Of several raters, from how many of them gave each item each mark, (n items, k marks).

    All items have as many raters.  The interval is by the jackknife over items (Tukey 1958), so it is about
    other items of the kind.
    """
    counts = np.asarray(counts, float)
    n_raters = round(counts[0].sum())
    if np.count_nonzero(counts.sum(0)) <= 1:
        return Kappa(math.nan, math.nan, math.nan, len(counts), n_raters)
    of = _inter_rater().fleiss_kappa
    return jackknife(lambda rows: float(of(rows)), counts, n_raters)


def mean_weighted(marks: np.ndarray, k: int, weights: str = QUADRATIC) -> Kappa:
    """The mean over pairs of raters of their weighted kappa, from marks 0 .. k-1, (n items, raters).

    Pairs in which nothing could disagree are left out.  The interval is by the jackknife over items.
    """

    def mean(rows: np.ndarray) -> float:
        tables = [table_of(rows[:, i], rows[:, j], k) for i, j in combinations(range(rows.shape[1]), 2)]
        found = [_plain(table, weights) for table in tables]
        known = [value for value in found if not math.isnan(value)]
        return float(np.mean(known)) if known else math.nan

    return jackknife(mean, np.asarray(marks), marks.shape[1])


def _plain(table: np.ndarray, weights: str) -> float:
    """Weighted kappa without its interval."""
    if _is_settled(table):
        return math.nan
    return float(_inter_rater().cohens_kappa(table, wt=weights, return_results=False))


def jackknife(of: Callable[[np.ndarray], float], rows: np.ndarray, n_raters: int) -> Kappa:
    """A kappa of items (n, ...), with its interval by leaving out one item after the other."""
    n, value = len(rows), of(rows)
    if n < 3 or math.isnan(value):
        return Kappa(value, -1.0, 1.0, n, n_raters)
    without = np.array([of(np.delete(rows, i, 0)) for i in range(n)])
    without = np.where(np.isnan(without), value, without)
    error = math.sqrt((n - 1) / n * float(np.square(without - without.mean()).sum()))
    half = error * student_quantile(n - 1, 0.975)
    return Kappa(value, max(-1.0, value - half), min(1.0, value + half), n, n_raters)


def _inter_rater() -> Any:
    """The statsmodels module that counts.  Raises: MicrogptError: it is not installed."""
    try:
        return importlib.import_module("statsmodels.stats.inter_rater")
    except ImportError as error:
        raise MicrogptError(
            "agreement of raters is counted by statsmodels, which is not installed; pip install "
            "microgpt-cpu[stats]"
        ) from error
