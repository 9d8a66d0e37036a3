"""One command's share of a run: put a new run together, or one that was saved, ready for `fit`."""

import dataclasses
import platform
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import microgpt
from microgpt.batches.batches import Batches, EvalWindows, eval_windows
from microgpt.batches.packing import DOCUMENTS, STREAM
from microgpt.batches.prompts import PromptLoss
from microgpt.common.errors import CheckpointError, ConfigError
from microgpt.common.output import tell
from microgpt.common.words import format_duration
from microgpt.core import native
from microgpt.corpus.prepared.config import prepared as prepared_corpus
from microgpt.corpus.prepared.config import prepared_again
from microgpt.corpus.prepared.folder import Prepared
from microgpt.model import GPT
from microgpt.runs import checkpoint as checkpoints
from microgpt.runs.checkpoint import COPIES, known_corpus
from microgpt.runs.layout import METRICS, run_of
from microgpt.runs.metrics import MetricsLog
from microgpt.runs.saver import Saver
from microgpt.runs.settings import TrainConfig
from microgpt.runs.spec import Plan
from microgpt.runs.state import TrainState
from microgpt.runs.trained_on import remember
from microgpt.tokenizer import Tokenizer

from .adam import Adam
from .clock import Clock
from .horizon import measure, planned_steps
from .job import Job
from .progress import Progress
from .schedule import train_on

Say = Callable[[str], None]

# Raised whenever the same run would come out with other bits.  1: dropout and prompt loss by micro-batch,
# each micro-batch's mean; 2: by window, one mean over all scored targets of a step; 3, where windows are of
# documents: a document does not see the one before it.
ARITHMETIC = {STREAM: 2, DOCUMENTS: 3}


class Session(NamedTuple):
    """All that `fit` needs, and the facts a header tells."""

    job: Job
    state: TrainState
    prepared: Prepared


class Parts(NamedTuple):
    """What computes: made once from a plan and its corpus."""

    model: GPT
    adam: Adam
    batches: Batches
    held_out: EvalWindows


def open_corpus(plan: Plan, tokenizer: Tokenizer | None = None) -> Prepared:
    """The corpus of a plan as token files; prepared now unless it was before."""
    return prepared_corpus(plan.data, plan.train.n_threads, tokenizer)


def start(plan: Plan, prepared: Prepared, run: Path, clock: Clock, say: Say) -> Session:
    """A new run with fresh weights."""
    parts = _parts(plan, prepared)
    parts.model.init(plan.train.seed)
    is_timed = plan.train.max_steps == 0
    if is_timed:
        plan = dataclasses.replace(plan, train=_with_steps(plan.train, parts, clock, say))
    session = _session(plan, prepared, parts, TrainState(), run, MetricsLog(run / METRICS), {})
    session.job.is_timed = is_timed
    remember(run, prepared.train)
    return session


def _with_steps(config: TrainConfig, parts: Parts, clock: Clock, say: Say) -> TrainConfig:
    """Fix the number of steps that the time limit allows."""
    say(f"measuring how many steps fit into {config.max_time} ...")
    timing = measure(*parts, clock)
    steps = planned_steps(clock.left_s, timing, config)
    step_s = config.grad_accum * timing.micro_s + timing.update_s
    say(f"one step takes {format_duration(step_s)}, so the run has {steps:,} steps")
    return dataclasses.replace(config, max_steps=steps)


def reopen(plan: Plan, source: Path, say: Say, allow_inexact: bool = False) -> tuple[Prepared, list[str]]:
    """The corpus of the run that a checkpoint holds, known by its content, and what makes going on inexact.

    Raises: CheckpointError: going on would not give the same bits.
    """
    document, known = checkpoints.read_json(source / checkpoints.STATE), known_corpus(source)
    prepared = prepared_again(plan.data, known, plan.train.n_threads)
    if allow_inexact and known.key != prepared.meta["key"]:
        # Another corpus may do, but the weights know the tokens of their own tokenizer only.
        prepared = open_corpus(plan, known.tokenizer)
    changes = differences(document, identity(plan.train, prepared))
    accept(source, changes, say, allow_inexact)
    return prepared, changes


def resume(
    plan: Plan,
    prepared: Prepared,
    source: Path,
    run: Path,
    changes: list[str],
    clock: Clock,
    say: Say = tell,
) -> Session:
    """The run that a verified checkpoint holds, to be continued in `run`.

    Args:   plan: with 0 steps, as many more are trained as fit before the clock's deadline.
            prepared, changes: of `reopen`.
    Raises: CheckpointError: it does not fit the plan.
    """
    state = TrainState.from_dict(checkpoints.read_json(source / checkpoints.STATE))
    parts = _parts(plan, prepared)
    is_timed = plan.train.max_steps == 0
    if is_timed:  # before there are moments, which a measured update would change
        config = _with_more(plan.train, source, state.step, parts, clock, say)
        plan = dataclasses.replace(plan, train=config)
    checkpoints.load_weights(source, parts.model)
    checkpoints.load_moments(source, parts.adam)
    parts.adam.updates = state.updates
    in_place = source.resolve().parent == run.resolve()
    origin = run_of(source)
    if not in_place and origin is not None:
        shutil.copyfile(origin / METRICS, run / METRICS)
    log = MetricsLog(run / METRICS, state.metrics_bytes)
    session = _session(plan, prepared, parts, state, run, log, {"inexact": changes} if changes else {})
    remember(run, prepared.train, source.parent, is_same=known_corpus(source).key == prepared.meta["key"])
    session.job.origin, session.job.is_timed = source, is_timed
    if in_place:
        session.job.saver.saved_at = state.step
    return session


def _with_more(
    config: TrainConfig, source: Path, step: int, parts: Parts, clock: Clock, say: Say
) -> TrainConfig:
    """The settings of a finished run with as many steps more as the time limit allows."""
    old = Plan.from_dict(checkpoints.read_config(source)).train
    more = _with_steps(config, parts, clock, say).max_steps
    return train_on(step, old, dataclasses.replace(config, max_steps=step + more))


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What makes a resumed run differ from a straight one, by two state.json, as words for a person."""
    names = ("tokenizer", "corpus", "arithmetic", "precision", "isa", "gemm", "blas_core", "blas", "microgpt")
    old, new = {"arithmetic": 1, **_flat(before)}, _flat(now)
    return [
        f"{name} was {old.get(name)!s:.16}, is {new.get(name)!s:.16}"
        for name in names
        if old.get(name) != new.get(name)
    ]


def _flat(state: dict[str, Any]) -> dict[str, Any]:
    """state.json with the versions beside the rest."""
    versions = state.get("versions")
    return {**versions, **state} if isinstance(versions, dict) else state


def accept(source: Path, changes: list[str], say: Say, allow_inexact: bool) -> None:
    """Refuse a resume that is not exact, unless it is allowed; then say what it lacks."""
    if changes and not allow_inexact:
        raise CheckpointError(
            f"{source}: going on would not equal a run that was never stopped: {'; '.join(changes)}; "
            "set that back, or accept it with --allow-inexact"
        )
    for change in changes:
        say(f"warning: not the same run to the last bit: {change}")


def _parts(plan: Plan, prepared: Prepared) -> Parts:
    config, seq_len = plan.train, plan.model.seq_len
    weight = config.prompt_loss_weight
    prompt_loss = (
        PromptLoss(prepared.train.ids, prepared.tokenizer, weight, config.seed) if weight < 1 else None
    )
    if prompt_loss and not weight and not prompt_loss.leaves_something():
        raise ConfigError(
            "--prompt-loss-weight 0: nothing to learn, no message of this corpus is the assistant's; "
            "give a weight above 0, or chats with answers"
        )
    packing = config.packing
    batches = Batches(prepared.train, seq_len, config.batch_size, config.seed, prompt_loss, packing)
    byte_lengths = prepared.tokenizer.byte_lengths
    held_out = eval_windows(prepared.val, seq_len, byte_lengths, config.eval_tokens, packing)
    model = GPT(plan.model, recompute=config.recompute, precision=config.precision)
    return Parts(model, Adam(model, config), batches, held_out)


def _session(
    plan: Plan,
    prepared: Prepared,
    parts: Parts,
    state: TrainState,
    run: Path,
    log: MetricsLog,
    facts: dict[str, Any],
) -> Session:
    config, (model, adam, batches, held_out) = plan.train, parts
    progress = Progress(state.step, config.max_steps, _bpb(state))
    log.say = progress.say
    job = Job(
        model=model,
        adam=adam,
        batches=batches,
        held_out=held_out,
        config=config,
        run=run,
        document=plan.to_dict(),
        identity=identity(config, prepared),
        log=log,
        progress=progress,
        snapshot=checkpoints.Snapshot(model, adam, prepared.tokenizer),
        saver=Saver(run, config.keep, progress.say, COPIES * model.params.flat.nbytes),
    )
    log.write(
        "start" if state == TrainState() else "resume",
        state.step,
        n_params=model.params.flat.size,
        max_steps=config.max_steps,
        **native.info(config.precision),
        **facts,
    )
    return Session(job, state, prepared)


def _bpb(state: TrainState) -> float | None:
    bpb = state.metrics.get("val_bpb")
    return None if bpb is None else float(bpb)  # "nan" and "inf" are text in JSON


def identity(config: TrainConfig, prepared: Prepared) -> dict[str, Any]:
    """What state.json records beside the counters: all that decides a result, and what computed it."""
    versions = {
        "microgpt": microgpt.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    return {
        "seed": config.seed,
        "arithmetic": ARITHMETIC[config.packing],
        **native.info(config.precision),
        **_corpus_identity(prepared),
        "versions": versions,
    }


def _corpus_identity(prepared: Prepared) -> dict[str, str]:
    return {"corpus": prepared.meta["key"], "tokenizer": prepared.tokenizer.sha256}
