"""One flag that asks every phase of a run to end soon.  Signal handlers only set it; the work looks at it."""

import contextlib
import os
import signal
import threading
from types import FrameType
from typing import Any

from microgpt.common.signals import listened


class StopFlag:
    """Whether, and by which signal, the run was asked to end.  As a context manager it catches the signals.

    The first one sets the flag.  After it a SIGINT has its deadly default again: it ends the process at once,
    in C code too; older checkpoints stay good because only finished ones get their name.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._previous: dict[int, Any] = {}
        self._caught_one = False

    def __bool__(self) -> bool:
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """0, or 128 + the signal's number as shells have it."""
        return 0 if self.signal is None else 128 + self.signal

    def request(self, number: int = signal.SIGINT) -> None:
        """Ask for the end, as the signal would."""
        if self.signal is None:
            self.signal = int(number)

    def __enter__(self) -> "StopFlag":
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._caught) for number in listened()}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _caught(self, number: int, _frame: FrameType | None) -> None:
        second, self._caught_one = self._caught_one, True
        self.request(number)
        again = b""
        if signal.SIGINT in self._previous:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # which first handles one that came meanwhile: here
            if second and number == signal.SIGINT:
                os.kill(os.getpid(), number)
            again = b" (Ctrl-C again leaves at once, without saving)"
        # os.write, because print may not be re-entered from a signal handler.
        with contextlib.suppress(OSError):
            os.write(2, b"\nmicrogpt: stopping, then saving" + again + b"\n")
