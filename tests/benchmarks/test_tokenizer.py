"""benchmarks.tokenizer times only what does the same work."""

import importlib
import json
import os

import pytest

from benchmarks import _tokenizer_peers as peers
from benchmarks import tokenizer as benchmark
from microgpt.common.errors import MicrogptError
from microgpt.tokenizer import train
from tests.tokenizer import texts as bpe_texts

LINES = [*bpe_texts.english(), "It's 123456789  of\n\nthem"]
OTHER = r"\p{N}{1,3}|\p{L}+|[^\p{N}\p{L}]+"


@pytest.fixture
def file(tmp_path):
    (tmp_path / "text").write_text("\n".join(LINES), encoding="utf-8")
    return tmp_path / "text"


@pytest.mark.parametrize(
    "trainers, encoders",
    [
        pytest.param([], [], id="none"),
        pytest.param(
            ["rustbpe", "tokenizers"],
            ["tiktoken", "tokenizers"],
            marks=pytest.mark.oracle("rustbpe", "tiktoken", "tokenizers"),
            id="all",
        ),
    ],
)
def test_every_peer_that_is_installed_is_timed(trainers, encoders, file, capsys, monkeypatch):
    if not trainers:
        monkeypatch.setattr(peers, "_has", lambda package: False)
    benchmark.main([str(file), "--merges", "50", "--repeats", "1", "--threads", "1", "--peers", "--json"])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["merges"] == 50 and found["encode_mb_per_s"] > 0 < found["train_s"]
    assert sorted(found["peers_train_s"]) == trainers
    assert sorted(found["peers_encode_mb_per_s"]) == encoders


@pytest.mark.oracle("rustbpe")
def test_a_trainer_with_another_pattern_is_not_timed(file, monkeypatch):
    monkeypatch.setattr(peers, "PATTERN", OTHER)
    with pytest.raises(MicrogptError, match="rustbpe does not answer as we do"):
        peers.trainers(file, 50)


@pytest.mark.parametrize(
    "package, function",
    [
        pytest.param("tiktoken", "_tiktoken", marks=pytest.mark.oracle("tiktoken")),
        pytest.param("tokenizers", "_hugging_face", marks=pytest.mark.oracle("tokenizers")),
    ],
)
def test_an_encoder_with_other_merges_is_not_timed(package, function, monkeypatch):
    made, other = getattr(peers, function), train(LINES, 40)
    monkeypatch.setattr(peers, function, lambda tokenizer: made(other))
    with pytest.raises(MicrogptError, match=f"{package} does not answer as we do"):
        peers.encoders(train(LINES, 50), LINES)


def test_importing_the_peers_changes_no_environment(monkeypatch):
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    before = dict(os.environ)
    importlib.reload(peers)
    assert dict(os.environ) == before
