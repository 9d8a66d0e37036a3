"""Time of a run: how much has passed, what things cost, and whether the limit allows another step."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator

Now = Callable[[], float]  # the time in seconds since some moment

MARGIN = 1.25  # a closing evaluation or save may take this much longer than the last one
LEAVING_S, LEAVING_SHARE = 1.0, 0.05  # of the limit, kept for the end of the process: the lesser of both
SMOOTHING = 0.98  # of the seconds of a step


class Clock:
    """Time of a session, from the beginning of its command, and of its run over all sessions.

    Args: deadline: the moment by which training must have ended.  costs_s: seconds of each kind of work.
          now: tells the time; whatever training decides by time, it decides by this alone.
    """

    def __init__(
        self, deadline: float = math.inf, costs_s: dict[str, float] | None = None, now: Now = time.monotonic
    ) -> None:
        self.now = now
        self._begun = self._started = now()
        self._deadline = deadline
        self.costs_s = dict(costs_s or {})  # seconds that each kind of work took last time
        self.spent_s: dict[str, float] = {}  # seconds of the run by what they were spent on, all sessions
        self.step_s = math.nan  # of a step as they are now, the mean of many
        self._lap: tuple[float, int] | None = None
        self._mark, self._weight = 0.0, 0.0

    def limit(self, seconds: float | None) -> None:
        """Have the command end so long after it began; None: no limit."""
        if seconds is not None:
            self._deadline = self._begun + seconds - min(LEAVING_S, LEAVING_SHARE * seconds)

    def go_on(self, elapsed_s: float) -> None:
        """Training begins now, and the sessions before took so long."""
        self._started = self.now() - elapsed_s

    @property
    def elapsed_s(self) -> float:
        """Seconds of training since the run began, without the time between sessions."""
        return self.now() - self._started

    @contextlib.contextmanager
    def timing(self, name: str) -> Iterator[None]:
        """Remember what the block inside costs."""
        start = self.begin()
        yield
        self.spend(name)
        self.costs_s[name] = self._mark - start

    def begin(self) -> float:
        """Time is spent on something from now on; the time."""
        self._mark = self.now()
        return self._mark

    def spend(self, part: str) -> None:
        """Count what has passed since `begin` or the last part of it."""
        before, self._mark = self._mark, self.now()
        self.spent_s[part] = self.spent_s.get(part, 0.0) + self._mark - before

    def end_step(self, start: float) -> float:
        """The seconds of a step that began then and whose last part was just counted."""
        seconds = self._mark - start
        self.costs_s["step"] = seconds
        self._weight = SMOOTHING * self._weight + 1 - SMOOTHING  # without it the first would count too little
        share = (1 - SMOOTHING) / self._weight
        self.step_s = seconds if share == 1 else self.step_s + share * (seconds - self.step_s)
        return seconds

    @property
    def left_s(self) -> float:
        """Seconds before the deadline."""
        return self._deadline - self.now()

    @property
    def remaining_s(self) -> float:
        """Seconds before the deadline that steps may take: closing evaluation, sample and save are kept."""
        return self.left_s - MARGIN * sum(self.costs_s.values())

    @property
    def usable_s(self) -> float:
        """Seconds before the deadline, without what is kept in case that the end takes longer than before."""
        return self.remaining_s + sum(self.costs_s.values())

    def forget_steps(self) -> None:
        """Steps take another time from now on."""
        self._weight, self._lap = 0.0, None

    def seconds_per_step(self, step: int) -> float | None:
        """Mean seconds of a step since the last call, all that came between included; None at first."""
        last, self._lap = self._lap, (self.now(), step)
        if last is None or step <= last[1]:
            return None
        return (self._lap[0] - last[0]) / (step - last[1])

    def is_over(self) -> bool:
        """Whether one more step, then the closing evaluation, sample and save would pass the deadline."""
        return self.remaining_s <= 0
