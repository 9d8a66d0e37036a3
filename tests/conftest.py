"""For all tests."""

import signal
import sys

import pytest

from microgpt.common.signals import HANDLED


@pytest.fixture(autouse=True)
def signals_as_before():
    """A command that runs in this process takes over its signals, for a process ends with its command."""
    handlers, hook = {number: signal.getsignal(number) for number in HANDLED}, sys.unraisablehook
    yield
    sys.unraisablehook = hook
    for number, handler in handlers.items():
        signal.signal(number, handler)
