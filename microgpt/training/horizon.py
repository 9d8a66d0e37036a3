"""How many steps fit into a time limit: measured before the first step, and again at every evaluation.

The learning rate falls over the planned steps, so a machine that slows down must not cost the run the end
of its cosine, nor a machine that is free again leave time unused.  A new number of steps acts like a resume
with another --max-steps: it is recorded in the checkpoint's config, so a resume is exact all the same.
"""

import dataclasses
import math
from collections.abc import Callable
from functools import partial

import numpy as np

from microgpt.batches.batches import EvalWindows
from microgpt.common.errors import ConfigError
from microgpt.common.words import format_duration
from microgpt.model import GPT
from microgpt.runs.settings import TrainConfig
from microgpt.runs.state import TrainState

from .clock import MARGIN as LATE
from .clock import Clock, Now
from .depth import blocks_at, mean_cost, shallow_part, whole_steps
from .optimizer import Optimizer
from .parts import Source

MARGIN = 0.96  # share of the time that is planned
WORTH_REPLANNING = 0.01  # relative change of the steps still to do
SHORTEST_END = 0.02  # of the steps done: in fewer the rate cannot come down to any use
AS_GOOD_AS_DONE = 0.01  # of all steps: the rate is at its floor by then
SAVE_BYTES_PER_S = 100e6  # a slow disk
SAMPLE_S = 1.0
PROBE_SHARE, LONGEST_PROBE_S, FEWEST_PROBES = 0.02, 10.0, 3
SHORT_PROBE_S = 1.0
ONCE_SHARE = 0.03  # of a time limit: what takes so much of it is measured once
PROBE_STEPS = 6  # as long as about so many steps


@dataclasses.dataclass(frozen=True)
class Timing:
    """Measured or estimated seconds: of one micro-batch, one update, one evaluation, one save; and of what
    a run that has not begun does before its first step."""

    micro_s: float
    update_s: float
    evaluation_s: float
    save_s: float
    start_s: float = 0.0


def measure(model: GPT, optimizer: Optimizer, source: Source, held_out: EvalWindows, clock: Clock) -> Timing:
    """Time the parts of a run before its first step, leaving weights and moments exactly as they are.

    Of a run with a time limit for a share of it, so that the plan is a good one; else for a few steps.  What
    takes a large share of the limit is done once only: the time is for training.
    """
    batch, limit_s = source.batch(0), clock.left_s
    keys = np.zeros(len(batch.ids), np.uint64)
    budget_s = min(LONGEST_PROBE_S, PROBE_SHARE * limit_s) if math.isfinite(limit_s) else SHORT_PROBE_S
    mean_s = partial(_mean_time, now=clock.now, once_s=ONCE_SHARE * limit_s)
    micro_s = mean_s(lambda: model.loss_and_grad(source.batch(0), keys), budget_s=budget_s)
    model.grads.flat[:] = 0
    # With gradients, slots and a rate of zero, an update changes nothing.
    update_s = mean_s(lambda: optimizer.apply(lr=0.0))
    rows = next(held_out.batches(len(batch.ids)))
    rows_s = mean_s(lambda: model.token_losses(rows))
    return Timing(
        micro_s, update_s, rows_s * held_out.n_windows / len(rows.ids), save_estimate_s(model, optimizer)
    )


def is_worth_measuring(steps: float) -> bool:
    """Whether a run of so many steps is long enough to be timed before it starts."""
    return PROBE_SHARE * steps >= PROBE_STEPS


def last_step_s(state: TrainState) -> float:
    """Seconds of the last step that a saved run did; 0: that is not known."""
    tok_per_s = float(state.metrics.get("tok_per_s", 0.0))
    return state.tokens / state.step / tok_per_s if state.step and tok_per_s > 0 else 0.0


def save_estimate_s(model: GPT, optimizer: Optimizer) -> float:
    """Seconds that a checkpoint may take, before one was measured."""
    arenas = (model.params, *optimizer.slots.values())
    return sum(arena.flat.nbytes for arena in arenas) / SAVE_BYTES_PER_S


def _mean_time(work: Callable[[], object], now: Now, once_s: float, budget_s: float = 0.0) -> float:
    """Mean seconds of repeated calls after one that warms up; where that takes `once_s`, its own, which are
    more: the plan follows the speed on the way."""
    start = now()
    work()
    if (first_s := now() - start) >= once_s:
        return first_s
    start, count = now(), 0
    while count < FEWEST_PROBES or now() - start < budget_s:
        work()
        count += 1
    return (now() - start) / count


def planned_steps(available_s: float, timing: Timing, config: TrainConfig) -> int:
    """Steps that fit into the time with their evaluations, samples and saves.

    Raises: ConfigError: not even one does.
    """
    closing_s = _closing_s(timing, config)
    # The clock allows the last step only where it and what closes the run may take longer than measured.
    last_s = step_s(timing, config) + closing_s - (timing.evaluation_s if config.eval_every else 0.0)
    kept_s = max((1 - MARGIN) * available_s, (LATE - 1) * last_s)
    left_s = available_s - kept_s - timing.start_s - closing_s
    steps = int(left_s / _per_step_s(timing, config, mean_cost(config)))
    if steps < 1:
        passes = f"--bigram-passes take {format_duration(timing.start_s)}, " if timing.start_s else ""
        raise ConfigError(
            f"--max-time {config.max_time} is too short: {format_duration(max(0.0, available_s))} are left, "
            f"{passes}a step takes {format_duration(step_s(timing, config))}, evaluating and saving "
            f"{format_duration(closing_s)}; give more time"
        )
    return steps


def run_s(steps: int, timing: Timing, config: TrainConfig, first: int = 0) -> float:
    """Seconds that so many steps from `first` on take with their evaluations, samples and saves, and what
    comes before."""
    whole = whole_steps(first, first + steps, config) / max(1, steps)
    return timing.start_s + steps * _per_step_s(timing, config, whole) + _closing_s(timing, config)


def step_s(timing: Timing, config: TrainConfig) -> float:
    """Seconds of one step by itself, with all blocks."""
    return config.grad_accum * timing.micro_s + timing.update_s


def _per_step_s(timing: Timing, config: TrainConfig, whole: float) -> float:
    """Seconds of a step and its share of what comes between steps.  whole: what it costs, in steps with all
    blocks."""
    return (
        whole * step_s(timing, config)
        + _shared(timing.evaluation_s, config.eval_every)
        + _shared(SAMPLE_S, config.sample_every)
        + _shared(timing.save_s, config.save_every)
    )


def _closing_s(timing: Timing, config: TrainConfig) -> float:
    """Seconds of what is done once: evaluations at both ends, the last sample and save."""
    evaluations_s = 2 * timing.evaluation_s if config.eval_every else 0.0
    return timing.save_s + evaluations_s + (SAMPLE_S if config.sample_every else 0.0)


def replanned(step: int, config: TrainConfig, step_s: float, clock: Clock) -> TrainConfig:
    """A run's settings with as many steps as fit into the time that is left, if steps go on to take `step_s`,
    all that comes between them included.

    While the first blocks train alone, theirs are planned anew with them: they keep their share.  Then a step
    with all blocks is known by the step alone, as the clock has it, not by what comes between.
    """
    if not blocks_at(step - 1, config):
        steps = replanned_steps(step, config.max_steps, step_s, clock.remaining_s)
        return dataclasses.replace(config, max_steps=steps)
    between_s, whole_s = _between_s(clock.costs_s, config), clock.step_s / config.shallow_cost
    # What the steps so far cost at this speed and what is left, over what a step of the plan costs.
    so_far_s = step * (clock.step_s + between_s)
    steps = int((so_far_s + MARGIN * clock.remaining_s) / (mean_cost(config) * whole_s + between_s))
    alone = round(shallow_part(config) * steps)
    if alone < step:  # more than their share is done
        alone, steps = step, step + int(MARGIN * clock.remaining_s / (whole_s + between_s))
    if not _is_worth_it(step, config.max_steps, steps - step):
        return config
    return dataclasses.replace(config, max_steps=steps, shallow_steps=alone)


def replanned_steps(step: int, max_steps: int, step_s: float, remaining_s: float) -> int:
    """Steps of a run that takes `step_s` a step, all included, and may go on for `remaining_s`.

    Where too few steps fit to end the run well, its plan stays, for a session with more time.
    """
    fitting = int(MARGIN * remaining_s / step_s)
    return step + fitting if _is_worth_it(step, max_steps, fitting) else max_steps


def _is_worth_it(step: int, max_steps: int, fitting: int) -> bool:
    """Whether so many steps more are another plan, and enough for an end."""
    left = max_steps - step
    is_end, is_other = fitting >= SHORTEST_END * step, abs(fitting - left) > WORTH_REPLANNING * left
    return fitting >= 1 and is_end and is_other


def expected_s(step: int, config: TrainConfig, clock: Clock) -> float:
    """Seconds to the end of a session after so many steps: of steps, evaluations and samples as they are now
    and the last save, but not beyond its limit.
    """
    last = config.max_steps
    steps = whole_steps(step, last, config) / (config.shallow_cost if blocks_at(step - 1, config) else 1.0)
    wanted = steps * clock.step_s + clock.costs_s.get("save", 0.0)
    for name, every in (("evaluation", config.eval_every), ("sample", config.sample_every)):
        if every:
            n = last // every - (step - 1) // every + (last % every > 0)  # the one at the end included
            wanted += n * clock.costs_s.get(name, 0.0)
    return max(0.0, min(wanted, clock.usable_s))


def _between_s(costs_s: dict[str, float], config: TrainConfig) -> float:
    """Seconds a step of the evaluations and samples that come between steps."""
    every = {"evaluation": config.eval_every, "sample": config.sample_every}
    return sum(_shared(costs_s.get(name, 0.0), often) for name, often in every.items())


def _shared(seconds: float, every: int) -> float:
    """What something done every so often adds to each step."""
    return seconds / every if every else 0.0
