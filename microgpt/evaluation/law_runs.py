"""Which runs may show a law, and which would have to be trained for one.

A law that is fitted to runs which cannot show it has numbers all the same; so it is refused, each time with
what is wrong and what would cure it.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from microgpt.common.words import counted, format_amount

from .laws import FEWEST_SIZES, Points

LEAST_SPAN = 4  # the largest size is so many times the smallest, or more
LEAST_SPREAD = 2  # tokens at one size, beside those that lie on a ray, for a law of two terms
# Up to here text that comes again is worth nearly as much as new (Muennighoff et al. 2023, arXiv 2305.16264).
MOST_PASSES = 4
MOST_RATE = 0.5  # of the peak, in the last step of a run that has come down


class Showed(NamedTuple):
    """What a run showed.  loss: bits per byte of held-out text, or whatever a table has.

    step, max_steps: how far its schedule has come; 0: not known.  rate: of its last step, a share of the
    peak; 0: not known.  passes: over its text; None: not known.  corpus, tokenizer: hashes.  tok_per_s: as
    it was trained, 0: not known.  parent: whose weights it began with; "": random ones.  counts: whether it
    began with those of all pairs of tokens, which are not among its tokens.  shallow: whether it trained its
    first blocks alone at first.
    """

    name: str
    n_params: float
    tokens: float
    loss: float
    step: int = 0
    max_steps: int = 0
    rate: float = 0.0
    passes: float | None = None
    corpus: str = ""
    tokenizer: str = ""
    tok_per_s: float = 0.0
    machine: str = ""
    parent: str = ""
    counts: bool = False
    shallow: bool = False


def points_of(runs: Sequence[Showed]) -> Points:
    """What they showed, as a law takes it."""
    return Points.of(*zip(*((run.n_params, run.tokens, run.loss) for run in runs), strict=True))


def refusals(runs: Sequence[Showed], is_ray: bool | None = None) -> list[str]:
    """Why these runs cannot show a law, a line each; none: they can.

    Args: is_ray: the law that is asked for, that along a ray or that of two terms; None: either.
    """
    # Before all else, for laws take logarithms of tokens.
    if idle := [run for run in runs if not run.tokens]:
        return [f"no step done: {_named(idle)}; go on with train --resume {idle[0].name}, or leave it out"]
    checks = (
        _unfinished,
        _without_fall,
        _of_parents,
        _of_other_starts,
        _of_other_depths,
        _of_other_tokens,
        _of_other_text,
        _often_repeated,
    )
    found = [check(runs) for check in checks]
    return [line for line in [*found, *_of_points(points_of(runs), is_ray)] if line]


# ------------------------------------------------------------------------------------------ single runs


def _unfinished(runs: Sequence[Showed]) -> str:
    """The learning rate is still high in mid-schedule, and so is the loss."""
    those = [run for run in runs if run.step < run.max_steps]
    if not those:
        return ""
    one = those[0]
    return (
        f"in mid-schedule: {_named(those)} (step {one.step:,} of {one.max_steps:,}); its rate has not come "
        f"down, and nor has its loss; finish it with train --resume {one.name}, or leave it out"
    )


def _without_fall(runs: Sequence[Showed]) -> str:
    """A run of few steps may end before its rate has come down, and then its loss has not either."""
    those = [run for run in runs if run.step >= run.max_steps and run.rate > MOST_RATE]
    if not those:
        return ""
    one = those[0]
    return (
        f"too short for its schedule: {_named(those)} ({counted(one.step, 'step')}, the last at "
        f"{one.rate:.0%} of its peak rate); its rate has not come down, and nor has its loss; train more "
        "steps, to a --min-lr below --lr, or leave it out"
    )


def _of_parents(runs: Sequence[Showed]) -> str:
    """What their weights had learned before, their own tokens do not count."""
    those = [run for run in runs if run.parent]
    if not those:
        return ""
    return (
        f"began with the weights of another run: {_named(those)} (with those of {those[0].parent}); its own "
        "tokens are not all that it learned from; train it from nothing, or leave it out"
    )


def _of_other_starts(runs: Sequence[Showed]) -> str:
    return _differing(
        runs,
        lambda run: run.counts,
        "began with the counts of all pairs of tokens, of a text that others met in their steps alone; train "
        "all with the same --bigram-passes",
    )


def _of_other_depths(runs: Sequence[Showed]) -> str:
    return _differing(
        runs,
        lambda run: run.shallow,
        "trained its first blocks alone at first, so that a token cost and taught less than in others; train "
        "all with the same --shallow-blocks",
    )


def _differing(runs: Sequence[Showed], beginning: Callable[[Showed], object], what: str) -> str:
    """What is told of the first run that did something at its beginning, where not all did the same."""
    if len({beginning(run) for run in runs}) == 1:
        return ""
    one = next(run for run in runs if beginning(run))
    return f"beginnings differ: {one.name} {what}"


def _of_other_tokens(runs: Sequence[Showed]) -> str:
    return _mixed(
        runs,
        lambda run: run.tokenizer,
        "tokenizers differ: {}; a token of one is not as much text as one of another, nor are as many "
        "parameters embeddings; train all on one corpus with the same --merges",
    )


def _of_other_text(runs: Sequence[Showed]) -> str:
    if len({run.tokenizer for run in runs}) > 1:
        return ""  # a corpus is known by its text and its tokenizer
    return _mixed(
        runs,
        lambda run: run.corpus,
        "corpora differ: {}; one text is easier than another; train all on one",
    )


def _mixed(runs: Sequence[Showed], of: Callable[[Showed], str], text: str) -> str:
    """Names two runs that differ in something that all should share."""
    first = runs[0]
    other = next((run for run in runs if of(run) != of(first)), None)
    if other is None:
        return ""
    return text.format(f"{first.name} has {of(first)[:12] or '?'}, {other.name} {of(other)[:12] or '?'}")


def _often_repeated(runs: Sequence[Showed]) -> str:
    those = [run for run in runs if (run.passes or 0.0) > MOST_PASSES]
    those.sort(key=lambda run: run.passes or 0.0, reverse=True)  # the number is that of the run that is named
    if not those:
        return ""
    return (
        f"text that comes too often: {_named(those)} ({those[0].passes:,.1f} passes, the law holds for up to "
        f"{MOST_PASSES}); a token that comes again teaches less than a new one; train on more text, or for "
        "fewer steps"
    )


def _named(runs: Sequence[Showed]) -> str:
    more = f" and {len(runs) - 1} more" if len(runs) > 1 else ""
    return runs[0].name + more


# ------------------------------------------------------------------------------------------ all together


def _of_points(points: Points, is_ray: bool | None) -> list[str]:
    n_sizes = int(points.sizes.max()) + 1
    smallest, largest = float(points.n_params.min()), float(points.n_params.max())
    if n_sizes == 1 and len(points.loss) > 1:
        return [
            f"one size, {format_amount(smallest)} parameters, with {len(points.loss)} numbers of tokens: "
            f"nothing tells what size does; {_train(points, [smallest * 2, smallest * LEAST_SPAN])}"
        ]
    if n_sizes < FEWEST_SIZES:
        wanted = _sizes_between(smallest, largest, FEWEST_SIZES - n_sizes)
        return [
            f"{n_sizes} of the {FEWEST_SIZES} sizes that a law takes: a curve through {n_sizes} bends as one "
            f"likes; {_train(points, wanted)}"
        ]
    found = []
    if largest < LEAST_SPAN * smallest:
        found.append(
            f"the largest size is {largest / smallest:.1f} times the smallest, expected {LEAST_SPAN} or "
            f"more: what lies beyond is a guess; {_train(points, [smallest * LEAST_SPAN])}"
        )
    if points.is_ray and is_ray is False:
        middle = float(np.sort(points.n_params)[len(points.loss) // 2])
        few, many = (
            format_amount(points.ratio * middle * times) for times in (1 / LEAST_SPREAD, LEAST_SPREAD)
        )
        found.append(
            f"all have about {points.ratio:.3g} tokens for each parameter: along such a ray A N^-alpha and "
            "B D^-beta cannot be told apart; fit the law along the ray (--law ray), or train "
            f"{format_amount(middle)} parameters on {few} and on {many} tokens, too"
        )
    n_numbers = 3 if points.is_ray else 5
    if len(points.loss) <= n_numbers:
        found.append(
            f"{len(points.loss)} runs for a law of {n_numbers} numbers: nothing is left to tell whether it "
            "holds; train each size with another seed"
        )
    return found


def _sizes_between(smallest: float, largest: float, missing: int) -> list[float]:
    """Sizes to be trained so that there are enough, and far enough apart."""
    if largest < LEAST_SPAN * smallest:
        return [max(largest * 2 ** (i + 1), LEAST_SPAN * smallest * 2**i) for i in range(missing)]
    return [math.sqrt(smallest * largest)][:missing]


def _train(points: Points, sizes: Sequence[float]) -> str:
    told = " and ".join(
        f"{format_amount(size)} parameters on {format_amount(size * points.ratio)} tokens" for size in sizes
    )
    return f"train {told}"
