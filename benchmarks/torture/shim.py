"""The evil layer between a process and its disk (shim.c), and children that run above it."""

import contextlib
import ctypes
import enum
import errno
import os
import shlex
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from microgpt.common.errors import MicrogptError

SOURCE = Path(__file__).with_suffix(".c")
FLAGS = ["-std=gnu11", "-O1", "-U_FORTIFY_SOURCE", "-fPIC", "-shared", "-pthread"]
SAVE = ".tmp_step_"  # in the name of the directory with which a save begins
CRASHED = 70  # exit code of a child that raised what it should not
NO_ERROR = 0
POLL_S = 0.002


class Action(enum.IntEnum):
    """What the shim does at the chosen call; as in shim.c."""

    COUNT = 0
    KILL = 1
    TORN = 2
    FAIL = 3
    FAIL_FROM = 4
    SHORT = 5
    RECORD = 6


class Evil(NamedTuple):
    """What to do to a process at its `nth` call below `root`, counted from the first save on if asked."""

    root: Path
    action: Action = Action.COUNT
    nth: int = 0
    code: int = NO_ERROR
    in_save: bool = False
    trace: Path | None = None

    def arm(self) -> None:
        """From now on, in this process."""
        start = SAVE if self.in_save else ""
        texts = [os.fsencode(text) for text in (str(self.root), start, str(self.trace or ""))]
        shim = ctypes.CDLL(None)
        shim.torture_arm(texts[0], texts[1], int(self.action), ctypes.c_long(self.nth), self.code, texts[2])

    @property
    def text(self) -> str:
        """For a person."""
        what = self.action.name.lower() + (f" {errno.errorcode[self.code]}" if self.code else "")
        return f"{what} at call {self.nth}"


def disarm() -> int:
    """End all evil in this process.  Returns the number of calls that were counted."""
    torture_disarm = ctypes.CDLL(None).torture_disarm
    torture_disarm.restype = ctypes.c_long
    return torture_disarm()


def is_loaded() -> bool:
    """Whether this process runs above the shim."""
    return hasattr(ctypes.CDLL(None), "torture_arm")


def build(folder: Path) -> Path:
    """Compile the shim into a folder; returns it."""
    if not sys.platform.startswith("linux"):
        raise MicrogptError(f"torture needs Linux, this is {sys.platform}")
    library = folder / "torture_shim.so"
    command = [*shlex.split(os.environ.get("CC", "cc")), *FLAGS, str(SOURCE), "-o", str(library)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise MicrogptError(f"no C compiler: {command[0]}: {error.strerror}") from error
    if done.returncode:
        raise MicrogptError(f"cannot compile {SOURCE.name}: {(done.stderr.splitlines() or ['?'])[0]}")
    return library


# -------------------------------------------------------------------------------- children


def fork(work: Callable[[], int | None], log: Path, evil: Evil | None = None) -> int:
    """Start a child that does the work, its words going to `log`.  Returns its process id."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    code = CRASHED
    try:
        output = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        for stream in (1, 2):
            os.dup2(output, stream)
        if evil:
            evil.arm()
        code = work() or 0
    except SystemExit as problem:
        code = problem.code if isinstance(problem.code, int) else CRASHED
    except BaseException:
        traceback.print_exc()
    finally:
        disarm()
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def wait(child: int, kill_after_s: float | None = None, limit_s: float = 600.0) -> int:
    """The exit code of a child, or minus the signal that ended it.  It is killed at the given moment."""
    end = time.monotonic() + (limit_s if kill_after_s is None else kill_after_s)
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(min(POLL_S, max(0.0, end - time.monotonic())))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if kill_after_s is None:
        raise MicrogptError(f"process {child} did not end within {limit_s:.0f} s")
    return os.waitstatus_to_exitcode(status)


def killed(code: int) -> bool:
    """Whether a child was ended by SIGKILL."""
    return code == -signal.SIGKILL
