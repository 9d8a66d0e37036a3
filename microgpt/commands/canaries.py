"""Ask a chat model small abilities, each in many items that are marked exactly; compare two.

  microgpt canaries runs/x               C1 facts, C2 long contexts, C3 state of a dialogue, C4 instructions
                                         that persist, C5 persona, C6 conversations apart
  microgpt canaries x y                  both, and where the second is better by more than chance
  microgpt canaries x --only C1 C2a      some of them
  microgpt canaries x --out x.json       as a file, for programs: shares, marks, every item

Items are conversations over the world of the embedded corpus with content that its training never holds, the
same ones for every model; a model goes on from its own answers.  Intervals are Wilson's, of 95 %.  A canary
that does not fit the window is not asked, nor is one of which the training text holds nothing.  Beside each
share stands what guessing among the right answers of other items gives, and what pairs of tokens give.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from microgpt.common.bars import progress_bar
from microgpt.common.errors import ConfigError
from microgpt.common.flags import Parser, whole
from microgpt.common.output import escaped, json_line
from microgpt.evaluation.canaries import (
    GATES,
    N_ITEMS,
    NO_CONVERSATION,
    Asked,
    Report,
    Versus,
    level,
    run_canaries,
    versus,
)
from microgpt.evaluation.canary_items import CANARIES, CATEGORIES, Canary
from microgpt.evaluation.results import refuse_taken, write_result
from microgpt.evaluation.statistics import Share
from microgpt.evaluation.taught import text_that_taught
from microgpt.model import count_parameters

from ._model_flags import Loaded, add_model_flags, named, open_checkpoint

CLEAR = 0.05  # a p-value below it is told as a difference


def parser() -> Parser:
    """All flags."""
    flags = Parser(prog="microgpt canaries", description=__doc__)
    add_model_flags(flags, several=True)
    flags.add_argument(
        "--items",
        type=whole(1),
        default=N_ITEMS,
        metavar="COUNT",
        help=f"of each canary, of which a category has two or more [default {N_ITEMS}]",
    )
    flags.add_argument(
        "--only", nargs="+", metavar="NAME", help="canaries or categories, such as C1 C2a [default all]"
    )
    flags.add_argument(
        "--seed", type=whole(0), default=0, metavar="NUMBER", help="draws the items [default 0]"
    )
    flags.add_argument(
        "--show-errors",
        type=whole(1),
        nargs="?",
        const=1,
        default=0,
        metavar="COUNT",
        help="show so many wrong items of each canary [1 if no number is given]",
    )
    flags.add_argument("--out", type=Path, metavar="FILE", help="write all of it to a new file, as JSON")
    flags.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    return flags


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = parser().parse_args(argv)
    canaries = chosen(args.only)
    refuse_taken(args.out)
    results = []
    for name in named(args):
        loaded, report = asked(args, name, canaries)
        results.append((loaded, report))
        if not args.json:
            print(*map(escaped, lines_of(loaded, report, args.show_errors)), sep="\n", flush=True)
    pairs = [versus(results[0][1], report) for _, report in results[1:]]
    document = {
        "items": args.items,
        "seed": args.seed,
        "models": [model_dict(loaded) | report.to_dict() for loaded, report in results],
        "against_first": [{v.canary.name: v.to_dict() for v in found} for found in pairs],
    }
    if args.json:
        print(json_line(document))
    else:
        for (loaded, _), found in zip(results[1:], pairs, strict=True):
            print(*map(escaped, versus_lines(results[0][0], loaded, found)), sep="\n")
    if args.out:
        write_result(args.out, document)
    return 0


def chosen(only: Sequence[str] | None) -> list[Canary]:
    """The canaries of these names and categories."""
    known = {*CATEGORIES, *(canary.name for canary in CANARIES)}
    if unknown := [name for name in only or () if name not in known]:
        raise ConfigError(f"--only {unknown[0]}: expected some of {', '.join(sorted(known))}")
    return [c for c in CANARIES if only is None or c.name in only or c.category in only]


def asked(args: argparse.Namespace, name: str | None, canaries: list[Canary]) -> tuple[Loaded, Report]:
    """Ask one model."""
    loaded = open_checkpoint(args, name)
    training = text_that_taught(loaded.path, loaded.tokenizer)
    n_blocks = training.n_blocks if training else 0
    searching = progress_bar("searching the training text", n_blocks, "block")
    with searching, progress_bar("canaries", args.items * len(canaries), "item") as progress:
        how = loaded.knows_chats(), args.items, args.seed, progress.update, canaries, searching.update
        return loaded, run_canaries(loaded.model, loaded.tokenizer, training, *how)


def model_dict(loaded: Loaded) -> dict[str, Any]:
    """What a model is, for JSON."""
    config = loaded.model.config
    return {
        "checkpoint": str(loaded.path),
        "step": loaded.state.get("step"),
        "n_params": count_parameters(config),
        "seq_len": config.seq_len,
    }


def interval(found: Share) -> str:
    """A share for people: 93.5% (89.2 to 96.2)."""
    return f"{found.value:6.1%} ({100 * found.low:4.1f} to {100 * found.high:5.1f})"


def lines_of(loaded: Loaded, report: Report, n_errors: int) -> list[str]:
    """The table of one model."""
    if {one.why_not for one in report.asked} == {NO_CONVERSATION}:
        return [*loaded.describe(), "", f"nothing was asked: {NO_CONVERSATION}"]
    width = max(len(one.canary.title) for one in report.asked) + 5
    others = list(report.baselines)
    head = f"{'':{width}}{'right':>12}{'share':>8}{'95 %':>16}{'mark':>7}  {'':8}"
    lines = [*loaded.describe(), "", head + "".join(f"{name:>8}" for name in others)]
    for i, one in enumerate(report.asked):
        title = f"{one.canary.name}  {one.canary.title}"
        if one.why_not:
            lines.append(f"{title:{width}}  not applicable: {one.why_not}")
            continue
        beside = "".join(f"{report.baselines[name][i].share.value:8.1%}" for name in others)
        lines.append(f"{title:{width}}{row(one.share)}{one.canary.mark:7.0%}  {one.verdict:8}{beside}")
        lines += missed(one, n_errors)
    lines += ["", *category_lines(report, width)]
    if "bigram" not in report.baselines and report.score is not None:
        lines.append("no bigram beside it: the text that it was trained on is not kept here any more")
    return lines


def row(found: Share) -> str:
    """Count, share and interval."""
    return f"{found.n:5d} of {found.of:3d}{found.value:8.1%}{100 * found.low:7.1f} to {100 * found.high:5.1f}"


def missed(one: Asked, n_errors: int) -> list[str]:
    """The first wrong items, from the question before the last on."""
    wrong = [outcome for outcome in one.outcomes if outcome and not outcome.is_right]
    lines = []
    for outcome in wrong[:n_errors]:
        lines += [f"      {message.role:9}  {message.content}" for message in outcome.question.messages]
        answer = outcome.answer or "(did not end)"
        lines += [f"      {'answered':9}  {answer}", f"      {'such as':9}  {outcome.question.expected}"]
    return lines


def category_lines(report: Report, width: int) -> list[str]:
    """Categories, their mean, and which gates that passes."""
    if report.score is None:
        return ["nothing was asked"]
    lines = [
        f"{name + '   ' + CATEGORIES[name]:{width}}{row(found)}  {level(found.value)}"
        for name, found in report.categories.items()
    ]
    passed = [name for name, least in GATES.items() if report.score >= least]
    gates = ", ".join(f"{name} {least:.0%}" for name, least in GATES.items())
    told = f"passes {', '.join(passed)}" if passed else "passes none"
    return [*lines, f"mean over categories {report.score:.1%}: {told} of the gates {gates}"]


def versus_lines(a: Loaded, b: Loaded, found: list[Versus]) -> list[str]:
    """The table of two models."""
    if not found:
        return ["", f"{b.path}: no item in common with {a.path}"]
    width = max(len(one.canary.title) for one in found) + 5
    lines = [
        "",
        f"{b.path} against {a.path}, on the same items",
        f"{'':{width}}{'only first':>11}{'only second':>12}{'gain':>8}{'95 %':>18}{'p':>9}",
    ]
    for one in found:
        gain, verdict = one.gain, ""
        if one.p < CLEAR:
            verdict = "  better" if gain.value > 0 else "  worse"
        lines.append(
            f"{one.canary.name + '  ' + one.canary.title:{width}}{one.counts.only_first:11d}"
            f"{one.counts.only_second:12d}{gain.value:+8.1%}{100 * gain.low:+9.1f} to {100 * gain.high:+5.1f}"
            f"{one.p:9.2g}{verdict}"
        )
    return [*lines, "  p by McNemar's exact test, raised for so many tests at once (Holm)"]
