"""What the candidates of a search say about priors: which were right to have, which others are better.

The effect of each is told from those of all other settings that were tried (`evaluation/effects.py`), which
are taken to add up.  Where candidates were stopped at the rung all are compared there, for those that went on
were chosen by what is to be told.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from microgpt.common.errors import ConfigError
from microgpt.common.words import counted
from microgpt.evaluation.effects import COVERED, Effect, Factor, Value, effects, factor, merged
from microgpt.files import durable
from microgpt.files.records import parse_json, read_json
from microgpt.model import ModelConfig
from microgpt.runs.priors import SETTINGS, USUAL, Priors, shape_of, stated
from microgpt.runs.spec import Spec

from .search import changed_spec
from .search_file import PRIOR
from .trials import FINISHED, RECORD, STOPPED, TABLE

KEPT, MOVED, UNKNOWN = "kept", "moved", "not enough evidence"
MARGIN = 0.005  # of the loss: what is better by less is no reason to leave a prior
NOTES = (
    f"kept: other values are not better by more than {MARGIN:.1%}; intervals hold for all priors at once, "
    f"{COVERED:.0%} of the time",
    "  settings are taken to add up; what a prior saves in memory or time is not counted",
)
UNITS = {"ffn": "x", "window": " sqrt(T)", "global_stride": " sqrt(T)"}


class Row(NamedTuple):
    """A candidate: its model, the settings that were drawn, and its held-out bits per byte."""

    model: ModelConfig
    settings: dict[str, Any]
    bpb: float


class Compared(NamedTuple):
    """Candidates that can be compared.  tokens: after which; is_rung: not all of their tokens."""

    priors: Priors
    seq_len: int
    rows: list[Row]
    tokens: int
    is_rung: bool


class Evidence(NamedTuple):
    """Of one prior.

    value: what it says.  verdict: kept, moved, or not enough evidence; why: in words.
    to: the values that may be best, of those that were tried, the likeliest first; where it moved.
    change, low, high: what that one makes of bits per byte, as a share, and the interval of it.
    """

    prior: str
    value: float | str
    verdict: str
    why: str
    to: tuple[float | str, ...] = ()
    change: float = math.nan
    low: float = math.nan
    high: float = math.nan


def read_rows(folder: Path) -> Compared:
    """The candidates of a search that were trained from nothing, after as many tokens each.

    Raises: ConfigError: there is no search, or nothing in it to compare.
    """
    table = folder / TABLE
    if not (folder / RECORD).is_file() or not table.is_file():
        raise ConfigError(
            f"--priors {folder}: expected the folder of a search with candidates, {RECORD} and {TABLE} in it"
        )
    base = Spec.from_dict(read_json(folder / RECORD)["run"])
    with durable.open_regular(table) as file:
        found = [parse_json(line, table) for line in file.read().splitlines()]
    trained = [one for one in found if one["state"] in (FINISHED, STOPPED)]
    own = [one for one in trained if not one["parent_tokens"] and not one["parent"]]
    if not own:
        raise ConfigError(
            f"--priors {folder}: {len(trained)} candidates were trained, none of them from nothing; weights "
            "of a parent keep its shape"
        )
    stopped = [one["tokens"] for one in own if one["state"] == STOPPED]
    which = "rung_bpb" if stopped else "bpb"
    rows = [
        Row(changed_spec(base, one["settings"]).plan().model, one["settings"], one[which])
        for one in own
        if one[which]
    ]
    priors = Priors.from_dict({**_usual(), **base.priors})
    tokens = max(stopped) if stopped else max(one["tokens"] for one in own)
    return Compared(priors, base.plan().model.seq_len, rows, tokens, bool(stopped))


def _usual() -> dict[str, Any]:
    return {name: value for name, value in dataclasses.asdict(USUAL).items() if value is not None}


def evidence(found: Compared, seed: int = 0) -> list[Evidence]:
    """What they say about each prior."""
    wanted, factors = stated(found.priors, found.seq_len), _others(found.rows)
    shapes = [shape_of(row.model) for row in found.rows]
    for name in SETTINGS:
        values = merged([shape.get(name) for shape in shapes], wanted.get(name))
        if (one := factor(values, wanted.get(name))) is not None:
            factors[name] = one
    asked = {name: value for name, value in wanted.items() if name in factors}
    known = effects([row.bpb for row in found.rows], factors, asked, seed=seed) if asked else {}
    told = [_of_prior(name, value, known.get(name), shapes) for name, value in wanted.items()]
    cap = found.priors.tokens_per_param
    if cap is not None:
        why = "all were trained on as many tokens; runs of several sizes and lengths tell (microgpt fit RUNS)"
        told.append(Evidence("tokens_per_param", cap, UNKNOWN, why))
    return told


def _others(rows: Sequence[Row]) -> dict[str, Factor]:
    """Factors of all that was drawn and is no prior, nor follows from one."""
    names = sorted({name for row in rows for name in row.settings})
    found = {}
    for name in names:
        if name.startswith(PRIOR) or name in SETTINGS.values():
            continue
        one = factor([_plain(row.settings.get(name)) for row in rows])
        if one is not None:
            found[name] = one
    return found


def _plain(value: Any) -> Value:
    return value if value is None or type(value) in (int, float) else str(value)


def _of_prior(
    name: str, value: float | str, known: Effect | str | None, shapes: Sequence[Mapping[str, float | str]]
) -> Evidence:
    """The verdict.  known: its effect, or why there is none; None: all have the same."""
    if known is None:
        has = [in_words(name, shape[name]) for shape in shapes if name in shape]
        known = f"not tried: all have {has[0]}" if has else "not tried: none has one"
    if isinstance(known, str):
        return Evidence(name, value, UNKNOWN, known)
    best = int(np.argmin(known.change))
    numbers = tuple(math.expm1(one[best]) for one in (known.change, known.low, known.high))
    others = np.array([one != value for one in known.values])
    least, most = math.expm1(known.low[others].min()), math.expm1(known.high[others].max())
    if least >= -MARGIN:
        no_better = f"no other value is better by more than {-least:.1%}"
        why = no_better if least < 0 else f"all others are worse, by {least:.1%} or more"
        return Evidence(name, value, KEPT, why, (), *numbers)
    if known.high.min() >= 0:
        why = f"the others are between {-least:.1%} better and {most:.1%} worse"
        return Evidence(name, value, UNKNOWN, why, (), *numbers)
    may_be = np.flatnonzero(known.low <= known.high.min())
    to = tuple(known.values[i] for i in sorted(may_be, key=lambda i: known.change[i]))
    fewer = f"{-numbers[0]:.1%} fewer bits per byte ({-numbers[2]:.1%} to {-numbers[1]:.1%})"
    why = f"{_interval(name, to)}, with {fewer}"
    return Evidence(name, value, MOVED, why, to, *numbers)


def _interval(name: str, to: Sequence[float | str]) -> str:
    """`32 (16 to 32)`: what is best, and what may be."""
    best, numbers = in_words(name, to[0]), sorted(one for one in to if not isinstance(one, str))
    if len(to) == 1:
        return f"to {best}"
    if numbers:
        return f"to {best} ({in_words(name, numbers[0])} to {in_words(name, numbers[-1])})"
    return f"to {' or '.join(map(str, to))}"


def in_words(name: str, value: float | str) -> str:
    """A prior's value for people: `4x`, `6 sqrt(T)`."""
    return value if isinstance(value, str) else f"{value:g}{UNITS.get(name, '')}"


def told(found: Compared, of: Sequence[Evidence]) -> list[str]:
    """A line for each prior, and what all rests on."""
    at = f"the rung of {found.tokens:,} tokens, for some ended there" if found.is_rung else "their end"
    lines = [f"search   {counted(len(found.rows), 'candidate')} from nothing, compared at {at}"]
    rows = [
        (
            one.prior,
            in_words(one.prior, one.value),
            f"{one.verdict}{' ' if one.verdict == MOVED else ': '}{one.why}",
        )
        for one in of
    ]
    first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
    lines += [f"  {name.ljust(first)}  {value.ljust(second)}  {text}" for name, value, text in rows]
    return [*lines, *NOTES]


def as_dict(found: Compared, of: Sequence[Evidence]) -> dict[str, Any]:
    """Plain values."""
    about = {"candidates": len(found.rows), "tokens": found.tokens, "is_rung": found.is_rung}
    return about | {"priors": [one._asdict() for one in of]}
