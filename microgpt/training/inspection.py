"""Looking at all that a run left on the disk, down to the last byte, and changing nothing."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from microgpt.common.errors import CheckpointError, MicrogptError
from tokenizer import TokenizerError

from . import checkpoint as checkpoints
from . import rundir, storage
from .documents import LARGEST_JSON, parse_json, read_json
from .session import Plan
from .state import TrainState
from .tensors import check_shapes, not_finite, shapes_in


class Finding(NamedTuple):
    """What was found at one place.  problem: "" if all is well.  note: more about it."""

    path: Path
    step: int | None
    n_bytes: int
    problem: str
    note: str = ""


class Task(NamedTuple):
    """One place to look at."""

    path: Path
    look: Callable[[Path], str]  # returns a note, raises what is wrong
    step: int | None = None


def tasks_of_run(run: Path) -> list[Task]:
    """Everything to look at in a run, the newest checkpoint first."""
    found = rundir.checkpoints(run)
    tasks = [Task(path, _checkpoint, step) for step, path in found]
    if (run / rundir.METRICS).exists():
        tasks.append(Task(run / rundir.METRICS, _metrics))
    tasks += [Task(path, _leftover) for path in sorted(run.glob(".tmp_*"))]
    return tasks


def task_of_checkpoint(path: Path) -> Task:
    """One checkpoint, wherever it lies."""
    match = rundir.STEP_NAME.fullmatch(path.name)
    return Task(path, _checkpoint, int(match[1]) if match else None)


def look(tasks: list[Task]) -> Iterator[Finding]:
    """Do the tasks one by one.  What a training removes meanwhile is passed over."""
    for task in tasks:
        problem = note = ""
        try:
            note = task.look(task.path)
        except (MicrogptError, TokenizerError, OSError) as error:
            problem = str(error)
        if task.path.exists():
            yield Finding(task.path, task.step, _size(task.path), problem, note)


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


# -------------------------------------------------------------------------------- each kind


def _checkpoint(path: Path) -> str:
    """A checkpoint that a resume could begin with, every value in it finite."""
    checkpoints.verify(path)
    plan = Plan.from_dict(checkpoints.read_config(path))
    checkpoints.check_fit(path, plan.model)
    weights = shapes_in(path / checkpoints.WEIGHTS)
    moments = {f"{prefix}.{name}": shape for prefix in ("m1", "m2") for name, shape in weights.items()}
    check_shapes(path / checkpoints.MOMENTS, shapes_in(path / checkpoints.MOMENTS), moments)
    for name in (checkpoints.WEIGHTS, checkpoints.MOMENTS):
        if tensor := not_finite(path / name):
            raise CheckpointError(f"{path / name}: {tensor} holds a value that is not finite")
    n_tokens = checkpoints.load_tokenizer(path).vocab_size
    if n_tokens != plan.model.vocab_size:
        raise CheckpointError(
            f"{path}: the model has {plan.model.vocab_size} tokens, its tokenizer {n_tokens}"
        )
    return _state(path)


def _state(path: Path) -> str:
    """state.json, which must be of the step in the directory's name."""
    step = TrainState.from_dict(read_json(path / checkpoints.STATE)).step
    match = rundir.STEP_NAME.fullmatch(path.name)
    if match and int(match[1]) != step:
        raise CheckpointError(f"{path / checkpoints.STATE}: of step {step}; was the directory renamed?")
    loss = checkpoints.held_out_loss(path)
    return "" if loss is None else f"held-out loss {loss:.4f}"


def _metrics(path: Path) -> str:
    """metrics.jsonl: an event a line.  A kill may leave a last line without its end; a resume cuts it off."""
    number = 0
    with storage.open_regular(path) as raw, open(raw.fileno(), "rb", closefd=False) as file:
        while line := file.readline(LARGEST_JSON + 1):
            if not line.endswith(b"\n") and len(line) <= LARGEST_JSON:
                return f"{number:,} events, and the beginning of one"
            number += 1
            event = parse_json(line, path.with_name(f"{path.name}, line {number}"))
            if not {"event", "step"} <= set(event):
                raise CheckpointError(f"{path}, line {number}: no event with a step")
    return f"{number:,} events"


def _leftover(_: Path) -> str:
    return "unfinished; the next start removes it"
