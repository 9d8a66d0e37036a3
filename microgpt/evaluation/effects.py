"""What each of several factors does to a loss, where runs differ in many of them at once.

log loss = a constant + a part of each factor + chance: factors are taken to add up.  A factor of few values
has a part of its own for each; one of many a parabola in the logarithm of its value.  Intervals are of the
residual bootstrap, in multiples of the standard error (Efron & Tibshirani 1993, sections 9.5 and 12.5), wide
enough for all values of all factors that are asked about at once (the largest of them, Westfall & Young
1993), so that of twenty factors without effect none is found to have one, nineteen times in twenty.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from microgpt.core import random

FEW = 4  # so many values, or fewer, have a part each
ALIKE = 1.05  # numbers that are nearer than this are one: widths are rounded to what divides them
POINTS = 33  # of a parabola
LEAST_LEFT = 5  # runs more than numbers that are fitted
COVERED = 0.95
N_DRAWS = 4000
Value = float | str | None


class Factor(NamedTuple):
    """A factor as columns of a linear model.

    basis: (n, k), of each run.  values: at which its part is told; rows: (values, k), as runs of those have.
    """

    basis: np.ndarray
    values: list[float | str]
    rows: np.ndarray


class Effect(NamedTuple):
    """What a value makes of the loss against the reference: log of the ratio, below 0 better.

    low, high: an interval that holds for all values at once; the reference's own is 0 to 0.
    """

    values: list[float | str]
    change: np.ndarray
    low: np.ndarray
    high: np.ndarray


def merged(values: Sequence[Value], reference: Value = None) -> list[Value]:
    """Numbers that are nearly alike made one: the reference if it is among them, else the least of them."""
    numbers = sorted({float(one) for one in values if isinstance(one, (int, float))})
    names: dict[float, float] = {}
    least = math.nan
    for number in numbers:
        if isinstance(reference, (int, float)) and 1 / ALIKE < number / reference < ALIKE:
            names[number] = float(reference)
        else:
            least = least if number < least * ALIKE else number
            names[number] = least
    return [names[float(one)] if isinstance(one, (int, float)) else one for one in values]


def factor(values: Sequence[Value], reference: Value = None) -> Factor | None:
    """Of the values that runs have; None for a run that the factor has nothing to do with.

    reference: a value at which its part is to be told, too, if a parabola passes it.
    Returns: None where all are alike.
    """
    known = sorted({one for one in values if one is not None}, key=lambda one: (isinstance(one, str), one))
    if len(known) < 2:
        return None
    numbers = [one for one in known if isinstance(one, (int, float))]
    if len(known) <= FEW or len(numbers) < len(known):
        rows = np.eye(len(known))[:, 1:]
        basis = [np.zeros(len(known) - 1) if one is None else rows[known.index(one)] for one in values]
        return Factor(np.array(basis), known, rows)
    return _parabola(values, numbers, reference)


def _parabola(values: Sequence[Value], numbers: list[float], reference: Value) -> Factor:
    """In logarithms, unless there are numbers that have none."""
    low, high = numbers[0], numbers[-1]
    is_log = low > 0
    ends = np.log([low, high]) if is_log else np.array([low, high])

    def row(number: float) -> list[float]:
        z = 2 * ((math.log(number) if is_log else number) - ends[0]) / (ends[1] - ends[0]) - 1
        return [z, z * z]

    spaced = np.geomspace(low, high, POINTS) if is_log else np.linspace(low, high, POINTS)
    told = {*spaced[1:-1].tolist(), low, high}
    if isinstance(reference, (int, float)) and low <= reference <= high:
        told.add(float(reference))
    basis = [row(one) if isinstance(one, (int, float)) else [0.0, 0.0] for one in values]
    return Factor(np.array(basis), sorted(told), np.array([row(one) for one in sorted(told)]))


def effects(
    loss: Sequence[float],
    factors: Mapping[str, Factor],
    references: Mapping[str, float | str],
    n_draws: int = N_DRAWS,
    seed: int = 0,
) -> dict[str, Effect | str]:
    """The effect of each factor that has a reference, against it; or in words why that is not known.

    Args: loss: above 0, of n runs.  factors: all in which they differ.  references: values of those asked of.
    """
    design = np.hstack([np.ones((len(loss), 1)), *(one.basis for one in factors.values())])
    n, n_numbers = len(loss), int(np.linalg.matrix_rank(design))
    left = n - n_numbers
    if left < LEAST_LEFT:
        return dict.fromkeys(references, f"{n} runs for {n_numbers} numbers; it takes {LEAST_LEFT} more")
    starts = dict(
        zip(factors, np.cumsum([1, *(one.basis.shape[1] for one in factors.values())]), strict=False)
    )
    found: dict[str, Effect | str] = {}
    asked: dict[str, np.ndarray] = {}
    for name, reference in references.items():
        contrasts = _contrasts(factors[name], reference, starts[name], design.shape[1])
        if isinstance(contrasts, str):
            found[name] = contrasts
        elif not _is_told(contrasts, design):
            found[name] = "it changed only together with other settings"
        else:
            asked[name] = contrasts
    noise = _Noise(design, np.log(np.asarray(loss, np.float64)), left, n_draws, seed)
    for name, contrasts in asked.items():
        change, half = noise.of(contrasts, 1 - (1 - COVERED) / len(asked))
        found[name] = Effect(factors[name].values, change, change - half, change + half)
    return {name: found[name] for name in references}


def _contrasts(one: Factor, reference: float | str, start: int, width: int) -> np.ndarray | str:
    """Rows (values, columns of the design) whose product with what is fitted is the change from it."""
    if reference not in one.values:
        known = one.values if isinstance(one.values[0], str) else [f"{v:.3g}" for v in one.values]
        return f"its own value was not tried: {known[0]} to {known[-1]} were"
    rows = np.zeros((len(one.values), width))
    rows[:, start : start + one.rows.shape[1]] = one.rows - one.rows[one.values.index(reference)]
    return rows


def _is_told(contrasts: np.ndarray, design: np.ndarray) -> bool:
    """Whether the runs tell these contrasts from all else: they lie in the space of the design's rows."""
    apart = contrasts - contrasts @ np.linalg.pinv(design) @ design
    return float(np.abs(apart).max()) < 1e-6


class _Noise:
    """A linear model that was fitted, and how far chance moves what it says."""

    def __init__(self, design: np.ndarray, y: np.ndarray, left: int, n_draws: int, seed: int) -> None:
        self.inverse = np.linalg.pinv(design)
        self.fitted = self.inverse @ y
        error = y - design @ self.fitted
        own = np.einsum("nk,kn->n", design, self.inverse)  # how much of its own value each run decides
        free = own < 0.99  # a run that alone has a value lies on the curve, whatever chance did to it
        pool = error[free] / np.sqrt(1 - own[free])
        pool -= pool.mean()
        self.spread = math.sqrt(float(error @ error) / left)
        picks = random.uniform(random.key(seed, "effects"), n_draws * len(y)).reshape(n_draws, len(y))
        drawn = pool[(picks * len(pool)).astype(int)]
        self.moved = drawn @ self.inverse.T
        rest = drawn - self.moved @ design.T
        self.spreads = np.sqrt(np.square(rest).sum(axis=1) / left)

    def of(self, contrasts: np.ndarray, covered: float) -> tuple[np.ndarray, np.ndarray]:
        """Contrasts, and the half width of an interval that covers all of them so often."""
        errors = np.linalg.norm(contrasts @ self.inverse, axis=1)  # standard ones, in spreads
        apart = np.abs(self.moved @ contrasts.T)
        scaled = apart / np.where(errors > 0, errors, 1.0) / np.maximum(self.spreads, 1e-300)[:, None]
        times = float(np.quantile(scaled.max(axis=1), covered))
        return contrasts @ self.fitted, times * self.spread * errors
