"""The laws that control how much information adapters may hold: pure arithmetic, no model.

S is the share of the parameters in all that is to be told, S* its target.  Once a step a law sees S and gives
lambda, the strength of the penalty on the adapters.  More lambda, less S.

Source: the guide of the Shannon Control Unit.  Its own law is kept as "guide", to compare with.
"""

import dataclasses
import math
from collections import deque
from collections.abc import Mapping
from typing import Any

from microgpt.common.errors import ConfigError
from microgpt.common.flags import flag_name
from microgpt.common.setting import NOT_NEGATIVE, POSITIVE, Range, refused, setting

SMOOTHING = 0.1  # share of the newest S in the smoothed one
LEAK, MOST_INTEGRAL, GUIDE_DEADBAND = 0.995, 0.2, 0.003  # of the guide's law
NEAR, STEADY, STEADY_STEPS = 0.05, 0.01, 100  # evidence that a controller has settled
VELOCITY, GUIDE, FIXED = "velocity", "guide", "fixed"
GROUP = "control of information"


@dataclasses.dataclass(frozen=True)
class Control:
    """What a controller is told."""

    target_s: float = setting(
        0.01,
        "share of the adapters in all information that is to be held, such as 0.01",
        "share",
        group=GROUP,
        within=Range(0, 1, is_open=True),
    )
    prior_sigma: float = setting(
        0.01,
        "standard deviation that changes of a weight are expected to have; S goes by 1 / its square",
        group=GROUP,
        within=POSITIVE,
    )
    scored_tokens: int = setting(
        0,
        "tokens that share the cost of the adapters; 0: those that one pass over the data scores",
        "tokens",
        group=GROUP,
        within=NOT_NEGATIVE,
    )
    scu_law: str = setting(
        VELOCITY,
        "how lambda follows S: by changes of the relative error; by the guide's leaky integral; not at all",
        choices=(VELOCITY, GUIDE, FIXED),
        group=GROUP,
    )
    kp: float = setting(0.8, "how strongly lambda answers a change of S", group=GROUP, within=NOT_NEGATIVE)
    ki: float = setting(
        0.005,
        "how fast lambda goes on moving while S is off its target; the guide's law: 0.15",
        group=GROUP,
        within=NOT_NEGATIVE,
    )
    deadband: float = setting(
        0.02,
        "relative distance from the target within which S is left alone; the guide's law: 0.003, absolute",
        group=GROUP,
        within=NOT_NEGATIVE,
    )
    lambda_init: float = setting(1.0, "strength of the penalty at first", group=GROUP, within=NOT_NEGATIVE)
    lambda_min: float = setting(1e-4, "least strength, above 0", group=GROUP, within=POSITIVE)
    lambda_max: float = setting(2.0, "greatest strength", group=GROUP, within=POSITIVE)

    def __post_init__(self) -> None:
        if bad := refused(self):
            raise ConfigError("{} {}: expected {}".format(flag_name(bad[0]), *bad[1:]))
        if self.scu_law != FIXED and not self.lambda_min <= self.lambda_init <= self.lambda_max:
            raise ConfigError(
                f"--lambda-init {self.lambda_init:g}: expected {self.lambda_min:g} to {self.lambda_max:g}, "
                "the bounds of lambda; set --lambda-min, --lambda-max or it"
            )


GUIDES_OWN = {"ki": 0.15, "deadband": GUIDE_DEADBAND}  # what the guide's law is made for


class Law:
    """A lambda that does not move; others say in `_move` how far its logarithm goes.

    strength: lambda.  smoothed: S, smoothed.  error: of it, as the law counts.  integral: of the errors.
    moves:    what the law without its deadband would have added to ln lambda in the last steps.
    """

    strength: float
    smoothed: float | None
    error: float | None
    integral: float
    saturated: int  # 1: at the upper bound, -1: at the lower
    in_deadband: bool
    range: tuple[float, float]
    moves: deque[float]

    def __init__(self, control: Control) -> None:
        self.control = control
        self.restore({})

    def step(self, s: float) -> float:
        """See S once.  Returns lambda for this step."""
        self.smoothed = s if self.smoothed is None else SMOOTHING * s + (1 - SMOOTHING) * self.smoothed
        move, free = self._move(self.smoothed - self.control.target_s)
        self.moves.append(free)
        if self.control.scu_law != FIXED:
            wanted = self.strength * math.exp(move)
            self.strength = min(max(wanted, self.control.lambda_min), self.control.lambda_max)
            self.saturated = (wanted >= self.control.lambda_max) - (wanted <= self.control.lambda_min)
        self.range = min(self.range[0], self.strength), max(self.range[1], self.strength)
        return self.strength

    def _move(self, off: float) -> tuple[float, float]:
        """What is added to ln lambda where S is `off` its target, and what would be without a deadband."""
        self.error = off / self.control.target_s
        return 0.0, 0.0

    @property
    def is_near(self) -> bool:
        """Whether S is within 5 % of its target."""
        s, target = self.smoothed, self.control.target_s
        return s is not None and abs(s - target) <= NEAR * target

    @property
    def is_steady(self) -> bool:
        """Whether the law without its deadband would have left lambda where it is, over 100 steps.

        That the law stood still says nothing: within its deadband it does, wherever S drifts.
        """
        return len(self.moves) == STEADY_STEPS and abs(sum(self.moves)) < STEADY and not self.saturated

    def state(self) -> dict[str, Any]:
        """All that goes on, as plain values."""
        names = ("strength", "smoothed", "error", "integral", "saturated", "in_deadband")
        return {name: getattr(self, name) for name in names} | {
            "range": list(self.range),
            "moves": list(self.moves),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; from {} as at the beginning."""
        first = self.control.lambda_init
        self.strength = state.get("strength", first)
        self.smoothed, self.error = state.get("smoothed"), state.get("error")
        self.integral, self.saturated = state.get("integral", 0.0), state.get("saturated", 0)
        self.in_deadband = state.get("in_deadband", False)
        low, high = state.get("range", (first, first))
        self.range = low, high
        self.moves = deque(map(float, state.get("moves", ())), STEADY_STEPS)


class Velocity(Law):
    """ln lambda += Kp (e - e before) + Ki e,  e = (S - S*) / S*; the second term not inside the deadband.

    The integral is lambda itself, so that clipping lambda leaves nothing to wind up.
    """

    def _move(self, off: float) -> tuple[float, float]:
        before, error = self.error, off / self.control.target_s
        change = 0.0 if before is None else self.control.kp * (error - before)
        held = self.control.ki * error
        self.error, self.in_deadband = error, abs(error) < self.control.deadband
        self.integral += 0.0 if self.in_deadband else held
        return change + (0.0 if self.in_deadband else held), change + held


class Guide(Law):
    """The guide's law: lambda *= exp(u), u = Kp e + I,  e = S - S*; I leaks, is bounded, and grows by Ki e.

    u is added to ln lambda at every step, so the first term is an integral and I a second one: lambda swings
    about a large target, and the absolute deadband hides a small one.
    """

    def _move(self, off: float) -> tuple[float, float]:
        self.error, self.in_deadband = off, abs(off) <= self.control.deadband
        self.integral *= LEAK
        free = self.control.kp * off + self.integral
        if self.in_deadband:
            return 0.0, free
        if self.saturated * off <= 0:  # not further out of the bound where lambda is
            moved = self.integral + self.control.ki * off
            self.integral = min(max(moved, -MOST_INTEGRAL), MOST_INTEGRAL)
        move = self.control.kp * off + self.integral
        return move, move


LAWS = {VELOCITY: Velocity, GUIDE: Guide, FIXED: Law}


def law_of(control: Control) -> Law:
    """The law that a control names, at its beginning."""
    return LAWS[control.scu_law](control)
