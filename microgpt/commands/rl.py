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
REINFORCE or from the best (ExIt).  With ExIt a step in which no answer is better than another changes
nothing, and is `empty` in the log.  A leash, --kl, holds the model near its parent: KL(model || parent),
exact over the vocabulary, is added to the loss.  The log has of every step reward, best_reward, reward_std,
baseline, answer_tokens, ended_share and, with a leash, kl in nats a token; loss is that of tokens by their
weights, and may be negative.  Held-out text of the parent's corpus tells what the rewards cost.
"""

import argparse
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from microgpt.common.errors import ConfigError
from microgpt.common.flags import Parser, given
from microgpt.runs.spec import Spec
from microgpt.training.clock import Now
from microgpt.tuning.rl import EVERY, GENTLER, ROWS, STEPS, Rewarded, rl_spec

from ._by_answers import add_run_flags, train, typed

SHOWN = {
    "lr": f"the parent's peak / {GENTLER}",
    "max_steps": str(STEPS),
    "batch_size": f"{ROWS} answers",
    "eval_every": str(EVERY),
}


def parser() -> Parser:
    """All flags."""
    flags = Parser(prog="microgpt rl", description=__doc__)
    add_run_flags(flags, Rewarded, SHOWN, settled=("log_every",))
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
    return flags


def spec_from(args: argparse.Namespace) -> Spec:
    """The run that was typed."""
    told = given(args, Rewarded)
    if args.parent is None or "reward" not in told:
        raise ConfigError(
            "rewards need --from RUN, the trained model, and --reward text, exam or FILE.py:function"
        )
    text = {} if args.data is None else {"data": args.data}
    return rl_spec(args.parent, typed(args) | text, **told)


def table(events: list[dict[str, Any]]) -> list[str]:
    """Lines: after how many steps, the means of reward and KL since the row before, and of what is held out
    bits per byte."""
    facts: list[dict[str, Any]] = []
    rows = []
    for event in events:
        facts += [event["facts"]] if "reward" in event.get("facts", {}) else []
        if event["event"] == "eval":
            means = f"{_mean(facts, 'reward', 9, 3)} {_mean(facts, 'kl', 8, 4)}"
            rows.append(f"{event['step']:>8,} {means} {float(event['bpb']):>9.4f}")
            facts = []
    return [f"{'steps':>8} {'reward':>9} {'KL':>8} {'bits/byte':>9}", *rows] if rows else []


def _mean(facts: list[dict[str, Any]], name: str, width: int, digits: int) -> str:
    found = [float(told[name]) for told in facts if name in told]
    return f"{np.mean(found):>{width}.{digits}f}" if found else " " * width


def main(argv: Sequence[str] | None = None, now: Now = time.monotonic) -> int:
    """Run the command.  Returns the exit code, as of train."""
    args = parser().parse_args(argv)
    return train(args, Rewarded, spec_from, table, now)
