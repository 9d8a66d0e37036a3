"""For all tests."""

import signal
import sys

import pytest
from hypothesis import HealthCheck, settings

from microgpt.common.signals import HANDLED

# No example has to be quick, for a machine may be slow or busy; those of one test may share its folder.
settings.register_profile(
    "any machine",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("any machine")


@pytest.fixture(autouse=True)
def signals_as_before():
    """A command that runs in this process takes over its signals, for a process ends with its command."""
    handlers, hook = {number: signal.getsignal(number) for number in HANDLED}, sys.unraisablehook
    yield
    sys.unraisablehook = hook
    for number, handler in handlers.items():
        signal.signal(number, handler)
