"""Looking at all that a run left on the disk, down to the last byte, and changing nothing."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from microgpt.common.errors import CheckpointError, MicrogptError
from microgpt.files import durable
from microgpt.files.records import LARGEST_JSON, parse_json, read_json
from microgpt.files.tensors import check_shapes, not_finite, shapes_in
from microgpt.tokenizer import TokenizerError

from . import checkpoint as checkpoints
from . import kept, layout
from .spec import Plan
from .state import TrainState
from .trained_on import RECORD, recorded


class Finding(NamedTuple):
    """What was found at one place.  problem: "" if all is well.  note: more about it."""

    path: Path
    step: int | None
    n_bytes: int
    problem: str
    note: str = ""


class Task(NamedTuple):
    """One place to look at.  may_go: a training beside may remove it, which is no damage."""

    path: Path
    look: Callable[[Path], str]  # returns a note, raises what is wrong
    step: int | None = None
    may_go: bool = False


def tasks_of_run(run: Path) -> list[Task]:
    """Everything to look at in a run, the newest checkpoint first."""
    found = layout.checkpoints(run)
    tasks = [Task(path, _checkpoint, step, may_go=True) for step, path in found]
    if (run / layout.METRICS).exists():
        tasks.append(Task(run / layout.METRICS, _metrics))
    if (run / RECORD).exists():
        tasks.append(Task(run / RECORD, _trained_on))
    tasks += [Task(path, _leftover, may_go=True) for path in layout.leftovers(run)]
    return tasks


def task_of_checkpoint(path: Path) -> Task:
    """One checkpoint, wherever it lies."""
    match = layout.STEP_NAME.fullmatch(path.name)
    return Task(path, _checkpoint, int(match[1]) if match else None)


def look(tasks: list[Task]) -> Iterator[Finding]:
    """Do the tasks one by one.  What a training removes meanwhile is passed over; the rest must be there."""
    for task in tasks:
        n_bytes, problem, note = 0, "", ""
        try:
            n_bytes = layout.size_of(task.path)
            note = task.look(task.path)
        except (MicrogptError, TokenizerError, OSError) as error:
            problem = str(error)
        if task.may_go and not task.path.exists():
            continue
        yield Finding(task.path, task.step, n_bytes, problem, note)


# -------------------------------------------------------------------------------- each kind


def _checkpoint(path: Path) -> str:
    """A checkpoint that a resume could begin with, every value in it finite."""
    checkpoints.verify(path)
    plan = Plan.from_dict(checkpoints.read_config(path))
    checkpoints.check_fit(path, plan.model)
    checkpoints.checked_tokenizer(path, plan.model)
    moments = shapes_in(path / checkpoints.MOMENTS)
    check_shapes(path / checkpoints.MOMENTS, moments, checkpoints.shapes_of_slots(moments, plan))
    if remembered := checkpoints.memory_shapes_of(plan):
        check_shapes(path / checkpoints.MEMORY, shapes_in(path / checkpoints.MEMORY), remembered)
    files = checkpoints.WEIGHTS, checkpoints.MOMENTS, checkpoints.MEMORY
    for name in files if remembered else files[:2]:
        if tensor := not_finite(path / name):
            raise CheckpointError(f"{path / name}: {tensor} holds a value that is not finite")
    return _state(path)


def _state(path: Path) -> str:
    """state.json, which must be of the step in the directory's name."""
    document = read_json(path / checkpoints.STATE)
    step = TrainState.from_dict(document).step
    match = layout.STEP_NAME.fullmatch(path.name)
    if match and int(match[1]) != step:
        raise CheckpointError(f"{path / checkpoints.STATE}: of step {step}; was the directory renamed?")
    loss = kept.held_out_loss(document)
    return "" if loss is None else f"held-out loss {loss:.4f}"


def _metrics(path: Path) -> str:
    """metrics.jsonl: an event a line.  A kill may leave a last line without its end; a resume cuts it off."""
    number = 0
    with durable.open_regular(path) as raw, open(raw.fileno(), "rb", closefd=False) as file:
        while line := file.readline(LARGEST_JSON + 1):
            if not line.endswith(b"\n") and len(line) <= LARGEST_JSON:
                return f"{number:,} events, and the beginning of one"
            number += 1
            event = parse_json(line, path.with_name(f"{path.name}, line {number}"))
            if not {"event", "step"} <= set(event):
                raise CheckpointError(f"{path}, line {number}: no event with a step")
    return f"{number:,} events"


def _trained_on(path: Path) -> str:
    """The record of the documents that a run was trained on."""
    documents = recorded(path.parent)
    if documents is None:
        raise CheckpointError(f"{path}: damaged; without it, eval may not know text that was trained on")
    return f"{len(documents):,} documents"


def _leftover(_: Path) -> str:
    return "unfinished; the next save removes it"
