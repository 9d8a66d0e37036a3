"""Fine-tune a trained model on conversations: it learns what the assistant says in them.

  microgpt sft --from mine --data talk.jsonl                      a model of your own, in runs/
  microgpt sft --from mine --data talk.jsonl --replay book.txt --replay-share 0.3    which forgets less
  microgpt sft --from mine --data talk.jsonl --lora               only small adapters are trained
  microgpt sft --from mine --data talk.jsonl --scu auto           adapters that hold so much, and no more
  microgpt sft --from mine --data talk.jsonl=0.9 other.jsonl=0.1  of several, each its share
  microgpt sft --resume mine-sft                                  go on with one that was stopped

Conversations stand whole in their windows and do not see each other.  The rate is a tenth of the parent's
peak; the end comes after three epochs, but not before step 100 unless a length is given, or when what is held
out no longer gains, and chat then takes the best checkpoint.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from microgpt.common.errors import ConfigError
from microgpt.common.flags import Parser, add_settings, flag_name, given, refuse_with_resume
from microgpt.common.output import show, tell
from microgpt.corpus.prepared.config import DataConfig, weighted
from microgpt.corpus.prepared.split import add_held_out_flags
from microgpt.corpus.reading.options import ReadOptions
from microgpt.model import ModelConfig, count_parameters
from microgpt.model.settings import ADAPTER_FIELDS
from microgpt.runs.events import EventListener
from microgpt.runs.lineage import begin_with
from microgpt.runs.settings import TrainConfig
from microgpt.runs.spec import CHANGEABLE, Spec
from microgpt.training import assemble
from microgpt.training.clock import Now
from microgpt.training.console import Console
from microgpt.training.run import resume_run, start_run
from microgpt.training.stop import StopFlag
from microgpt.tuning import scu, smart
from microgpt.tuning.control import GROUP, GUIDE, GUIDES_OWN, Control
from microgpt.tuning.extension import effect
from microgpt.tuning.sft import EPOCHS, EVAL_EVERY, FEWEST_STEPS, GENTLER, PATIENCE, default_rank, sft_spec

REPLAY_SHARE = 0.3
SETTLED = ("packing", "carry_state", "prompt_loss_weight", "recipe", "probes")  # settings that are not for it
SHOWN = {
    "lr": f"the parent's peak / {GENTLER}",
    "min_lr": f"--lr / {GENTLER}",
    "batch_size": "the parent's",
    "grad_accum": "the parent's",
    "precision": "the parent's",
    "epochs": f"{EPOCHS:g}",
    "max_steps": f"those of --epochs; without any length, {FEWEST_STEPS} at least",
    "warmup_steps": "by the size of the model; a tenth of the steps, or 30, at most",
    "eval_every": str(EVAL_EVERY),
    "stop_after": str(PATIENCE),
    "seq_len": "the parent's",
    "dropout": "the parent's",
}


def parser() -> Parser:
    """All flags."""
    flags = Parser(prog="microgpt sft", description=__doc__)
    flags.add_argument(
        "--out-dir", type=Path, metavar="DIR", help="directory of the run [default a new one in runs/]"
    )
    flags.add_argument("--resume", metavar="RUN", help="go on with a fine-tuning that was stopped")
    add_tuning_flags(flags)
    return flags


def add_tuning_flags(flags: Parser) -> None:
    """What a fine-tuning is: of what, on what, and how."""
    flags.add_argument("--from", dest="parent", metavar="RUN", help="the trained model, named as for chat")
    data = flags.add_argument_group("data")
    data.add_argument(
        "--data",
        nargs="+",
        action="extend",
        metavar="FILE",
        dest="files",
        help="conversations, as microgpt train reads them; a.jsonl=0.9 b.jsonl=0.1 gives each its share of "
        "the windows",
    )
    data.add_argument(
        "--replay",
        nargs="+",
        metavar="FILE",
        help="text that the model was trained on before, to be trained on in between, whole, so that it "
        "forgets less",
    )
    data.add_argument(
        "--replay-share",
        type=float,
        metavar="SHARE",
        help=f"of the windows that are replayed [default {REPLAY_SHARE} with --replay]",
    )
    flags.add_argument_group("adapters").add_argument(
        "--lora", action="store_true", help="train adapters, of a rank that suits the size of the model"
    )
    control = flags.add_argument_group(GROUP)
    control.add_argument(
        "--scu",
        nargs="?",
        const="",
        choices=("", "auto"),
        metavar="auto",
        help="hold what adapters know at a share of all information, --target-s; auto: at one that suits the "
        "size of the model, the data and the task",
    )
    control.add_argument(
        "--scu-task",
        default="general",
        metavar="TASK",
        help=f"with --scu auto: {', '.join(smart.GUIDE.tasks)} [default general]",
    )
    control.add_argument(
        "--scu-table",
        type=Path,
        metavar="FILE",
        help="with --scu auto: rows of your own, [sizes] name = {below = 2e6, target_s = 0.002} and [tasks] "
        "name = -0.002",
    )
    add_settings(flags, Control)
    add_settings(flags, DataConfig, skip=("merges", "single_digits"))
    add_settings(flags, ReadOptions)
    add_held_out_flags(flags)
    add_settings(
        flags, ModelConfig, skip=[name for name in _names(ModelConfig) if name not in CHANGEABLE], shown=SHOWN
    )
    add_settings(flags, TrainConfig, skip=SETTLED, shown=SHOWN)


def _names(config: type) -> list[str]:
    return list(config.__dataclass_fields__)  # type: ignore[attr-defined]


def spec_from(args: argparse.Namespace) -> Spec:
    """The fine-tuning that was typed."""
    if args.parent is None or args.files is None:
        raise ConfigError(
            "a fine-tuning needs --from RUN, the trained model, and --data FILE, what it is to learn"
        )
    if args.replay_share is not None and not args.replay:
        raise ConfigError(f"--replay-share {args.replay_share:g}: name with --replay what is to be replayed")
    settings = typed(args) | weighted(args.files)
    if (args.lora or args.scu is not None) and not settings.get("lora_rank"):
        settings["lora_rank"] = default_rank(args.parent)
    if idle := [name for name in ADAPTER_FIELDS if name in settings and not settings.get("lora_rank")]:
        raise ConfigError(
            f"--{idle[0].replace('_', '-')}: there are no adapters; give --lora or --lora-rank, too"
        )
    share = REPLAY_SHARE if args.replay_share is None else args.replay_share
    spec = sft_spec(args.parent, settings, args.replay or (), share)
    return spec if args.scu is None else controlled(spec, args)


def session_from(args: argparse.Namespace) -> Spec:
    """What one session of a fine-tuning that goes on may change, and where its text is now."""
    told = {"--from": args.parent, "--replay-share": args.replay_share, "--lora": args.lora}
    told |= {"--scu": args.scu, "--scu-table": args.scu_table, "--scu-task": args.scu_task != "general"}
    refuse_with_resume(told | {flag_name(name): True for name in given(args, Control)})
    places = {} if args.replay is None else {"replay": args.replay}
    return Spec.of(**typed(args), **({} if args.files is None else weighted(args.files)), **places)


def controlled(spec: Spec, args: argparse.Namespace) -> Spec:
    """The same under control; with `auto`, the target by the table, which is told."""
    told = given(args, Control)
    if told.get("scu_law") == GUIDE:
        told = GUIDES_OWN | told
    if args.scu == "auto":
        told = {"target_s": target_for(spec, args)} | told
    elif "target_s" not in told:
        raise ConfigError("--scu: give --target-s, such as 0.01, or --scu auto")
    Control(**told)  # refuses what cannot be before any text is read
    train = {"log_every": 1, "stop_after": 0} | {k: v for k, v in spec.train.items() if k != "stop_after"}
    if "stop_after" in given(args, TrainConfig):
        train["stop_after"] = spec.train["stop_after"]
    return replace(spec, train=train | {"penalty": scu.NAME, "penalty_settings": told})


def target_for(spec: Spec, args: argparse.Namespace) -> float:
    """The target by size, tokens and task."""
    begin = begin_with(args.parent)
    prepared = assemble.open_corpus(spec.plan(parent=begin[:2]), begin.tokenizer)
    n_params, n_tokens = count_parameters(begin.plan.model), prepared.train.n_tokens
    target, words = smart.chosen(n_params, n_tokens, args.scu_task, smart.table_from(args.scu_table))
    tell(words)
    return target


def typed(args: argparse.Namespace) -> dict[str, Any]:
    """The settings among the flags."""
    found: dict[str, Any] = {}
    for config in (ModelConfig, TrainConfig, DataConfig):
        found |= given(args, config)
    return {name: value for name, value in found.items() if name not in ("replay", "replay_share")}


def main(argv: Sequence[str] | None = None, now: Now = time.monotonic) -> int:
    """Run the command.  Returns the exit code, as of train."""
    args, stop = parser().parse_args(argv), StopFlag()
    console: list[EventListener] = [Console()]
    settling = scu.Settling(stop, console[0])
    if args.scu is None and args.resume is None and (idle := given(args, Control)):
        raise ConfigError(f"{flag_name(next(iter(idle)))} is of a controller; give --scu, too")
    console.append(settling)
    if args.resume is not None:
        outcome = resume_run(args.resume, session_from(args), args.out_dir, False, console, stop, now)
    else:
        outcome = start_run(spec_from(args), args.out_dir, console, stop, now)
    scu.write_metadata(outcome.run)
    if args.resume is None and (settling.is_settled or not stop):
        show(*effect(outcome.checkpoint))
    return 0 if settling.is_settled else stop.exit_code or outcome.exit_code
