"""The course of one run's held-out loss, by what its learning rate has been and will be.

    L(s) = E + A S1^-alpha - G S2

S1 is the sum of the rates up to step s, how far the weights could go; S2 is what the fall of the rate has
set free so far, S2 = sum over i <= s of m_i, m_i = 0.999 m_(i-1) + (eta_(i-1) - eta_i), from where the rate
begins to fall.  So a loss that only waits for its rate to come down is told from one that has nothing left to
gain.

Source: Tissue et al. 2024 (arXiv 2408.11029).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .laws import interval

MEMORY = 0.999
EARLIEST = 0.1  # of the sum of rates so far: what was measured before is not yet on its course
FEWEST = 7  # measurements, for a course of four numbers
N_DRAWS = 300
_EXPONENTS = np.geomspace(0.05, 2, 25)
_SUBSETS = ([0, 1, 2], [0, 1], [0, 2], [0])  # of E, A and G


class Course(NamedTuple):
    """What was fitted, and what follows.  now, end: loss on the course at the last step and at the end of the
    schedule, with the interval of the latter.

    doubling: what as much training again would take off the present loss, were the rate as high, with its
    interval; all as a share of the loss.
    """

    alpha: float
    slope: float  # d L / d ln S1, with the fall of the rate taken out
    now: float
    end: float
    end_low: float
    end_high: float
    doubling: float
    doubling_low: float
    doubling_high: float
    n: int


def areas(rates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """S1 and S2 after each step, of the rate of each step."""
    falls = np.maximum(0.0, -np.diff(rates, prepend=rates[:1]))
    released, m = np.empty(len(rates)), 0.0
    for i, fall in enumerate(falls):
        m = MEMORY * m + fall
        released[i] = m
    return np.cumsum(rates), np.cumsum(released)


def course(rates: np.ndarray, steps: Sequence[int], losses: Sequence[float], seed: int = 0) -> Course | None:
    """The course of a run.

    Args:     rates: of each step up to the end of the schedule.  steps, losses: what was measured, after so
              many steps.
    Returns:  None: too little was measured.
    """
    S1, S2 = areas(rates)
    at, y = np.array(steps, int) - 1, np.array(losses, np.float64)
    if len(at):
        is_there = S1[at] >= EARLIEST * S1[at[-1]]
        at, y = at[is_there], y[is_there]
    if len(at) < FEWEST:
        return None
    found, fitted = _fit(S1[at], S2[at], y[None])
    n_free, last = len(y) - 4, S1[at[-1]]
    noise = np.sqrt(((y - fitted[0]) ** 2).sum() / n_free)
    rng = np.random.default_rng(seed)
    drawn, on_course = _fit(S1[at], S2[at], fitted + noise * rng.standard_normal((N_DRAWS, len(y))))
    now = float(fitted[0, -1])
    return Course(
        float(found.alpha[0]),
        float(-found.alpha[0] * found.A[0] * last ** -found.alpha[0]),
        now,
        float(found.loss(S1[-1], S2[-1])[0]),
        *interval(drawn.loss(S1[-1], S2[-1]), n_free),
        float(found.doubling(last)[0] / now),
        *interval(drawn.doubling(last) / on_course[:, -1], n_free),
        len(y),
    )


class _Numbers(NamedTuple):
    """Of K courses, (K,) each."""

    E: np.ndarray
    A: np.ndarray
    G: np.ndarray
    alpha: np.ndarray

    def loss(self, S1: float, S2: float) -> np.ndarray:
        return self.E + self.A * S1**-self.alpha - self.G * S2

    def doubling(self, S1: float) -> np.ndarray:
        """What twice the sum of rates would gain."""
        return self.A * S1**-self.alpha * (1 - 2**-self.alpha)


def _fit(S1: np.ndarray, S2: np.ndarray, y: np.ndarray) -> tuple[_Numbers, np.ndarray]:
    """The least sums of squares of K curves (K, n), and the courses.

    For each exponent the others are linear, and none may be below zero: tried are all of them, and those that
    leave one or two out.
    """
    K = len(y)
    best, numbers, fitted = np.full(K, np.inf), np.zeros((4, K)), np.zeros_like(y)
    scale = max(S2.max(), 1e-300)
    for alpha in _EXPONENTS:
        terms = np.stack([np.ones_like(S1), (S1 / S1[-1]) ** -alpha, -S2 / scale])
        for chosen in _SUBSETS:
            found = y @ np.linalg.pinv(terms[chosen])  # (K, terms)
            curve = found @ terms[chosen]
            rest = ((y - curve) ** 2).sum(1)
            is_better = (found >= 0).all(1) & (rest < best)
            values = np.zeros((4, K))
            values[chosen], values[3] = found.T, alpha
            best[is_better], fitted[is_better] = rest[is_better], curve[is_better]
            numbers[:, is_better] = values[:, is_better]
    E, A, G, alpha = numbers
    return _Numbers(E, A * S1[-1] ** alpha, G / scale, alpha), fitted
