"""Which size of model ends lowest in a given time or memory: by runs that were measured, and by nothing else.

`quality.csv` holds them; `python -m benchmarks.choices` makes it.  A run of a length between two that were
measured is taken to end between them; of longer and shorter ones, or other text, nothing is known.
"""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from microgpt.common.errors import ConfigError
from microgpt.common.words import aligned, format_amount
from microgpt.evaluation.alarms import published_fit
from microgpt.training.horizon import planned_steps
from microgpt.training.needs import what_fits

from .rehearsal import Rehearsal

TABLE = Path(__file__).with_name("quality.csv")


class Measured(NamedTuple):
    """How a run ended: held-out bits per byte after so many tokens of a kind of text."""

    kind: str
    preset: str
    params: int
    tokens: int
    bpb: float


class Choice(NamedTuple):
    """What is known of a preset.  bpb: expected, None if it is not known; note: why not.  nats: by fits."""

    preset: str
    tokens: int
    bpb: float | None
    nats: float | None
    note: str


def measured(path: Path = TABLE) -> list[Measured]:
    """The table of runs."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        return [
            Measured(row["kind"], row["preset"], int(row["params"]), int(row["tokens"]), float(row["bpb"]))
            for row in rows
        ]


def kinds(rows: Sequence[Measured]) -> list[str]:
    """Kinds of text that were measured."""
    return sorted({row.kind for row in rows})


def presets_of(kind: str | None, rows: Sequence[Measured]) -> list[str]:
    """The presets that were measured on a kind of text, small ones first."""
    found = {row.preset: row.params for row in rows if row.kind == kind}
    return sorted(found, key=lambda name: found[name])


def expected(
    kind: str | None, preset: str, tokens: int, rows: Sequence[Measured]
) -> tuple[float | None, str]:
    """Bits per byte where a run of so many tokens ends, in a line between its neighbours over the logarithm
    of tokens; None, and why, where it has none on both sides."""
    ends: dict[int, list[float]] = {}
    for row in rows:
        if (row.kind, row.preset) == (kind, preset):
            ends.setdefault(row.tokens, []).append(row.bpb)
    if not ends:
        return None, "not known: no run of it on such text was measured"
    means = {n: sum(found) / len(found) for n, found in ends.items()}
    below, above = [n for n in means if n <= tokens], [n for n in means if n >= tokens]
    if not below or not above:
        span = f"{format_amount(min(means))} to {format_amount(max(means))}"
        return None, f"not known: runs of {span} tokens were measured"
    low, high = max(below), min(above)
    part = 0.0 if low == high else math.log(tokens / low) / math.log(high / low)
    return means[low] + part * (means[high] - means[low]), ""


def choose(
    found: Sequence[Rehearsal],
    kind: str | None,
    rows: Sequence[Measured],
    budget_s: float | None,
    memory: float | None,
) -> list[Choice]:
    """What is known of each of some presets, the lowest first and the unknown last.

    Args: budget_s: seconds that a run may take; None: as many steps as its plan has.
          memory: bytes that it may take; None: what is free.
    """
    choices = [_choice(one, kind, rows, budget_s, memory) for one in found]
    return sorted(choices, key=lambda choice: math.inf if choice.bpb is None else choice.bpb)


def _choice(
    one: Rehearsal, kind: str | None, rows: Sequence[Measured], budget_s: float | None, memory: float | None
) -> Choice:
    plan, facts, name = one.plan, one.facts, one.facts.preset
    if memory is not None and facts.needs.total > memory:
        return Choice(name, 0, None, None, f"too large; {what_fits(plan.model, plan.train, memory)}")
    if one.timing is None:
        return Choice(name, 0, None, None, "too large for the memory that is free")
    steps = facts.steps
    if budget_s is not None:
        try:
            steps = planned_steps(budget_s, one.timing, plan.train)
        except ConfigError:
            return Choice(name, 0, None, None, "not one step fits")
    tokens = steps * facts.tokens_per_step
    bpb, why = expected(kind, name, tokens, rows)
    return Choice(name, tokens, bpb, published_fit(facts.params, tokens), why)


def told(choices: Sequence[Choice], kind: str | None, floors: Mapping[str, float] | None = None) -> list[str]:
    """The choices for a person, and which to take; or that it is not known.

    floors: bits per byte that counting alone reaches on this text, by name.
    """
    of_kind = f"by runs that were measured on {kind}" if kind else "of such text no runs were measured"
    rows = [
        [
            choice.preset,
            format_amount(choice.tokens) if choice.tokens else "-",
            "-" if choice.bpb is None else f"{choice.bpb:.3f}",
        ]
        for choice in choices
    ]
    shown = aligned([["preset", "tokens", "bits/byte"], *rows])
    notes = ["", *(choice.note or _above(choice, floors or {}) for choice in choices)]
    lines = [f"         {line}  {note}".rstrip() for line, note in zip(shown, notes, strict=True)]
    counted = ", ".join(f"{name} {bpb:.3f}" for name, bpb in (floors or {}).items())
    of_text = [f"floors   {counted} bits per byte of this text, by counting alone"] if counted else []
    return [f"choice   {of_kind}", *lines, f"         {_verdict(choices)}", *of_text]


def _above(choice: Choice, floors: Mapping[str, float]) -> str:
    """Which counting does as well; empty if none."""
    beaten_by = [name for name, bpb in floors.items() if choice.bpb is not None and choice.bpb >= bpb]
    return f"no better than {beaten_by[-1]} counts of this text" if beaten_by else ""


def _verdict(choices: Sequence[Choice]) -> str:
    known = [choice for choice in choices if choice.bpb is not None]
    fits = [(choice.nats, choice.preset) for choice in choices if choice.nats is not None]
    if len(fits) == len(choices) > 1 and not known:
        nats, name = min(fits)
        return f"{name} ends lowest by published fits, at {nats:.2f} nats a token of web text"
    if not known:
        return "which ends lowest is not known"
    others = [choice.preset for choice in choices if choice.bpb is None]
    but = f", of those that are known; not of {', '.join(others)}" if others else ""
    return f"{known[0].preset} ends lowest, at {known[0].bpb:.3f} bits per byte{but}"
