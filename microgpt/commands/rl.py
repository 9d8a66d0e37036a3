"""Let a trained model learn from rewards: it answers, its answers are marked, better ones become likelier.

  microgpt rl --from mine --reward mine.py:worth        a function of prompt and answer that gives a number
  microgpt rl --from mine --reward text                 length, variety, endings, words of the prompt
  microgpt rl --from quickstart --reward exam --families order     the exam's marking, right or wrong
  microgpt rl --from mine --reward text --method exit   learn the best of eight answers, as in fine-tuning
  microgpt rl --from mine --reward text --lora-rank 8   only small adapters are trained
  microgpt rl --resume mine-rl                          go on with one that was stopped

Prompts are beginnings of conversations of the training text, --data or the parent's; with --reward exam they
are questions made anew, none of which is in the exam that `eval` measures by.  A function must give the same
number for the same words, and is called as worth(prompt, answer).

Every step draws --batch-size answers at once, --answers to each prompt, and learns from them alone, by
REINFORCE or from the best (ExIt).  A leash, --kl, holds the model near its parent: KL(model || parent), exact
over the vocabulary, is added to the loss.  The log has of every step reward, best_reward, reward_std,
baseline, answer_tokens, ended_share and, with a leash, kl in nats a token; loss is that of tokens by their
weights, and may be negative.  Held-out text of the parent's corpus tells what the rewards cost.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from microgpt.common.errors import ConfigError
from microgpt.common.flags import Parser, add_settings, flag_name, given, refuse_with_resume
from microgpt.common.output import show
from microgpt.model import ModelConfig
from microgpt.runs.events import Evaluated, Event, EventListener, Trained
from microgpt.runs.settings import TrainConfig
from microgpt.runs.spec import CHANGEABLE, Spec
from microgpt.training.clock import Now
from microgpt.training.console import Console
from microgpt.training.run import resume_run, start_run
from microgpt.training.stop import StopFlag
from microgpt.tuning.answers import WARMUP
from microgpt.tuning.rl import EVERY, GENTLER, ROWS, STEPS, Rewarded, rl_spec

SETTLED = ("packing", "carry_state", "prompt_loss_weight", "recipe", "probes", "grad_accum")
SHOWN = {
    "lr": f"the parent's peak / {GENTLER}",
    "min_lr": "--lr / 10",
    "max_steps": str(STEPS),
    "dropout": "0",
}
SHOWN |= {"batch_size": f"{ROWS} answers", "eval_every": str(EVERY), "sample_every": "0", "log_every": "1"}
SHOWN |= {"warmup_steps": str(WARMUP)}


def parser() -> Parser:
    """All flags."""
    flags = Parser(prog="microgpt rl", description=__doc__)
    flags.add_argument("--from", dest="parent", metavar="RUN", help="the trained model, named as for chat")
    flags.add_argument(
        "--reward", default=argparse.SUPPRESS, metavar="REWARD", help="text, exam or FILE.py:function"
    )
    flags.add_argument(
        "--families",
        default=argparse.SUPPRESS,
        metavar="NAMES",
        help="with --reward exam, those to be practised, by commas, in turn [default all]",
    )
    flags.add_argument(
        "--data",
        nargs="+",
        action="extend",
        metavar="FILE",
        help="conversations whose beginnings are the prompts, and what is measured [default the parent's]",
    )
    flags.add_argument(
        "--out-dir", type=Path, metavar="DIR", help="directory of the run [default a new one in runs/]"
    )
    flags.add_argument("--resume", metavar="RUN", help="go on with a run that was stopped")
    add_settings(flags, Rewarded)
    fixed = [name for name in ModelConfig.__dataclass_fields__ if name not in CHANGEABLE]
    add_settings(flags, ModelConfig, skip=fixed, shown=SHOWN)
    add_settings(flags, TrainConfig, skip=SETTLED, shown=SHOWN)
    return flags


def typed(args: argparse.Namespace) -> dict[str, Any]:
    """The settings of the run among the flags."""
    data = {} if args.data is None else {"data": args.data}
    return given(args, ModelConfig) | given(args, TrainConfig) | data


class Course:
    """A listener that keeps what rewards, KL and held-out text were between evaluations."""

    def __init__(self) -> None:
        self._facts: list[dict[str, Any]] = []
        self.rows: list[tuple[int, float | None, float | None, float]] = []  # step, reward, KL, bits per byte

    def __call__(self, event: Event) -> None:
        """See one event."""
        if isinstance(event, Trained) and event.facts and "reward" in event.facts:
            self._facts.append(event.facts)
        if isinstance(event, Evaluated):
            self.rows.append((event.step, self._mean("reward"), self._mean("kl"), event.bpb))
            self._facts = []

    def _mean(self, name: str) -> float | None:
        found = [facts[name] for facts in self._facts if name in facts]
        return float(np.mean(found)) if found else None

    def table(self) -> list[str]:
        """Lines: after how many steps, the means of reward and KL since the row before, held-out bits per
        byte."""
        rows = [
            f"{step:>8,} {_number(reward, 9, 3)} {_number(kl, 8, 4)} {bpb:>9.4f}"
            for step, reward, kl, bpb in self.rows
        ]
        return [f"{'steps':>8} {'reward':>9} {'KL':>8} {'bits/byte':>9}", *rows] if rows else []


def _number(value: float | None, width: int, digits: int) -> str:
    return " " * width if value is None else f"{value:>{width}.{digits}f}"


def main(argv: Sequence[str] | None = None, now: Now = time.monotonic) -> int:
    """Run the command.  Returns the exit code: 0, or 128 + the number of the signal that stopped it."""
    args, stop, course = parser().parse_args(argv), StopFlag(), Course()
    console: list[EventListener] = [Console(), course]
    told = given(args, Rewarded)
    if args.resume is not None:
        fixed = {"--from": args.parent, "--data": args.data}
        refuse_with_resume(fixed | {flag_name(name): True for name in told})
        resume_run(args.resume, Spec.of(**typed(args)), args.out_dir, False, console, stop, now)
    elif args.parent is None or "reward" not in told:
        raise ConfigError(
            "rewards need --from RUN, the trained model, and --reward text, exam or FILE.py:function"
        )
    else:
        start_run(rl_spec(args.parent, typed(args), **told), args.out_dir, console, stop, now)
    show(*course.table())
    return stop.exit_code
