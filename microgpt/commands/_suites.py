"""Suites of `eval`: how a model does on unusual text, and beyond its window."""

import argparse
from typing import Any

from microgpt.common.bars import progress_bar
from microgpt.common.errors import ConfigError
from microgpt.common.flags import Parser
from microgpt.common.output import tell
from microgpt.core import native
from microgpt.evaluation.beyond import LENGTHS, Beyond, beyond
from microgpt.evaluation.held_out import HeldOut, packing_of, text_to_measure
from microgpt.evaluation.loss import with_interval
from microgpt.evaluation.unusual import N_UNUSUAL, Unusual, unusual

from ._model_flags import Loaded

SUITES = ("ood", "long")


def add_suite_flags(flags: Parser) -> None:
    """Which suites, and what else is other text."""
    flags.add_argument(
        "--suite",
        type=suites,
        default=(),
        metavar="NAMES",
        help="measure more: ood (typos, lower case, capitals, prose, programs, --other), long (loss by "
        "position, and what is found again, at 1 to 4 windows); ood,long is both",
    )
    flags.add_argument(
        "--other", nargs="+", metavar="FILE", help="text of another domain that --suite ood measures, too"
    )


def suites(text: str) -> tuple[str, ...]:
    """The type of --suite."""
    names = tuple(text.split(","))
    if unknown := [name for name in names if name not in SUITES]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r}: expected some of {', '.join(SUITES)}, with commas")
    return names


def suite_results(
    loaded: Loaded, held_out: HeldOut, args: argparse.Namespace
) -> tuple[list[str], dict[str, Any]]:
    """What the suites that are asked for found: lines for people, and values for JSON."""
    lines: list[str] = []
    values: dict[str, Any] = {}
    if "ood" in args.suite:
        found = measured_unusual(loaded, held_out, args)
        lines += unusual_lines(found)
        values["ood"] = [one.to_dict() for one in found]
    if "long" in args.suite:
        try:
            far = measured_beyond(loaded, held_out)
        except ConfigError as reason:
            tell(f"no suite long: {reason}")
            values["long"] = None
        else:
            lines += beyond_lines(far, loaded.model.config.seq_len)
            values["long"] = far.to_dict()
    return lines, values


def measured_unusual(loaded: Loaded, held_out: HeldOut, args: argparse.Namespace) -> list[Unusual]:
    """The suite ood."""
    other = None
    if args.other:
        other = text_to_measure(loaded.path, loaded.tokenizer, args.other, native.threads(), {})
    with progress_bar("unusual text", N_UNUSUAL + bool(args.other), "text") as progress:
        how = packing_of(loaded.path), other, progress.update
        return unusual(loaded.model, loaded.tokenizer, held_out, *how)


def measured_beyond(loaded: Loaded, held_out: HeldOut) -> Beyond:
    """The suite long."""
    model, tokenizer = loaded.model, loaded.tokenizer
    with progress_bar("beyond the window", 1 + len(LENGTHS), "length") as progress:
        return beyond(model, tokenizer, held_out.tokens, loaded.knows_chats(), progress.update)


def unusual_lines(found: list[Unusual]) -> list[str]:
    """A table."""
    width = max(len(one.name) for one in found)
    lines = ["", f"{'unusual text':{width}}{'documents':>11}{'bits/byte':>21}{'times':>8}"]
    for one in found:
        bpb = one.quality.bpb
        interval = with_interval(bpb.value, bpb.half_width)
        lines.append(f"{one.name:{width}}{one.n_documents:11,}{interval:>21}{one.times:8.2f}")
    return lines


def beyond_lines(found: Beyond, seq_len: int) -> list[str]:
    """Loss by position, then what was found again."""
    lines = ["", f"{'tokens of the text before it':30}{'tokens':>10}{'nats/token':>21}"]
    for part in found.positions:
        place, interval = f"{part.first:,} to {part.last:,}", with_interval(part.loss, part.half_width)
        lines.append(f"{place:30}{part.n_tokens:10,}{interval:>21}")
    lines += [f"  the window of training is {seq_len:,}", ""]
    lines.append(f"{'windows':>8}{'names found again':>26}{'a passage twice, nats/token':>32}")
    for times in LENGTHS:
        key, gain = (found.keys or {}).get(times), found.passages.get(times)
        told = "not applicable" if key is None else f"{key.n} of {key.of} ({key.low:.0%} to {key.high:.0%})"
        better = "too little text" if gain is None else with_interval(gain.value, gain.half_width)
        lines.append(f"{times:8}{told:>26}{better:>32}")
    return [
        *lines,
        "  a name stands at the beginning and is asked for at the end; by how much better a passage is",
        "  foretold at the end when it stood at the beginning, too",
    ]
