"""A run on a terminal, seen from another one: where it stands, and its curves."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from microgpt.common.extras import wanted
from microgpt.common.output import harmless
from microgpt.common.words import format_duration, short_number
from microgpt.runs.layout import RUNNING

from .history import History, smoothed

MOST_POINTS = 400  # of a curve, which is as many as a terminal could show
SPEED_HEIGHT, ROOM_FOR_SPEED, LEAST_HEIGHT = 9, 30, 8  # lines of charts, and of a terminal that has room
N_TICKS, WIDE = 5, 60  # columns from which on there is room to explain


class Curve(NamedTuple):
    """Points of a chart: in braille a line, else that character at each."""

    colour: str
    marker: str
    x: np.ndarray
    y: np.ndarray


def screen(history: History, width: int, height: int, state: str, colours: bool = True) -> str:
    """All of it as text of so many columns and lines.

    Args: state: running, finished or stopped.  colours: with the codes that colour a terminal.
    """
    plotext = wanted("plotext", "terminal", "microgpt watch")
    lines = [harmless(line)[:width] for line in told(history, state)]
    room = height - len(lines)
    speed = SPEED_HEIGHT if room >= ROOM_FOR_SPEED else 0
    title = "loss (nats a token)" + (": training a line, held out o" if width >= WIDE else "")
    charts = [_chart(plotext, width, room - speed, title, _losses(history))]
    if speed:
        charts.append(
            _chart(plotext, width, speed, "speed (tokens per second)", _speed(history), from_zero=True)
        )
    return "\n".join([*lines, *(charts if colours else map(plotext.uncolorize, charts))])


def told(history: History, state: str) -> list[str]:
    """Where a run stands, in words."""
    trained, evaluated = history.trained, history.evaluated
    lines = [f"{history.name}: {state}, step {history.step:,} of {history.max_steps:,}"]
    if len(trained["step"]):
        last = {name: float(values[-1]) for name, values in trained.items()}
        share = history.share_of_peak
        left = f", {format_duration(last['left_s'])} left" if state == RUNNING else ""
        lines[0] += f", {format_duration(history.elapsed_s)} trained{left}"
        lines.append(
            f"loss {smoothed(trained['loss_nats'], 10)[-1]:.3f}  lr {last['lr']:.2g}  "
            f"norm {last['grad_norm']:.2g}  {last['tok_per_s']:,.0f} tokens/s"
            + ("" if share is None else f", {share:.0%} of peak")
        )
    if len(evaluated["step"]):
        bpb = evaluated["bpb"]
        best = int(np.nanargmin(bpb)) if np.isfinite(bpb).any() else -1
        lines.append(
            f"held out at step {evaluated['step'][-1]:,.0f}: {evaluated['loss_nats'][-1]:.4f} nats a token, "
            f"{bpb[-1]:.4f} bpb (best {bpb[best]:.4f} at {evaluated['step'][best]:,.0f})"
        )
    if alarms := history.of("alarm"):
        lines.append(f"alarm at step {alarms[-1]['step']:,}: {alarms[-1]['alarm']}: {alarms[-1]['why']}")
    return lines


def _losses(history: History) -> list[Curve]:
    trained, evaluated = history.trained, history.evaluated
    return [
        Curve("blue+", "braille", trained["step"], _mean(trained["loss_nats"])),
        Curve("orange+", "o", evaluated["step"], evaluated["loss_nats"]),
    ]


def _speed(history: History) -> list[Curve]:
    return [Curve("green+", "braille", history.trained["step"], _mean(history.trained["tok_per_s"]))]


def _mean(values: np.ndarray) -> np.ndarray:
    return smoothed(values, max(1, len(values) // 40))


def _chart(
    plotext: Any, width: int, height: int, title: str, curves: Sequence[Curve], from_zero: bool = False
) -> str:
    """One chart of a few curves against steps, as so many lines of text."""
    plotext.clear_figure()
    plotext.theme("clear")  # the terminal's own colours
    plotext.plot_size(width, max(LEAST_HEIGHT, height))
    plotext.title(title)
    plotext.xlabel("steps")
    seen = [_thinned(curve) for curve in curves]
    for curve in seen:
        draw = plotext.plot if curve.marker == "braille" else plotext.scatter
        draw(curve.x.tolist(), curve.y.tolist(), color=curve.colour, marker=curve.marker)
    _tick(plotext.xticks, np.concatenate([curve.x for curve in seen]), lambda step: f"{step:,.0f}")
    values = np.concatenate([curve.y for curve in seen])
    if from_zero and len(values):
        values = np.append(values, 0.0)
        plotext.ylim(0, 1.05 * values.max())
    _tick(plotext.yticks, values, short_number if from_zero else "{:.2f}".format)
    return str(plotext.build()).rstrip("\n")


def _thinned(curve: Curve) -> Curve:
    """The points that are finite, and not more of them than can be seen."""
    good = np.flatnonzero(np.isfinite(curve.y))
    shown = good[:: max(1, len(good) // MOST_POINTS)]
    return curve._replace(x=curve.x[shown], y=curve.y[shown])


def _tick(place: Any, values: np.ndarray, text: Callable[[float], str]) -> None:
    """Mark an axis at a few values."""
    if len(values):
        marks = np.linspace(values.min(), values.max(), N_TICKS).tolist()
        place(marks, [text(mark) for mark in marks])
