"""A hop: the model of a seed, many times as large, on many times the tokens; foretold before it is trained.

What changes follows a checklist (`larger.py`); the rung is the same.  Before it smaller ones of its family
are trained on as many tokens a parameter, and the law along that ray says what the hop will reach.  That is
stored before its first step, and never written again.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from microgpt.common.errors import ConfigError
from microgpt.common.output import json_line, tell
from microgpt.common.words import format_amount, format_duration
from microgpt.evaluation.forecast import Forecast, Forecaster
from microgpt.evaluation.law_runs import MOST_PASSES, Showed, points_of, refusals
from microgpt.evaluation.laws import COVERED, N_DRAWS, fit
from microgpt.files import durable
from microgpt.files.records import read_json
from microgpt.model import count_parameters
from microgpt.runs.events import EventListener
from microgpt.runs.layout import METRICS
from microgpt.runs.metrics import read_metrics
from microgpt.runs.spec import Plan
from microgpt.training import assemble
from microgpt.training.clock import Clock
from microgpt.training.horizon import step_s
from microgpt.training.run import set_up_machine

from .as_planned import arrived
from .larger import lengthened, scaled
from .search import Say, train_until
from .seed import Seed
from .showed import showed
from .trials import locked

TIMES = 10.0  # as many tokens as the seed saw
# Smaller ones before it, as shares of its size, and how many seeds of each: a tenth of its work in all.
ANCHORS = ((1 / 40, 2), (1 / 20, 2), (1 / 10, 2), (1 / 4, 1))
OF_HOP = 0.75  # of the budget for the hop itself; the rest is for those before it, evaluations and saves
FAR = 0.2  # from the parameters that are wanted, in log
RECORD, PREDICTION, RESULT = "hop.json", "prediction.json", "result.json"
BAD = ("spike", "skip", "rollback", "alarm", "save_failed")  # events that tell of trouble


class Wanted(NamedTuple):
    """What is asked for: parameters, seconds (inf: any), and how many times the seed's tokens."""

    n_params: float
    seconds: float = math.inf
    times: float = TIMES


class Result(NamedTuple):
    """What a hop came to.

    plan: of the hop.  anchors: what the smaller ones showed.  prediction: as it was stored; its bpb is None
    where there was none, for `why_none`.  showed: of the hop.  trouble: events of each kind of BAD.
    """

    seed: Seed
    plan: Plan
    rung_steps: int
    anchors: list[Showed]
    forecaster: Forecaster | None
    prediction: dict[str, Any]
    why_none: str
    showed: Showed
    rung_bpb: float
    trouble: dict[str, int]
    greatest_norm: float
    notes: list[str]


# ------------------------------------------------------------------------------------------ the hop


def run_hop(
    seed: Seed,
    wanted: Wanted,
    folder: Path,
    listeners: Iterable[EventListener] = (),
    say: Say = tell,
    train: Callable[[Plan, Path, int], None] | None = None,
) -> Result:
    """Train the smaller ones, foretell, train the hop; or go on with that.

    Args:   train: trains a plan at a place up to a step; None: as training does, telling `listeners`.
    Raises: ConfigError: it cannot be, or the folder holds another.  What `train_run` raises.
    """
    heard = list(listeners)
    train = train or (lambda plan, place, steps: _trained(plan, place, steps, heard))
    durable.make_directory(folder)
    with locked(folder):
        hop, small, notes = planned(seed, wanted, folder, say)
        rung_steps = hop.train.eval_every
        anchors = []
        for number, plan in enumerate(small, 1):
            place = folder / f"anchor-{number}"
            size = format_amount(count_parameters(plan.model))
            say(f"smaller one {number} of {len(small)}: {size} parameters")
            train(plan, place, plan.train.max_steps)
            anchors.append(showed(place))
        forecaster, why_none = law_of(anchors)
        prediction = foretold(folder / PREDICTION, hop, forecaster, why_none)
        say(told(prediction) if prediction["bpb"] else f"not foretold: {why_none}")
        for steps in (rung_steps, hop.train.max_steps):
            train(hop, folder / "hop", steps)
        result = _result(seed, hop, anchors, forecaster, prediction, why_none, folder, notes)
        durable.replace_file(folder / RESULT, [json_line(as_dict(result)).encode() + b"\n"])
    return result


def planned(seed: Seed, wanted: Wanted, folder: Path, say: Say) -> tuple[Plan, list[Plan], list[str]]:
    """The hop, the smaller ones, and notes; as they were recorded when the hop began, else recorded now."""
    record = folder / RECORD
    asked = {"seed": json_of(seed), "wanted": [wanted.n_params, str(wanted.seconds), wanted.times]}
    if record.exists():
        known = read_json(record)
        if known["asked"] != asked:
            raise ConfigError(f"{folder} holds another hop; choose another --out-dir")
        return Plan.from_dict(known["hop"]), [Plan.from_dict(one) for one in known["small"]], known["notes"]
    if any(folder.iterdir()):
        raise ConfigError(f"{folder} is there already and holds no hop; choose another --out-dir")
    before = seed_plan(seed)
    larger, rung = scaled(before, wanted.n_params), seed.search.config.rung
    n_params = count_parameters(larger.model)
    if abs(math.log(n_params / wanted.n_params)) > FAR:
        raise ConfigError(
            f"{format_amount(wanted.n_params)} parameters: the nearest of this family has "
            f"{format_amount(n_params)}; choose another size"
        )
    seen = before.planned_tokens
    tokens, notes = _affordable(lengthened(larger, before, wanted.times * seen, rung), wanted, say)
    hop = lengthened(larger, before, tokens, rung)
    if (passes := tokens / assemble.open_corpus(hop).train.n_tokens) > MOST_PASSES:
        notes.append(
            f"it sees its text {passes:.3g} times; laws hold for up to {MOST_PASSES}, for a token that comes "
            "again teaches less than a new one"
        )
    for note in notes:
        say(note)
    ratio = hop.planned_tokens / n_params
    small = []
    for share, n_seeds in ANCHORS:
        plan = scaled(before, share * n_params)
        plan = lengthened(plan, before, ratio * count_parameters(plan.model), rung)
        small += [plan.with_train(seed=plan.train.seed + number) for number in range(n_seeds)]
    sizes = [count_parameters(plan.model) for plan in small]
    if len(set(sizes)) < len(ANCHORS):
        raise ConfigError(f"{format_amount(n_params)} parameters are too few: smaller ones are of one size")
    plans = {"hop": hop.to_dict(), "small": [one.to_dict() for one in small]}
    text = json_line({"asked": asked, **plans, "notes": notes})
    durable.write_file(record, [text.encode() + b"\n"])
    return hop, small, notes


def seed_plan(seed: Seed) -> Plan:
    """All settings of a seed, on its corpus."""
    if seed.spec.parent:
        raise ConfigError(f"{seed.folder} began with weights of {seed.spec.parent}: no larger one can")
    prepared = assemble.open_corpus(seed.spec.plan())
    return seed.spec.plan(prepared.tokenizer.vocab_size)


def json_of(seed: Seed) -> dict[str, Any]:
    """What tells one seed from another."""
    return {"plan": seed.trial.plan, "settings": seed.trial.settings, "tokens": seed.trial.tokens}


def _affordable(hop: Plan, wanted: Wanted, say: Say) -> tuple[float, list[str]]:
    """The tokens that are wanted, or what the budget has room for by the time of a few steps."""
    tokens = float(hop.planned_tokens)
    if math.isinf(wanted.seconds):
        return tokens, []
    set_up_machine(hop.train, say)
    prepared = assemble.open_corpus(hop)
    speed = hop.tokens_per_step / step_s(assemble.measured(hop, prepared, Clock()), hop.train)
    room = OF_HOP * wanted.seconds * speed
    if room >= tokens:
        return tokens, [
            f"{speed:,.0f} tokens/s by a few steps: {format_duration(tokens / speed)} for the hop"
        ]
    return room, [
        f"{speed:,.0f} tokens/s by a few steps: {format_amount(tokens)} tokens would take "
        f"{format_duration(tokens / speed)}, the budget has room for {format_amount(room)}"
    ]


def _trained(plan: Plan, place: Path, steps: int, listeners: list[EventListener]) -> None:
    if not arrived(plan, place, steps):
        train_until(plan, place, steps, listeners)


# ------------------------------------------------------------------------------------------ the law


def law_of(anchors: list[Showed]) -> tuple[Forecaster | None, str]:
    """What smaller ones say of larger; or why they do not."""
    if lines := refusals(anchors):
        return None, lines[0]
    return Forecaster(fit(points_of(anchors)), anchors, N_DRAWS, 0), ""


def foretold(path: Path, hop: Plan, forecaster: Forecaster | None, why_none: str) -> dict[str, Any]:
    """What is foretold of the hop; as it was stored before its first step, else stored now."""
    if path.exists():
        return read_json(path)
    n_params = count_parameters(hop.model)
    document: dict[str, Any] = {"n_params": n_params, "tokens": hop.planned_tokens}
    document |= {"bpb": None, "tok_per_s": None, "why_none": why_none}
    if forecaster is not None:
        one: Forecast = forecaster.of(n_params, document["tokens"])
        speed = forecaster.speed
        document |= {
            "bpb": one.loss,
            "low": one.run_low,
            "high": one.run_high,
            "is_far": one.is_far,
            "tok_per_s": speed and speed.tok_per_s(n_params),
        }
    durable.write_file(path, [json_line(document).encode() + b"\n"])
    return document


def told(prediction: Mapping[str, Any]) -> str:
    """For a person."""
    speed = prediction["tok_per_s"]
    far = "; far from the smaller ones" if prediction["is_far"] else ""
    return (
        f"foretold: {prediction['bpb']:.4f} bits per byte ({COVERED:.0%} interval of one run "
        f"{prediction['low']:.4f} to {prediction['high']:.4f}){far}, "
        + (f"{speed:,.0f} tokens/s" if speed else "speed not known")
    )


def _result(
    seed: Seed,
    hop: Plan,
    anchors: list[Showed],
    forecaster: Forecaster | None,
    prediction: dict[str, Any],
    why_none: str,
    folder: Path,
    notes: list[str],
) -> Result:
    """What came out, of the hop's own log."""
    events = read_metrics(folder / "hop" / METRICS)
    rung_steps = hop.train.eval_every
    at_rung = [one["bpb"] for one in events if one["event"] == "eval" and one["step"] == rung_steps]
    norms = [float(one["grad_norm"]) for one in events if one["event"] == "train"]
    return Result(
        seed,
        hop,
        rung_steps,
        anchors,
        forecaster,
        prediction,
        why_none,
        showed(folder / "hop"),
        float(at_rung[-1]),
        {kind: sum(one["event"] == kind for one in events) for kind in BAD},
        max(norms, default=0.0),
        notes,
    )


def misses(result: Result) -> dict[str, float]:
    """How far what came out lies from what was foretold, in parts of that; only what was foretold."""
    has = {"bpb": result.showed.loss, "tok_per_s": result.showed.tok_per_s}
    return {
        name: value / result.prediction[name] - 1 for name, value in has.items() if result.prediction[name]
    }


def as_dict(result: Result) -> dict[str, Any]:
    """Plain values."""
    return {
        "seed": json_of(result.seed),
        "prediction": result.prediction,
        "showed": result.showed._asdict(),
        "misses": misses(result),
        "rung_bpb": result.rung_bpb,
        "trouble": result.trouble,
        "greatest_norm": result.greatest_norm,
        "anchors": [one._asdict() for one in result.anchors],
        "notes": result.notes,
    }
