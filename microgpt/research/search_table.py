"""What a search found, for people and programs: its front, and where each came from, as table or picture."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from microgpt.common.errors import ConfigError
from microgpt.common.extras import wanted
from microgpt.common.output import json_line
from microgpt.common.words import counted, format_amount
from microgpt.files.written import kind_of_picture, put_picture

from .front import on_front, origin
from .search_file import OBJECTIVES
from .trials import AGAIN, DIVERGED, FINISHED, IMPOSSIBLE, STOPPED, Trial, told

HEADS = ("", "bits/byte", "seeds", "FLOP/token", "tok/s", "memory", "state", "params", "from", "settings")
NOTES = (
    "all were trained on as many tokens; tok/s is measured and differs from time to time",
    "from: the member of the front of its time whose settings are nearest, and which of them were changed",
    "state: bytes that decoding keeps of a full window",
    "seeds: mean over seeds and half of its 95 % interval, on all of the held-out text",
)


class BySeeds(NamedTuple):
    """Bits per byte over seeds: the mean, half of its 95 % interval (None: of one seed), and of how many."""

    mean: float
    half: float | None
    n: int


class Member(NamedTuple):
    """A candidate of the front.

    origin: the member of the front of its time that is nearest; None: there was none.  changes: settings that
    differ from it, (before, now).  by_seeds: None: it is of one seed.
    """

    trial: Trial
    origin: int | None
    changes: dict[str, tuple[Any, Any]]
    by_seeds: BySeeds | None


def costs_of(trials: Sequence[Trial], objectives: Sequence[str]) -> np.ndarray:
    """Objectives with less being better, (n, objectives)."""
    signs = [-1.0 if OBJECTIVES[name][1] else 1.0 for name in objectives]
    return np.array([trial.objectives(objectives) for trial in trials]).reshape(-1, len(signs)) * signs


def front_of(trials: Sequence[Trial], objectives: Sequence[str]) -> list[Trial]:
    """The front of those that finished, fewest bits per byte first."""
    done = [trial for trial in trials if trial.state == FINISHED]
    if not done:
        return []
    best = [
        trial for trial, is_best in zip(done, on_front(costs_of(done, objectives)), strict=True) if is_best
    ]
    return sorted(best, key=lambda trial: (trial.bpb, trial.number))


def members(
    trials: Sequence[Trial],
    objectives: Sequence[str],
    by_seeds: Mapping[int, BySeeds] | None = None,
) -> list[Member]:
    """The front with where its members came from."""
    return [
        _member(trial, trials, objectives, (by_seeds or {}).get(trial.number))
        for trial in front_of(trials, objectives)
    ]


def _member(
    trial: Trial,
    trials: Sequence[Trial],
    objectives: Sequence[str],
    by_seeds: BySeeds | None,
) -> Member:
    nearest = origin_of(trial, trials, objectives)
    if nearest is None:
        return Member(trial, None, {}, by_seeds)
    before = trials[nearest].settings
    changes = {n: (before.get(n), one) for n, one in trial.settings.items() if before.get(n) != one}
    return Member(trial, nearest, changes, by_seeds)


def origin_of(trial: Trial, trials: Sequence[Trial], objectives: Sequence[str]) -> int | None:
    """The member of the front of its time whose settings are nearest; None: there was none yet."""
    then = front_of(trials[: trial.number], objectives)
    return origin(trial.number, trial.settings, [(one.number, one.settings) for one in then])


def lineage(trial: Trial, trials: Sequence[Trial], objectives: Sequence[str]) -> list[int]:
    """The candidate, where it came from, where that came from, and so on."""
    chain = [trial.number]
    while (before := origin_of(trials[chain[-1]], trials, objectives)) is not None:
        chain.append(before)
    return chain


# ------------------------------------------------------------------------------------------ for people


def summary(trials: Sequence[Trial]) -> str:
    """How many of what, and how many tokens they took."""
    words = (
        (FINISHED, "finished"),
        (STOPPED, "stopped at the rung"),
        (DIVERGED, "diverged"),
        (IMPOSSIBLE, "impossible"),
        (AGAIN, "drawn again"),
    )
    counts = [(sum(one.state == state for one in trials), text) for state, text in words]
    spent = sum(one.tokens for one in trials)
    told_of = ", ".join(f"{n} {text}" for n, text in counts if n)
    return f"{counted(len(trials), 'draw')}: {told_of or 'none'}; {spent:,} tokens ({format_amount(spent)})"


def markdown(found: Sequence[Member], trials: Sequence[Trial]) -> str:
    """The front as a table."""
    rows = [HEADS, ("---",) * len(HEADS), *map(cells, found)]
    table = ["| " + " | ".join(row) + " |" for row in rows]
    carried = {one.trial.parent_tokens for one in found if one.trial.parent_tokens}
    of_parents = [
        f"with the weights of parents that had seen {format_amount(n)} tokens" for n in sorted(carried)
    ]
    return "\n".join([summary(trials), *of_parents, "", *table, "", *(f"- {note}" for note in NOTES)])


def cells(one: Member) -> tuple[str, ...]:
    """A line of the table."""
    trial, seeds = one.trial, one.by_seeds
    changes = ", ".join(f"{name} {_shown(a)} -> {_shown(b)}" for name, (a, b) in one.changes.items())
    return (
        f"{trial.number:04d}",
        f"{trial.bpb:.4f}",
        ""
        if seeds is None
        else f"{seeds.mean:.4f}" + ("" if seeds.half is None else f" +- {seeds.half:.4f}"),
        format_amount(trial.flop_per_token),
        f"{trial.tok_per_s:,.0f}",
        f"{format_amount(trial.memory_bytes)}B",
        f"{format_amount(trial.state_bytes)}B",
        format_amount(trial.n_params),
        "chance" if one.origin is None else f"{one.origin:04d}: {changes}",
        told(trial.settings),
    )


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def as_dict(one: Member) -> dict[str, Any]:
    """Plain values by names that say what they are."""
    trial = one.trial
    names = ("number", "settings", "tokens", "parent", "parent_tokens", "rung_bpb", "n_params", *OBJECTIVES)
    return {name: getattr(trial, name) for name in names} | {
        "bpb_of_seeds": one.by_seeds and one.by_seeds._asdict(),
        "origin": one.origin,
        "changes": {name: list(pair) for name, pair in one.changes.items()},
    }


def json_text(found: Sequence[Member]) -> str:
    """A list of members."""
    return json_line([as_dict(one) for one in found])


def csv_text(trials: Sequence[Trial], objectives: Sequence[str]) -> str:
    """A line for each draw; what is not known is empty."""
    file, best = io.StringIO(), {one.number for one in front_of(trials, objectives)}
    names = sorted({name for one in trials for name in one.settings})
    numbers = ("tokens", "parent_tokens", "rung_bpb", *OBJECTIVES, "n_params")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["number", "state", "is_on_front", *numbers, "parent", *names, "why"])
    for one in trials:
        values = [getattr(one, name) for name in numbers]
        settings = [one.settings.get(name, "") for name in names]
        shown = ["" if value is None else value for value in values]
        writer.writerow([one.number, one.state, one.number in best, *shown, one.parent, *settings, one.why])
    return file.getvalue()


# ------------------------------------------------------------------------------------------ a picture


def draw(trials: Sequence[Trial], objectives: Sequence[str], path: Path) -> None:
    """Draw bits per byte by each other objective: all that finished, the front, and where it came from.

    Raises: ConfigError: matplotlib is not installed, the name is no picture's, or something else is there.
    """
    kind_of_picture(path, "--plot")
    matplotlib = wanted("matplotlib", "plot", "--plot")
    matplotlib.use("Agg")
    with matplotlib.rc_context({"svg.hashsalt": "microgpt"}):
        put_picture(path, _figure(trials, objectives), "--plot")


def svg(trials: Sequence[Trial], objectives: Sequence[str]) -> str:
    """The same for a page, <svg>...</svg>; empty where matplotlib is not installed."""
    try:
        matplotlib = wanted("matplotlib", "plot", "a picture")
    except ConfigError:
        return ""
    matplotlib.use("Agg")
    file = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "microgpt"}):
        _figure(trials, objectives).savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    return text[text.index("<svg") :]


def _figure(trials: Sequence[Trial], objectives: Sequence[str]) -> Any:
    figure_kind = wanted("matplotlib.figure", "plot", "--plot").Figure
    others = [name for name in objectives if name != "bpb"] or ["flop_per_token"]
    figure = figure_kind(figsize=(5.0 * len(others), 4.0), layout="constrained")
    done, best = [one for one in trials if one.state == FINISHED], front_of(trials, objectives)
    for place, name in enumerate(others, 1):
        axes = figure.add_subplot(1, len(others), place)
        for one in best:
            chain = [trials[number] for number in lineage(one, trials, objectives)]
            axes.plot(*_places(chain, name), "-", color="0.8", lw=1, zorder=1)
        axes.plot(*_places(done, name), "o", color="0.6", ms=4, label="finished")
        axes.plot(*_places(best, name), "o", color="tab:red", ms=6, label="front")
        for one in best:
            axes.annotate(
                f"{one.number}", (getattr(one, name), one.bpb), textcoords="offset points", xytext=(4, 4)
            )
        axes.set(xlabel=OBJECTIVES[name][0], ylabel="bits per byte", xscale="log")
    if done:
        figure.axes[0].legend()
    return figure


def _places(trials: Sequence[Trial], name: str) -> tuple[list[float], list[Any]]:
    return [getattr(one, name) for one in trials], [one.bpb for one in trials]
