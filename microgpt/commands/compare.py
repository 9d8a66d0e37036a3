"""Tell whether one model is better than another: on the same documents, with the interval of the difference.

  microgpt compare x y                   two runs, on the held-out part of their corpus
  microgpt compare x@best x@newest       two checkpoints of one
  microgpt compare x y --data my.txt     on another text that neither was trained on

Documents are drawn again and again, with what both models lose on each: the difference is known much better
than either loss.  Where tokenizers, corpora or what stands before a token differ, that is told, and bits per
byte alone are compared.  The same seed gives the same output.
"""

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np

from microgpt.batches.packing import PACKINGS
from microgpt.common.errors import ConfigError
from microgpt.common.flags import Parser, given, whole
from microgpt.common.output import escaped, json_line
from microgpt.common.words import counted
from microgpt.core import native
from microgpt.corpus.prepared.fingerprints import fingerprints
from microgpt.corpus.reading.options import ReadOptions
from microgpt.evaluation.held_out import HeldOut, packing_of, text_to_measure
from microgpt.evaluation.loss import BPB_NOTE
from microgpt.evaluation.measure import quality
from microgpt.evaluation.pairs import Comparison, Difference, Side, compare, unlike
from microgpt.evaluation.sides import side_of

from ._model_flags import (
    Loaded,
    add_carry_flag,
    add_model_flags,
    add_text_flags,
    is_carried,
    named_to_slide,
    open_checkpoint,
)


def parser() -> Parser:
    """All flags."""
    flags = Parser(prog="microgpt compare", description=__doc__)
    add_model_flags(flags, several=True)
    add_text_flags(flags, "what both were trained on")
    add_carry_flag(flags)
    flags.add_argument("--packing", choices=PACKINGS, help="windows of both [default each as it was trained]")
    flags.add_argument(
        "--stride", type=whole(1), metavar="TOKENS", help="windows slide by so many tokens, as in eval"
    )
    flags.add_argument(
        "--seed", type=whole(0), default=0, metavar="NUMBER", help="of the draws of documents [default 0]"
    )
    flags.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    return flags


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = parser().parse_args(argv)
    if len(args.checkpoints) != 2:
        raise ConfigError(
            f"{counted(len(args.checkpoints), 'checkpoint')}; compare takes two, such as x@best y"
        )
    (a, text), (b, other) = (opened_side(args, name) for name in named_to_slide(args))
    differences = unlike(a, b)
    check_texts(a, b, text, other, args)
    result = compare(a, b, args.seed)
    if args.json:
        print(json_line(report(a, b, result, differences)))
    else:
        print(*map(escaped, lines_of(a, b, text, result, differences)), sep="\n")
    return 0


def opened_side(args: argparse.Namespace, name: str | None) -> tuple[Side, HeldOut]:
    """Measure one of the two."""
    loaded: Loaded = open_checkpoint(args, name)
    how = given(args, ReadOptions)
    which = args.max_tokens, args.packing or packing_of(loaded.path), args.stride, is_carried(loaded, args)
    held_out = text_to_measure(loaded.path, loaded.tokenizer, args.files, native.threads(), how)
    return side_of(loaded.path, loaded.model, loaded.tokenizer, held_out, *which), held_out


def check_texts(a: Side, b: Side, text: HeldOut, other: HeldOut, args: argparse.Namespace) -> None:
    """Refuse what cannot be compared document by document."""
    if a.corpus != b.corpus and args.files is None:
        raise ConfigError(f"{a.name} and {b.name} have other corpora; name a text for both with --data")
    if args.max_tokens and (a.tokenizer != b.tokenizer or a.policy != b.policy):
        raise ConfigError("--max-tokens: windows of the two do not hold the same text; leave it out")
    is_same = a.tokenizer != b.tokenizer  # then by their bytes alone
    if not is_same and not np.array_equal(fingerprints(text.tokens), fingerprints(other.tokens)):
        raise ConfigError(f"{a.name} and {b.name} were measured on other documents; name a text with --data")


def lines_of(a: Side, b: Side, text: HeldOut, result: Comparison, differences: list[str]) -> list[str]:
    """What came out, for people."""
    lines = [f"warning: {what}" for what in differences]
    if differences:
        lines.append("  so bits per byte alone are compared")
    names = " ".join(text.names)
    lines += [
        f"on {names} ({text.part}): {counted(result.n_documents, 'document')} that both were measured on"
    ]
    width = max(len(a.name), len(b.name))
    for side in (a, b):
        one = quality(side.documents.nats, side.documents)
        loss = f"{one.loss.value:.4f} nats/token, " if result.loss else ""
        lines.append(f"{side.name:{width}}  {loss}{one.bpb.value:.4f} bits per byte")
    if result.loss:
        lines.append(told(result.loss, "nats/token"))
    return [*lines, told(result.bpb, "bits per byte"), verdict(b, result.bpb), f"  {BPB_NOTE}"]


def told(found: Difference, unit: str) -> str:
    """A difference with its interval."""
    return (
        f"second less first: {found.value:+.4f} {unit}, 95 % interval {found.low:+.4f} to {found.high:+.4f}"
    )


def verdict(b: Side, found: Difference) -> str:
    """Whether it is more than chance."""
    if not found.is_clear:
        return "  no difference that chance would not make: the interval holds 0"
    better = "better" if found.value < 0 else "worse"
    return f"  {b.name} is {better}, by more than the choice of documents explains"


def report(a: Side, b: Side, result: Comparison, differences: list[str]) -> dict[str, Any]:
    """All of it for JSON."""
    return {
        "checkpoints": [a.name, b.name],
        "differences": differences,
        "n_documents": result.n_documents,
        "bpb": result.bpb._asdict(),
        "loss": result.loss and result.loss._asdict(),
    }
