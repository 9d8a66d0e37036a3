"""What a person sees while a run goes on: one line on a terminal, a line every few seconds elsewhere."""

import math
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

from tqdm import tqdm

from microgpt.common.output import Lasting, escaped
from microgpt.common.words import format_duration, short_number
from microgpt.runs.events import Empty, Trained

WIDTH = 80  # columns, where there is no terminal
SHORTEST_BAR = 10  # columns that must be left for the bar to be drawn
SMOOTHING = 0.95  # of the shown loss and gradient norm
SPEED_SMOOTHING = 0.8  # of the shown tokens per second
IN_PLACE_OF_LOSS = {"reward": "reward", "preference_loss": "preference"}  # facts that a step is about, if any


class Progress:
    """Shows on stderr: steps done, loss (nats a token) or what is trained for in its place, such as a reward,
    held-out bits per byte and the step that they are of, learning rate, norm of the gradient, tokens per
    second, these as a share of what the CPU computes at most, and the time left.

    Args: peak_tok_per_s: that the threads would do if all they did were large matrix products.  A step that
        is faster raises it, for other work was on the CPUs when it was measured.
    """

    def __init__(
        self,
        step: int,
        max_steps: int,
        peak_tok_per_s: float = math.inf,
        stream: TextIO | None = None,
        line_every_s: float = 5.0,
    ) -> None:
        self._stream: Any = Lasting(stream or sys.stderr)
        self._step, self._max_steps, self._peak = step, max_steps, peak_tok_per_s
        self._bpb, self._bpb_step = "", 0
        self._what = "loss"
        self._loss: float | None = None
        self._norm: float | None = None
        self._tok_per_s: float | None = None
        self._is_whole = True  # all blocks are trained, which the peak is of
        self._lr, self._left_s = 0.0, 0.0
        self._line_every_s, self._line_due = line_every_s, 0.0
        self._bar: Any = None
        self._has_bar = self._stream.isatty()

    def stepped(self, event: Trained | Empty) -> None:
        """Show one finished step; an empty one, which computes less, leaves loss and speed as they were."""
        self._step, self._left_s = event.step, event.left_s
        if isinstance(event, Trained):
            if self._is_whole != (event.blocks is None):  # steps have another speed from now on
                self._is_whole, self._tok_per_s = not self._is_whole, None
            self._tok_per_s = _smoothed(self._tok_per_s, event.tok_per_s, SPEED_SMOOTHING)
            if self._is_whole:
                self._peak = max(self._peak, event.tok_per_s)
            self._what, value = _aim(event)
            self._loss = _smoothed(self._loss, value, SMOOTHING)
            self._norm = _smoothed(self._norm, event.grad_norm, SMOOTHING)
            self._lr = event.lr
        self._draw()

    def planned(self, max_steps: int) -> None:
        """Count up to another number of steps from now on."""
        self._max_steps = max_steps
        if self._bar is not None:
            self._bar.total = max_steps

    def evaluated(self, bpb: float, step: int) -> None:
        """Show a new held-out result, of this step, from now on."""
        self._bpb, self._bpb_step = f"{bpb:.3f} bpb", step

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

    def _draw(self) -> None:
        if self._has_bar:
            if self._bar is None:
                first = {"total": self._max_steps, "initial": self._step, "file": self._stream}
                self._bar = _Line(self.line, **first)
            self._bar.update(self._step - self._bar.n)
        elif time.monotonic() >= self._line_due:
            self._line_due = time.monotonic() + self._line_every_s
            self.say(self.line(math.inf))

    def line(self, width: float) -> str:
        """All of it in so many columns: where it is narrow, words that explain go first."""
        steps, norm = f"{self._step}/{self._max_steps}", self._norm
        loss = "" if self._loss is None else f"{self._what} {self._loss:.3f}"
        bpb = self._bpb
        of_step = bpb and f"{bpb}@{self._bpb_step}"
        speed, left = self._tok_per_s, format_duration(self._left_s)
        share = "" if speed is None or not self._is_whole else f"{speed / self._peak:.0%}"
        rest = (
            f"lr {self._lr:.1e}".replace("e-0", "e-") if self._lr else "",
            "" if norm is None else f"norm {norm:.2g}",
            "" if speed is None else f"{short_number(speed)} tok/s",
        )
        forms = (
            (
                "  ",
                f"step {steps}",
                loss,
                bpb and f"held-out {bpb} at step {self._bpb_step}",
                *rest,
                share and f"{share} of peak",
                f"{left} left",
            ),
            ("  ", steps, loss, of_step, *rest, share and f"{share} of peak", f"{left} left"),
            (" ", steps, loss, of_step, *rest, share and f"{share} peak", f"{left} left"),
            (" ", steps, loss, of_step, *rest, share, f"{left} left"),
            (" ", steps, loss, of_step, *rest, share, left),
            (" ", steps, loss, bpb, *rest, share, left),
        )
        lines = [between.join(filter(None, words)) for between, *words in forms]
        return next((line for line in lines if len(line) <= width), lines[-1])


class _Line(tqdm):
    """A bar of tqdm whose words are made when they are drawn, which is ten times a second at most."""

    def __init__(self, words: Callable[[float], str], **kwargs: Any) -> None:
        self._words = words
        super().__init__(dynamic_ncols=True, **kwargs)

    def __str__(self) -> str:
        facts = self.format_dict
        width = facts["ncols"] or WIDTH
        words = self._words(width)
        if width - len(words) < SHORTEST_BAR:
            return words[:width]
        return self.format_meter(**{**facts, "bar_format": words + " |{bar}|"})


def _aim(event: Trained) -> tuple[str, float]:
    """What a step is to lower or raise: its name in the line, and its value."""
    facts = event.facts or {}
    told = ((shown, facts[name]) for name, shown in IN_PLACE_OF_LOSS.items() if name in facts)
    return next(told, ("loss", event.loss_nats))


def _smoothed(old: float | None, new: float, keep: float) -> float:
    return new if old is None else keep * old + (1 - keep) * new
