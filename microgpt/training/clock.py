"""Time of a run: how much has passed, what things cost, and whether the limit allows another step."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator

Now = Callable[[], float]  # the time in seconds since some moment

MARGIN = 1.25  # a closing evaluation or save may take this much longer than the last one
LEAVING_S, LEAVING_SHARE = 1.0, 0.05  # of the limit, kept for the end of the process: the lesser of both


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
        self._lap: tuple[float, int] | None = None

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
        start = self.now()
        yield
        self.costs_s[name] = self.now() - start

    @property
    def left_s(self) -> float:
        """Seconds before the deadline."""
        return self._deadline - self.now()

    @property
    def remaining_s(self) -> float:
        """Seconds before the deadline that steps may take: closing evaluation, sample and save are kept."""
        return self.left_s - MARGIN * sum(self.costs_s.values())

    def seconds_per_step(self, step: int) -> float | None:
        """Mean seconds of a step since the last call, all that came between included; None at first."""
        last, self._lap = self._lap, (self.now(), step)
        if last is None or step <= last[1]:
            return None
        return (self._lap[0] - last[0]) / (step - last[1])

    def is_over(self) -> bool:
        """Whether one more step, then the closing evaluation, sample and save would pass the deadline."""
        return self.remaining_s <= 0
