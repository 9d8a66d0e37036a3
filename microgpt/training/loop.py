"""The training loop: once in a while evaluate, sample and save; then one optimizer step."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from microgpt.common.errors import CheckpointError
from microgpt.core import random
from microgpt.evaluation.loss import evaluate
from microgpt.runs.checkpoint import Snapshot
from microgpt.runs.events import (
    Empty,
    Evaluated,
    EvaluatedBeside,
    Planned,
    Sampled,
    Saved,
    SaveFailed,
    Skipped,
    Spiked,
    Trained,
)
from microgpt.runs.guard import MOST_BAD_STEPS, DivergedError
from microgpt.runs.metrics import plain
from microgpt.runs.saver import SaveResult
from microgpt.runs.settings import TrainConfig
from microgpt.runs.state import TrainState

from .clock import Clock
from .depth import blocks_at
from .horizon import AS_GOOD_AS_DONE, expected_s, replanned
from .job import Job
from .rollback import roll_back
from .schedule import learning_rate
from .stop import StopFlag

FINISHED, OUT_OF_TIME, STOPPED, NO_GAIN = "finished", "out of time", "stopped", "no gain"


def fit(job: Job, state: TrainState, stop: StopFlag, clock: Clock) -> str:
    """Train until max_steps, a stop or the deadline, and leave a checkpoint of the last step.

    Returns:  why it ended: FINISHED, OUT_OF_TIME, NO_GAIN or STOPPED.
    Raises:   DivergedError: the numbers stay bad.  CheckpointError: the last checkpoint cannot be written.
    """
    first = state.step
    while not stop:
        if clock.is_over() and state.step == first == job.saver.saved_at < job.config.max_steps:
            break  # all that is here is saved, and there is no time for more
        if look_up(job, state, stop, clock) or stop:
            break
        note_save(job, state, clock, job.saver.poll())
        if job.saver.saved_at != state.step > 0 and save_is_due(job, state, clock):
            begin_save(job, state, clock)
        if not clock.is_over():  # all that may have taken the time of the next step
            take_step(job, state, stop, clock)

    if not stop and state.step > first:
        settle_plan(job, state.step)
    last_save(job, state, clock)
    if stop:
        return STOPPED
    if state.step >= job.config.max_steps:
        return FINISHED
    return NO_GAIN if gains_no_more(state, job.config) else OUT_OF_TIME


def look_up(job: Job, state: TrainState, stop: StopFlag, clock: Clock) -> bool:
    """Evaluate, plan anew and sample, where it is time to.  Returns: whether the run ends here."""
    config = job.config  # its plan may change below
    leaving = state.step >= config.max_steps or clock.is_over() or gains_no_more(state, config)
    if state.evaluated_at != state.step and due(state.step, config.eval_every, leaving):
        run_evaluation(job, state, stop, clock)
        leaving = leaving or gains_no_more(state, config)
        if not leaving:
            replan(job, state.step, clock)
    elif not leaving and is_quarter(state.step, config):
        replan(job, state.step, clock)
    if state.sampled_at != state.step > 0 and due(state.step, config.sample_every, leaving):
        run_sample(job, state, stop, clock)
    return leaving


def take_step(job: Job, state: TrainState, stop: StopFlag, clock: Clock) -> None:
    """One optimizer step, and what is told of it; a stop before its last micro-batch leaves all as it was."""
    job.model.depth = blocks_at(state.step, job.config)
    if state.step == job.config.shallow_steps > 0:
        clock.forget_steps()
    start, before = clock.begin(), (job.parts_state(), job.source.memory())
    summed = accumulate(job, state.position, stop, clock.spend)
    if summed is None:
        job.restore_parts(*before)
        return
    nats, n, facts = summed
    loss = nats / max(n, 1)
    penalty = None
    if job.penalty is not None and n:
        penalty = job.penalty.add(loss, n)
        clock.spend("penalty")
    grad_norm = job.optimizer.grad_norm(max(n, 1))
    lr = learning_rate(state.step, job.config)
    is_good = math.isfinite(loss) and math.isfinite(penalty or 0.0) and math.isfinite(grad_norm)
    if is_good and n:
        job.optimizer.update(lr, grad_norm, n)
    else:
        job.optimizer.discard()
    if not is_good:
        job.restore_states(before[0])  # what was not learned moves nothing on but the place in the text
    advance(state, job)
    clock.spend("optimizer")
    dt = clock.end_step(start)
    if not n:
        report_empty_step(job, state, facts, clock)
    elif is_good:
        facts |= job.facts_of_parts()
        report_step(job, state, trained(job, state, loss, lr, grad_norm, dt, penalty, facts, clock))
    else:
        report_bad_step(job, state, loss, grad_norm)
        if state.setbacks.is_stuck:
            recover(job, state, clock, f"{MOST_BAD_STEPS} steps in a row without finite numbers")


def due(step: int, every: int, leaving: bool = False) -> bool:
    """Whether something done every so many steps, and when leaving unless it is off, is due now."""
    return every > 0 and (leaving or step % every == 0)


def accumulate(
    job: Job, position: int, stop: StopFlag, passed: Callable[[str], object] = lambda part: None
) -> tuple[float, int, dict[str, Any]] | None:
    """Put the summed gradient of one step's micro-batches into model.grads, which are zero between steps.

    Each target that is scored counts the same, however the step is cut into micro-batches.

    Args:     passed: hears of each part of the work when it is over: data, and those of the model.
    Returns:  the loss in nats, summed, the number of scored targets, and what layers told, the mean of all
              micro-batches; None if a stop came before the last micro-batch: the gradients are zero again,
              what the source remembers is not taken back.
    """
    nats, n = 0.0, 0
    facts: list[dict[str, Any]] = []
    for index in range(position, position + job.config.grad_accum):
        if stop:
            job.optimizer.discard()
            return None
        batch = job.source.batch(index)
        keys = dropout_keys(job, index, len(batch.ids))
        passed("data")
        more_nats, more = job.model.loss_and_grad(batch, keys, passed)
        nats, n = nats + more_nats, n + more
        facts.append(job.model.facts)
    return nats, n, {name: np.mean([told[name] for told in facts], 0).tolist() for name in facts[0]}


def dropout_keys(job: Job, index: int, n_rows: int) -> np.ndarray | None:
    """The keys of a micro-batch's dropout masks, by window of the run; None when nothing is dropped."""
    if not job.model.config.drops:
        return None
    first = index * job.config.batch_size
    return random.keys(job.config.seed, "dropout", range(first, first + n_rows))


def advance(state: TrainState, job: Job) -> None:
    """Count one step, done or skipped."""
    state.step += 1
    state.updates = job.optimizer.updates
    state.position += job.config.grad_accum
    state.tokens += job.tokens_per_step


# -------------------------------------------------------------------------------- parts


def run_evaluation(job: Job, state: TrainState, stop: StopFlag, clock: Clock) -> None:
    """Evaluate on held-out windows and report; nothing is recorded if a stop came in between."""
    held_out, start = job.held_out, clock.now()
    with clock.timing("evaluation"):
        result = evaluate(job.model, held_out, job.config.batch_size, stop)
        beside = {
            name: evaluate(job.model, windows, job.config.batch_size, stop)
            for name, windows in job.beside.items()
        }
        if result is None or None in beside.values():
            return
        state.evaluated_at = state.step
        dt_s, elapsed_s = clock.now() - start, clock.elapsed_s
        state.metrics |= {
            "val_loss": plain(result.loss),
            "val_bpb": plain(result.bpb),
            "val_step": state.step,
            "val_s": plain(dt_s),
        }
        if result.error is not None:
            state.metrics["val_error"] = plain(result.error)
        # What pairs of tokens alone tell is no result of the run; the rate at its peak makes it worse first.
        is_of_counts = state.step == 0 and job.config.bigram_passes > 0
        is_planned = due(state.step, job.config.eval_every) or state.step >= job.config.max_steps
        if is_of_counts:
            state.metrics["bigrams_bpb"] = state.metrics["val_bpb"]
        elif is_planned:
            note_best(state)
    # Not timed: at the first of them the alarms count the training text, which they do once.
    counts = held_out.n_documents, held_out.n_tokens, held_out.n_bytes
    job.tell(Evaluated(state.step, result.loss, result.bpb, result.error, *counts, dt_s, elapsed_s))
    for name, other in beside.items():
        assert other is not None
        job.tell(EvaluatedBeside(state.step, name, other.loss, other.bpb))
    clock.spend("evaluation")


def note_best(state: TrainState) -> None:
    """Keep the best evaluation among the metrics, and how many came since.

    Not for those that a session which is stopped makes at its end: a straight run has none of them.
    """
    metrics = state.metrics
    loss, best = (float(metrics.get(name, math.inf)) for name in ("val_loss", "best_loss"))
    if loss < best:
        for name in ("loss", "bpb", "step"):
            metrics[f"best_{name}"] = metrics[f"val_{name}"]
        metrics["evals_since_best"] = 0
    else:
        metrics["evals_since_best"] = metrics.get("evals_since_best", 0) + 1


def gains_no_more(state: TrainState, config: TrainConfig) -> bool:
    """Whether the last evaluations that --stop-after allows have all been no better than one before."""
    return 0 < config.stop_after <= state.metrics.get("evals_since_best", 0)


def is_quarter(step: int, config: TrainConfig) -> bool:
    """Whether a quarter more of the plan is done, of a run too short for its evaluations to come as often."""
    every = max(1, config.max_steps // 4)
    return every < (config.eval_every or math.inf) and step % every == 0


def replan(job: Job, step: int, clock: Clock) -> None:
    """Fit the number of steps of a timed run to the speed since the last evaluation."""
    step_s = clock.seconds_per_step(step)
    if not job.is_timed or step_s is None:
        return
    config = replanned(step, job.config, step_s, clock)
    if config != job.config:
        change_plan(job, step, config, step_s=step_s)


def settle_plan(job: Job, step: int) -> None:
    """Of a timed run whose last few steps found no time: what is done is the plan."""
    left = job.config.max_steps - step
    if job.is_timed and 0 < left <= AS_GOOD_AS_DONE * step:
        change_plan(job, step, dataclasses.replace(job.config, max_steps=step))


def change_plan(job: Job, step: int, config: TrainConfig, step_s: float | None = None) -> None:
    """Give the run another number of steps, and record it."""
    job.config = config
    job.document = {**job.document, "train": job.config.to_dict()}
    job.tell(Planned(step, config.max_steps, step_s, config.shallow_steps or None))


def run_sample(job: Job, state: TrainState, stop: StopFlag, clock: Clock) -> None:
    """Tell what the model says now; nothing is recorded if a stop came in between."""
    if job.sample is None:
        return
    with clock.timing("sample"):
        text = job.sample(state.step, stop)
    if text is None:
        return
    state.sampled_at = state.step
    job.tell(Sampled(state.step, text))


# -------------------------------------------------------------------------------- saving


def save_is_due(job: Job, state: TrainState, clock: Clock) -> bool:
    """Whether to begin a save in the background.

    The best evaluation so far gets a checkpoint halfway between two others, and with --stop-after anywhere,
    for that is what such a run is to leave.
    Not while steps are being skipped, for going back to such a checkpoint would change nothing; and not so
    late that the last save, which is sure to come, would have to wait for it.
    """
    is_late = clock.remaining_s < clock.costs_s.get("save", 0.0)
    is_best = state.step > 0 and state.metrics.get("best_step") == state.step
    is_kept = is_best and (job.config.stop_after > 0 or is_halfway(state.step, job.config))
    is_wanted = is_kept or due(state.step, job.config.save_every)
    return is_wanted and not state.setbacks.bad_steps and not is_late


def is_halfway(step: int, config: TrainConfig) -> bool:
    """Whether this evaluation is the first of the second half between two checkpoints, and not in its end."""
    if not config.save_every:
        return False
    every, since = config.save_every, step % config.save_every
    return every <= 2 * since < every + 2 * config.eval_every and 4 * since <= 3 * every


def begin_save(job: Job, state: TrainState, clock: Clock) -> None:
    """Save this moment beside the training.  Weights that are no numbers send the run back instead."""
    try:
        clock.begin()
        job.saver.save(take_snapshot(job, state, clock))
        clock.spend("save")
    except CheckpointError as error:
        recover(job, state, clock, str(error))


def last_save(job: Job, state: TrainState, clock: Clock) -> None:
    """Leave a checkpoint of this moment, unless there is one.  Raises CheckpointError if it cannot be."""
    note_save(job, state, clock, job.saver.wait())
    if job.saver.saved_at != state.step:
        with clock.timing("save"):
            job.saver.finish(take_snapshot(job, state, clock))
        job.tell(Saved(state.step, state.step, clock.costs_s["save"]))


def take_snapshot(job: Job, state: TrainState, clock: Clock) -> Snapshot:
    """A copy of all that a checkpoint holds."""
    state.elapsed_s, state.metrics_bytes = clock.elapsed_s, job.log.n_bytes
    state.spent(clock.spent_s)
    told = job.identity | job.parts_state() | state.to_dict()
    return job.snapshot.fill(job.document, told, job.source.memory())


def note_save(job: Job, state: TrainState, clock: Clock, result: SaveResult | None) -> None:
    """Learn from a background save that ended.  A failed one costs only itself: the next may do better."""
    job.pass_on_news(state.step)
    if result is None:
        return
    if result.error is None:
        clock.costs_s["save"] = result.seconds
        job.tell(Saved(state.step, result.step, result.seconds))
    else:
        job.tell(SaveFailed(state.step, result.step, result.error))


def recover(job: Job, state: TrainState, clock: Clock, why: str) -> None:
    """Go back to the last checkpoint; if that is of no use any more, at least leave one."""
    note_save(job, state, clock, job.saver.wait())
    try:
        roll_back(job, state, why)
    except DivergedError as error:
        if job.saver.saved_at < 0:
            try:
                job.saver.finish(take_snapshot(job, state, clock))
            except CheckpointError as problem:
                raise DivergedError(f"{error}; {problem}") from error
        raise DivergedError(f"{error}; step {state.step} is saved in {job.run}") from None


# -------------------------------------------------------------------------------- reports


def trained(
    job: Job,
    state: TrainState,
    loss: float,
    lr: float,
    grad_norm: float,
    dt: float,
    penalty: float | None,
    facts: dict[str, Any],
    clock: Clock,
) -> Trained:
    """What there is to tell of a step."""
    speed, left_s = job.tokens_per_step / dt, expected_s(state.step, job.config, clock)
    times = dt, speed, clock.elapsed_s, left_s
    return Trained(
        state.step, loss, lr, grad_norm, state.tokens, *times, penalty, facts or None, job.model.depth
    )


def report_step(job: Job, state: TrainState, step: Trained) -> None:
    """Tell a step, and remember what the next session and `microgpt runs` show of it."""
    state.setbacks.recovered()
    state.metrics |= {
        "loss": plain(step.loss_nats),
        "lr": step.lr,
        "grad_norm": plain(step.grad_norm),
        "tok_per_s": plain(step.tok_per_s),
    }
    job.tell(step)
    if spike := state.watch.see(step.step, step.loss_nats, step.grad_norm):
        job.tell(Spiked(step.step, step.loss_nats, step.grad_norm, step.lr, spike))


def report_empty_step(job: Job, state: TrainState, facts: dict[str, Any], clock: Clock) -> None:
    """Tell a step in which nothing was to be learned."""
    is_first, job.is_empty_told = not job.is_empty_told, True
    position, left_s = state.position - job.config.grad_accum, expected_s(state.step, job.config, clock)
    facts = {**facts, **job.source.facts()}
    job.tell(Empty(state.step, position, left_s, is_first, job.source.empty, facts or None))


def report_bad_step(job: Job, state: TrainState, loss: float, grad_norm: float) -> None:
    """Count and tell a step that was skipped because its numbers are not finite."""
    first = state.position - job.config.grad_accum
    state.setbacks.skipped(first)
    job.tell(Skipped(state.step, loss, grad_norm, first))
