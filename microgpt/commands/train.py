"""Train a model on text or chats.

  microgpt train                                  the 10m preset on the embedded corpus
  microgpt train --preset 10m --data my.jsonl     on your own text
  microgpt train --max-time 10m                   as much as fits into ten minutes
  microgpt train --resume                         go on with the newest run
  microgpt train --spec run.toml                  as a file says; --write-spec run.toml makes one
  microgpt train --from mine --data book.txt      train what a run has learned on other text

Ctrl-C saves and ends once steps have begun; --resume goes on as if nothing had happened.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import microgpt.tuning.kinds  # noqa: F401  # what a run or a file of settings may name
from microgpt.common.errors import ConfigError
from microgpt.common.flags import Parser, add_settings, given, shown_value, whole
from microgpt.common.output import show, tell
from microgpt.common.words import command_line
from microgpt.corpus.prepared.config import DataConfig, weighted
from microgpt.corpus.prepared.corpus import SMALLTALK
from microgpt.corpus.prepared.split import add_held_out_flags
from microgpt.corpus.reading.options import ReadOptions
from microgpt.model import ModelConfig
from microgpt.model.presets import PRESETS
from microgpt.planning.outline import by_priors, outline
from microgpt.planning.rehearsal import open_plan, probed, rehearse
from microgpt.reporting.hook import TIME_S, OnEvent
from microgpt.reporting.tensorboard import TensorBoard
from microgpt.runs.events import EventListener
from microgpt.runs.priors import Priors
from microgpt.runs.settings import RECIPES, REPORTS, TrainConfig
from microgpt.runs.spec import DEFAULT_PRESET, DEFAULT_RECIPE, NO_MERGES, Spec, default_settings
from microgpt.runs.spec_file import read_spec, write_spec
from microgpt.training.clock import Now
from microgpt.training.console import Console
from microgpt.training.run import resume_run, start_run
from microgpt.training.stop import StopFlag
from microgpt.tuning import scu
from microgpt.tuning.extension import effect


def parser(preset: str = DEFAULT_PRESET, recipe: str = DEFAULT_RECIPE) -> Parser:
    """All flags, in groups; help tells the defaults of this preset and recipe."""
    flags = Parser(prog="microgpt train", usage="microgpt train [flags]", description=__doc__)
    add_new_run_flags(flags)
    add_begin_flags(flags)
    add_data_flags(flags)
    what = ["--preset", preset, *(["--recipe", recipe] if recipe != DEFAULT_RECIPE else [])]
    shown = {
        name: f"{shown_value(value)} for {' '.join(what)}"
        for name, value in default_settings(preset, recipe).items()
    }
    add_settings(flags, ModelConfig, shown=shown | {"vocab_size": f"{NO_MERGES} + --merges"})
    add_settings(flags, TrainConfig, shown=shown)
    add_report_flags(flags)
    return flags


def add_new_run_flags(flags: Parser) -> None:
    """What a new run is, where it lies, and what to do instead of training it."""
    flags.add_argument(
        "--preset",
        choices=tuple(PRESETS),
        metavar="NAME",
        help="size of the model, which sets the flags of its group unless they are given: "
        f"{', '.join(PRESETS)} [default {DEFAULT_PRESET}]",
    )
    flags.add_argument(
        "--spec",
        type=Path,
        metavar="FILE",
        help="settings from a file: TOML as --write-spec writes it, or config.json of a checkpoint; what is "
        "typed comes before it",
    )
    flags.add_argument(
        "--write-spec",
        type=Path,
        metavar="FILE",
        help="write all settings that this run would have to a new file, with what each means, and end",
    )
    flags.add_argument(
        "--dry-run",
        action="store_true",
        help="read the corpus, tell the plan, probe the model and its data, and end before the first step",
    )
    flags.add_argument(
        "--out-dir",
        type=Path,
        metavar="DIR",
        help="directory of the run [default runs/<preset>-<date>-<time>]",
    )


def add_begin_flags(flags: Parser) -> None:
    """What is trained already, and gone on with."""
    flags.add_argument(
        "--resume",
        nargs="?",
        const="",
        metavar="RUN",
        help="go on with a run, by its path or as in runs/NAME, from its newest valid "
        "checkpoint; RUN@best or RUN@STEP with a new --out-dir branches off [default the "
        "newest run]",
    )
    flags.add_argument(
        "--from",
        dest="parent",
        metavar="RUN",
        help="begin with the weights of a run or checkpoint, named as for chat: its model and tokenizer, "
        "other text, a new schedule; with --lora-rank only adapters beside them are trained",
    )
    flags.add_argument(
        "--extend-context",
        type=whole(1),
        dest="seq_len",
        default=argparse.SUPPRESS,
        metavar="TOKENS",
        help="with --from: a longer window, another word for --seq-len; --rope-scaling linear or ntk lets "
        "positions turn slower by as much, or --rope-theta by a larger base [default as they were]",
    )
    flags.add_argument(
        "--allow-inexact",
        action="store_true",
        help="with --resume: go on even where the result cannot equal a run that was never "
        "stopped, as with files that changed, another precision or instruction set",
    )


def add_data_flags(flags: Parser) -> None:
    """The text of the run, how it is read and divided."""
    flags.add_argument_group("data").add_argument(
        "--data",
        nargs="+",
        action="extend",
        metavar="FILE",
        dest="files",
        help="files or folders of text, JSONL chats or DailyDialog, or what microgpt prepare made of them; "
        "smalltalk: the embedded corpus; a.jsonl=0.9 b.txt=0.1 gives each its share of the windows; "
        "with --resume, where the text of the run is now "
        f"[default {SMALLTALK}]",
    )
    add_settings(flags, DataConfig)
    add_settings(flags, ReadOptions)
    add_held_out_flags(flags)


def add_report_flags(flags: Parser) -> None:
    """Who hears of the run."""
    reports = flags.add_argument_group(REPORTS)
    reports.add_argument(
        "--on-event",
        metavar="COMMAND",
        help="shell command that is started at each alarm and at the end or stop of the session, with a line "
        f"of JSON on its standard input; it may take {TIME_S:g} seconds",
    )
    reports.add_argument(
        "--tensorboard",
        action="store_true",
        help="write what is measured for TensorBoard, too, in a folder of that name in the run's",
    )


def named_in(argv: Sequence[str] | None) -> tuple[str, str]:
    """Preset and recipe among the words of a command, before all of them are understood."""
    flags = Parser(add_help=False)
    flags.add_argument("--preset", nargs="?")
    flags.add_argument("--recipe", nargs="?")
    words = flags.parse_known_args(argv)[0]
    preset = words.preset if words.preset in PRESETS else DEFAULT_PRESET
    return preset, words.recipe if words.recipe in RECIPES else DEFAULT_RECIPE


def spec_from(args: argparse.Namespace) -> Spec:
    """The settings that were typed, over those of the file that was named."""
    typed: dict[str, Any] = {}
    for config in (ModelConfig, TrainConfig, DataConfig):
        typed |= given(args, config)
    if args.files is not None:
        typed |= weighted(args.files)
    spec = Spec.of(args.preset, args.parent, **typed)
    return spec if args.spec is None else spec.over(read_spec(args.spec))


def listeners_from(args: argparse.Namespace) -> list[EventListener]:
    """Who hears of the run: the screen, and what was asked for."""
    console = Console()
    listeners: list[EventListener] = [console]
    if args.tensorboard:
        listeners.append(TensorBoard(given(args, TrainConfig).get("log_every", TrainConfig.log_every)))
    if args.on_event:
        listeners.append(OnEvent(args.on_event, console))
    return listeners


def main(argv: Sequence[str] | None = None, now: Now = time.monotonic) -> int:
    """Run the command.  now: the time in seconds, by which --max-time is kept.

    Returns: the exit code: 0, 128 + the number of the signal that stopped it, or 1 where no step fitted into
             the time.
    """
    args = parser(*named_in(argv)).parse_args(argv)
    spec, stop, listeners = spec_from(args), StopFlag(), listeners_from(args)
    if args.write_spec is not None:
        return write(spec, args)
    if args.dry_run:
        return rehearsed(spec, args)
    settling = scu.Settling(stop, listeners[0])
    listeners.append(settling)
    if args.resume is not None:
        where = args.out_dir if args.resume else None
        outcome = resume_run(
            args.resume or args.out_dir, spec, where, args.allow_inexact, listeners, stop, now
        )
    elif args.parent is not None and args.files is None:
        raise ConfigError(f"--from {args.parent}: name with --data what it is to be trained on now")
    elif args.allow_inexact:
        raise ConfigError("--allow-inexact is for --resume; a new run has nothing to equal")
    else:
        outcome = start_run(spec, args.out_dir, listeners, stop, now)
        if args.parent is not None and not stop:
            show(*effect(outcome.checkpoint))
    scu.write_metadata(outcome.run)
    return 0 if settling.is_settled else stop.exit_code or outcome.exit_code


def rehearsed(spec: Spec, args: argparse.Namespace) -> int:
    """All that comes before the first step of a new run.  Returns: 1 if it does not fit or a probe is bad."""
    if args.resume is not None:
        raise ConfigError("--dry-run is for a new run; microgpt probe looks at one that is there")
    plan, prepared = open_plan(spec, tell)
    found = rehearse(plan, prepared, tell)
    priors = by_priors(Priors.from_dict(spec.priors), plan.model, found.facts)
    show(*outline(found), *priors)
    if not found.fits:
        return 1
    is_good = True
    for finding in probed(found.plan, prepared):
        is_good &= finding.is_good is not False
        show(finding.told())
    return 0 if is_good else 1


def write(spec: Spec, args: argparse.Namespace) -> int:
    """Write the settings of a new run instead of training it."""
    if args.resume is not None:
        raise ConfigError("--write-spec is for a new run; --resume goes by the config.json of its checkpoint")
    if spec.parent is not None:
        raise ConfigError(
            f"--write-spec is for a run from nothing; --from {spec.parent} goes by that run's settings"
        )
    write_spec(args.write_spec, spec)
    tell(f"wrote {args.write_spec}; start it with {command_line('train', '--spec', args.write_spec)}")
    return 0
