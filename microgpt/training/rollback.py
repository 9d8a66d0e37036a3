"""When numbers stay bad: back to the last checkpoint, past the data, and at last a diagnosis."""

from pathlib import Path

from . import checkpoint as checkpoints
from .guard import MOST_ROLLBACKS, DivergedError
from .job import Job
from .state import TrainState


def roll_back(job: Job, state: TrainState, why: str) -> None:
    """Put weights, moments and counters back to the last checkpoint; the data goes on where it is.

    Without a checkpoint yet, the run begins again with the weights it began with.

    Raises: DivergedError, with the diagnosis, once going back to this checkpoint has not helped often enough.
    """
    source = _last_checkpoint(job)
    old = TrainState()
    if source is not None:
        old = TrainState.from_dict(checkpoints.read_json(source / checkpoints.STATE))
    first = state.setbacks.since if state.setbacks.bad_steps else state.position
    data = f"micro-batches {first:,} to {state.position - 1:,}" if first < state.position else "no data"
    where = f"{why}, up to step {state.step}, with {data}"
    is_worth_it = state.setbacks.may_go_to(old.step)
    job.log.write("rollback", state.step, to=old.step, first=first, next=state.position, why=why)
    _restore(job, source, old)  # before the diagnosis too: what is saved then should be good
    state.go_back_to(old)
    job.saver.saved_at = old.step if source is not None and source.parent == job.run else -1
    if not is_worth_it:
        raise DivergedError(
            f"training diverges: {where}; going back to step {old.step} was tried {MOST_ROLLBACKS} times; "
            f"try a new run with a lower --lr (now {job.config.lr:g}), longer --warmup-steps or --grad-clip"
        )
    job.progress.say(f"warning: {where}; going back to step {old.step} and on with the data that follows")


def _last_checkpoint(job: Job) -> Path | None:
    """The newest good checkpoint of the run, or that which it branched off from; None: there is none yet."""
    newest = checkpoints.newest_calm(job.run, job.progress.say)
    if newest is None and job.origin is not None:
        checkpoints.verify(job.origin)  # it may be of another run, which went on
        return job.origin
    return newest


def _restore(job: Job, source: Path | None, old: TrainState) -> None:
    if source is None:
        job.model.init(job.config.seed)
        job.adam.m1.flat[:] = job.adam.m2.flat[:] = 0
    else:
        checkpoints.load_weights(source, job.model)
        checkpoints.load_moments(source, job.adam)
    job.adam.updates = old.updates
