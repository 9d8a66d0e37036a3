"""Train a model on text or chats.

  microgpt train                                  the 10m preset on the embedded corpus
  microgpt train --preset 10m --data my.jsonl     on your own text
  microgpt train --max-time 10m                   as much as fits into ten minutes
  microgpt train --resume                         go on with the newest run

Ctrl-C at any moment saves and ends; --resume goes on as if nothing had happened.
"""

import argparse
import dataclasses
import itertools
import math
import os
import shlex
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from microgpt.common.errors import ConfigError, MicrogptError
from microgpt.common.flags import Parser, add_settings, flag_name, given, settings_from, shown_value
from microgpt.common.output import harmless, show, tell
from microgpt.common.words import command_line
from microgpt.core import native
from microgpt.corpus.chat import role_marker
from microgpt.corpus.prepared.config import DataConfig, source_place
from microgpt.corpus.prepared.corpus import SMALLTALK, source_names
from microgpt.corpus.prepared.folder import refuse_settled
from microgpt.corpus.prepared.split import add_held_out_flags
from microgpt.corpus.reading.options import ReadOptions
from microgpt.corpus.token_file import TokenFile
from microgpt.decoding.decoder import Decoder, uniform_stream
from microgpt.decoding.sampler import SamplerConfig
from microgpt.machine.cpus import threads_from_environment
from microgpt.model import ModelConfig, count_layer_parameters, count_parameters
from microgpt.model.config import PRESETS
from microgpt.runs import checkpoint
from microgpt.runs.checkpoint import COPIES, known_corpus
from microgpt.runs.kept import is_checkpoint, is_valid, place_of
from microgpt.runs.layout import METRICS, RUNS, RunDirectory, checkpoints, free_space_problem, is_log, run_of
from microgpt.runs.settings import SESSION_FIELDS, TrainConfig, recipe
from microgpt.runs.spec import Plan
from microgpt.runs.state import TrainState
from microgpt.tokenizer import MAX_MERGES, SPECIALS, Tokenizer
from microgpt.training import assemble, report
from microgpt.training.assemble import Session
from microgpt.training.clock import Clock, Now
from microgpt.training.horizon import save_estimate_s
from microgpt.training.job import Sample
from microgpt.training.loop import fit
from microgpt.training.needs import refuse_too_large
from microgpt.training.schedule import extension_note, train_on
from microgpt.training.stop import StopFlag
from microgpt.training.thread_choice import choose_threads

from ._model_flags import choice_notes

DEFAULT_PRESET = "10m"
SAMPLE_TOKENS = 48
NO_MERGES = 256 + len(SPECIALS)  # vocabulary of a tokenizer that merges nothing


def parser(preset: str = DEFAULT_PRESET) -> Parser:
    """All flags, in groups; help tells the defaults of this preset."""
    flags = Parser(prog="microgpt train", usage="microgpt train [flags]", description=__doc__)
    flags.add_argument(
        "--preset",
        choices=tuple(PRESETS),
        metavar="NAME",
        help="size of the model, which sets the flags of its group unless they are given: "
        f"{', '.join(PRESETS)} [default {DEFAULT_PRESET}]",
    )
    flags.add_argument(
        "--out-dir",
        type=Path,
        metavar="DIR",
        help="directory of the run [default runs/<preset>-<date>-<time>]",
    )
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
        "--allow-inexact",
        action="store_true",
        help="with --resume: go on even where the result cannot equal a run that was never "
        "stopped, as with files that changed, another precision or instruction set",
    )
    flags.add_argument_group("data").add_argument(
        "--data",
        nargs="+",
        action="extend",
        metavar="FILE",
        dest="files",
        help="files or folders of text, JSONL chats or DailyDialog, or what microgpt prepare made of them; "
        "smalltalk: the embedded corpus; with --resume, where the text of the run is now "
        f"[default {SMALLTALK}]",
    )
    add_settings(flags, DataConfig)
    add_settings(flags, ReadOptions)
    add_held_out_flags(flags)
    shown = {name: f"{shown_value(value)} for --preset {preset}" for name, value in defaults(preset).items()}
    add_settings(flags, ModelConfig, shown=shown | {"vocab_size": f"{NO_MERGES} + --merges"})
    add_settings(flags, TrainConfig, shown=shown)
    return flags


def defaults(preset: str) -> dict[str, Any]:
    """The settings that a preset decides."""
    return PRESETS[preset] | recipe(count_layer_parameters(ModelConfig.from_preset(preset, NO_MERGES)))


def preset_in(argv: Sequence[str] | None) -> str:
    """The preset among the words of a command, before all of them are understood."""
    flags = Parser(add_help=False)
    flags.add_argument("--preset", nargs="?")
    wanted = flags.parse_known_args(argv)[0].preset
    return wanted if wanted in PRESETS else DEFAULT_PRESET


def main(argv: Sequence[str] | None = None, now: Now = time.monotonic) -> int:
    """Run the command.  now: the time in seconds, by which --max-time is kept.

    Returns: the exit code: 0, or 128 + the number of the signal that stopped it.
    """
    clock = Clock(now=now)
    args = parser(preset_in(argv)).parse_args(argv)
    if args.resume is not None:
        return resume(args, clock)
    if args.allow_inexact:
        raise ConfigError("--allow-inexact is for --resume; a new run has nothing to equal")
    return start(args, clock)


# -------------------------------------------------------------------------------- a new run


def start(args: argparse.Namespace, clock: Clock) -> int:
    """Train a new run."""
    plan = plan_from(args)
    run = args.out_dir or RUNS / f"{plan.preset}-{datetime.now():%Y%m%d-%H%M%S}"
    is_numbered = args.out_dir is None  # two that begin in the same second are told apart
    if not is_numbered:
        refuse_used(run)
    set_up_machine(plan.train)
    refuse_too_large(plan.model, plan.train)
    with RunDirectory(run, is_numbered) as directory:
        run = directory.path
        refuse_used(run)
        refuse_full_disk(run, plan)
        prepared = assemble.open_corpus(plan)
        plan = plan_from(args, prepared.tokenizer.vocab_size)
        clock.limit(plan.train.time_limit_s)
        settle_threads(plan, plan.train.max_steps or math.inf, clock)
        return train(assemble.start(plan, prepared, run, clock, say), clock)


def plan_from(args: argparse.Namespace, vocab_size: int | None = None) -> Plan:
    """The run that the flags describe; until the corpus is read, with the vocabulary it should have."""
    data = data_config(args)
    refuse_settled(data.data, given(args, DataConfig))
    wanted = given(args, ModelConfig)
    if vocab_size is not None and wanted.get("vocab_size", vocab_size) != vocab_size:
        raise ConfigError(
            f"--vocab-size {wanted['vocab_size']}: the tokenizer of this corpus has {vocab_size} ids; "
            "leave the flag out"
        )
    preset = args.preset or DEFAULT_PRESET
    model = ModelConfig.from_preset(
        preset, **{**wanted, "vocab_size": NO_MERGES + data.merges if vocab_size is None else vocab_size}
    )
    return Plan(model, train_config(args, count_layer_parameters(model)), data, preset)


def train_config(args: argparse.Namespace, n_layer_params: int) -> TrainConfig:
    """Training settings: what was typed, over the recipe for this size."""
    values = recipe(n_layer_params, getattr(args, "lr", None)) | from_environment()
    if hasattr(args, "max_time"):
        values["max_steps"] = 0
    config = settings_from(args, TrainConfig, **values)
    return dataclasses.replace(config, precision=native.choose_precision(config.precision))


def from_environment() -> dict[str, str]:
    """Training settings that environment variables give; flags come before them."""
    threads = threads_from_environment()
    return {"threads": threads} if threads else {}


def data_config(args: argparse.Namespace) -> DataConfig:
    """The corpus that the flags name.  --vocab-size is another way to say --merges."""
    values = {**given(args, DataConfig), **places(args)}
    if hasattr(args, "vocab_size"):
        values["merges"] = merges_of(args.vocab_size, values.get("merges"))
    return DataConfig(**values)


def places(args: argparse.Namespace) -> dict[str, Any]:
    """Where the corpus is, as far as the flags say it."""
    named = {"data": args.files, "held_out": getattr(args, "held_out", None)}
    return {
        name: tuple(map(source_place, source_names(files)))
        for name, files in named.items()
        if files is not None
    }


def merges_of(vocab_size: int, merges: int | None) -> int:
    """The merges that --vocab-size asks for, beside what --merges does."""
    asked = vocab_size - NO_MERGES
    if asked < 0:
        raise ConfigError(f"--vocab-size {vocab_size}: bytes and markers alone are {NO_MERGES}; give more")
    if asked > MAX_MERGES:
        raise ConfigError(f"--vocab-size {vocab_size}: expected at most {NO_MERGES + MAX_MERGES}")
    if merges not in (None, asked):
        raise ConfigError(
            f"--vocab-size {vocab_size} contradicts --merges {merges}: a vocabulary has {NO_MERGES} bytes "
            "and markers beside the merges; give one of the two"
        )
    return asked


def refuse_used(run: Path) -> None:
    """A run directory with checkpoints is not trained over, nor is anything else of value."""
    if run.exists() and not run.is_dir():
        raise ConfigError(f"{run} is not a directory; choose another --out-dir")
    if is_checkpoint(run.resolve()):
        raise ConfigError(f"{run} is a checkpoint by its name or its manifest.json; choose another --out-dir")
    refuse_foreign_log(run)
    if checkpoints(run):
        raise ConfigError(
            f"{run} already holds a run; go on with it (--resume {run}) or choose another --out-dir"
        )


def refuse_foreign_log(run: Path) -> None:
    """A file that has the name of a run's log but was not written by one is not touched."""
    log = run / METRICS
    if os.path.lexists(log) and not is_log(log):
        raise ConfigError(f"{log} is not the log of a run; move it away or choose another --out-dir")


def refuse_full_disk(run: Path, plan: Plan) -> None:
    """A run whose checkpoints find no room is not begun."""
    if problem := free_space_problem(run, 4 * COPIES * count_parameters(plan.model)):
        raise ConfigError(problem)


# -------------------------------------------------------------------------------- a saved run


def resume(args: argparse.Namespace, clock: Clock) -> int:
    """Go on with a run where its checkpoint left it."""
    place = place_of(args.resume or args.out_dir)
    run = run_to_go_on(place, args.out_dir if args.resume else None)
    with RunDirectory(run):
        source = checkpoint.find_checkpoint(place)
        old = Plan.from_dict(checkpoint.read_config(source))
        data = dataclasses.replace(old.data, **places(args)).located(known_corpus(source))
        plan = dataclasses.replace(old, train=session_config(args, old, place), data=data)
        step = TrainState.from_dict(checkpoint.read_json(source / checkpoint.STATE)).step
        is_timed = step >= plan.train.max_steps and "max_time" in args and "max_steps" not in args
        if is_timed:  # as many steps more as fit
            plan = with_steps(plan, 0)
        elif step >= plan.train.max_steps:
            say(finished_note(source, step))
            return 0
        else:
            plan = dataclasses.replace(plan, train=train_on(step, old.train, plan.train))
        refuse_newer(run, step)
        refuse_foreign_log(run)
        set_up_machine(plan.train)
        refuse_too_large(plan.model, plan.train)
        refuse_full_disk(run, plan)
        for line in (f"going on from {source}", *choice_notes(source)):
            say(line)
        if "max_time" in args:  # a limit is of one session only
            clock.limit(plan.train.time_limit_s)
        prepared, changes = assemble.reopen(plan, source, say, args.allow_inexact)
        settle_threads(plan, math.inf if is_timed else plan.train.max_steps - step, clock)
        work = assemble.resume(plan, prepared, source, run, changes, clock, say)
        if note := extension_note(step, old.train, work.job.config):
            say(note)
        return train(work, clock)


def with_steps(plan: Plan, max_steps: int) -> Plan:
    """The plan with another number of steps."""
    return dataclasses.replace(plan, train=dataclasses.replace(plan.train, max_steps=max_steps))


def finished_note(source: Path, step: int) -> str:
    """How to train on with a run that is done."""
    again = command_line("train", "--resume", source.parent)
    return (
        f"{source.parent} is finished: {step:,} steps are done; to train on, give it more time or steps: "
        f"{again} --max-time 20m, or --max-steps {2 * step}"
    )


def run_to_go_on(place: Path, out_dir: Path | None) -> Path:
    """The directory in which a resumed run goes on: its own, unless another one is named."""
    own = run_of(place) if is_checkpoint(place) else place
    if own is not None and (out_dir is None or out_dir.resolve() == own.resolve()):
        return own
    if out_dir is None:
        raise ConfigError(f"{place} is a checkpoint outside a run; say where to go on from it: --out-dir DIR")
    refuse_used(out_dir)
    return out_dir


def refuse_newer(run: Path, step: int) -> None:
    """Going back to an older checkpoint in place would mix two histories."""
    newer = [path.name for number, path in checkpoints(run) if number > step and is_valid(path)]
    if newer:
        raise ConfigError(
            f"{run} already went on to {newer[0]}; resume that, or branch off with a new --out-dir"
        )


def session_config(args: argparse.Namespace, old: Plan, place: Path) -> TrainConfig:
    """The run's own settings, with what one session may change.

    Raises: ConfigError, naming every flag that contradicts the run.
    """
    wanted = given(args, TrainConfig)
    if wanted.get("precision") == "auto":
        del wanted["precision"]  # the run's own, where it can be had
    fixed = {name: value for name, value in wanted.items() if name not in SESSION_FIELDS}
    recorded = {**old.train.to_dict(), **old.data.to_dict(), **old.model.to_dict(), "preset": old.preset}
    fixed |= given(args, ModelConfig) | given(args, DataConfig)
    fixed.pop("held_out", None)  # like --data: what is there decides, not where it is
    if args.preset is not None:
        fixed["preset"] = args.preset
    clashes = [
        f"{flag_name(name)} {as_typed(value)} (the run has {as_typed(recorded[name])})"
        for name, value in fixed.items()
        if value != recorded[name]
    ]
    if clashes:
        raise ConfigError(
            f"{place} cannot be resumed with {', '.join(clashes)}; leave that out or start anew"
        )
    changes = from_environment() | {n: value for n, value in wanted.items() if n in SESSION_FIELDS}
    changes["precision"] = native.choose_precision(changes.get("precision", old.train.precision))
    if changes.get("max_steps") == 0:
        raise ConfigError(f"--max-steps 0: the steps of {place} are planned already; give a number above 0")
    return dataclasses.replace(old.train, **changes)


def as_typed(value: Any) -> str:
    """A setting as it stands behind its flag."""
    return shlex.join(value) if isinstance(value, list) else str(value)


# -------------------------------------------------------------------------------- both


def train(work: Session, clock: Clock) -> int:
    """Run the loop between a header and a summary."""
    job, state = work.job, work.state
    first_step, before_s = state.step, state.elapsed_s
    show(*report.header(work))
    job.sample = make_sample(work)
    clock.costs_s |= {"save": save_estimate_s(job.model), "evaluation": state.metrics.get("val_s", 0.0)}
    clock.go_on(before_s)
    with StopFlag() as stop, job.log:
        job.progress.left_s = lambda: clock.left_s
        try:
            why = fit(job, state, stop, clock)
        except MemoryError as error:
            job.saver.wait()  # for the checkpoint that may be named
            raise MicrogptError(report.out_of_memory(work)) from error
        finally:
            job.progress.close()
            if (result := job.saver.wait()) and result.error:
                say(f"warning: {result.error}")
    show(*report.summary(work, why, clock.elapsed_s - before_s, first_step))
    return stop.exit_code


def set_up_machine(config: TrainConfig) -> None:
    """Threads, and a warning if BLAS is held back."""
    native.set_threads(config.n_threads)
    if warning := native.warning(config.precision):
        say(f"warning: {warning}")


def settle_threads(plan: Plan, steps: float, clock: Clock) -> None:
    """The number of threads for training: probed where it is `auto`.  steps: that the run has to do."""
    native.set_threads(choose_threads(plan.model, plan.train, say, steps, clock.left_s))


def make_sample(work: Session) -> Sample:
    """What shows, at a step, how the model continues a held-out document that the step chooses."""
    model, tokenizer, held_out = work.job.model, work.prepared.tokenizer, work.prepared.val

    def sample(step: int, stop: object) -> str | None:
        prompt = opening(held_out, step % held_out.n_documents, tokenizer, max(1, model.config.seq_len // 2))
        decoder = Decoder(model, tokenizer)  # a fresh one: its cache is of these weights
        made = decoder.generate(prompt, SamplerConfig(), SAMPLE_TOKENS, uniform_stream(step))
        tokens = list(itertools.takewhile(lambda _: not stop, made))
        if stop:
            return None
        shown, answer = (tokenizer.decode(ids).decode("utf-8", "replace") for ids in (prompt, tokens))
        return harmless(f"{shown} => {answer}")

    return sample


def opening(tokens: TokenFile, number: int, tokenizer: Tokenizer, limit: int) -> np.ndarray:
    """The beginning of a document, up to where the assistant first speaks; a third of it if nobody does."""
    start = int(tokens.offsets[number])
    end = int(tokens.offsets[number + 1]) if number + 1 < tokens.n_documents else tokens.n_tokens
    ids = np.asarray(tokens.ids[start : min(end, start + limit)]).astype(np.int32)
    spoken = np.flatnonzero(ids == tokenizer.special_id(role_marker("assistant")))
    return ids[: spoken[0] + 1] if len(spoken) else ids[: max(1, len(ids) // 3)]


def say(text: str) -> None:
    """A line for the person who started the command."""
    tell(text)
