"""What raters say of two models: which they prefer, how they mark them, how far they agree.

A pair counts once, however many judged it: for the model that more of its raters prefer.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from .agreement import Kappa, cohen, fleiss, mean_weighted, table_of
from .judgements import MARKS, RUBRIC, SIDES, TIE, Judgement
from .statistics import Share, share, sign_test, student_quantile

ENOUGH_PAIRS, ENOUGH_ITEMS, ENOUGH_RATERS = 50, 100, 3  # for a preference; for agreement
CHOICES = ("a", TIE, "b")  # in order, as marks 0 to 2
CLEAR = 0.05  # a chance below this is taken for none


class Preference(NamedTuple):
    """Pairs that were decided for either model, those that were not, and what that says of the second one."""

    wins_a: int
    wins_b: int
    ties: int

    @property
    def n(self) -> int:
        """Pairs in all."""
        return sum(self)

    @property
    def share_b(self) -> Share:
        """Of the pairs that were decided, those for the second model, with Wilson's interval."""
        return share(self.wins_b, self.wins_a + self.wins_b)

    @property
    def p(self) -> float:
        """The exact sign test, ties left out."""
        return sign_test(self.wins_a, self.wins_b)

    @property
    def is_enough(self) -> bool:
        """Whether there are pairs enough to speak of a preference."""
        return self.n >= ENOUGH_PAIRS

    @property
    def better(self) -> str | None:
        """a or b, if chance would hardly prefer it so often; None: neither, or there are too few pairs."""
        if not self.is_enough or self.p >= CLEAR:
            return None
        return "a" if self.wins_a > self.wins_b else "b"


class Marks(NamedTuple):
    """Mean marks of both models by one rule of the rubric, over pairs that have both; second less first with
    its interval, not a number for a single pair; and how far raters agree on marks, if several gave them."""

    n_pairs: int
    a: float
    b: float
    difference: float
    low: float
    high: float
    agreement: Kappa | None


class Verdict(NamedTuple):
    """All that files of judgements say.

    models:     what both are called.
    raters:     by name, how many pairs each judged.
    preference: over pairs, and the same by category.
    first:      of judgements that prefer one answer, those that prefer the one that stood first.
    kappas:     Cohen's, of each two raters, on the pairs that both judged.
    fleiss:     of all raters, on the pairs that all judged; None: of one rater, or none in common.
    marks:      by rule of the rubric, those that were marked.
    """

    models: tuple[str, str]
    raters: dict[str, int]
    preference: Preference
    categories: dict[str, Preference]
    first: Share
    kappas: dict[tuple[str, str], Kappa]
    fleiss: Kappa | None
    marks: dict[str, Marks]

    @property
    def is_agreement_enough(self) -> bool:
        """Whether there are items and raters enough to speak of agreement."""
        return self.fleiss is not None and (
            self.fleiss.n_items >= ENOUGH_ITEMS and self.fleiss.n_raters >= ENOUGH_RATERS
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        of = self.preference
        return {
            "models": list(self.models),
            "raters": self.raters,
            "preference": of._asdict() | _of_share(of.share_b) | {"p": of.p, "is_enough": of.is_enough},
            "better": of.better,
            "categories": {name: one._asdict() for name, one in self.categories.items()},
            "first_shown": _of_share(self.first),
            "kappas": {" ".join(names): _of_kappa(one) for names, one in self.kappas.items()},
            "fleiss": self.fleiss and _of_kappa(self.fleiss),
            "is_agreement_enough": self.is_agreement_enough,
            "marks": {
                name: {key: _number(value) for key, value in one._asdict().items() if key != "agreement"}
                | {"agreement": one.agreement and _of_kappa(one.agreement)}
                for name, one in self.marks.items()
            },
        }


def _number(value: float) -> float | None:
    """JSON has no number for what is none."""
    return None if math.isnan(value) else value


def _of_share(one: Share) -> dict[str, Any]:
    return {"share": one.value, "low": one.low, "high": one.high, "of": one.of}


def _of_kappa(one: Kappa) -> dict[str, Any]:
    return {name: _number(value) for name, value in one._asdict().items()}


def verdict(judgements: Sequence[Judgement]) -> Verdict:
    """Count judgements of two models, at least one."""
    by_pair = _by_pair(judgements)
    winners = {pair: _winner(of_pair) for pair, of_pair in by_pair.items()}
    categories = dict.fromkeys(of_pair[0].category for of_pair in by_pair.values())
    decided = [one for one in judgements if one.choice != TIE]
    raters = Counter(one.rater for one in judgements)
    choices = {(one.pair, one.rater): CHOICES.index(one.choice) for one in judgements}
    return Verdict(
        judgements[0].models,
        dict(sorted(raters.items())),
        _counted(winners.values()),
        {
            name: _counted(winners[pair] for pair, of in by_pair.items() if of[0].category == name)
            for name in categories
        },
        share(sum(one.choice == one.first for one in decided), len(decided)),
        _cohens(choices, sorted(raters)),
        _fleiss(choices, sorted(raters)),
        {name: found for name in RUBRIC if (found := _marks(by_pair, name, sorted(raters)))},
    )


def preference(judgements: Sequence[Judgement]) -> Preference:
    """Which model people prefer, alone."""
    return _counted(map(_winner, _by_pair(judgements).values()))


def _by_pair(judgements: Sequence[Judgement]) -> dict[int, list[Judgement]]:
    """In the order of the pairs."""
    found: dict[int, list[Judgement]] = {}
    for one in sorted(judgements, key=lambda one: one.pair):
        found.setdefault(one.pair, []).append(one)
    return found


def _counted(winners: Iterable[str]) -> Preference:
    """Pairs by who won them: a, b or tie."""
    counts = Counter(winners)
    return Preference(counts["a"], counts["b"], counts[TIE])


def _winner(of_pair: Sequence[Judgement]) -> str:
    """Whom more of a pair's raters prefer."""
    votes = Counter(one.choice for one in of_pair)
    return TIE if votes["a"] == votes["b"] else "a" if votes["a"] > votes["b"] else "b"


def _in_common(choices: dict[tuple[int, str], int], raters: Sequence[str]) -> np.ndarray:
    """Marks of the pairs that all of some raters judged, (n, raters)."""
    pairs = sorted({pair for pair, _ in choices})
    rows = [[choices.get((pair, rater)) for rater in raters] for pair in pairs]
    complete = [row for row in rows if None not in row]
    return np.array(complete, int).reshape(len(complete), len(raters))


def _cohens(choices: dict[tuple[int, str], int], raters: Sequence[str]) -> dict[tuple[str, str], Kappa]:
    found = {}
    for names in combinations(raters, 2):
        both = _in_common(choices, names)
        if len(both):
            found[names] = cohen(table_of(both[:, 0], both[:, 1], len(CHOICES)))
    return found


def _fleiss(choices: dict[tuple[int, str], int], raters: Sequence[str]) -> Kappa | None:
    marks = _in_common(choices, raters)
    if len(raters) < 2 or not len(marks):
        return None
    return fleiss(np.stack([(marks == k).sum(1) for k in range(len(CHOICES))], 1))


def _marks(by_pair: dict[int, list[Judgement]], name: str, raters: Sequence[str]) -> Marks | None:
    """By one rule of the rubric; None: no pair has marks of both answers."""
    of_items = {
        (2 * pair + SIDES.index(side), one.rater): one.marks[f"{name}_{side}"] - MARKS[0]
        for pair, of_pair in by_pair.items()
        for one in of_pair
        for side in SIDES
        if f"{name}_{side}" in one.marks
    }
    means: dict[int, list[int]] = {}
    for (item, _), mark in of_items.items():
        means.setdefault(item, []).append(mark + MARKS[0])
    both = [pair for pair in by_pair if 2 * pair in means and 2 * pair + 1 in means]
    if not both:
        return None
    a, b = (np.array([np.mean(means[2 * pair + side]) for pair in both]) for side in (0, 1))
    common = _in_common(of_items, raters) if len(raters) > 1 else np.zeros((0, 1), int)
    agreement = mean_weighted(common, len(MARKS)) if len(common) else None
    return Marks(len(both), float(a.mean()), float(b.mean()), *mean_difference(b - a), agreement)


def mean_difference(differences: np.ndarray) -> tuple[float, float, float]:
    """The mean of differences of pairs, and its interval by Student's distribution."""
    n, mean = len(differences), float(differences.mean())
    if n < 2:
        return mean, math.nan, math.nan
    half = student_quantile(n - 1, 0.975) * float(differences.std(ddof=1)) / math.sqrt(n)
    return mean, mean - half, mean + half
