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
from microgpt.common.flags import Parser, add_settings, given, refuse_with_resume
from microgpt.common.output import show
from microgpt.model import ModelConfig
from microgpt.runs.events import Event, EventListener, Trained
from microgpt.runs.settings import TrainConfig
from microgpt.runs.spec import CHANGEABLE, Spec
from microgpt.training.clock import Now
from microgpt.training.console import Console
from microgpt.training.run import resume_run, start_run
from microgpt.training.stop import StopFlag
from microgpt.tuning.answers import WARMUP
from microgpt.tuning.dpo import Preferences, dpo_spec

SETTLED = ("packing", "carry_state", "prompt_loss_weight", "recipe", "probes", "grad_accum")
SHOWN = {
    "lr": "the parent's peak / 100",
    "min_lr": "--lr / 10",
    "max_steps": "one pass over the pairs that are learned",
}
SHOWN |= {"batch_size": "8 pairs", "eval_every": "50", "sample_every": "0", "log_every": "1", "dropout": "0"}
SHOWN |= {"warmup_steps": str(WARMUP)}


def parser() -> Parser:
    """All flags."""
    flags = Parser(prog="microgpt dpo", description=__doc__)
    flags.add_argument("--from", dest="parent", metavar="RUN", help="the trained model, named as for chat")
    flags.add_argument("--data", type=Path, dest="pairs", metavar="PAIRS", help="a file of pairs")
    flags.add_argument(
        "--out-dir", type=Path, metavar="DIR", help="directory of the run [default a new one in runs/]"
    )
    flags.add_argument("--resume", metavar="RUN", help="go on with a run that was stopped")
    add_settings(flags, Preferences)
    fixed = [name for name in ModelConfig.__dataclass_fields__ if name not in CHANGEABLE]
    add_settings(flags, ModelConfig, skip=fixed, shown=SHOWN)
    add_settings(flags, TrainConfig, skip=SETTLED, shown=SHOWN)
    return flags


def typed(args: argparse.Namespace) -> dict[str, Any]:
    """The settings of the run among the flags."""
    return given(args, ModelConfig) | given(args, TrainConfig)


class Margins:
    """A listener that keeps what was told of held-out pairs."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, dict[str, float]]] = []

    def __call__(self, event: Event) -> None:
        """See one event."""
        if isinstance(event, Trained) and event.facts and "held_out_margin" in event.facts:
            self.seen.append((event.step, event.facts))

    def table(self) -> list[str]:
        """Lines: after how many steps, loss, margin, share of pairs."""
        if not self.seen:
            return []
        rows = [
            f"{step - 1:>8,} {facts['held_out_preferred_share']:>11.1%} {facts['held_out_margin']:>8.4f} "
            f"{facts['held_out_preference_loss']:>8.4f}"
            for step, facts in self.seen
        ]
        return ["held-out pairs", f"{'steps':>8} {'preferred':>11} {'margin':>8} {'loss':>8}", *rows]


def main(argv: Sequence[str] | None = None, now: Now = time.monotonic) -> int:
    """Run the command.  Returns the exit code: 0, or 128 + the number of the signal that stopped it."""
    args, stop, margins = parser().parse_args(argv), StopFlag(), Margins()
    console: list[EventListener] = [Console(), margins]
    if args.resume is not None:
        told = {"--from": args.parent, "--data": args.pairs, "--beta": getattr(args, "beta", None)}
        refuse_with_resume(told)
        resume_run(args.resume, Spec.of(**typed(args)), args.out_dir, False, console, stop, now)
    elif args.parent is None or args.pairs is None:
        raise ConfigError("preferences need --from RUN, the trained model, and --data PAIRS")
    else:
        beta = getattr(args, "beta", Preferences.beta)
        start_run(dpo_spec(args.parent, args.pairs, typed(args), beta), args.out_dir, console, stop, now)
    show(*margins.table())
    return stop.exit_code
