"""When numbers stay bad: back to the last checkpoint, past the data, and at last a diagnosis."""

from pathlib import Path

from microgpt.common.errors import CheckpointError
from microgpt.files import durable
from microgpt.runs import checkpoint as checkpoints
from microgpt.runs.events import RolledBack
from microgpt.runs.guard import MOST_ROLLBACKS, DivergedError
from microgpt.runs.kept import newest_calm
from microgpt.runs.layout import checkpoints as checkpoints_of
from microgpt.runs.state import TrainState

from .job import Job


def roll_back(job: Job, state: TrainState, why: str) -> None:
    """Put weights, moments and counters back to the last checkpoint; the data goes on where it is.

    Without a checkpoint yet, the run begins again with the weights it began with.  Checkpoints of the steps
    that are taken back go: the newest is then the one that the run is at.

    Raises: DivergedError, with the diagnosis, once going back to this checkpoint has not helped often enough
            or there is nothing to go back to.  CheckpointError, with it too: the weights are half read.
    """
    where = f"{why}, up to step {state.step}, with {_data(state)}"
    diagnosis = f"training diverges: {where}"
    try:
        source, old = _last_checkpoint(job, state)
    except CheckpointError as error:
        raise DivergedError(f"{diagnosis}; cannot go back: {error}; {_advice(job)}") from error
    first = _first_bad(state)
    is_worth_it = state.setbacks.may_go_to(old.step)
    job.tell(RolledBack(state.step, old.step, first, state.position, why))
    try:
        _restore(job, source, old)  # before the diagnosis too: what is saved then should be good
    except CheckpointError as error:  # of weights half read nothing may be saved
        raise CheckpointError(f"{diagnosis}; cannot go back: {error}; {_advice(job)}") from error
    state.go_back_to(old)
    job.saver.saved_at = -1
    if source is not None and source.parent == job.run:
        job.saver.saved_at = old.step
        _remove_above(job, old.step)
    if not is_worth_it:
        raise DivergedError(
            f"{diagnosis}; going back to step {old.step} was tried {MOST_ROLLBACKS} times; {_advice(job)}"
        )
    job.say(state.step, f"warning: {where}; going back to step {old.step} and on with the data that follows")


def _first_bad(state: TrainState) -> int:
    """Position of the first micro-batch since the numbers went bad."""
    return state.setbacks.since if state.setbacks.bad_steps else state.position


def _data(state: TrainState) -> str:
    first = _first_bad(state)
    return f"micro-batches {first:,} to {state.position - 1:,}" if first < state.position else "no data"


def _advice(job: Job) -> str:
    return f"try a new run with a lower --lr (now {job.config.lr:g}), longer --warmup-steps or --grad-clip"


def _last_checkpoint(job: Job, state: TrainState) -> tuple[Path | None, TrainState]:
    """The newest good checkpoint of the run, or that which it branched off from, and the state it holds.

    Returns:  no path and a fresh state if there is none yet.
    """
    source = newest_calm(job.run, lambda text: job.say(state.step, text))
    if source is None and job.origin is not None:
        source = job.origin
        checkpoints.verify(source)  # it may be of another run, which went on
    if source is None:
        return None, TrainState()
    return source, TrainState.from_dict(checkpoints.read_json(source / checkpoints.STATE))


def _remove_above(job: Job, step: int) -> None:
    """Remove the checkpoints of later steps: of a history that the run has left, however good they are."""
    for number, path in checkpoints_of(job.run):
        if number > step:
            try:
                durable.remove_directory(path)
            except OSError as error:
                job.say(step, f"warning: cannot remove {path}, which this run has left: {error.strerror}")


def _restore(job: Job, source: Path | None, old: TrainState) -> None:
    if source is None:
        job.fill()
        job.restore_parts({}, {})
        for slot in job.optimizer.slots.values():
            slot.flat[:] = 0
    else:
        checkpoints.load_weights(source, job.model)
        memory = checkpoints.load_memory(source, job.source.memory())
        job.restore_parts(checkpoints.read_json(source / checkpoints.STATE), memory)
        checkpoints.load_moments(source, job.optimizer)
    job.optimizer.updates = old.updates
