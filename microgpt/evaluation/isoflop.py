"""Which size is best for a budget: of runs of equal work a parabola in log N, whose lowest point it is
(Hoffmann et al. 2022, arXiv 2203.15556, approach 2); and how that size, and its loss, go with the budget."""

from typing import NamedTuple

import numpy as np

from .laws import FLOP_OF_TOKEN, Law, Points, fit

SAME_BUDGET = 0.1  # in log C: runs nearer than that to the smallest of a group have one budget
FEWEST_OF_BUDGET = 4  # sizes; a parabola goes through three
FEWEST_BUDGETS = 4  # a law of three numbers goes through three


class Budget(NamedTuple):
    """The lowest point of a parabola: the work in FLOP, parameters, tokens and loss; of how many runs."""

    flop: float
    n_params: float
    tokens: float
    loss: float
    n_runs: int


class Frontier(NamedTuple):
    """How the best goes with the work C: N = coefficient C^exponent, and L(C) = E + A C^-alpha, `law`, which
    takes C for n_params."""

    budgets: list[Budget]
    coefficient: float
    exponent: float
    law: Law


def budgets_of(points: Points) -> list[Budget]:
    """The best size of each budget that was spent on four sizes or more; only those whose best lies between
    the smallest and the largest of them."""
    work = np.log(FLOP_OF_TOKEN * points.n_params * points.tokens)
    left, found = np.argsort(work), []
    while len(left):
        is_here = work[left] <= work[left[0]] + SAME_BUDGET
        here, left = points.where(left[is_here]), left[~is_here]
        if best := _lowest(here):
            found.append(best)
    return found


def _lowest(points: Points) -> Budget | None:
    """The lowest point of the parabola through runs of one budget; None: it has none among them."""
    if points.sizes.max() + 1 < FEWEST_OF_BUDGET:
        return None
    x = np.log(points.n_params)
    bend, slope, _ = (float(number) for number in np.polyfit(x - x.mean(), points.loss, 2))
    if bend <= 0 or not x.min() < (at := x.mean() - slope / (2 * bend)) < x.max():
        return None
    flop = float(np.exp(np.log(FLOP_OF_TOKEN * points.n_params * points.tokens).mean()))
    n_params = float(np.exp(at))
    loss = float(np.polyval(np.polyfit(x - x.mean(), points.loss, 2), at - x.mean()))
    return Budget(flop, n_params, flop / FLOP_OF_TOKEN / n_params, loss, len(points.loss))


def frontier(points: Points) -> Frontier | None:
    """How the best goes with the budget; None: there are too few budgets to tell."""
    found = budgets_of(points)
    if len(found) < FEWEST_BUDGETS:
        return None
    flop = np.array([one.flop for one in found])
    exponent, log_coefficient = np.polyfit(np.log(flop), np.log([one.n_params for one in found]), 1)
    law = fit(Points.of(flop, flop, [one.loss for one in found]), is_ray=True).law
    return Frontier(found, float(np.exp(log_coefficient)), float(exponent), law)
