"""A ladder made to fit into a time: each rung gets the same share of its tokens, by steps that were timed."""

from collections.abc import Sequence

from microgpt.common.errors import ConfigError
from microgpt.common.words import format_duration
from microgpt.corpus.prepared.folder import Prepared
from microgpt.runs.spec import Plan
from microgpt.training import assemble
from microgpt.training.clock import Clock
from microgpt.training.horizon import Timing, run_s
from microgpt.training.schedule import FIRST_STEPS

from .state import Fitted

FOR_TRAINING = 0.85  # of the time; the rest is for what is measured of each rung
FEWEST_STEPS = 2 * FIRST_STEPS  # of a run, in which a rate rises and falls


def timings_of(plans: Sequence[Plan], prepared: Prepared) -> list[Timing]:
    """What the steps of each rung take here."""
    return [assemble.measured(plan, prepared, Clock()) for plan in plans]


def fitted(
    names: Sequence[str], plans: Sequence[Plan], timings: Sequence[Timing], n_seeds: int, budget_s: float
) -> Fitted:
    """The share of their tokens with which all rungs fit into a time; 1 where they do anyway.

    The same share for all, so that rungs with tokens in proportion to their size keep that proportion.
    Raises: ConfigError: too few steps would be left of a rung.
    """

    def steps_at(share: float) -> list[int]:
        return [max(1, int(share * plan.train.max_steps)) for plan in plans]

    def needed_s(share: float) -> float:
        each = zip(steps_at(share), timings, plans, strict=True)
        return n_seeds * sum(run_s(steps, timing, plan.train) for steps, timing, plan in each)

    low, high = 0.0, 1.0
    if needed_s(1.0) <= FOR_TRAINING * budget_s:
        low = 1.0
    else:
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if needed_s(middle) <= FOR_TRAINING * budget_s else (low, middle)
    steps = steps_at(low)
    if short := [name for name, n in zip(names, steps, strict=True) if n < FEWEST_STEPS]:
        left, whole_s = steps[list(names).index(short[0])], needed_s(1.0) / FOR_TRAINING
        raise ConfigError(
            f"--budget {format_duration(budget_s)}: {left} steps would be left for rung {short[0]}, all "
            f"rungs as they are take {format_duration(whole_s)}; give more time, or fewer and smaller rungs"
        )
    return Fitted(budget_s, needed_s(low) / FOR_TRAINING, low, dict(zip(names, steps, strict=True)))
