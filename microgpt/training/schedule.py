"""The learning rate, a pure function of step and config: linear warm-up, then a cosine down to a floor."""

import math

from .config import TrainConfig

# A short run warms up for a tenth of its steps, but not for fewer than this: Adam's second moment is
# noise before, and the first thirty steps of any run are then the same, however long it is.
SHORTEST_WARMUP = 30


def warmup_steps(config: TrainConfig) -> int:
    """Steps of warm-up: as configured, but at most a tenth of the schedule."""
    return min(config.warmup_steps, max(SHORTEST_WARMUP, horizon(config) // 10))


def horizon(config: TrainConfig) -> int:
    """Step at which the rate has fallen to its floor."""
    return config.decay_steps or config.max_steps


def learning_rate(step: int, config: TrainConfig) -> float:
    """Rate of the update that follows `step` completed steps.

    lr * (step + 1) / warmup while warming up;  then  min_lr + (lr - min_lr) * (1 + cos(pi * t)) / 2  with t
    running from 0 to 1 at the horizon;  min_lr after that.
    """
    warmup, end = warmup_steps(config), horizon(config)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    if step >= end:
        return config.min_lr
    t = (step - warmup) / (end - warmup)
    return config.min_lr + (config.lr - config.min_lr) * (1 + math.cos(math.pi * t)) / 2
