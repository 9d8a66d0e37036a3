"""Do the intervals of `microgpt judge` hold the truth as often as they say?

    python -m benchmarks.judges [--trials N]

Raters are simulated of whom it is known how far they agree and what sways them.  An item has a true mark; a
rater sees it with a probability of their own and otherwise draws a mark by a bias of their own, so the kappas
of all such items follow by counting.  Of preferences, raters lean to the answer that stands first.  Each
trial judges some items, and it is counted how often the interval holds the truth: intervals of 95 % should do
so in 93 to 97 % of 1,000 trials (the standard error of that share is 0.7 %).
"""

import argparse
from collections.abc import Callable
from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy.stats import binom

from microgpt.common.command import run_command
from microgpt.evaluation.agreement import QUADRATIC, cohen, fleiss, mean_weighted, table_of
from microgpt.evaluation.judgements import Judgement
from microgpt.evaluation.preference import mean_difference, preference

SEES = (0.85, 0.75, 0.65)  # how often each of three raters sees the true mark
TRUE = np.array([0.45, 0.2, 0.35])  # how often each mark is the true one: first better, tie, second
BIASES = np.array([[0.6, 0.2, 0.2], [0.3, 0.4, 0.3], [0.2, 0.2, 0.6]])  # what each draws by otherwise
STARS = np.array([0.1, 0.2, 0.3, 0.25, 0.15])  # the same of marks 1 to 5, without bias
N_ITEMS = 120


class Coverage(NamedTuple):
    """How often an interval held the truth."""

    name: str
    truth: float
    share: float
    mean: float


def marks(rng: np.random.Generator, true: np.ndarray, biases: np.ndarray, n: int) -> np.ndarray:
    """What the raters say of n items, (n, raters)."""
    items = rng.choice(len(true), n, p=true)
    columns = [
        np.where(rng.random(n) < sees, items, rng.choice(len(true), n, p=bias))
        for sees, bias in zip(SEES, biases, strict=True)
    ]
    return np.stack(columns, 1)


def joint(first: int, second: int, true: np.ndarray, biases: np.ndarray) -> np.ndarray:
    """How often two raters say i and j, (k, k)."""
    k = len(true)
    says = [SEES[r] * np.eye(k) + (1 - SEES[r]) * biases[r] for r in (first, second)]  # (true, said)
    return np.einsum("t,ti,tj->ij", true, *says)


def true_cohen(table: np.ndarray, weights: np.ndarray) -> float:
    """Weighted kappa of a table of probabilities, by its definition: 1 - disagreement / that by chance."""
    by_chance = np.outer(table.sum(1), table.sum(0))
    return float(1 - (weights * table).sum() / (weights * by_chance).sum())


def true_fleiss(true: np.ndarray, biases: np.ndarray) -> float:
    """Of all raters, from the probabilities of what they say."""
    tables = [joint(i, j, true, biases) for i, j in combinations(range(len(SEES)), 2)]
    agreed = np.mean([np.trace(table) for table in tables])
    share = np.mean([table.sum(axis) for table in tables for axis in (0, 1)], 0)
    return float((agreed - (share**2).sum()) / (1 - (share**2).sum()))


def steps(k: int, power: int) -> np.ndarray:
    """Disagreement of marks by their distance, (k, k)."""
    i = np.arange(k)
    return (np.abs(i[:, None] - i) ** power).astype(float) if power else 1 - np.eye(k)


def of_cohen(rng: np.random.Generator) -> tuple[float, float, float]:
    """Two raters on three marks."""
    said = marks(rng, TRUE, BIASES, N_ITEMS)
    found = cohen(table_of(said[:, 0], said[:, 1], 3))
    return found.value, found.low, found.high


def of_fleiss(rng: np.random.Generator) -> tuple[float, float, float]:
    """Three raters on three marks."""
    said = marks(rng, TRUE, BIASES, N_ITEMS)
    found = fleiss(np.stack([(said == mark).sum(1) for mark in range(3)], 1))
    return found.value, found.low, found.high


def of_weighted(rng: np.random.Generator) -> tuple[float, float, float]:
    """Three raters on marks 1 to 5."""
    said = marks(rng, STARS, np.tile(STARS, (3, 1)), N_ITEMS)
    found = mean_weighted(said, 5, QUADRATIC)
    return found.value, found.low, found.high


BETTER, LEANS, RIGHT = (
    0.6,
    0.2,
    0.8,
)  # pairs of which B is better; votes for what stands first; of the rest, right


def of_preference(rng: np.random.Generator) -> tuple[float, float, float]:
    """Three raters who lean to the first answer, their judgements counted as those of files are."""
    found = preference(judged(rng, N_ITEMS)).share_b
    return found.value, found.low, found.high


def judged(rng: np.random.Generator, n: int) -> list[Judgement]:
    """Judgements of n pairs by three raters, whose answers stand as chance has it."""
    sides, found = "ab", []
    for pair in range(n):
        better = int(rng.random() < BETTER)
        for rater in range(3):
            first = int(rng.integers(2))
            sees = better if rng.random() < RIGHT else 1 - better
            choice = first if rng.random() < LEANS else sees
            texts = "", "", "", "", "x", "y", sides[first], str(rater), sides[choice]
            found.append(Judgement(pair, *texts, {}))
    return found


def true_preference() -> float:
    """How often most of three raters are for B."""
    of_better, of_worse = ((1 - LEANS) * p + LEANS / 2 for p in (RIGHT, 1 - RIGHT))
    return float(BETTER * binom.sf(1, 3, of_better) + (1 - BETTER) * binom.sf(1, 3, of_worse))


def of_marks(rng: np.random.Generator) -> tuple[float, float, float]:
    """Mean marks of B less those of A, three raters each."""
    a = marks(rng, STARS, np.tile(STARS, (3, 1)), N_ITEMS).mean(1)
    b = marks(rng, STARS[::-1], np.tile(STARS, (3, 1)), N_ITEMS).mean(1)
    return mean_difference(b - a)


def true_marks() -> float:
    """The difference of the means of all such marks."""
    levels = np.arange(5)
    return float(np.mean([sees * (levels @ STARS[::-1] - levels @ STARS) for sees in SEES]))


def true_weighted() -> float:
    """The mean over pairs of raters."""
    tables = [joint(i, j, STARS, np.tile(STARS, (3, 1))) for i, j in combinations(range(3), 2)]
    return float(np.mean([true_cohen(table, steps(5, 2)) for table in tables]))


KINDS: dict[str, tuple[Callable[[], float], Callable[[np.random.Generator], tuple[float, float, float]]]] = {
    "Cohen's kappa": (lambda: true_cohen(joint(0, 1, TRUE, BIASES), steps(3, 0)), of_cohen),
    "Fleiss' kappa": (lambda: true_fleiss(TRUE, BIASES), of_fleiss),
    "weighted kappa": (true_weighted, of_weighted),
    "preference": (true_preference, of_preference),
    "marks": (true_marks, of_marks),
}


def coverage(name: str, n_trials: int, seed: int = 0) -> Coverage:
    """How often the interval of a kind holds the truth."""
    truth, of = KINDS[name][0](), KINDS[name][1]
    found = np.array([of(np.random.default_rng([seed, trial])) for trial in range(n_trials)])
    held = (found[:, 1] <= truth) & (truth <= found[:, 2])
    return Coverage(name, truth, float(held.mean()), float(found[:, 0].mean()))


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    flags = argparse.ArgumentParser(prog="benchmarks.judges", description=__doc__)
    flags.formatter_class = argparse.RawDescriptionHelpFormatter
    flags.add_argument(
        "--trials", type=int, default=1000, metavar="COUNT", help="of each kind [default 1000]"
    )
    args = flags.parse_args(argv)
    print(f"{'':16}{'truth':>8}{'mean':>8}{'held':>8}   of {args.trials:,} trials of {N_ITEMS} items")
    is_good = True
    for name in KINDS:
        one = coverage(name, args.trials)
        is_good &= 0.93 <= one.share <= 0.97
        print(f"{name:16}{one.truth:8.3f}{one.mean:8.3f}{one.share:8.1%}", flush=True)
    return 0 if is_good else 1


if __name__ == "__main__":
    run_command(main)
