"""Start a run from a spec, or go on with one: in this process, told to whoever listens."""

import contextlib
import dataclasses
import itertools
import math
import os
import shlex
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from microgpt.common.errors import ConfigError, MicrogptError
from microgpt.common.flags import flag_name
from microgpt.common.output import harmless
from microgpt.common.signals import signal_of
from microgpt.common.words import command_line
from microgpt.core import arrays, native
from microgpt.corpus.chat import role_marker
from microgpt.corpus.prepared.config import prepared_again
from microgpt.corpus.prepared.folder import refuse_settled
from microgpt.corpus.token_file import TokenFile
from microgpt.decoding.decoder import Decoder, uniform_stream
from microgpt.decoding.sampler import SamplerConfig
from microgpt.machine.cpus import too_many_note
from microgpt.machine.memory import peak_memory
from microgpt.runs import checkpoint
from microgpt.runs.checkpoint import known_corpus
from microgpt.runs.events import Ended, EventListener, Listeners
from microgpt.runs.kept import choice_notes, is_checkpoint, is_valid, place_of
from microgpt.runs.layout import (
    METRICS,
    RUNS,
    RunDirectory,
    checkpoint_name,
    checkpoints,
    free_space_problem,
    is_log,
    run_of,
)
from microgpt.runs.lineage import begin_with
from microgpt.runs.settings import LENGTHS, SESSION_FIELDS, TrainConfig
from microgpt.runs.spec import PLACES, Plan, Spec, environment_settings, of_corpus
from microgpt.runs.state import TrainState
from microgpt.tokenizer import Tokenizer

from . import assemble, report
from .assemble import Say, Session
from .clock import Clock, Now
from .console import Console
from .horizon import last_step_s, save_estimate_s, step_s
from .job import Sample
from .length import with_steps
from .loop import FINISHED, OUT_OF_TIME, fit
from .needs import checkpoint_bytes, refuse_too_large
from .preflight import probed
from .schedule import extension_note, train_on
from .stop import StopFlag
from .thread_choice import choose_threads

SAMPLE_TOKENS = 48
SPENT = 0.05  # of its time limit: a run with less than this left is over


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a session left behind.

    why:        finished, out of time, no gain, or stopped.
    step:       where the run is; max_steps: where it was to end.
    checkpoint: the newest, of this step.
    metrics:    the last measured values by name: loss, val_loss, val_bpb, best_step, ...
    seconds:    that the session trained; steps: that it did.
    """

    run: Path
    why: str
    step: int
    max_steps: int
    checkpoint: Path
    metrics: Mapping[str, float]
    seconds: float
    steps: int = 0

    @property
    def exit_code(self) -> int:
        """Of a command that nobody stopped: 1 where its time was over before a step was done."""
        return int(self.why == OUT_OF_TIME and not self.steps)


def train_run(
    spec: Spec | Mapping[str, Any] | None = None,
    where: str | os.PathLike | None = None,
    listeners: Iterable[EventListener] | None = None,
    allow_inexact: bool = False,
    stop: StopFlag | None = None,
    now: Now = time.monotonic,
) -> Outcome:
    """Train the run that a spec describes, or go on with it where its directory has it already.

    The same call may be made again and again: it takes up what was interrupted, and finds done what is done.
    Ctrl-C and other signals that end a process save the run first.

    Args:    spec: settings; what it does not name follows preset and size.
             where: the directory of the run; None: a new one, runs/<preset>-<date>-<time>.
             listeners: called with each event (`runs/events.py`); None: what a terminal shows.
             allow_inexact: go on also where the result cannot equal a run that was never stopped.
             stop: may ask for the end from another thread; a signal then ends the run alone, not the program.
             now: tells the time in seconds, by which a time limit is kept.
    Raises:  ConfigError: settings that cannot be, or that contradict the run that is there.  DataError: text
             that cannot be read.  CheckpointError: the run is damaged, cannot be saved, or cannot go on
             exactly.  DivergedError: its numbers stay bad.  KeyboardInterrupt, SystemExit: after a signal.
    """
    found = spec if isinstance(spec, Spec) else Spec.from_dict(spec or {})
    heard = [Console()] if listeners is None else listeners
    flag = StopFlag() if stop is None else stop
    if where is not None and checkpoints(Path(where)):
        outcome = resume_run(Path(where), found, None, allow_inexact, heard, flag, now, is_same=True)
    else:
        outcome = start_run(found, None if where is None else Path(where), heard, flag, now)
    if stop is None and flag:
        raise KeyboardInterrupt if flag.signal == signal.SIGINT else SystemExit(flag.exit_code)
    return outcome


# -------------------------------------------------------------------------------- a new run


def start_run(
    spec: Spec,
    where: Path | None = None,
    listeners: Iterable[EventListener] = (),
    stop: StopFlag | None = None,
    now: Now = time.monotonic,
) -> Outcome:
    """Train a new run; see `train_run`.

    Raises: ConfigError: there is a run already, or something else that is not to be touched.
    """
    clock, tell = Clock(now=now), Listeners(listeners)
    say = partial(tell.say, 0)
    refuse_settled(spec.data_config().data, of_corpus(spec.data))
    begin = None if spec.parent is None else begin_with(spec.parent)
    of_parent = None if begin is None else begin[:2]
    plan = spec.plan(parent=of_parent)
    plan.data.refuse_missing()
    run = where or RUNS / f"{plan.preset}-{datetime.now():%Y%m%d-%H%M%S}"
    is_numbered = where is None  # two that begin in the same second are told apart
    if not is_numbered:
        refuse_used(run)
    set_up_machine(plan.train, say)
    refuse_too_large(plan.model, plan.train)
    with RunDirectory(run, is_numbered) as directory:
        run = directory.path
        refuse_used(run)
        refuse_full_disk(run, plan)
        with nothing_saved(say):
            prepared = assemble.open_corpus(plan, None if begin is None else begin.tokenizer)
            plan = with_steps(spec.plan(prepared.tokenizer.vocab_size, of_parent), lambda: prepared)
            clock.limit(plan.train.time_limit_s)
            if clock.left_s <= 0:
                raise ConfigError(
                    f"--max-time {plan.train.max_time} was over once the text was prepared; give more time"
                )
            settle_threads(plan, plan.train.max_steps or math.inf, clock, say)
            session = assemble.start(plan, prepared, run, clock, tell)
        return _train(session, clock, stop)


@contextlib.contextmanager
def nothing_saved(say: Say) -> Iterator[None]:
    """Say so where a signal ends a new run while it is only prepared."""
    try:
        yield
    except BaseException as error:
        if signal_of(error):
            say("no checkpoint was saved: the run had not begun")
        raise


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
    if problem := free_space_problem(run, checkpoint_bytes(plan.model, plan.train)):
        raise ConfigError(problem)


# -------------------------------------------------------------------------------- a saved run


def resume_run(
    place: str | Path | None,
    spec: Spec,
    where: Path | None = None,
    allow_inexact: bool = False,
    listeners: Iterable[EventListener] = (),
    stop: StopFlag | None = None,
    now: Now = time.monotonic,
    is_same: bool = False,
) -> Outcome:
    """Go on with a run where its checkpoint left it.

    Args:   place: the run, or one checkpoint of it, as people name them; None: the newest run.
            spec: what this session changes; what the run is may be said again, but not otherwise.
            where: another directory, to branch off from a checkpoint.
            allow_inexact: also where the result cannot equal a run that was never stopped.
            is_same: the spec is that of the whole run: time that was spent counts, and what is done is done.
    Raises: ConfigError: the spec contradicts the run.  CheckpointError: no whole checkpoint, or not exact.
    """
    clock, tell = Clock(now=now), Listeners(listeners)
    place, is_unnamed = place_of(place), place is None
    run = run_to_go_on(place, where)
    with RunDirectory(run):
        source = checkpoint.find_checkpoint(place, say=partial(tell.say, 0))
        if is_unnamed:
            saved = f"{datetime.fromtimestamp(source.stat().st_mtime):%Y-%m-%d %H:%M}"
            tell.say(0, f"no run was named: {run_of(source)} is the one that saved last, {saved}")
        old = Plan.from_dict(checkpoint.read_config(source))
        places: dict[str, Any] = {name: tuple(spec.data[name]) for name in PLACES if name in spec.data}
        data = dataclasses.replace(old.data, **places).located(known_corpus(source))
        plan = dataclasses.replace(old, train=session_config(spec, old, place), data=data)
        plan = with_steps(plan, lambda: prepared_again(data, known_corpus(source), plan.train.n_threads))
        state = TrainState.from_dict(checkpoint.read_json(source / checkpoint.STATE))
        step, say = state.step, partial(tell.say, state.step)
        is_unbound = step == 0 and old.train.max_time is not None  # by a plan that no step has followed
        is_timed = (is_unbound or step >= plan.train.max_steps) and spec.is_timed and not is_same
        limit_s = (plan.train.time_limit_s or math.inf) - (state.elapsed_s if is_same else 0.0)
        if is_timed:  # as many steps, or as many more, as fit
            plan = plan.with_train(max_steps=0)
        elif plan.train.max_steps <= step < old.train.max_steps:
            raise ConfigError(
                f"--max-steps {plan.train.max_steps}: {step:,} of {old.train.max_steps:,} steps of {run} are "
                "done; leave it out to go on to the end"
            )
        elif not is_unmeasured(state, plan.train) and (why := why_done(step, plan.train, limit_s)):
            say(finished_note(source, step))
            tell(Ended(step, why, peak_memory()))
            return Outcome(run, why, step, plan.train.max_steps, source, _numbers(state), 0.0)
        else:
            plan = dataclasses.replace(plan, train=train_on(step, old.train, plan.train))
        refuse_newer(run, step)
        refuse_foreign_log(run)
        set_up_machine(plan.train, say)
        refuse_too_large(plan.model, plan.train)
        refuse_full_disk(run, plan)
        for line in (f"going on from {source}", *choice_notes(source)):
            say(line)
        if spec.train.get("max_time") is not None:  # a limit is of one session only
            clock.limit(limit_s)
        prepared, changes = assemble.reopen(plan, source, say, allow_inexact)
        settle_threads(plan, math.inf if is_timed else plan.train.max_steps - step, clock, say)
        session = assemble.resume(plan, prepared, source, run, changes, clock, tell, allow_inexact)
        if is_unmeasured(state, session.job.config):
            session.job.saver.saved_at = -1  # it is saved anew, with what is measured
        if note := extension_note(step, old.train, session.job.config):
            say(note)
        return _train(session, clock, stop)


def why_done(step: int, config: TrainConfig, limit_s: float) -> str:
    """Why a run has nothing left to do, with so many seconds of its time limit left; "" if it has."""
    if step >= config.max_steps:
        return FINISHED
    return OUT_OF_TIME if limit_s < SPENT * (config.time_limit_s or 0.0) else ""


def is_unmeasured(state: TrainState, config: TrainConfig) -> bool:
    """Whether a run is at its last step, but held-out text was not measured there: a signal came between."""
    return bool(config.eval_every) and state.step >= config.max_steps and state.evaluated_at != state.step


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


def session_config(spec: Spec, old: Plan, place: Path) -> TrainConfig:
    """The run's own settings, with what one session may change.

    Raises: ConfigError, naming every setting that contradicts the run.
    """
    spec = spec.resolved(old.model.to_dict() | old.train.to_dict())
    wanted = dict(spec.train)
    if wanted.get("precision") == "auto":
        del wanted["precision"]  # the run's own, where it can be had
    fixed = {name: value for name, value in wanted.items() if name not in SESSION_FIELDS}
    recorded = {**old.train.to_dict(), **old.data.to_dict(), **old.model.to_dict(), "preset": old.preset}
    fixed |= spec.model | spec.data
    for name in PLACES:  # what is there decides, not where it is
        fixed.pop(name, None)
    if spec.preset is not None:
        fixed["preset"] = spec.preset
    clashes = [
        f"{flag_name(name)} {as_typed(value)} (the run has {as_typed(recorded[name])})"
        for name, value in fixed.items()
        if value != recorded[name]
    ]
    if clashes:
        raise ConfigError(
            f"{place} cannot be resumed with {', '.join(clashes)}; leave that out or start anew"
        )
    changes = environment_settings() | {n: value for n, value in wanted.items() if n in SESSION_FIELDS}
    changes["precision"] = native.choose_precision(changes.get("precision", old.train.precision))
    if any(name in wanted for name in LENGTHS) and "fewest_steps" not in wanted:
        changes["fewest_steps"] = 0  # what is typed now is meant
    if changes.get("max_steps") == 0:
        raise ConfigError(f"--max-steps 0: the steps of {place} are planned already; give a number above 0")
    return dataclasses.replace(old.train, **changes)


def as_typed(value: Any) -> str:
    """A setting as it stands behind its flag."""
    return shlex.join(value) if isinstance(value, list) else str(value)


# -------------------------------------------------------------------------------- both


def _train(session: Session, clock: Clock, stop: StopFlag | None) -> Outcome:
    """Run the loop; whatever ends it, those who listen hear of the end."""
    job, state = session.job, session.state
    first_step, before_s = state.step, state.elapsed_s
    job.sample = make_sample(session)
    costs_s = {"save": save_estimate_s(job.model, job.optimizer)}
    costs_s["step"] = first_step_s(session)
    clock.costs_s |= costs_s | {"evaluation": state.metrics.get("val_s", 0.0)}
    clock.spent_s = state.spent_s
    try:
        with StopFlag() if stop is None else stop as flag:
            job.tell(assemble.began(session, report.header(session)))
            if session.findings:
                job.tell(probed(session.findings))
            if session.bigrams:
                job.tell(session.bigrams)
            job.tell.add(assemble.watch(session))
            clock.go_on(before_s)
            try:
                why = fit(job, state, flag, clock)
            finally:
                if (result := job.saver.wait()) and result.error:
                    job.say(state.step, f"warning: {result.error}")
                job.pass_on_news(state.step)
        seconds = clock.elapsed_s - before_s
        lines = report.summary(session, why, seconds, first_step)
        job.tell(Ended(state.step, why, peak_memory(), tuple(lines)))
    except BaseException as error:
        job.tell.tell_failure(state.step, error)
        if isinstance(error, MemoryError):
            raise MicrogptError(report.out_of_memory(session)) from error
        raise
    finally:
        job.log.close()
        arrays.release()  # for a next run in this process
    newest = job.run / checkpoint_name(state.step)
    steps = state.step - first_step
    return Outcome(job.run, why, state.step, job.config.max_steps, newest, _numbers(state), seconds, steps)


def first_step_s(session: Session) -> float:
    """Seconds that a session's first step must find; 0: it is part of a plan that was made for the time there
    is, or nobody knows."""
    if session.timing is None:
        return last_step_s(session.state)
    return 0.0 if session.job.is_timed else step_s(session.timing, session.job.config)


def _numbers(state: TrainState) -> dict[str, float]:
    """The metrics of a run; what JSON has no number for is text there."""
    return {name: float(value) for name, value in state.metrics.items()}


def set_up_machine(config: TrainConfig, say: Say) -> None:
    """Threads, and a warning if there are too many or BLAS is held back."""
    native.set_threads(config.n_threads)
    if note := too_many_note(config.n_threads):
        say(note)
    if warning := native.warning(config.precision):
        say(f"warning: {warning}")


def settle_threads(plan: Plan, steps: float, clock: Clock, say: Say) -> None:
    """The number of threads for training: probed where it is `auto`.  steps: that the run has to do."""
    native.set_threads(choose_threads(plan.model, plan.train, say, steps, clock.left_s))


def make_sample(session: Session) -> Sample:
    """What shows, at a step, how the model continues a held-out document that the step chooses."""
    model, tokenizer, held_out = session.job.model, session.prepared.tokenizer, session.prepared.val

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
