"""A run's directory: its checkpoints by step, its lock, its leftovers.

runs/<name>/step_00001000/   finished checkpoints
runs/<name>/metrics.jsonl    what was measured
runs/<name>/.tmp_step_*      unfinished work of a killed session; the next save removes it
"""

import contextlib
import itertools
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from microgpt.common.errors import CheckpointError, ConfigError
from microgpt.files import durable

RUNS = Path("runs")
METRICS = "metrics.jsonl"
RUNNING = "running"
SPARE_BYTES = 16 << 20  # beside the tensors: the other files, and what the file system needs for itself
STEP_NAME = re.compile(r"step_(\d{8,})")
# What `durable` and a save call unfinished work.
LEFTOVER, LEFT_FILE = (
    re.compile(r"\.tmp_(removed_)?step_\d{8,}_\d+"),
    re.compile(r"\.tmp_trained_on\.hashes_\d+"),
)
EVENT = b'{"event": "'
FIRST_EVENT = re.compile(EVENT + rb'\w+", "step": \d+')
LONGEST_EVENT = 4096  # bytes; an event is shorter


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
    saved = [(time, run) for run in runs_below(runs) if (time := _saved_at(run)) is not None]
    if not saved:
        raise CheckpointError(f"no checkpoint under {runs}/; train one (microgpt train) or name one")
    return max(saved)[1]


def runs_below(folder: Path = RUNS) -> list[Path]:
    """The directories in a folder that hold a checkpoint, by name."""
    return sorted(run for run in _directories(folder) if checkpoints(run))


def _saved_at(run: Path) -> float | None:
    """When a run saved its newest checkpoint that no training beside has removed meanwhile."""
    for _, path in checkpoints(run):
        with contextlib.suppress(OSError):
            return path.stat().st_mtime
    return None


def _entries(path: Path) -> list[Path]:
    try:
        return list(path.iterdir())
    except OSError:
        return []


def _directories(path: Path) -> list[Path]:
    return [entry for entry in _entries(path) if entry.is_dir()]


def run_of(checkpoint: Path) -> Path | None:
    """The run that a checkpoint belongs to; None: it was copied out of one."""
    real = checkpoint.resolve()
    if STEP_NAME.fullmatch(real.name) is None or not is_log(real.parent / METRICS):
        return None
    is_as_typed = checkpoint.parent.resolve() == real.parent
    return checkpoint.parent if is_as_typed else real.parent


def is_log(path: Path) -> bool:
    """Whether a file is the log of a run, or what a kill or a power cut left of one."""
    try:
        with durable.open_regular(path) as file:
            head = file.read(LONGEST_EVENT).strip(b"\0")  # a power cut may leave zeros
    except OSError:
        return False
    is_torn = b"\n" not in head and head[: len(EVENT)] == EVENT[: len(head)]
    return is_torn or FIRST_EVENT.match(head) is not None


def leftovers(run: Path) -> list[Path]:
    """What a session that was killed, or a save that failed, could not remove."""
    return sorted(
        entry for entry in _entries(run) if (LEFTOVER if entry.is_dir() else LEFT_FILE).fullmatch(entry.name)
    )


def remove_leftovers(run: Path) -> None:
    """Remove it; nobody may be saving there."""
    for entry in leftovers(run):
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def size_of(path: Path) -> int:
    """Bytes of a file or of all files in a directory; of what is gone meanwhile, none."""
    n_bytes = 0
    for file in path.rglob("*") if path.is_dir() else [path]:
        with contextlib.suppress(FileNotFoundError):
            n_bytes += file.stat().st_size if file.is_file() else 0
    return n_bytes


def state_of_run(run: Path, step: int, max_steps: int | None) -> str:
    """Whether a run that has done so many of its steps is running, finished or stopped."""
    if durable.is_locked(run):
        return RUNNING
    return "stopped" if max_steps is None or step < max_steps else "finished"


def free_space_problem(run: Path, n_bytes: int) -> str | None:
    """What to tell a person when a checkpoint of that size does not fit on the disk of a run; None: it does.

    An older one goes only after the newer is whole, so there must be room for one more than are kept.
    Leftovers go before it is written, so their room is free.
    """
    try:
        free = shutil.disk_usage(run).free + sum(map(size_of, leftovers(run)))
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
    """The directory of one run, locked against a second trainer while the context lasts.

    Args:        is_numbered: of a path that is taken, take the next free of path-2, path-3, ...
    Attributes:  path: the directory that it became.
    """

    def __init__(self, path: Path, is_numbered: bool = False) -> None:
        self.path = path
        self._is_numbered, self._is_new = is_numbered, False
        self._lock: int | None = None

    def __enter__(self) -> "RunDirectory":
        try:
            self._make()
            self._lock = durable.lock_directory(self.path)
        except BlockingIOError:
            raise ConfigError(
                f"another training is using {self.path}; wait until it ends, or end it"
            ) from None
        except OSError as error:
            raise ConfigError(f"cannot use {self.path} as run directory: {error.strerror}") from error
        return self

    def _make(self) -> None:
        """Take the path as it is, or make it; of several processes that want a new one, each gets its own."""
        for path in _numbered(self.path) if self._is_numbered else [self.path]:
            self._is_new, self.path = durable.make_directory(path), path
            if self._is_new:
                return

    def __exit__(self, *_: object) -> None:
        if self._is_new:
            with contextlib.suppress(OSError):
                self.path.rmdir()  # succeeds only when the session left nothing behind
        if self._lock is not None:
            durable.unlock_directory(self._lock)
            self._lock = None


def _numbered(path: Path) -> Iterator[Path]:
    """`x`, `x-2`, `x-3`, ..."""
    yield path
    for number in itertools.count(2):
        yield path.with_name(f"{path.name}-{number}")
