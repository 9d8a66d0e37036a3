"""What the commands that change a trained model by answers share: their flags, how they begin and go on, and
what a run wrote down, for the table at its end."""

import argparse
import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from microgpt.common.errors import CheckpointError
from microgpt.common.flags import Parser, add_settings, flag_name, given, refuse_with_resume
from microgpt.common.output import show
from microgpt.model import ModelConfig
from microgpt.reporting.history import read_history
from microgpt.runs.settings import TrainConfig
from microgpt.runs.spec import CHANGEABLE, Spec
from microgpt.training.clock import Now
from microgpt.training.console import Console
from microgpt.training.run import resume_run, start_run
from microgpt.training.stop import StopFlag
from microgpt.tuning.answers import WARMUP

SETTLED = ("packing", "carry_state", "prompt_loss_weight", "recipe", "probes", "grad_accum")
SHOWN = {"min_lr": "--lr / 10", "dropout": "0", "sample_every": "0", "log_every": "1"}
SHOWN |= {"warmup_steps": str(WARMUP)}


def add_run_flags(flags: Parser, told: type, shown: dict[str, str], settled: Sequence[str] = ()) -> None:
    """The trained model, where the run lies, what its source is told, and its settings.

    Args: told: the class of what the source is told.  shown: defaults for people, beside those of all.
          settled: settings that have no flag, beside those of all.
    """
    flags.add_argument("--from", dest="parent", metavar="RUN", help="the trained model, named as for chat")
    flags.add_argument(
        "--out-dir", type=Path, metavar="DIR", help="directory of the run [default a new one in runs/]"
    )
    flags.add_argument("--resume", metavar="RUN", help="go on with one that was stopped")
    add_settings(flags, told)
    fixed = [name for name in ModelConfig.__dataclass_fields__ if name not in CHANGEABLE]
    add_settings(flags, ModelConfig, skip=fixed, shown=SHOWN | shown)
    add_settings(flags, TrainConfig, skip=(*SETTLED, *settled), shown=SHOWN | shown)


def typed(args: argparse.Namespace) -> dict[str, Any]:
    """The settings of the run among the flags."""
    return given(args, ModelConfig) | given(args, TrainConfig)


def train(
    args: argparse.Namespace,
    told: type,
    spec_from: Callable[[argparse.Namespace], Spec],
    table: Callable[[list[dict[str, Any]]], list[str]],
    now: Now,
) -> int:
    """Begin a run or go on with it, and show a table of all that it wrote down.

    Args:    told: the class of what its source is told.  spec_from: makes the spec of a new run of the flags.
             table: lines, of the events of the log.
    Returns: the exit code, as of train.
    """
    stop = StopFlag()
    if args.resume is not None:
        fixed = {"--from": args.parent, "--data": args.data}
        refuse_with_resume(fixed | {flag_name(name): True for name in given(args, told)})
        outcome = resume_run(args.resume, Spec.of(**typed(args)), args.out_dir, False, [Console()], stop, now)
    else:
        outcome = start_run(spec_from(args), args.out_dir, [Console()], stop, now)
    with contextlib.suppress(CheckpointError):  # the run is what counts, its log may be gone
        show(*table(list(read_history(outcome.run).events)))
    return stop.exit_code or outcome.exit_code
