"""Time of a run: how much has passed, what things cost, and whether the limit allows another step."""

import contextlib
import math
import time
from collections.abc import Iterator

MARGIN = 1.25  # a closing evaluation or save may take this much longer than the last one


class Clock:
    """Training time over all sessions of a run, and the deadline of this one (`time.monotonic`)."""

    def __init__(
        self, elapsed_s: float = 0.0, deadline: float = math.inf, costs_s: dict[str, float] | None = None
    ) -> None:
        self._started = time.monotonic() - elapsed_s
        self.deadline = deadline
        self.costs_s = dict(costs_s or {})  # seconds that each kind of work took last time
        self._lap: tuple[float, int] | None = None

    @property
    def elapsed_s(self) -> float:
        """Seconds since the run began, without the time between sessions."""
        return time.monotonic() - self._started

    @contextlib.contextmanager
    def timing(self, name: str) -> Iterator[None]:
        """Remember what the block inside costs."""
        start = time.perf_counter()
        yield
        self.costs_s[name] = time.perf_counter() - start

    @property
    def remaining_s(self) -> float:
        """Seconds before the deadline that steps may take: closing evaluation, sample and save are kept."""
        return self.deadline - time.monotonic() - MARGIN * sum(self.costs_s.values())

    def seconds_per_step(self, step: int) -> float | None:
        """Mean seconds of a step since the last call, all that came between included; None at first."""
        last, self._lap = self._lap, (time.monotonic(), step)
        if last is None or step <= last[1]:
            return None
        return (self._lap[0] - last[0]) / (step - last[1])

    def is_over(self) -> bool:
        """Whether one more step, then the closing evaluation, sample and save would pass the deadline."""
        return self.remaining_s <= 0
