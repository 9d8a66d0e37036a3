"""SIGTERM and SIGHUP end a command as Ctrl-C does: as an exception, so that everything is left tidy.

A signal that is ignored when the command starts, as `nohup` makes it, stays ignored.
"""

import os
import re
import signal
import sys
import threading
from types import FrameType
from typing import Any

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
AGAIN_S = 0.02
RACE = re.compile(r"Signal (\d+) ignored due to race condition")


class Stopped(BaseException):
    """SIGTERM or SIGHUP came.  Ctrl-C is Python's own KeyboardInterrupt."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def listened() -> list[signal.Signals]:
    """The signals that are not ignored."""
    return [number for number in HANDLED if signal.getsignal(number) is not signal.SIG_IGN]


def raise_stopped() -> None:
    """From now on SIGTERM and SIGHUP raise Stopped in the main thread, and Ctrl-C KeyboardInterrupt."""
    for number in listened():
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else _raise)
    sys.unraisablehook = _unraisable


def let_die() -> None:
    """From now on a signal ends the process at once, which shells call 128 + its number too.

    For when there is nothing to leave tidy: at the end, and while modules load, in which an exception out of
    nowhere may even crash (orjson's initialisation does).
    """
    for number in listened():
        signal.signal(number, signal.SIG_DFL)


def signal_of(error: BaseException | None) -> int | None:
    """The number of the signal that an exception stands for."""
    if isinstance(error, KeyboardInterrupt):
        return signal.SIGINT
    return error.number if isinstance(error, Stopped) else None


def _missed(error: BaseException | None) -> int | None:
    """The number of a signal that Python dropped, for it came while its handler was being replaced."""
    match = RACE.match(str(error)) if isinstance(error, OSError) else None
    return int(match[1]) if match else None


def _raise(number: int, _frame: FrameType | None) -> None:
    raise Stopped(number)


def _unraisable(lost: Any) -> None:
    """A signal whose exception strikes in a destructor is lost: send it again, a moment later.

    On a slow machine that moment may be over before this is, and a signal that strikes here is lost, too.
    """
    number = signal_of(lost.exc_value) or _missed(lost.exc_value)
    if number is None:
        sys.__unraisablehook__(lost)
        return
    while True:
        try:
            again = threading.Timer(AGAIN_S, os.kill, (os.getpid(), number))
            again.daemon = True
            again.start()
            return
        except (KeyboardInterrupt, Stopped) as error:
            number = signal_of(error)
