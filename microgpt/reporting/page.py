"""A run on one HTML page that needs nothing beside it: pictures, plan and reality, time, text, settings."""

import dataclasses
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from microgpt.common.words import command_line, counted, format_duration
from microgpt.evaluation.loss import BPB_NOTE, INTERVAL_NOTE, with_interval
from microgpt.files.durable import sha256_of
from microgpt.runs.checkpoint import read_config
from microgpt.runs.kept import WEIGHTS, kept, origin_of
from microgpt.runs.layout import RUNNING
from microgpt.runs.spec import SECTIONS, Plan
from microgpt.runs.state import TrainState

from .history import NEAR, History
from .pictures import STEPS, svg_of_course, svg_of_losses
from .reproduce import command_words
from .sheet import section, table, whole

MOST_ROWS = 20  # of evaluations and samples; evenly chosen where there are more
LEAST_SHARE = 0.0005  # of the time, that is worth a line
NOTES = ("alarm", "spike", "skip", "rollback", "save_failed")
# Of each thing that time is spent on: how it is called, its colour, and what to do where it is most of all.
PARTS = {
    "data": ("data", "#e69f00", "batches take long to make: is the disk slow, or other work in its way?"),
    "forward": (
        "forward",
        "#0072b2",
        "arithmetic; a smaller model, or --precision bf16 where the CPU has it",
    ),
    "head": (
        "head and loss, both ways",
        "#56b4e9",
        "logits of the whole vocabulary; fewer --merges make it smaller",
    ),
    "backward": (
        "backward",
        "#009e73",
        "it has two products for each one of forward; a smaller model takes less, or --precision bf16",
    ),
    "penalty": ("penalty", "#999999", "the term that is added to the loss"),
    "optimizer": ("optimizer", "#cc79a7", "updates; a larger --batch-size makes fewer of them a token"),
    "evaluation": ("evaluation", "#d55e00", "a larger --eval-every, or fewer --eval-tokens"),
    "sample": ("samples", "#f0e442", "a larger --sample-every"),
    "save": ("saving", "#882255", "a larger --save-every, or a faster disk"),
    "other": ("all else", "#777777", "what lies between: the log, the screen, other programs"),
}


class Facts(NamedTuple):
    """What a checkpoint of a run says of it."""

    path: Path
    plan: Plan
    state: TrainState
    document: Mapping[str, Any]  # state.json
    origin: str | None


class Share(NamedTuple):
    """Seconds that were spent on one thing, and the share of the whole."""

    part: str
    seconds: float
    share: float


def facts_of(run: Path) -> Facts | None:
    """Those of the newest checkpoint that looks whole; None: there is none."""
    newest = next(iter(kept(run)), None)
    if newest is None:
        return None
    config = read_config(newest.path)
    state = TrainState.from_dict(newest.state)
    return Facts(newest.path, Plan.from_dict(config), state, newest.state, origin_of(config))


def time_shares(state: TrainState) -> list[Share]:
    """What the time of a run was spent on, most of it first."""
    spent = dict(state.spent_s)
    whole = max(state.elapsed_s, sum(spent.values()), 1e-9)
    spent["other"] = whole - sum(spent.values())
    return sorted((Share(part, s, s / whole) for part, s in spent.items()), key=lambda one: -one.seconds)


# -------------------------------------------------------------------------------- the page


def page(history: History, facts: Facts | None, state: str, exam: Mapping[str, Any] | None = None) -> str:
    """The HTML of it.  state: running, finished or stopped.  exam: its result, if it was taken."""
    sections = [
        _head(history, facts, state),
        _pictures(history),
        _held_out(history),
        _reality(history, facts),
        _time(facts),
        _exam(exam, history),
        _samples(history),
        _notes(history),
        _again(history, facts),
        _settings(facts),
    ]
    return whole(history.name, sections)


def _head(history: History, facts: Facts | None, state: str) -> str:
    session, evaluated = history.sessions[-1], history.evaluated
    last_words = history.of("end")[-1:]
    why = f" ({last_words[0]['why']})" if last_words and last_words[0]["why"] != state != RUNNING else ""
    told = [
        (f"{session['n_params']:,}", "parameters"),
        (f"{history.step:,} of {history.max_steps:,}", "optimizer steps"),
        (_short(history.tokens), "tokens seen"),
        (format_duration(history.elapsed_s), "of training"),
    ]
    if len(evaluated["bpb"]):
        told.insert(0, (f"{evaluated['bpb'][-1]:.4f}", "bits per byte, held out"))
    items = "".join(f"<li><b>{escape(value)}</b><span>{escape(what)}</span></li>" for value, what in told)
    origin = f", {facts.origin}" if facts and facts.origin else ""
    preset = f"preset {facts.plan.preset}, " if facts and facts.plan.preset else ""
    sessions = counted(len(history.sessions), "session")
    return (
        f"<h1>{escape(history.name)}</h1>"
        f'<p class="faint">{escape(f"{preset}{state}{why}, {sessions}{origin}")}</p>'
        f'<ul class="facts">{items}</ul>'
    )


def _pictures(history: History) -> str:
    return (
        f"<figure>{svg_of_losses(history, STEPS)}<figcaption>Loss in nats a token: of training, faint as it "
        "was logged and strong as a running mean; held out with its 95 % interval.  Bits per byte, right, "
        "compare across tokenizers.</figcaption></figure>"
        f"<figure>{svg_of_course(history, STEPS)}<figcaption>Learning rate, norm of the gradient before it "
        "is clipped, tokens per second.</figcaption></figure>"
    )


def _held_out(history: History) -> str:
    evaluated, (losses, halves) = history.evaluated, history.held_out
    if not len(losses):
        return section("Held out", "<p>Nothing was measured on held-out text (--eval-every 0).</p>")
    lines = []
    if (near := history.near_the_end) is not None:
        lines.append(
            f"<p>From step {near:,} on the held-out loss was within {NEAR:.0%} of its last value"
            f"{_share_of_run(near, history)}.</p>"
        )
    rows = [
        (
            f"{evaluated['step'][n]:,.0f}",
            with_interval(losses[n], None if np.isnan(halves[n]) else float(halves[n])),
            f"{evaluated['bpb'][n]:.4f}",
            format_duration(evaluated["elapsed_s"][n]),
        )
        for n in _chosen(len(losses))
    ]
    last = history.of("eval")[-1]
    on = (
        f"on {counted(last['documents'], 'document')}, {last['tokens']:,} tokens; {INTERVAL_NOTE}; {BPB_NOTE}"
    )
    titles = ("step", "loss (nats a token)", "bits per byte", "after")
    return section("Held out", *lines, table(titles, rows, 0), f'<p class="faint">{escape(on)}.</p>')


def _share_of_run(step: int, history: History) -> str:
    return f", {step / history.step:.0%} of the way" if history.step else ""


def _reality(history: History, facts: Facts | None) -> str:
    """What was planned or estimated at the beginning, and what became of it."""
    first, last, ends = history.sessions[0], history.sessions[-1], history.of("end")
    rows = [("steps", f"{first['max_steps']:,}", f"{history.step:,}")]
    if facts and facts.plan.train.max_time:
        rows.append(("time of the last session, at most", facts.plan.train.max_time, _session_time(history)))
    if ends:
        peak = max(float(end["peak_bytes"]) for end in ends)
        estimated = f"{last['memory_bytes'] / 1e9:.2f} GB for training alone"
        rows.append(("memory at its peak", estimated, f"{peak / 1e9:.2f} GB, preparing the text included"))
    if history.elapsed_s and history.tokens:
        speed = history.tokens / history.elapsed_s
        most = max(history.peak_tok_per_s, speed)
        rows.append(
            (
                "tokens per second, evaluations and saves included",
                f"{most:,.0f} at the peak of the CPU",
                f"{speed:,.0f} ({speed / most:.0%} of peak)",
            )
        )
    plans = history.of("plan")
    note = f"<p>The number of steps was planned anew {counted(len(plans), 'time')}.</p>" if plans else ""
    return section("Plan and reality", table(("", "planned or estimated", "became"), rows), note)


def _session_time(history: History) -> str:
    begun = history.events.index(history.sessions[-1])
    before = History(history.name, history.events[:begun]).elapsed_s
    return format_duration(history.elapsed_s - before)


def _time(facts: Facts | None) -> str:
    if facts is None or not facts.state.spent_s:
        return ""
    shares = time_shares(facts.state)
    seen = [(one, *PARTS[one.part]) for one in shares if one.share >= LEAST_SHARE]
    bar = "".join(
        f'<div style="width:{one.share:.2%};background:{colour}" title="{escape(name)}"></div>'
        for one, name, colour, _ in seen
    )
    rows = "".join(
        f'<tr><td><span class="key" style="background:{colour}"></span>{escape(name)}</td>'
        f"<td class=n>{one.share:.1%}</td><td class=n>{format_duration(one.seconds)}</td></tr>"
        for one, name, colour, _ in seen
    )
    most, (name, _, advice) = shares[0], PARTS[shares[0].part]
    return section(
        "Where the time went",
        f"<p>The bottleneck is <b>{escape(name)}</b>, {most.share:.0%} of the time: {escape(advice)}.</p>",
        f'<div class="bar">{bar}</div>',
        f"<table><tr><th>on</th><th class=n>share</th><th class=n>time</th></tr>{rows}</table>",
        f'<p class="faint">Up to the checkpoint of step {facts.state.step:,}; saves beside training count '
        "only as far as it waited for them.</p>",
    )


def _exam(exam: Mapping[str, Any] | None, history: History) -> str:
    if exam is None:
        return ""
    rows = [
        (family, f"{one['correct']:,} of {one['asked']:,}", f"{one['share']:.1%}")
        for family, one in exam["families"].items()
    ]
    rows.append(("all", f"{exam['correct']:,} of {exam['asked']:,}", f"{exam['share']:.1%}"))
    return section(
        f"Exam at step {history.step:,}",
        "<p>Held-out questions of the embedded corpus, greedy answers.</p>",
        table(("family", "right", "share"), rows),
    )


def _samples(history: History) -> str:
    found = history.of("sample")
    if not found:
        return ""
    shown = [found[n] for n in _chosen(len(found))]
    parts = [
        f'<p class="faint">after {one["step"]:,} steps</p><pre>{escape(one["text"])}</pre>' for one in shown
    ]
    return section(
        "What it says, over time",
        '<p class="faint">The beginning of a held-out document =&gt; how the model goes on.</p>',
        *parts,
    )


def _notes(history: History) -> str:
    found = history.of(*NOTES)
    if not found:
        return section("Alarms", "<p>None sounded, no step was skipped, no loss jumped.</p>")
    rows = [
        (f"{one['step']:,}", one["event"].replace("_", " "), _words_of(one)) for one in found[-MOST_ROWS:]
    ]
    left_out = len(found) - len(rows)
    note = f'<p class="faint">{left_out:,} earlier ones are left out.</p>' if left_out else ""
    return section("Alarms", table(("step", "what", "details"), rows, 3), note)


def _words_of(event: Mapping[str, Any]) -> str:
    if event["event"] == "alarm":
        return f"{event['alarm']}: {event['why']}; look at {event['look']}"
    return ", ".join(f"{name} {value}" for name, value in event.items() if name not in ("event", "step"))


def _again(history: History, facts: Facts | None) -> str:
    if facts is None:
        return ""
    document, versions = facts.document, facts.document.get("versions", {})
    identity = [
        *(
            (name, document.get(name))
            for name in ("seed", "precision", "isa", "gemm", "blas_core", "threads")
        ),
        *((f"{name} version", version) for name, version in versions.items()),
        *((f"sha256 of the {name}", document.get(name)) for name in ("corpus", "tokenizer")),
        (f"sha256 of {facts.path.name}/{WEIGHTS}", sha256_of(facts.path / WEIGHTS)),
    ]
    rows = [(name, str(value)) for name, value in identity if value is not None]
    notes = [
        "<p>It was planned anew on the way: a run that has this number of steps from the beginning has other "
        "learning rates, and other weights.</p>"
        if history.of("plan")
        else "<p>The same text, seed, versions and instruction set give the same weights to the last bit.</p>"
    ]
    if facts.origin:
        notes.append(f"<p>It {escape(facts.origin)}, which is to be there first.</p>")
    if facts.plan.train.onward_step:
        notes.append(
            f"<p>It trained on past its plan at step {facts.plan.train.onward_step:,}: a run of this length "
            "that is planned so from the beginning has another learning rate.</p>"
        )
    command = command_line(*command_words(facts.plan, facts.path))
    return section("How to train it again", f"<pre>{escape(command)}</pre>", *notes, table(("", ""), rows, 2))


def _settings(facts: Facts | None) -> str:
    if facts is None:
        return ""
    named = {word[2:].removeprefix("no-").replace("-", "_") for word in command_words(facts.plan, facts.path)}
    rows = []
    for name in SECTIONS:
        settings = getattr(facts.plan, name)
        for field in dataclasses.fields(settings):
            cells = field.name, _shown(getattr(settings, field.name)), field.metadata.get("unit", "")
            mark = " class=is-set" if field.name in named else ""
            rows.append(f"<tr{mark}>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    return section(
        "Settings",
        "<details><summary>All of them; in colour, those that preset and recipe did not set</summary>"
        '<div class="wide"><table><tr><th>setting</th><th>value</th><th>unit</th></tr>'
        f"{''.join(rows)}</table></div></details>",
    )


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


def _chosen(n: int) -> list[int]:
    """The numbers of all rows or, of too many, of some from the first to the last."""
    return sorted({round(place) for place in np.linspace(0, n - 1, min(n, MOST_ROWS))})


def _short(n: float) -> str:
    """`6,144` or `5.12M`."""
    for size, letter in ((1e9, "B"), (1e6, "M")):
        if n >= size:
            return f"{n / size:.3g}{letter}"
    return f"{n:,.0f}"
