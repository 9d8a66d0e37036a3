"""The training loop: once in a while evaluate, sample and save; then one optimizer step."""

import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from microgpt.common.errors import MicrogptError
from microgpt.core import memory, random
from microgpt.corpus.batches import Batches, EvalWindows
from microgpt.model import GPT
from tokenizer import Tokenizer

from .checkpoint import persist, snapshot
from .clock import Clock
from .config import TrainConfig
from .evaluate import evaluate
from .metrics import MetricsLog, plain
from .optim import Adam
from .plan import replanned_steps
from .progress import Progress
from .schedule import learning_rate
from .state import TrainState
from .stop import StopFlag

FINISHED, OUT_OF_TIME, STOPPED = "finished", "out of time", "stopped"
MOST_BAD_STEPS = 5  # in a row


class DivergedError(MicrogptError):
    """Training produces no finite numbers any more."""


@dataclasses.dataclass
class Job:
    """What a run is made of.  Where it stands is kept apart, in TrainState."""

    model: GPT
    adam: Adam
    batches: Batches
    held_out: EvalWindows
    tokenizer: Tokenizer
    config: TrainConfig
    run: Path
    document: dict[str, Any]  # config.json
    identity: dict[str, Any]  # what state.json records of machine, corpus and versions
    log: MetricsLog
    progress: Progress
    sample: Callable[[int], str] | None = None  # step -> what the model says
    is_timed: bool = False  # the number of steps follows from the time limit


def fit(job: Job, state: TrainState, stop: StopFlag, clock: Clock, saved_at: int = -1) -> str:
    """Train until max_steps, a stop or the deadline, and leave a checkpoint of the last step.

    Args:     saved_at: step of the newest checkpoint in the run's directory; -1: none.
    Returns:  why it ended: FINISHED, OUT_OF_TIME or STOPPED.
    """
    while not stop:
        config = job.config
        leaving = state.step >= config.max_steps or clock.is_over()

        # ---- once in a while
        if state.evaluated_at != state.step and due(state.step, config.eval_every, leaving):
            run_evaluation(job, state, stop, clock)
            replan(job, state.step, clock)
        if state.sampled_at != state.step > 0 and due(state.step, config.sample_every, leaving):
            run_sample(job, state, clock)
        if leaving or stop:
            break
        if saved_at != state.step > 0 and due(state.step, config.save_every):
            saved_at = save(job, state, clock)
        if clock.is_over():  # all that took the time of the next step
            continue

        # ---- one optimizer step
        start = time.perf_counter()
        loss = accumulate(job, state.position, stop)
        if loss is None:
            break
        lr, grad_norm = learning_rate(state.step, config), job.adam.grad_norm()
        is_good = math.isfinite(loss) and math.isfinite(grad_norm)
        if is_good:
            job.adam.update(lr, grad_norm)
        else:
            job.adam.discard()
        advance(state, job)
        clock.costs_s["step"] = dt = time.perf_counter() - start

        # ---- say what happened
        if is_good:
            report_step(job, state, loss=loss, lr=lr, grad_norm=grad_norm, dt=dt)
        else:
            report_bad_step(job, state, loss=loss, grad_norm=grad_norm)

    if saved_at != state.step:
        save(job, state, clock)
    if stop:
        return STOPPED
    return FINISHED if state.step >= job.config.max_steps else OUT_OF_TIME


def due(step: int, every: int, leaving: bool = False) -> bool:
    """Whether something done every so many steps, and when leaving unless it is off, is due now."""
    return every > 0 and (leaving or step % every == 0)


def accumulate(job: Job, position: int, stop: StopFlag) -> float | None:
    """Put the mean gradient of one step's micro-batches into model.grads, which are zero between steps.

    Each micro-batch counts the same, and in it each target that is scored, however many are not.

    Returns:  the mean loss; None if a stop came before the last micro-batch, which changes nothing.
    """
    total, n = 0.0, job.config.grad_accum
    for index in range(position, position + n):
        if stop:
            job.adam.discard()
            return None
        ids, targets = job.batches.batch(index)
        total += job.model.loss_and_grad(ids, targets, key=dropout_key(job, index), scale=1 / n)
    return total / n


def dropout_key(job: Job, index: int) -> int | None:
    """The key of one micro-batch's dropout masks; None when nothing is dropped."""
    return random.key(job.config.seed, "dropout", index) if job.model.config.dropout else None


def advance(state: TrainState, job: Job) -> None:
    """Count one step, done or skipped."""
    state.step += 1
    state.updates = job.adam.updates
    state.position += job.config.grad_accum
    state.tokens += tokens_per_step(job)


def tokens_per_step(job: Job) -> int:
    """Tokens that one optimizer step sees."""
    return job.config.batch_size * job.config.grad_accum * job.model.config.seq_len


# -------------------------------------------------------------------------------- parts


def run_evaluation(job: Job, state: TrainState, stop: StopFlag, clock: Clock) -> None:
    """Evaluate on held-out windows and report; nothing is recorded if a stop came in between."""
    with clock.timing("evaluation"):
        result = evaluate(job.model, job.held_out, job.config.batch_size, stop)
    if result is None:
        return
    state.evaluated_at = state.step
    state.metrics |= {"val_loss": plain(result.loss), "val_bpb": plain(result.bpb), "val_step": state.step,
                      "val_s": plain(clock.costs_s["evaluation"])}  # fmt: skip
    job.progress.evaluated(result.bpb)
    job.log.write(
        "eval",
        state.step,
        loss=result.loss,
        bpb=result.bpb,
        tokens=job.held_out.n_tokens,
        bytes=job.held_out.n_bytes,
        dt_s=clock.costs_s["evaluation"],
    )


def replan(job: Job, step: int, clock: Clock) -> None:
    """Fit the number of steps of a timed run to the speed since the last evaluation."""
    step_s = clock.seconds_per_step(step)
    if not job.is_timed or step_s is None or step >= job.config.max_steps:
        return
    max_steps = replanned_steps(step, job.config.max_steps, step_s, clock.remaining_s)
    if max_steps == job.config.max_steps:
        return
    job.config = dataclasses.replace(job.config, max_steps=max_steps)
    job.document = {**job.document, "train": job.config.to_dict()}
    job.progress.planned(max_steps)
    job.log.write("plan", step, max_steps=max_steps, step_s=step_s)


def run_sample(job: Job, state: TrainState, clock: Clock) -> None:
    """Print what the model says now."""
    if job.sample is None:
        return
    with clock.timing("sample"):
        text = job.sample(state.step)
    state.sampled_at = state.step
    job.progress.say(f"--- sample after {state.step} steps\n{text}\n---")
    job.log.write("sample", state.step, text=text)


def save(job: Job, state: TrainState, clock: Clock) -> int:
    """Write a checkpoint of this moment.  Returns its step."""
    with clock.timing("save"):
        state.elapsed_s, state.metrics_bytes = clock.elapsed_s, job.log.n_bytes
        document = job.identity | state.to_dict()
        memory.release()  # the copies may take the place of the activations
        snap = snapshot(job.model, job.adam, job.tokenizer, job.document, document)
        persist(snap, job.run, job.config.keep)
    return state.step


def report_step(job: Job, state: TrainState, loss: float, lr: float, grad_norm: float, dt: float) -> None:
    """Show a step, and log it when it is due."""
    tok_per_s = tokens_per_step(job) / dt
    state.bad_steps = 0
    state.metrics |= {
        "loss": plain(loss),
        "lr": lr,
        "grad_norm": plain(grad_norm),
        "tok_per_s": plain(tok_per_s),
    }
    job.progress.stepped(state.step, loss, tok_per_s)
    if state.step == 1 or due(state.step, job.config.log_every):
        job.log.write(
            "train",
            state.step,
            loss=loss,
            lr=lr,
            grad_norm=grad_norm,
            tokens=state.tokens,
            dt_s=dt,
            tok_per_s=tok_per_s,
        )


def report_bad_step(job: Job, state: TrainState, loss: float, grad_norm: float) -> None:
    """Log a step that was skipped because its numbers are not finite; too many in a row end the run."""
    state.bad_steps += 1
    first = state.position - job.config.grad_accum
    job.log.write("skip", state.step, loss=loss, grad_norm=grad_norm, position=first)
    job.progress.say(f"step {state.step} skipped: loss {loss}, gradient norm {grad_norm}")
    if state.bad_steps >= MOST_BAD_STEPS:
        raise DivergedError(
            f"{state.bad_steps} steps in a row without finite numbers, up to step {state.step}; they changed "
            f"nothing; resume from the last checkpoint in {job.run} or start again with a lower --lr"
        )
