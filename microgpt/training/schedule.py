"""The learning rate, a pure function of step and config: linear warm-up, then down to a floor.

It falls in a cosine, in a line (linear), or in a line over the last share of the steps (wsd: warm-up, stable,
decay; Hu et al. 2024, arXiv 2404.06395), though not before step 30.

A run that trains on past its plan begins a new leg: from the rate it has come to, a short warm-up, then down
to the floor again.  A cosine or a line rises to a moderate rate, as the late part of a longer run has it.
wsd rises to its stable rate, so that the leg is what a longer plan would have done from there (Wen et al.
2024, arXiv 2410.05192); where its decay has not begun, it just goes on.  Where a leg began is part of the
config.
"""

import dataclasses
import math
from typing import NamedTuple

from microgpt.common.words import counted
from microgpt.runs.settings import TrainConfig

# A run warms up for a tenth of its steps at most, or for so many where that is more: Adam's second moment is
# noise before.  The rate of wsd falls no earlier either, so that how long a run is planned changes nothing in
# its first thirty steps: ten and ten are twenty.
FIRST_STEPS = 30
MODERATE = 0.3  # of --lr: the most that training on goes back up to, but with wsd


class Leg(NamedTuple):
    """A stretch of the schedule: from `low` at step `start` up to `peak`, then down to the floor at `end`."""

    start: int
    end: int
    low: float
    peak: float


def leg(config: TrainConfig) -> Leg:
    """The stretch that a run is in: its last one."""
    end = config.decay_steps or config.max_steps
    if config.onward_step:
        return Leg(config.onward_step, end, config.onward_lr, config.onward_peak)
    return Leg(0, end, 0.0, config.lr)


def warmup_steps(config: TrainConfig) -> int:
    """Steps of warm-up: as configured, but at most a tenth of the stretch or, where that is little, thirty.

    Where the end is given for good, as by --decay-steps, half of the steps are kept for the decay.
    """
    start, end, low, peak = leg(config)
    longest = _without_fall(config, max(FIRST_STEPS, (end - start) // 10))
    return min(config.warmup_steps, longest) if low < peak else 0


def _without_fall(config: TrainConfig, steps: int) -> int:
    """Steps at the beginning of a stretch; half of it at most where its end is given for good."""
    start, end, _, _ = leg(config)
    return min(steps, (end - start) // 2) if config.decay_steps or config.onward_step else steps


def stable_steps(config: TrainConfig) -> int:
    """Steps of the stretch between warm-up and decay, of which wsd alone has some.

    A first stretch falls from step 30 on at the earliest; what trains on may fall at once.
    """
    if config.schedule != "wsd":
        return 0
    start, end, _, _ = leg(config)
    falls_at = end - start - round(config.decay_share * (end - start))
    earliest = 0 if config.onward_step else _without_fall(config, FIRST_STEPS)
    return max(0, max(falls_at, earliest) - warmup_steps(config))


def learning_rate(step: int, config: TrainConfig) -> float:
    """Rate of the update that follows `step` completed steps.

    low + (peak - low) * (done + 1) / warmup while warming up, done = step - start;
    then  min_lr + (peak - min_lr) * (1 + cos(pi * t)) / 2, or (1 - t) for the last factor where the fall is a
    line, with t running from 0, at the end of the warm-up or of the stable steps of wsd, to 1 at the end;
    min_lr after that.
    """
    start, end, low, peak = leg(config)
    done, warmup = step - start, warmup_steps(config)
    if done < warmup:
        return low + (peak - low) * (done + 1) / warmup
    level = warmup + stable_steps(config)
    if done < level:
        return peak
    if step >= end:
        return config.min_lr
    t = (done - level) / (end - start - level)
    left = (1 + math.cos(math.pi * t)) / 2 if config.schedule == "cosine" else 1 - t
    return config.min_lr + (peak - config.min_lr) * left


def train_on(step: int, old: TrainConfig, new: TrainConfig) -> TrainConfig:
    """`new`, another number of steps for a run of `old`, with a rate that goes on from where it is.

    Where both have the same rate at this step, `new` is a run that was planned so from the beginning.
    Otherwise a new leg begins here.
    """
    present = learning_rate(step, old)
    if step == 0 or learning_rate(step, new) == present:
        return new
    peak = _next_peak(step, present, old, new)
    return dataclasses.replace(new, onward_step=step, onward_lr=present, onward_peak=peak)


def _next_peak(step: int, present: float, old: TrainConfig, new: TrainConfig) -> float:
    """Where the rate rises to before it falls: what a run of the new length would have here, but a moderate
    rate at most, except with wsd.  A warm-up that was not over goes on to its peak, and a run that is
    shortened only falls.
    """
    last = leg(old)
    if step < last.start + warmup_steps(old):
        return last.peak
    if new.max_steps < old.max_steps:
        return present
    planned_so = learning_rate(step, dataclasses.replace(new, onward_step=0))
    most = new.lr if new.schedule == "wsd" else MODERATE * new.lr
    return max(present, min(planned_so, most))


def extension_note(step: int, old: TrainConfig, new: TrainConfig) -> str:
    """What a changed number of steps does to the learning rate; empty if nothing was changed."""
    if old.max_steps == new.max_steps:
        return ""
    note = f"the run now has {new.max_steps:,} steps instead of {old.max_steps:,}"
    if new.onward_step != step:
        return f"{note}; the learning rate at this step stays {learning_rate(step, new):.3g}"
    return f"{note}; the learning rate goes {outline(new)}"


def outline(config: TrainConfig) -> str:
    """The stretch that a run is in, in words."""
    start, end, low, peak = leg(config)
    warmup, stable = warmup_steps(config), stable_steps(config)
    if start + warmup >= end:
        return f"from {low:.3g} up to {learning_rate(end - 1, config):.3g}, too few steps to come down again"
    rise = f"{low:.3g} up to {peak:.3g} over {counted(warmup, 'step')}, then" if warmup else f"{peak:.3g}"
    falls_at = start + warmup + stable
    level = [f"level to step {min(falls_at, end):,}"] if stable else []
    down = [f"down to {config.min_lr:.3g} at step {end:,}"] if falls_at < end else []
    return f"from {rise} {', then '.join(level + down)}"
