"""List the presets: what `microgpt train --preset NAME` makes a model of, and what that takes.

Counted with the vocabulary that its name stands for, or that of --vocab-size.  "active" are the parameters
that one token has to do with, fewer than all in a mixture of experts.  "memory" is what a step on one window
takes; "FLOP" is that of training on a token of a full window, forward and backward.
"""

from collections.abc import Sequence
from typing import Any

from microgpt.common.flags import Parser, whole
from microgpt.common.output import json_line, show
from microgpt.common.words import aligned
from microgpt.model import ModelConfig, count_parameters, flop_per_token
from microgpt.model.architecture import count_active_parameters
from microgpt.model.presets import COUNTED_WITH, COUNTED_WITH_OTHERS, PRESETS
from microgpt.runs.settings import TrainConfig
from microgpt.training.needs import memory_estimate

TITLES = ("preset", "layers", "width", "heads", "window", "vocab", "params", "active", "memory", "FLOP")


def parser() -> Parser:
    """All flags."""
    flags = Parser(prog="microgpt presets", description=__doc__)
    flags.add_argument(
        "--vocab-size",
        type=whole(1, (1 << 31) - 1),
        metavar="TOKENS",
        help="size of the vocabulary [tokens, default that of each name]",
    )
    flags.add_argument("--json", action="store_true", help="print a JSON list instead of a table")
    return flags


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    args = parser().parse_args(argv)
    found = [
        facts_of(name, args.vocab_size or COUNTED_WITH_OTHERS.get(name, COUNTED_WITH)) for name in PRESETS
    ]
    if args.json:
        print(json_line(found))
    else:
        show(*table(found))


def facts_of(name: str, vocab_size: int) -> dict[str, Any]:
    """A preset by its numbers: counts, bytes, FLOP a token."""
    model = ModelConfig.from_preset(name, vocab_size)
    return {
        "preset": name,
        "layers": model.n_layer,
        "width": model.n_embd,
        "heads": model.n_head,
        "kv_heads": model.heads.H_kv,
        "window": model.seq_len,
        "vocab_size": vocab_size,
        "params": count_parameters(model),
        "active": count_active_parameters(model),
        "memory": memory_estimate(model, TrainConfig(batch_size=1)),
        "flop": flop_per_token(model),
    }


def table(found: list[dict[str, Any]]) -> list[str]:
    """Lines of aligned columns, numbers flush right."""
    return aligned([TITLES, *map(_row, found)])


def _row(facts: dict[str, Any]) -> tuple[str, ...]:
    heads = (
        f"{facts['heads']}"
        if facts["kv_heads"] == facts["heads"]
        else f"{facts['heads']}/{facts['kv_heads']}"
    )
    return (
        facts["preset"],
        str(facts["layers"]),
        str(facts["width"]),
        heads,
        str(facts["window"]),
        str(facts["vocab_size"]),
        f"{facts['params']:,}",
        f"{facts['active']:,}",
        f"{facts['memory'] / 1e9:.2f} GB",
        f"{facts['flop'] / 1e6:,.0f}M",
    )
