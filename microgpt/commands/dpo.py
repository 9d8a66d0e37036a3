"""Let a trained model prefer some answers to others: direct preference optimization.

  microgpt dpo --from mine --data pairs.jsonl           lines of {"prompt", "chosen", "rejected"}
  microgpt dpo --from mine --data pairs.jsonl --lora-rank 8     only small adapters are trained
  microgpt dpo --resume mine-dpo                        go on with one that was stopped

The pairs of every tenth prompt are held out and measured, and so is held-out text of the parent's corpus,
which tells what the preferences cost.  The loss in the log is that of tokens, weighed by pairs;
preference_loss is the one that falls, from ln 2.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from microgpt.common.errors import ConfigError
from microgpt.common.flags import Parser, given
from microgpt.runs.metrics import HELD_OUT_FACTS
from microgpt.runs.spec import Spec
from microgpt.training.clock import Now
from microgpt.tuning.answers import BATCH_SIZE, EVERY, GENTLER
from microgpt.tuning.dpo import Preferences, dpo_spec

from ._by_answers import add_run_flags, train, typed

SHOWN = {
    "lr": f"the parent's peak / {GENTLER}",
    "max_steps": "one pass over the pairs that are learned",
    "batch_size": f"{BATCH_SIZE} pairs",
    "eval_every": str(EVERY),
}


def parser() -> Parser:
    """All flags."""
    flags = Parser(prog="microgpt dpo", description=__doc__)
    add_run_flags(flags, Preferences, SHOWN)
    flags.add_argument("--data", type=Path, metavar="PAIRS", help="a file of pairs")
    return flags


def spec_from(args: argparse.Namespace) -> Spec:
    """The run that was typed."""
    if args.parent is None or args.data is None:
        raise ConfigError("preferences need --from RUN, the trained model, and --data PAIRS")
    return dpo_spec(args.parent, args.data, typed(args), **given(args, Preferences))


def table(events: list[dict[str, Any]]) -> list[str]:
    """Lines: after how many steps, share of held-out pairs that prefer the right answer, margin, loss."""
    told = [(event["step"] - 1, event.get("facts") or {}) for event in events if event["event"] == "train"]
    names = [HELD_OUT_FACTS + name for name in ("preferred_share", "margin", "preference_loss")]
    measured = [(step, [float(facts[name]) for name in names]) for step, facts in told if names[0] in facts]
    rows = [
        f"{step:>8,} {share:>11.1%} {margin:>8.4f} {loss:>8.4f}" for step, (share, margin, loss) in measured
    ]
    return (
        ["held-out pairs", f"{'steps':>8} {'preferred':>11} {'margin':>8} {'loss':>8}", *rows] if rows else []
    )


def main(argv: Sequence[str] | None = None, now: Now = time.monotonic) -> int:
    """Run the command.  Returns the exit code, as of train."""
    args = parser().parse_args(argv)
    return train(args, Preferences, spec_from, table, now)
