"""What a person sees while a run goes on: a bar on a terminal, a line every few seconds elsewhere."""

import math
import sys
import time
from typing import Any, TextIO

from tqdm import tqdm

from microgpt.common.output import Lasting, escaped
from microgpt.common.words import format_duration

BAR = "{desc} |{bar}|"  # what does not fit is cut off at its end
SMOOTHING = 0.95  # of the shown loss
SPEED_SMOOTHING = 0.8  # of the shown tokens per second


class Progress:
    """Shows steps done, loss, held-out bits per byte, tokens per second and time left, on stderr."""

    def __init__(
        self,
        step: int,
        max_steps: int,
        bpb: float | None = None,
        stream: TextIO | None = None,
        line_every_s: float = 5.0,
    ) -> None:
        self._stream: Any = Lasting(stream or sys.stderr)
        self._started, self._first_step = time.monotonic(), step
        self._step, self._max_steps, self._bpb = step, max_steps, bpb
        self._loss: float | None = None
        self._tok_per_s: float | None = None
        self._line_every_s, self._line_due = line_every_s, 0.0
        self._bar: Any = None
        self._has_bar = self._stream.isatty()
        self._left_s = math.inf  # before training must have ended

    def stepped(self, step: int, loss: float | None, tok_per_s: float, left_s: float | None = None) -> None:
        """Show one finished step; one without a loss leaves that which is shown.  left_s: before training
        must have ended."""
        self._open_bar()
        if left_s is not None:
            self._left_s = left_s
        if self._tok_per_s is None:  # what came before the first step is not its price
            self._started, self._first_step = time.monotonic(), step
        self._step = step
        if loss is not None:
            self._loss = _smoothed(self._loss, loss, SMOOTHING)
        self._tok_per_s = _smoothed(self._tok_per_s, tok_per_s, SPEED_SMOOTHING)
        if self._bar is not None:
            self._bar.set_description_str(self._line(), refresh=False)
            self._bar.update(step - self._bar.n)
        elif time.monotonic() >= self._line_due:
            self._line_due = time.monotonic() + self._line_every_s
            self.say(f"step {self._line()}")

    def planned(self, max_steps: int) -> None:
        """Count up to another number of steps from now on."""
        self._max_steps = max_steps
        if self._bar is not None:
            self._bar.total = max_steps

    def evaluated(self, bpb: float) -> None:
        """Show a new held-out result from now on."""
        self._bpb = bpb

    def say(self, text: str) -> None:
        """Print a line without disturbing the bar."""
        text = escaped(text)
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        else:
            print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()

    def _open_bar(self) -> None:
        if self._has_bar and self._bar is None:
            self._bar = tqdm(
                desc=f"{self._step}/{self._max_steps}",
                total=self._max_steps,
                initial=self._step,
                file=self._stream,
                bar_format=BAR,
                dynamic_ncols=True,
            )

    def _line(self) -> str:
        return f"{self._step}/{self._max_steps}  {self._numbers()}{self._time_left()}"

    def _numbers(self) -> str:
        held_out = "" if self._bpb is None else f"held-out {self._bpb:.3f} bpb, "
        loss = "" if self._loss is None else f"loss {self._loss:.3f}, "
        return f"{loss}{held_out}{self._tok_per_s:,.0f} tok/s"

    def _time_left(self) -> str:
        if self._step == self._first_step:
            return ""
        per_step = (time.monotonic() - self._started) / (self._step - self._first_step)
        left = min(per_step * (self._max_steps - self._step), self._left_s)
        return f", {format_duration(left)} left" if left > 0 else ""


def _smoothed(old: float | None, new: float, keep: float) -> float:
    return new if old is None else keep * old + (1 - keep) * new
