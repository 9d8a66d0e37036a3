"""For all tests."""

import signal
import sys

import pytest
from hypothesis import HealthCheck, settings

from microgpt.common.signals import HANDLED
from microgpt.model import GPT, ModelConfig
from microgpt.tokenizer import train

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
def own_data_dir(tmp_path, monkeypatch):
    """Prepared corpora of a test go where nobody looks for them."""
    monkeypatch.setenv("MICROGPT_DATA_DIR", str(tmp_path / "data"))
