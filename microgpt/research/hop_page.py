"""A hop on an HTML page that needs nothing beside it: prediction and miss, checklist, law, front, lineage."""

import tempfile
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from microgpt.common.errors import ConfigError
from microgpt.common.words import counted, format_amount
from microgpt.evaluation.laws import COVERED

from .hop import Result, misses, seed_plan
from .larger import checklist
from .law_picture import draw
from .search_table import HEADS, NOTES, cells, lineage, members, summary, svg
from .trials import told as told_settings

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 66rem; padding: 1.5rem; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; } svg { max-width: 100%; height: auto; }
table { border-collapse: collapse; } th, td { padding: .2rem .8rem .2rem 0; text-align: left;
  border-bottom: 1px solid #ccc; vertical-align: top; } .wide { overflow-x: auto; }
"""
KINDS = {
    "spike": "spikes",
    "skip": "steps skipped",
    "rollback": "ways back to a checkpoint",
    "alarm": "alarms",
    "save_failed": "failed saves",
}


def hop_page(result: Result) -> str:
    """The page."""
    seed, objectives = result.seed, result.seed.search.config.objectives
    found, chain = members(seed.trials, objectives), lineage(seed.trial, seed.trials, objectives)
    size = format_amount(result.showed.n_params)
    sections = [
        ("Foretold, and come out", [*_lines(outcome(result)), *_lines(result.notes)]),
        ("Stability", _lines(stability(result))),
        (
            "What the checklist changed",
            [_table(("", "seed", "hop"), checklist(seed_plan(seed), result.plan))],
        ),
        ("The law", _law(result)),
        (
            "The front that the seed is from",
            [
                *_lines([summary(seed.trials)]),
                svg(seed.trials, objectives),
                _table(HEADS, map(cells, found)),
                *_lines(NOTES),
            ],
        ),
        (
            "Where the seed comes from",
            [
                _table(
                    ("candidate", "bits/byte", "settings"),
                    (
                        (f"{n:04d}", f"{seed.trials[n].bpb:.4f}", told_settings(seed.trials[n].settings))
                        for n in chain
                    ),
                )
            ],
        ),
    ]
    body = "\n".join(f"<h2>{escape(title)}</h2>\n" + "\n".join(parts) for title, parts in sections)
    title = f"A hop to {size} parameters"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n{body}\n</body></html>\n"
    )


def outcome(result: Result) -> list[str]:
    """Prediction and what came out, a line each."""
    was, has, off = result.prediction, result.showed, misses(result)
    lines = []
    if was["bpb"]:
        is_within = was["low"] <= has.loss <= was["high"]
        lines.append(
            f"bits per byte: foretold {was['bpb']:.4f} ({COVERED:.0%} interval of one run {was['low']:.4f} "
            f"to {was['high']:.4f}), came out {has.loss:.4f}: {off['bpb']:+.2%}, "
            + ("within" if is_within else "outside")
        )
    else:
        lines.append(f"bits per byte: not foretold ({result.why_none}), came out {has.loss:.4f}")
    if was["tok_per_s"]:
        lines.append(
            f"tokens/s: foretold {was['tok_per_s']:,.0f} by the speeds of smaller ones, came out "
            f"{has.tok_per_s:,.0f}: {off['tok_per_s']:+.1%}"
        )
    lines.append(
        f"{format_amount(has.n_params)} parameters on {format_amount(has.tokens)} tokens; at the rung, step "
        f"{result.rung_steps:,} of {result.plan.train.max_steps:,}, {result.rung_bpb:.4f} bits per byte"
    )
    lines.append(f"the seed: {result.seed.trial.bpb:.4f} on {format_amount(result.seed.trial.tokens)} tokens")
    return lines


def stability(result: Result) -> list[str]:
    """What went wrong on the way."""
    told = [f"{n} {KINDS[kind]}" for kind, n in result.trouble.items() if n]
    return [f"{', '.join(told) or 'no spikes, no alarms, no steps skipped'}; greatest gradient norm "
            f"{result.greatest_norm:.3g}"]  # fmt: skip


def _law(result: Result) -> list[str]:
    rows = (
        (one.name, f"{one.n_params:,.0f}", f"{one.tokens:,}", f"{one.loss:.4f}", f"{one.tok_per_s:,.0f}")
        for one in result.anchors
    )
    table = _table(("smaller one", "parameters", "tokens", "bits/byte", "tok/s"), rows)
    if result.forecaster is None:
        return [*_lines([f"no law: {result.why_none}"]), table]
    law, found = result.forecaster.law, result.forecaster.found
    lines = [
        f"L = {law.E:.4g} + {law.A:.4g} N^-{law.alpha:.3g} along {law.ratio:.3g} tokens for each parameter; "
        f"R^2 {found.r_squared:.4f} of log loss, a run lies {found.spread:.2%} about it, "
        f"{counted(len(result.anchors), 'run')}"
    ]
    return [*_lines(lines), table, _picture(result)]


def _picture(result: Result) -> str:
    """The law with what came out; empty where matplotlib is not installed."""
    assert result.forecaster is not None
    model = result.forecaster.of(result.prediction["n_params"], result.prediction["tokens"])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "law.svg"
        try:
            draw(result.forecaster, [model], path)
        except ConfigError:
            return ""
        text = path.read_text(encoding="utf-8")
    return text[text.index("<svg") :]


def _lines(texts: Iterable[str]) -> list[str]:
    return [f"<p>{escape(text)}</p>" for text in texts]


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(one)}</th>" for one in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(one)}</td>" for one in row) + "</tr>\n" for row in rows)
    return f'<div class="wide"><table><tr>{head}</tr>\n{body}</table></div>'
