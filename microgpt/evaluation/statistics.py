"""How far chance moves counts: of right answers, of preferences, of two models on the same questions.

Intervals are of 95 %.  None of them leaves [0, 1], and none shrinks to nothing where all answers are alike.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

NORMAL_95 = 1.959963984540054  # 95 of 100 draws of a normal distribution are no more deviations from its mean


class Share(NamedTuple):
    """So many of so many, with Wilson's interval of the true share (Wilson 1927)."""

    n: int
    of: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share itself; 0 of 0 is 0."""
        return self.n / max(1, self.of)


def share(n: int, of: int) -> Share:
    """`n` of `of` and how far chance moves that; of none nothing is known: 0 to 1."""
    if not of:
        return Share(0, 0, 0.0, 1.0)
    z2 = NORMAL_95**2
    middle = (n + z2 / 2) / (of + z2)
    half = NORMAL_95 * math.sqrt(n * (of - n) / of + z2 / 4) / (of + z2)
    return Share(n, of, max(0.0, middle - half) if n else 0.0, min(1.0, middle + half) if n < of else 1.0)


def sign_test(wins: int, losses: int) -> float:
    """How likely a fair coin is to fall as unevenly, exactly and both ways.  Ties are no falls: leave them
    out and say how many there were.  1 where there is nothing else."""
    from scipy.special import bdtr  # a large package, which --help does not need

    return min(1.0, 2 * float(bdtr(min(wins, losses), wins + losses, 0.5)))


def student_quantile(n_free: float, share: float) -> float:
    """What this share of Student's distribution lies below, of n_free degrees of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(n_free, share))


class Paired(NamedTuple):
    """Two of which each was right or wrong at the same items: how often both were, only one, or neither."""

    both: int
    only_first: int
    only_second: int
    neither: int

    @property
    def of(self) -> int:
        """Items in all."""
        return sum(self)

    @property
    def p(self) -> float:
        """McNemar's test, exact: whether they differ by more than chance.  Items at which both did alike say
        nothing about that, so it is the sign test of the others (McNemar 1947)."""
        return sign_test(self.only_first, self.only_second)


def paired(first: Sequence[bool], second: Sequence[bool]) -> Paired:
    """Count what each did at the same items."""
    counts = [[0, 0], [0, 0]]
    for a, b in zip(first, second, strict=True):
        counts[bool(a)][bool(b)] += 1
    return Paired(counts[1][1], counts[1][0], counts[0][1], counts[0][0])


class Gain(NamedTuple):
    """Share of the second less share of the first, with its interval."""

    value: float
    low: float
    high: float


def gain(counts: Paired) -> Gain:
    """By how much the second is right more often than the first, on the same items.

    Interval: Newcombe 1998, Statistics in Medicine 17, 2635, method 10: Wilson's intervals of both shares,
    put together as far as the two go along with each other.
    """
    n = counts.of
    if not n:
        return Gain(0.0, -1.0, 1.0)
    a = share(counts.both + counts.only_first, n)
    b = share(counts.both + counts.only_second, n)
    together = _correlation(counts)

    def reach(one: float, other: float) -> float:
        return math.sqrt(max(0.0, one * one - 2 * together * one * other + other * other))

    value = b.value - a.value
    low = value - reach(b.value - b.low, a.high - a.value)
    return Gain(value, low, value + reach(b.high - b.value, a.value - a.low))


def _correlation(counts: Paired) -> float:
    """Phi of the table of four, its numerator held back by half the items where it is above zero."""
    both, first, second, neither = counts
    rows = (both + first) * (second + neither) * (both + second) * (first + neither)
    if not rows:
        return 0.0
    above = both * neither - first * second
    return (max(above - counts.of / 2, 0.0) if above > 0 else above) / math.sqrt(rows)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of several tests, raised so that one below 0.05 is chance in at most 5 of 100 such families
    of tests (Holm 1979)."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    raised, most = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        most = max(most, min(1.0, (len(p_values) - rank) * p_values[i]))
        raised[i] = most
    return raised
