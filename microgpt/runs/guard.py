"""What watches the numbers of a run: warns of spikes, counts steps without finite numbers.

Pure: it sees numbers and keeps a small state of its own.  A checkpoint holds that state, so a resumed run
warns exactly where a straight one does, and goes back when it does; to a checkpoint that the stop left, if
that is newer than the straight run's.
"""

import dataclasses
import math

from microgpt.common.errors import MicrogptError
from microgpt.common.setting import NOT_NEGATIVE, Range, unseen

MOST_BAD_STEPS = 5  # in a row, before the run goes back to its last checkpoint
MOST_ROLLBACKS = 3  # to the same checkpoint, before the run ends

WARM_UP = 100  # values that a trend needs before it is believed, and steps between two warnings
NEWEST = 0.02  # weight of a new value in a trend, which so remembers about the last fifty
SPIKE = 6.0  # standard deviations above the mean
LEAST_SIGMA = 0.01  # of the mean: the calmest trend may still move by so much
HARMLESS = 10.0  # times its mean: a norm of gradients has a long tail, 6.5 in 9,000 steps of a good run


class DivergedError(MicrogptError):
    """Training produces no finite numbers any more."""


@dataclasses.dataclass
class Trend:
    """Mean and variance of a number, mostly of its last values."""

    n: int = unseen(0, NOT_NEGATIVE)
    mean: float = 0.0
    variance: float = unseen(0.0, NOT_NEGATIVE)

    @property
    def limit(self) -> float:
        """What is above it is a spike; nothing is while the trend is young."""
        if self.n < WARM_UP:
            return math.inf
        return self.mean + SPIKE * max(math.sqrt(self.variance), LEAST_SIGMA * abs(self.mean))

    def add(self, value: float) -> None:
        """Take in a value; of a spike only so much that the trend is not led astray by it."""
        distance = min(value, self.limit) - self.mean
        self.n += 1
        share = max(1 / self.n, NEWEST)  # a plain mean at first
        self.mean += share * distance
        self.variance = (1 - share) * (self.variance + share * distance * distance)


@dataclasses.dataclass
class SpikeWatch:
    """Tells when the loss or the norm of the gradient leaps out of its trend.

    Source: the z-score of ZClip (arXiv 2504.02507), which clips where this warns.
    """

    loss: Trend = dataclasses.field(default_factory=Trend)
    grad_norm: Trend = dataclasses.field(default_factory=Trend)
    quiet_until: int = unseen(0, NOT_NEGATIVE)  # step before which nothing more is said

    def see(self, step: int, loss: float, grad_norm: float) -> str:
        """Take in the finite numbers of a step.  Returns a warning, or nothing."""
        norm_limit = max(self.grad_norm.limit, HARMLESS * self.grad_norm.mean)
        numbers = (
            ("loss", loss, self.loss, self.loss.limit),
            ("gradient norm", grad_norm, self.grad_norm, norm_limit),
        )
        spikes = [
            f"{name} {value:.4g} (usually {trend.mean:.4g}, at most {limit:.4g})"
            for name, value, trend, limit in numbers
            if value > limit
        ]
        for _, value, trend, _ in numbers:
            trend.add(value)
        if not spikes or step < self.quiet_until:
            return ""
        self.quiet_until = step + WARM_UP
        return " and ".join(spikes)


@dataclasses.dataclass
class Setbacks:
    """Steps that were skipped in a row, and how often the run went back for their sake."""

    bad_steps: int = unseen(0, NOT_NEGATIVE)
    since: int = unseen(0, NOT_NEGATIVE)  # position of the first of them in the data
    rollbacks: int = unseen(0, NOT_NEGATIVE)
    went_to: int = unseen(-1, Range(-1))  # step to which the run went back last; -1: it never did

    def skipped(self, position: int) -> None:
        """Count a step without finite numbers, made from the data at this position."""
        if not self.bad_steps:
            self.since = position
        self.bad_steps += 1

    def recovered(self) -> None:
        """A step had finite numbers."""
        self.bad_steps = 0

    @property
    def is_stuck(self) -> bool:
        """Whether skipping is no help any more."""
        return self.bad_steps >= MOST_BAD_STEPS

    def may_go_to(self, step: int) -> bool:
        """Whether going back to the checkpoint of this step is worth another try."""
        return self.went_to != step or self.rollbacks < MOST_ROLLBACKS

    def went_back(self, step: int) -> "Setbacks":
        """The count after going back to the checkpoint of this step."""
        return Setbacks(0, 0, self.rollbacks + 1 if self.went_to == step else 1, step)
