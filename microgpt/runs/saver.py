"""Saving beside training: a snapshot is written by a thread while the steps go on, one at a time."""

import contextlib
import os
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import NamedTuple

from microgpt.common.errors import CheckpointError, MicrogptError

from .checkpoint import Say, Snapshot, persist
from .layout import free_space_problem

GIVE_WAY = 19  # steps of niceness, the most there are: a few percent of a processor where training wants all


class SaveResult(NamedTuple):
    """What a save in the background came to.  error: None if the checkpoint was written and read back."""

    step: int
    seconds: float
    error: str | None


class Saver:
    """Saves the snapshots of one run.

    Args:        say: hears what is worth a line but fails nothing.  n_bytes: of one checkpoint.
    Attributes:  saved_at: step of the newest checkpoint that was read back; -1: none.
    """

    def __init__(self, run: Path, keep: int, say: Say, n_bytes: int) -> None:
        self.run, self.keep, self.say, self.n_bytes = run, keep, say, n_bytes
        self.saved_at = -1
        self._thread: threading.Thread | None = None
        self._results: deque[SaveResult] = deque()

    def save(self, snap: Snapshot) -> None:
        """Begin to write a snapshot, once the one before is written.  What goes wrong is told by `poll`."""
        self._join()
        snap.in_use.acquire()
        thread = threading.Thread(target=self._work_behind, args=(snap,), name="microgpt-save")
        try:
            thread.start()
        except (RuntimeError, MemoryError):  # no thread to be had: save here and now
            self._work(snap)
        else:
            self._thread = thread

    def finish(self, snap: Snapshot) -> None:
        """Write the last snapshot of a session; it is safe when this returns.

        Raises: CheckpointError: it could not be written.
        """
        self._join()
        with snap.in_use:
            self._write(snap)

    def poll(self) -> SaveResult | None:
        """What the oldest save that has ended came to, once for each; None if there is no such save."""
        return self._results.popleft() if self._results else None

    def wait(self) -> SaveResult | None:
        """The same, after waiting for the save in flight."""
        self._join()
        return self.poll()

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _work_behind(self, snap: Snapshot) -> None:
        """The thread.  It gives way to the steps, which would wait for their slowest thread."""
        if sys.platform.startswith("linux"):  # elsewhere priorities are of processes only
            mine = threading.get_native_id()
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, mine, os.getpriority(os.PRIO_PROCESS, mine) + GIVE_WAY)
        self._work(snap)

    def _work(self, snap: Snapshot) -> None:
        """Save; nothing may end this without a result, for nobody would hear of it."""
        start, step, error = time.monotonic(), snap.step, None
        try:
            self._write(snap)
        except MicrogptError as problem:
            error = str(problem)
        except Exception as problem:
            error = f"{type(problem).__name__}: {problem}"
        finally:
            snap.in_use.release()
        self._results.append(SaveResult(step, time.monotonic() - start, error))

    def _write(self, snap: Snapshot) -> None:
        if problem := free_space_problem(self.run, self.n_bytes):
            raise CheckpointError(f"not saved: {problem}")
        persist(snap, self.run, self.keep, self.say)
        self.saved_at = snap.step
