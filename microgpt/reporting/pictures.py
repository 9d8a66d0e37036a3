"""Pictures of runs: losses, learning rate, gradient norm and speed, against steps, tokens, time or FLOP."""

import contextlib
import io
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from microgpt.common.extras import wanted
from microgpt.evaluation.laws import Law
from microgpt.files.written import kind_of_picture, picture_file

from .history import History, smoothed

STEPS, TOKENS, TIME, FLOP = "steps", "tokens", "time", "flop"
AXES = (STEPS, TOKENS, TIME, FLOP)
COLOURS = ("#2b83c6", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # as of Okabe & Ito 2008
LINES = ("-", "--", ":", "-.")  # once all colours are taken
SMOOTH_SHARE = 1 / 40  # of the points of a line, whose mean the thick line shows
INCHES, DPI = (11.0, 6.6), 150


N_PLACES = 60  # of a curve
Panel = Callable[[Any], None]  # draws into axes


class Point(NamedTuple):
    """A run of a ladder: its rung, parameters, tokens, and held-out bits per byte."""

    rung: str
    n_params: float
    tokens: float
    bpb: float


class Foretold(NamedTuple):
    """What was foretold of a size, and the ends between which one run of it was to lie."""

    n_params: float
    bpb: float
    low: float
    high: float


class Theme(NamedTuple):
    """Colours of text and axes, of the grid, and of the paper."""

    ink: str
    grid: str
    paper: str


LIGHT, DARK = Theme("#222222", "#dddddd", "#ffffff"), Theme("#dddddd", "#444444", "#1b1d21")
# Colours of a picture within a page, which become the page's own, light or dark.
OF_PAGE = Theme("#010203", "#040506", "none")


class Axis(NamedTuple):
    """What pictures are drawn against: its label, and where on it a history's measurements lie."""

    label: str
    place: Callable[[History, dict[str, np.ndarray]], np.ndarray]


def axis_of(name: str, histories: Sequence[History]) -> Axis:
    """The axis of this name, in a unit that suits the runs."""
    if name == TIME:
        unit, seconds = _unit_of_time(max(history.elapsed_s for history in histories))
        return Axis(f"time of training ({unit})", lambda history, of: of["elapsed_s"] / seconds)
    if name == FLOP:
        return Axis("computed in training (FLOP)", flop_of)
    if name == TOKENS:
        return Axis("tokens seen", lambda history, of: of["tokens"])
    return Axis("optimizer steps", lambda history, of: of["step"])


def flop_of(history: History, of: dict[str, np.ndarray]) -> np.ndarray:
    """FLOP of training so far; steps with the first blocks alone cost a part."""
    session, steps = history.sessions[-1], np.maximum(of["step"], 1)
    shallow = np.minimum(of["step"], history.shallow_steps) / steps
    part = 1 - shallow * (1 - (session.get("shallow_cost") or 1.0))
    return of["tokens"] * part * session["flop_per_token"]


def _unit_of_time(seconds: float) -> tuple[str, float]:
    for name, unit in (("days", 86_400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * unit:
            return name, unit
    return "seconds", 1.0


# -------------------------------------------------------------------------------- figures


def picture(path: Path, histories: Sequence[History], x: str = STEPS, theme: Theme = LIGHT) -> bytes:
    """All of it as the kind of file that a name tells, PNG or SVG.

    Raises: ConfigError: another kind of file, or matplotlib is not installed.
    """
    kind = kind_of_picture(path, "--out")
    with _drawing():
        figure = _figure(INCHES, theme)
        grid = figure.add_gridspec(2, 6, height_ratios=(3, 2))
        _losses(figure.add_subplot(grid[0, :4]), histories, x)
        _bits(figure.add_subplot(grid[0, 4:]), histories, x)
        for number, draw in enumerate((_rates, _norms, _speeds)):
            draw(figure.add_subplot(grid[1, 2 * number : 2 * number + 2]), histories, x)
        _dress(figure, theme)
        return picture_file(figure, kind, dpi=DPI)


def svg_of_losses(history: History, x: str = STEPS) -> str:
    """Training and held-out loss, and bits per byte, for a page: <svg>...</svg>."""
    return _svg((11.0, 4.0), [(_of(draw, history, x), width) for draw, width in ((_losses, 4), (_bits, 2))])


def svg_of_course(history: History, x: str = STEPS) -> str:
    """Learning rate, gradient norm and speed, for a page."""
    return _svg((11.0, 2.8), [(_of(draw, history, x), 2) for draw in (_rates, _norms, _speeds)])


def svg_of_law(points: Sequence[Point], foretold: Sequence[Foretold], law: Law | None) -> str:
    """Held-out bits per byte of runs by size, what was foretold of some, and the law of all."""

    def sizes(axes: Any) -> None:
        for number, name in enumerate(dict.fromkeys(point.rung for point in points)):
            here = [point for point in points if point.rung == name]
            places, values = [point.n_params for point in here], [point.bpb for point in here]
            axes.plot(places, values, "o", color=_look(number)[0], markersize=5, label=name)
        for one in foretold:
            ends = [[one.bpb - one.low], [one.high - one.bpb]]
            look = {"fmt": "s", "mfc": "none", "color": COLOURS[1], "capsize": 4, "elinewidth": 1.2}
            axes.errorbar(one.n_params, one.bpb, ends, **look)
        if law is not None:
            N = np.geomspace(min(p.n_params for p in points), 2 * max(p.n_params for p in points), N_PLACES)
            ratio = float(np.mean([point.tokens / point.n_params for point in points]))
            axes.plot(N, law.loss(N, ratio * N), "-", color=COLOURS[0], linewidth=1.2, zorder=0)
        axes.set_title("held out")
        axes.set_xscale("log")
        axes.set_xlabel("parameters")
        axes.set_ylabel("bits per byte")
        axes.xaxis.set_major_formatter(_short)
        axes.xaxis.set_minor_formatter(_short)
        axes.legend(frameon=False)

    return _svg((11.0, 4.2), [(sizes, 1)])


def _of(draw: Callable[..., None], history: History, x: str) -> Panel:
    return lambda axes: draw(axes, [history], x)


def _svg(inches: tuple[float, float], panels: Sequence[tuple[Panel, int]]) -> str:
    with _drawing():
        figure, first = _figure(inches, OF_PAGE), 0
        grid = figure.add_gridspec(1, sum(width for _, width in panels))
        for draw, width in panels:
            draw(figure.add_subplot(grid[0, first : first + width]))
            first += width
        _dress(figure, OF_PAGE)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = file.getvalue()
    text = text[text.index("<svg") :].replace(OF_PAGE.ink, "var(--ink)").replace(OF_PAGE.grid, "var(--grid)")
    return re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)


@contextlib.contextmanager
def _drawing() -> Iterator[None]:
    """Settings of matplotlib while we draw, and for nobody else."""
    matplotlib = wanted("matplotlib", "plot", "drawing")
    with matplotlib.rc_context(
        {
            **{"svg.hashsalt": "microgpt", "svg.fonttype": "none", "font.size": 9.0},
            **{"font.family": "sans-serif", "axes.titlesize": 10.0, "axes.titlelocation": "left"},
        }
    ):
        yield


def _figure(inches: tuple[float, float], theme: Theme) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=inches, layout="constrained", facecolor=theme.paper)


def _dress(figure: Any, theme: Theme) -> None:
    """Give all parts of a figure the colours of a theme."""
    for axes in figure.axes:
        axes.set_facecolor(theme.paper)
        axes.grid(color=theme.grid, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(which="both", colors=theme.ink)
        for text in (axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label):
            text.set_color(theme.ink)
        for offset in (axes.xaxis.get_offset_text(), axes.yaxis.get_offset_text()):
            offset.set_color(theme.ink)
        for name, spine in axes.spines.items():
            spine.set_visible(name in ("left", "bottom"))
            spine.set_color(theme.ink)
        if legend := axes.get_legend():
            for text in legend.get_texts():
                text.set_color(theme.ink)


# -------------------------------------------------------------------------------- panels


def _losses(axes: Any, histories: Sequence[History], x: str) -> None:
    """Training loss, faint as it was and strong as a mean; held-out loss with its interval."""
    axis, several = axis_of(x, histories), len(histories) > 1
    for number, history in enumerate(histories):
        colour, line = _look(number)
        _line(axes, axis, history, "loss_nats", colour, line, "" if several else "training")
        other = colour if several else COLOURS[1]
        places, (losses, halves) = axis.place(history, history.evaluated), history.held_out
        label = history.name if several else "held out, 95 % interval"
        axes.plot(places, losses, "o-", color=other, markersize=3.5, linewidth=1.2, label=label)
        axes.fill_between(places, losses - halves, losses + halves, color=other, alpha=0.25, linewidth=0)
    _finish(axes, axis, "loss: training (line), held out (dots)" if several else "loss", "nats a token")
    axes.legend(frameon=False)


def _bits(axes: Any, histories: Sequence[History], x: str) -> None:
    """Held-out bits per byte, which compare across tokenizers."""
    axis = axis_of(x, histories)
    for number, history in enumerate(histories):
        colour = _look(number)[0] if len(histories) > 1 else COLOURS[1]
        places, bpb = axis.place(history, history.evaluated), history.evaluated["bpb"]
        axes.plot(places, bpb, "o-", color=colour, markersize=3.5, linewidth=1.2)
    _finish(axes, axis, "held out", "bits per byte")


def _rates(axes: Any, histories: Sequence[History], x: str) -> None:
    _of_steps(axes, histories, x, "lr", "learning rate", "")


def _norms(axes: Any, histories: Sequence[History], x: str) -> None:
    _of_steps(axes, histories, x, "grad_norm", "gradient norm, before clipping", "")
    if not any((history.trained["grad_norm"] > 0).any() for history in histories):
        return
    axes.set_yscale("log")
    for kind in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        kind(wanted("matplotlib.ticker", "plot", "drawing").LogFormatter())


def _speeds(axes: Any, histories: Sequence[History], x: str) -> None:
    _of_steps(axes, histories, x, "tok_per_s", "speed", "tokens per second")
    axes.set_ylim(bottom=0)


def _of_steps(axes: Any, histories: Sequence[History], x: str, name: str, title: str, unit: str) -> None:
    axis = axis_of(x, histories)
    for number, history in enumerate(histories):
        _line(axes, axis, history, name, *_look(number))
    _finish(axes, axis, title, unit)


def _line(
    axes: Any, axis: Axis, history: History, name: str, colour: str, line: str, label: str = ""
) -> None:
    """What was logged of steps: each value faint, their running mean strong."""
    places, values = axis.place(history, history.trained), history.trained[name]
    width = max(1, round(SMOOTH_SHARE * len(values)))
    if width > 1 and name != "lr":
        axes.plot(places, values, color=colour, alpha=0.3, linewidth=0.7)
        values = smoothed(values, width)
    axes.plot(places, values, line, color=colour, linewidth=1.4, label=label or None)


def _look(number: int) -> tuple[str, str]:
    """Colour and kind of line of a run."""
    return COLOURS[number % len(COLOURS)], LINES[number // len(COLOURS) % len(LINES)]


def _finish(axes: Any, axis: Axis, title: str, unit: str) -> None:
    axes.set_title(title)
    axes.set_xlabel(axis.label)
    axes.set_ylabel(unit)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(_short)
    if unit == "tokens per second":
        axes.yaxis.set_major_formatter(_short)


def _short(value: float, _place: int | None = None) -> str:
    """`20k`, `1.5M`, `3e15`."""
    for size, letter in ((1e12, ""), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value:.3g}".replace("e+", "e") if size == 1e12 else f"{value / size:.4g}{letter}"
    return f"{value:.4g}"
