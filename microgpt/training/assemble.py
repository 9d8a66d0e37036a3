"""One session's share of a run: put a new run together, or one that was saved, ready for `fit`."""

import dataclasses
import math
import shutil
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from microgpt.batches.batches import Batches, EvalWindows, eval_windows
from microgpt.batches.carried import BatchesInOrder, EvalInOrder
from microgpt.batches.mixed import MixedBatches
from microgpt.batches.packing import STREAM
from microgpt.batches.prompts import AnswerLoss, PromptLoss
from microgpt.common.errors import ConfigError, DataError
from microgpt.common.words import format_duration
from microgpt.core import native
from microgpt.corpus.prepared.config import prepared as prepared_corpus
from microgpt.corpus.prepared.config import prepared_again
from microgpt.corpus.prepared.folder import Prepared, made_of
from microgpt.evaluation.finding import Finding
from microgpt.evaluation.watch import Watch
from microgpt.machine.rates import product_flop_per_s
from microgpt.model import GPT, count_parameters, flop_per_token
from microgpt.runs import checkpoint as checkpoints
from microgpt.runs import lineage
from microgpt.runs.checkpoint import known_corpus
from microgpt.runs.events import Began, LearnedBigrams, Listeners, Resumed, Started
from microgpt.runs.kept import BRANCH
from microgpt.runs.kinds import OPTIMIZERS, PENALTIES, SOURCES
from microgpt.runs.layout import METRICS, run_of
from microgpt.runs.metrics import MetricsLog
from microgpt.runs.saver import Saver
from microgpt.runs.settings import TrainConfig
from microgpt.runs.spec import Plan
from microgpt.runs.state import TrainState
from microgpt.runs.trained_on import remember
from microgpt.tokenizer import Tokenizer

from . import depth
from .bigrams import count_pairs, learn_bigrams, refuse_too_long
from .clock import Clock
from .horizon import Timing, is_worth_measuring, last_step_s, measure, planned_steps, step_s
from .identity import accept, differences, identity, keys_of
from .job import Job
from .needs import memory_estimate
from .optimizer import Optimizer
from .parts import IN_ORDER, MIXTURE, Parts, Penalty, Source
from .preflight import data_findings, model_findings
from .schedule import train_on

Say = Callable[[str], None]

TRAINING_SHARE = 8  # of training text a share as large as one in so many held-out tokens is measured, too


class Session(NamedTuple):
    """All that `fit` needs, and the facts a header tells."""

    job: Job
    state: TrainState
    prepared: Prepared
    batches: Batches  # of the corpus
    inexact: list[str]  # why a resume cannot equal a run that was never stopped
    planned: int = 0  # steps of this session, as they were planned at its beginning
    findings: tuple[Finding, ...] = ()  # of probes, of a new run
    bigrams: LearnedBigrams | None = None  # what pairs of tokens taught it
    timing: Timing | None = None  # measured before the first step, where that was worth it


class Made(NamedTuple):
    """What computes: made once from a plan and its corpus."""

    model: GPT
    optimizer: Optimizer
    source: Source
    penalty: Penalty | None
    held_out: EvalWindows
    batches: Batches  # of the corpus, and of texts beside it
    beside: dict[str, EvalWindows]  # held-out parts of those texts, by their sources
    texts: list[Prepared]  # beside the corpus


def open_corpus(plan: Plan, tokenizer: Tokenizer | None = None) -> Prepared:
    """The corpus of a plan as token files; prepared now unless it was before."""
    return prepared_corpus(plan.data, plan.train.n_threads, tokenizer)


def start(plan: Plan, prepared: Prepared, run: Path, clock: Clock, tell: Listeners) -> Session:
    """A new run with fresh weights.  Raises DataError where what is held out measures nothing."""
    say, is_probed = partial(tell.say, 0), plan.train.probes
    plan = depth.with_cost(plan)
    findings = data_findings(prepared) if is_probed else []
    made = _make(plan, prepared)
    if (passes := plan.train.bigram_passes) and math.isfinite(clock.left_s):
        refuse_too_long(made.model, prepared.train, passes, clock.now, clock.left_s)
    lineage.fill(made.model, plan, plan.train.seed)
    if is_probed and plan.parent is None:
        findings += model_findings(made.model, prepared, made.batches, run)
    bigrams = _learn_bigrams(made.model, plan, prepared, clock.now, say, clock.left_s)
    is_timed = plan.train.max_steps == 0
    timing = _timing(plan.train, made, clock, say)
    if is_timed and timing:
        plan = plan.with_train(max_steps=_steps_in(plan.train, timing, clock, say))
    plan = depth.with_steps(plan)
    log = MetricsLog(run / METRICS, say=say, every=plan.train.log_every)
    session = _session(plan, prepared, made, TrainState(), run, log, tell, [])
    session.job.is_timed = is_timed
    session.job.restore_parts({}, {})  # measuring may have moved them on
    remember(run, prepared.train)
    return session._replace(findings=tuple(findings), bigrams=bigrams, timing=timing)


def measured(plan: Plan, prepared: Prepared, clock: Clock) -> Timing:
    """What the parts of a new run take here, by a few of its steps."""
    made = _make(plan, prepared)
    lineage.fill(made.model, plan, plan.train.seed)
    timing = measure(made.model, made.optimizer, made.source, made.held_out, clock)
    if passes := plan.train.bigram_passes:
        one = _learn_bigrams(made.model, plan.with_train(bigram_passes=1), prepared, clock.now)
        assert one
        timing = dataclasses.replace(timing, start_s=passes * one.dt_s)
    return timing


def _timing(
    config: TrainConfig, made: Made, clock: Clock, say: Say, state: TrainState | None = None
) -> Timing | None:
    """What the parts of a run take, before it starts: where its time decides the number of steps, or where it
    is long enough to be told how long."""
    is_timed = config.max_steps == 0
    if is_timed:
        say(f"measuring how many steps fit into {config.max_time} ...")
    elif not is_worth_measuring(_steps_to_come(config, clock, state or TrainState())):
        return None
    return measure(made.model, made.optimizer, made.source, made.held_out, clock)


def _steps_to_come(config: TrainConfig, clock: Clock, state: TrainState) -> float:
    """The steps of a session, as far as its time limit reaches if they take as long as the last one."""
    step_s = last_step_s(state)
    return min(config.max_steps - state.step, clock.left_s / step_s if step_s else math.inf)


def _steps_in(config: TrainConfig, timing: Timing, clock: Clock, say: Say) -> int:
    """The number of steps that the time limit allows."""
    steps = planned_steps(clock.left_s, timing, config)
    whole_s, told = step_s(timing, config), ""
    if config.shallow_blocks:
        told = f" with all blocks, {format_duration(config.shallow_cost * whole_s)} with the first alone"
    say(f"one step takes {format_duration(whole_s)}{told}, so the run has {steps:,} steps")
    return steps


def reopen(plan: Plan, source: Path, say: Say, allow_inexact: bool = False) -> tuple[Prepared, list[str]]:
    """The corpus of the run that a checkpoint holds, known by its content, and what makes going on inexact.

    Raises: CheckpointError: going on would not give the same bits.
    """
    document, known = checkpoints.read_json(source / checkpoints.STATE), known_corpus(source)
    prepared = prepared_again(plan.data, known, plan.train.n_threads)
    if allow_inexact and known.key != prepared.meta["key"]:
        # Another corpus may do, but the weights know the tokens of their own tokenizer only.
        prepared = open_corpus(plan, known.tokenizer)
    changes = differences(document, identity(plan.train, prepared, plan.model))
    accept(source, changes, say, allow_inexact)
    return prepared, changes


def resume(
    plan: Plan,
    prepared: Prepared,
    source: Path,
    run: Path,
    changes: list[str],
    clock: Clock,
    tell: Listeners,
    allow_inexact: bool = False,
) -> Session:
    """The run that a verified checkpoint holds, to be continued in `run`.

    Args:   plan: with 0 steps, as many more are trained as fit before the clock's deadline.
            prepared, changes: of `reopen`.
    Raises: CheckpointError: it does not fit the plan.
    """
    document = checkpoints.read_json(source / checkpoints.STATE)
    state = TrainState.from_dict(document)
    say = partial(tell.say, state.step)
    made = _make(plan, prepared)
    before, now = document.get("beside", ""), keys_of(made.texts).get("beside", "")
    others = [f"text beside the corpus was {before:.16}, is {now:.16}"] if before != now else []
    accept(source, others, say, allow_inexact)
    changes = changes + others
    is_timed = plan.train.max_steps == 0
    # Before there are moments, which a measured update would change.
    timing = _timing(plan.train, made, clock, say, state)
    if is_timed and timing:
        more = _steps_in(plan.train, timing, clock, say)
        plan = dataclasses.replace(plan, train=_with_more(plan.train, source, state.step, more))
        plan = depth.with_steps(plan) if state.step == 0 else plan
    if plan.model.lora_rank:
        checkpoints.load_base(checkpoints.base_of(plan), made.model)
    checkpoints.load_weights(source, made.model)
    checkpoints.load_moments(source, made.optimizer)
    memory = checkpoints.load_memory(source, made.source.memory())
    made.optimizer.updates = state.updates
    in_place = source.resolve().parent == run.resolve()
    origin = run_of(source)
    if not in_place and origin is not None:
        shutil.copyfile(origin / METRICS, run / METRICS)
    log = MetricsLog(run / METRICS, state.metrics_bytes, say, plan.train.log_every)
    session = _session(plan, prepared, made, state, run, log, tell, changes)
    session.job.restore_parts(document, memory)
    if branch := checkpoints.read_config(source).get(BRANCH) if in_place else str(source):
        session.job.document[BRANCH] = branch
    remember(run, prepared.train, source.parent, is_same=known_corpus(source).key == prepared.meta["key"])
    session.job.origin, session.job.is_timed = source, is_timed
    if in_place:
        session.job.saver.saved_at = state.step
    return session._replace(timing=timing)


def _with_more(config: TrainConfig, source: Path, step: int, more: int) -> TrainConfig:
    """The settings of a finished run with so many steps more."""
    old = Plan.from_dict(checkpoints.read_config(source)).train
    return train_on(step, old, dataclasses.replace(config, max_steps=step + more))


def _make(plan: Plan, prepared: Prepared) -> Made:
    config = plan.train
    batches = batches_of(plan, prepared)
    beside = open_beside(plan, prepared.tokenizer)
    if beside:
        others = [batches_of(plan, one, is_replay) for one, is_replay in beside]
        batches = MixedBatches([batches, *others], plan.data.all_shares, config.batch_size)
    held_out = held_out_windows(plan, prepared)
    model = GPT(plan.model, recompute=config.recompute, precision=config.precision)
    parts = Parts(model, plan, prepared, batches)
    named = (
        IN_ORDER if config.carry_state else MIXTURE if beside and config.source == "corpus" else config.source
    )
    source = _of_kind("source", named, SOURCES)(parts)
    penalty = _of_kind("penalty", config.penalty, PENALTIES)(parts) if config.penalty else None
    measured = {
        " ".join(one.meta["sources"]): held_out_windows(plan, one, is_replay) for one, is_replay in beside
    }
    optimizer = OPTIMIZERS[config.optimizer](model, config)
    return Made(model, optimizer, source, penalty, held_out, batches, measured, [one for one, _ in beside])


def open_beside(plan: Plan, tokenizer: Tokenizer) -> list[tuple[Prepared, bool]]:
    """The texts beside the corpus, and whether each is replayed, which is to be learned whole."""
    found = [prepared_corpus(data, plan.train.n_threads, tokenizer) for data in plan.data.beside]
    n_mixed = len(plan.data.mixed)
    return [(one, number >= n_mixed) for number, one in enumerate(found)]


def held_out_windows(plan: Plan, prepared: Prepared, is_replay: bool = False) -> EvalWindows:
    """What a run is measured on: where only answers are learned, on those.

    Raises: DataError: there is none in what is held out.
    """
    config, lengths = plan.train, prepared.tokenizer.byte_lengths
    how = prepared.val, plan.model.seq_len, lengths, config.eval_tokens, config.packing
    if is_replay or not config.answers_only:
        return windows_to_score(config)(*how)
    found = eval_windows(*how, prompt_loss=AnswerLoss(prepared.val.ids, prepared.tokenizer))
    if not found.n_tokens:
        raise DataError(f"{prepared.val.name}: no turn of the assistant is held out; give more conversations")
    return found


def batches_of(plan: Plan, prepared: Prepared, is_replay: bool = False) -> Batches:
    """The corpus of a run as micro-batches; what is replayed is learned whole."""
    config, seq_len = plan.train, plan.model.seq_len
    packing, prompt_loss = config.packing, None if is_replay else _prompt_loss(config, prepared)
    if config.carry_state:
        rows = config.batch_size, config.grad_accum
        return BatchesInOrder(prepared.train, seq_len, *rows, prompt_loss, packing)
    return Batches(prepared.train, seq_len, config.batch_size, config.seed, prompt_loss, packing)


def windows_to_score(config: TrainConfig) -> Callable[..., EvalWindows]:
    """What makes the windows that a run is measured on."""
    return EvalInOrder if config.carry_state else eval_windows


def _of_kind(what: str, name: str, table: dict[str, Any]) -> Any:
    """What a table has under a name."""
    if name not in table:
        raise ConfigError(
            f"{what} {name!r} is not known here, only {', '.join(table) or 'none'}; import what defines it"
        )
    return table[name]


def _prompt_loss(config: TrainConfig, prepared: Prepared) -> PromptLoss | None:
    """Which targets outside the answers are learned; None: all."""
    if config.answers_only:
        answers = AnswerLoss(prepared.train.ids, prepared.tokenizer)
        if not answers.leaves_something():
            raise ConfigError(
                f"a corpus {made_of(prepared.meta)}: no message in it is the assistant's; sft expects "
                "conversations, and `microgpt train --from` trains on books and other plain text"
            )
        return answers
    weight = config.prompt_loss_weight
    if weight == 1:
        return None
    prompt_loss = PromptLoss(prepared.train.ids, prepared.tokenizer, weight, config.seed)
    if not weight and not prompt_loss.leaves_something():
        raise ConfigError(
            "--prompt-loss-weight 0: nothing to learn, no message of this corpus is the assistant's; "
            "give a weight above 0, or chats with answers"
        )
    return prompt_loss


def _fill(model: GPT, plan: Plan, prepared: Prepared) -> None:
    """Give a model the weights that the first step of its run begins with."""
    lineage.fill(model, plan, plan.train.seed)
    _learn_bigrams(model, plan, prepared)


def _learn_bigrams(model: GPT, plan: Plan, prepared: Prepared, *telling: Any) -> LearnedBigrams | None:
    """Let a new model begin with what its corpus tells of pairs of tokens, where its plan wants that."""
    passes = plan.train.bigram_passes
    if not passes:
        return None
    pairs = count_pairs(prepared.train, across=plan.train.packing == STREAM)
    return learn_bigrams(model, pairs, passes, *telling)


def _session(
    plan: Plan,
    prepared: Prepared,
    made: Made,
    state: TrainState,
    run: Path,
    log: MetricsLog,
    tell: Listeners,
    inexact: list[str],
) -> Session:
    config, slots = plan.train, made.optimizer.slots.values()
    tell.add(log.hear, is_first=True)
    news: deque[str] = deque()
    n_bytes = sum(arena.flat.nbytes for arena in (made.model.params, *slots))
    n_bytes += sum(rows.nbytes for rows in made.source.memory().values())
    job = Job(
        model=made.model,
        optimizer=made.optimizer,
        source=made.source,
        penalty=made.penalty,
        held_out=made.held_out,
        config=config,
        run=run,
        document=plan.to_dict(),
        identity=identity(config, prepared, plan.model) | keys_of(made.texts),
        beside=made.beside,
        log=log,
        tell=tell,
        snapshot=checkpoints.Snapshot(made.model, made.optimizer, prepared.tokenizer, lineage.about(plan)),
        fill=partial(_fill, made.model, plan, prepared),
        news=news,
        saver=Saver(run, config.keep, news.append, n_bytes),
    )
    return Session(job, state, prepared, made.batches, inexact, config.max_steps - state.step)


def watch(session: Session) -> Watch:
    """Who sounds an alarm where the numbers of a run cannot be right."""
    job, prepared = session.job, session.prepared
    plan = Plan.from_dict(job.document)
    few = plan.with_train(eval_tokens=max(1, job.config.eval_tokens // TRAINING_SHARE))
    training = held_out_windows(few, dataclasses.replace(prepared, val=prepared.train))
    is_new = session.state.step == 0 and plan.parent is None and not plan.train.bigram_passes
    steps = job.config.max_steps
    return Watch(job.model, prepared.train, job.held_out, training, steps, is_new, job.tell)


def began(session: Session, header: list[str]) -> Began:
    """What there is to tell of a session's beginning."""
    job, state, precision = session.job, session.state, session.job.config.precision
    kind = Started if state == TrainState() else Resumed
    return kind(
        state.step,
        n_params=count_parameters(job.model.config),
        max_steps=job.config.max_steps,
        machine=native.info(precision),
        flop_per_token=round(flop_per_token(job.model.config)),
        peak_flop_per_s=product_flop_per_s(precision, native.threads()),
        memory_bytes=memory_estimate(job.model.config, job.config),
        inexact=session.inexact or None,
        shallow_steps=job.config.shallow_steps or None,
        shallow_cost=job.config.shallow_cost if job.config.shallow_steps else None,
        run=str(job.run),
        bpb=_bpb(state),
        bpb_step=int(state.metrics.get("val_step", 0)),
        header=tuple(header),
    )


def _bpb(state: TrainState) -> float | None:
    bpb = state.metrics.get("val_bpb")
    return None if bpb is None else float(bpb)  # "nan" and "inf" are text in JSON
