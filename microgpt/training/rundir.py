"""A run's directory: its checkpoints by step, its lock, its leftovers.

runs/<name>/step_00001000/   finished checkpoints
runs/<name>/metrics.jsonl    what was measured
runs/<name>/.tmp_*           unfinished work of a killed session; removed when the next one starts
"""

import contextlib
import os
import re
import shutil
from pathlib import Path

from microgpt.common.errors import CheckpointError, ConfigError

from . import storage

RUNS = Path("runs")
METRICS = "metrics.jsonl"
SPARE_BYTES = 16 << 20  # beside the tensors: the other files, and what the file system needs for itself
STEP_NAME = re.compile(r"step_(\d{8,})")


def checkpoint_name(step: int) -> str:
    """Directory name of the checkpoint taken after `step` steps."""
    return f"step_{step:08d}"


def checkpoints(run: Path) -> list[tuple[int, Path]]:
    """(step, path) of every checkpoint in a run directory, newest first; none if it does not exist."""
    try:
        entries = list(run.iterdir())
    except OSError:
        return []
    found = ((STEP_NAME.fullmatch(entry.name), entry) for entry in entries)
    steps = [(int(match[1]), entry) for match, entry in found if match and entry.is_dir()]
    return sorted(steps, reverse=True)


def newest_run(runs: Path = RUNS) -> Path:
    """The run that saved a checkpoint last."""
    saved = [(time, run) for run in _directories(runs) if (time := _saved_at(run)) is not None]
    if not saved:
        raise CheckpointError(f"no checkpoint under {runs}/; train one (microgpt train) or name one")
    return max(saved)[1]


def _saved_at(run: Path) -> float | None:
    """When a run saved its newest checkpoint that no training beside has removed meanwhile."""
    for _, path in checkpoints(run):
        with contextlib.suppress(OSError):
            return path.stat().st_mtime
    return None


def _directories(path: Path) -> list[Path]:
    try:
        return [entry for entry in path.iterdir() if entry.is_dir()]
    except OSError:
        return []


def remove_leftovers(run: Path, names: str = ".tmp_*") -> None:
    """Remove what a session that was killed, or a save that failed, could not."""
    for entry in run.glob(names):
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                entry.unlink()


def free_space_problem(run: Path, n_bytes: int) -> str | None:
    """What to tell a person when a checkpoint of that size does not fit on the disk of a run; None: it does.

    An older one goes only after the newer is whole, so there must be room for one more than are kept.
    """
    try:
        free = shutil.disk_usage(run).free
    except OSError as error:
        return f"cannot tell the free space of {run}: {error.strerror}"
    needed = n_bytes + SPARE_BYTES
    if free >= needed:
        return None
    return (
        f"{run}: {free / 1e6:,.1f} MB free on that disk, a checkpoint takes {n_bytes / 1e6:,.1f} and "
        f"{SPARE_BYTES / 1e6:,.0f} stay free; make room there"
    )


class RunDirectory:
    """The directory of one run, locked against a second trainer while the context lasts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    def __enter__(self) -> "RunDirectory":
        try:
            storage.make_directory(self.path)
            self._lock = storage.lock_directory(self.path)
        except BlockingIOError:
            raise ConfigError(
                f"another training is using {self.path}; wait until it ends, or end it"
            ) from None
        except OSError as error:
            raise ConfigError(f"cannot use {self.path} as run directory: {error.strerror}") from error
        remove_leftovers(self.path)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self.path.rmdir()  # succeeds only when the session left nothing behind
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
