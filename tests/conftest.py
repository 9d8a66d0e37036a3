"""For all tests."""

import functools
import importlib.util
import itertools
import os
import signal
import sys

import pytest
from hypothesis import HealthCheck, settings

# Before NumPy is loaded: its own products are small here, and threads of it take longer to wait than to work.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from microgpt.common.signals import HANDLED
from microgpt.machine import rates
from microgpt.model import GPT, ModelConfig
from microgpt.tokenizer import train

# Compiled modules are kept, whatever the shell says: tests start a hundred processes, and pytest takes longer
# to make all test files ready than to run most of them.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # outside implementations are built by the tests, never fetched
os.environ["LANGUAGE"] = "C"  # argparse would look for translations of each word it says
# Every run tells its share of the machine's peak, which is measured once, not by each of a thousand runs.
rates.product_flop_per_s = functools.cache(rates.product_flop_per_s)
WANTING = "no outside implementation"
NUMBERS = itertools.count()

# No example has to be quick, for a machine may be slow or busy; those of one test may share its folder.
settings.register_profile(
    "any machine",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("any machine")


def pytest_addoption(parser):
    """`bin/test --slow` runs what a default run leaves out."""
    parser.addoption("--slow", action="store_true", help="only the tests marked slow, instead of all others")


def pytest_collection_modifyitems(config, items):
    """Tests marked `slow`, or all others."""
    wanted, others = [], []
    for item in items:
        is_slow = item.get_closest_marker("slow") is not None
        (wanted if is_slow == config.getoption("slow") else others).append(item)
    config.hook.pytest_deselected(items=others)
    items[:] = wanted


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """A test against outside implementations, `oracle(PACKAGE, ...)`, runs where they are installed."""
    for marker in item.iter_markers("oracle"):
        if missing := [name for name in marker.args if importlib.util.find_spec(name) is None]:
            pytest.skip(f"{WANTING}: {', '.join(missing)}")


def pytest_terminal_summary(terminalreporter):
    """One line for all that were skipped for want of them."""
    skipped = [report for report in terminalreporter.getreports("skipped") if WANTING in str(report.longrepr)]
    if skipped:
        how = "bin/test --oracles installs and runs them"
        terminalreporter.write_line(f"{len(skipped)} tests against outside implementations skipped; {how}")


@pytest.fixture(autouse=True)
def signals_as_before():
    """A command that runs in this process takes over its signals, for a process ends with its command."""
    handlers, hook = {number: signal.getsignal(number) for number in HANDLED}, sys.unraisablehook
    yield
    sys.unraisablehook = hook
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def tokenizer():
    """A small tokenizer that knows small talk."""
    return train(["hello there, how are you today? I am fine, thank you. "] * 3, n_merges=20)


@pytest.fixture(scope="session")
def model(tokenizer):
    """Random weights, large enough that its logits differ much."""
    config = ModelConfig(
        n_layer=3, n_head=2, n_embd=16, seq_len=48, vocab_size=tokenizer.vocab_size, init_std=0.4, look_back=2
    )
    return GPT(config).init(7)


@pytest.fixture
def write(tmp_path):
    """Write text or bytes to a file of the test's folder; its path."""

    def write(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


@pytest.fixture(autouse=True)
def own_data_dir(request, tmp_path_factory, monkeypatch):
    """Prepared corpora of a test go where nobody looks for them.  No folder is made: most need none."""
    has_folder = "tmp_path" in request.fixturenames
    base = request.getfixturevalue("tmp_path") if has_folder else tmp_path_factory.getbasetemp()
    monkeypatch.setenv("MICROGPT_DATA_DIR", str(base / ("data" if has_folder else f"data{next(NUMBERS)}")))
