"""A ladder on one HTML page: where it stands, the law, four questions, and every rung with its gates.

It is made from the plain values that `microgpt ladder status --json` prints.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from microgpt.common.words import counted, format_amount, format_duration
from microgpt.evaluation.laws import Law

from .pictures import Foretold, Point, svg_of_law
from .sheet import section, table, whole

# How answers and verdicts look: the class of their colour.
LOOKS = {
    "yes": "ok",
    "pass": "ok",
    "no": "bad",
    "fail": "bad",
    "not enough evidence": "open",
    "not asked": "faint",
}
Told = Mapping[str, Any]


def ladder_page(told: Told) -> str:
    """The HTML of it."""
    sections = [
        _head(told),
        _next(told),
        _law(told),
        _questions(told["checklist"]),
        _rungs(told["rungs"]),
        *map(_rung, told["rungs"]),
        _to_come(told),
    ]
    return whole(f"ladder {told['ladder']}", sections)


def _head(told: Told) -> str:
    rungs, law = told["rungs"], told["law"]
    facts = [
        (f"{len(rungs)} of {len(rungs) + len(told['to_come']) + bool(told['in_training'])}", "rungs measured")
    ]
    if rungs and rungs[-1]["bpb"] is not None:
        facts.insert(0, (f"{rungs[-1]['bpb']:.4f}", f"bits per byte, held out, {rungs[-1]['name']}"))
    if "r_squared" in law:
        facts.append((f"{law['r_squared']:.4f}", "R² of the law"))
    facts.append((told["next"]["step"], "comes next"))
    items = "".join(f"<li><b>{escape(value)}</b><span>{escape(what)}</span></li>" for value, what in facts)
    seeds = f"{counted(len(told['seeds']), 'seed')} of each rung"
    fitted = told["fitted"]
    budget = f", fitted into {format_duration(fitted['budget_s'])}" if fitted else ""
    about = f"{seeds}{budget}, in {told['folder']}"
    return (
        f"<h1>Ladder {escape(told['ladder'])}</h1>"
        f'<p class="faint">{escape(about)}</p><ul class="facts">{items}</ul>'
    )


def _next(told: Told) -> str:
    lines = "".join(f"<li>{escape(text)}</li>" for text in told["next"]["what"])
    return section(f"Next: {told['next']['step']}", f"<ul>{lines}</ul>")


def _law(told: Told) -> str:
    runs = [(rung, run) for rung in told["rungs"] for run in rung["runs"] if "bpb" in run]
    if not runs:
        return ""
    points = [Point(rung["name"], rung["n_params"], run["tokens"], run["bpb"]) for rung, run in runs]
    wanted = [rung["foretold"] for rung in [*told["rungs"], *filter(None, [told["in_training"]])]]
    foretold = [
        Foretold(one["n_params"], one["loss"], one["run_low"], one["run_high"])
        for one in wanted
        if "loss" in one
    ]
    law = told["law"]
    curve = None if "why_not" in law else Law(**law["law"])
    caption = (
        "Each run by its size; squares: what the law of the rungs below foretold before a rung was trained, "
        "with the interval of 90 % for one run; line: the law of all."
    )
    line = law["why_not"] if curve is None else _law_told(law)
    return section(
        "The law",
        f"<p>{escape(line)}</p>",
        f"<figure>{svg_of_law(points, foretold, curve)}<figcaption>{escape(caption)}</figcaption></figure>",
    )


def _law_told(law: Told) -> str:
    of = law["law"]
    more = "" if of["ratio"] else f" + {of['B']:.4g} D^-{of['beta']:.4g}"
    ray = f", along {of['ratio']:.3g} tokens for each parameter" if of["ratio"] else ""
    runs = f"{counted(law['n_runs'], 'run')} of {counted(law['n_sizes'], 'size')}"
    terms = f"{of['E']:.4g} + {of['A']:.4g} N^-{of['alpha']:.4g}{more}{ray}"
    fit = f"R² {law['r_squared']:.4f} of log loss over {runs}, a run lies {law['spread']:.2%} about it"
    return f"L = {terms}; {fit}"


def _questions(questions: Sequence[Told]) -> str:
    if not questions:
        return ""
    rows = "".join(
        f"<tr><td><b>{escape(one['title'])}</b></td>{_mark(one['answer'])}<td></td></tr>"
        + "".join(
            f"<tr><td>{escape(part['question'])}</td>{_mark(part['answer'])}<td>{escape(part['evidence'])}</td></tr>"
            for part in one["parts"]
        )
        for one in questions
    )
    return section("Four questions", f'<div class="wide"><table>{rows}</table></div>')


def _mark(word: str) -> str:
    return f'<td class="{LOOKS[word]}">{escape(word)}</td>'


def _rungs(rungs: Sequence[Told]) -> str:
    """A line for each: size, what was foretold and became."""
    rows = []
    for rung in rungs:
        foretold = rung["foretold"].get("loss")
        miss = f"{rung['bpb'] / foretold - 1:+.1%}" if foretold and rung["bpb"] else ""
        passed = sum(gate["verdict"] == "pass" for gate in rung["gates"])
        asked = sum(gate["verdict"] != "not asked" for gate in rung["gates"])
        rows.append(
            (
                rung["name"],
                format_amount(rung["n_params"]),
                format_amount(rung["foretold"]["tokens"]),
                "" if foretold is None else f"{foretold:.4f}",
                "" if rung["bpb"] is None else f"{rung['bpb']:.4f}",
                miss,
                f"{passed} of {asked}" + (", forced" if rung["forced"] else ""),
            )
        )
    titles = ("rung", "parameters", "tokens", "foretold", "became", "off by", "gates passed")
    return section("Rungs", table(titles, rows)) if rows else ""


def _rung(rung: Told) -> str:
    parts = [f"<p><b>Hypothesis</b>, stated {escape(rung['began'])}: {escape(rung['hypothesis'])}</p>"]
    if rung["learned"]:
        parts.append(f"<p><b>Learned</b>: {escape(rung['learned'])}</p>")
    foretold = rung["foretold"]
    if "why_not" in foretold:
        parts.append(f'<p class="faint">Nothing was foretold: {escape(foretold["why_not"])}.</p>')
    else:
        low, high = foretold["run_low"], foretold["run_high"]
        text = (
            f"Foretold from {len(foretold['from'])} runs before it was trained: {foretold['loss']:.4f}, one "
            f"run {low:.4f} to {high:.4f}."
        )
        parts.append(f"<p>{escape(text)}</p>")
    if rung["forced"]:
        parts.append(f'<p class="bad">Forced past {escape(", ".join(rung["forced"]))}.</p>')
    if rung["changed_gates"]:
        names = escape(", ".join(rung["changed_gates"]))
        parts.append(f'<p class="open">Thresholds changed since it began: {names}.</p>')
    parts.append(
        table(
            ("run", "bits/byte", "nats/token", "tokens", "time", "tok/s", "memory", ""),
            map(_cells, rung["runs"]),
        )
    )
    gates = "".join(
        f"<tr><td>{escape(gate['title'])}</td>{_mark(gate['verdict'])}<td>{escape(gate['text'])}"
        + (f"<br><b>{escape(gate['step'])}</b>: {escape(gate['advice'])}" if gate["step"] else "")
        + "</td></tr>"
        for gate in rung["gates"]
    )
    parts += [f'<div class="wide"><table>{gates}</table></div>', _canaries(rung["canaries"])]
    return section(f"{rung['name']}: {format_amount(rung['n_params'])} parameters", *parts)


def _cells(run: Told) -> tuple[str, ...]:
    if "diverged" in run:
        return run["run"], "diverged", "", "", "", "", "", ""
    return (
        run["run"],
        f"{run['bpb']:.4f}",
        f"{run['loss']:.4f}",
        format_amount(run["tokens"]),
        format_duration(run["seconds"]),
        f"{run['tok_per_s']:,.0f}",
        f"{format_amount(run['peak_bytes'])}B",
        run["holds_back"],
    )


def _canaries(canaries: Sequence[Told]) -> str:
    names = [
        name for name in (canaries[0] if canaries else {}) if any(one[name] is not None for one in canaries)
    ]
    if not names:
        return ""
    rows = [(name, *("" if one[name] is None else f"{one[name]:.1%}" for one in canaries)) for name in names]
    return table(("canary", *(f"seed {number + 1}" for number in range(len(canaries)))), rows)


def _to_come(told: Told) -> str:
    rows = [(one["name"], one["hypothesis"]) for one in told["to_come"]]
    if one := told["in_training"]:
        rows.insert(0, (f"{one['name']}, in training", one["hypothesis"]))
    return section("To come", table(("rung", "hypothesis"), rows, 2)) if rows else ""
