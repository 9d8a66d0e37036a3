"""`microgpt canaries`: what it prints, what it writes, what it refuses."""

import json

import pytest

from microgpt.commands import canaries
from microgpt.commands._model_flags import Loaded
from microgpt.common.errors import ConfigError
from tests.commands.test_eval import saved, tokenizer  # noqa: F401


@pytest.fixture
def place(tokenizer, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    return saved(tmp_path / "run", tokenizer, 300)


def test_a_model_without_conversations_is_told_to_be_one(place, monkeypatch, capsys):
    monkeypatch.setattr(Loaded, "knows_chats", lambda self: False)
    assert canaries.main([place, "--only", "C1", "C6b"]) == 0
    out = capsys.readouterr().out
    assert out.endswith("\nnothing was asked: the model has not learned to hold a conversation\n")
    assert "C1" not in out and "C6b" not in out


def test_two_models_are_told_in_tables_and_in_a_new_file(place, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(Loaded, "knows_chats", lambda self: True)
    words = [place, place, "--only", "C1a", "C6", "--items", "3"]
    assert canaries.main([*words, "--out", "found.json", "--show-errors"]) == 0
    out = capsys.readouterr().out
    assert "C1a  a fact, at once" in out and "0 of   3" in out and "such as" in out
    assert "only second" in out and "+0.0%" in out and "passes none" in out
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["models"][0]["canaries"]["C1a"]["items"] == "000"
    assert found["models"][0]["categories"]["C6"]["asked"] == 6
    assert found["against_first"][0]["C1a"]["neither"] == 3
    assert canaries.main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == found
    with pytest.raises(ConfigError, match="is there already"):
        canaries.main([*words, "--out", "found.json"])


@pytest.mark.parametrize(
    ("words", "what"), [(["--only", "C9"], "C9"), (["--out", "no/where.json"], "no folder")]
)
def test_what_cannot_be_is_refused_before_any_work(words, what, place):
    with pytest.raises(ConfigError, match=what):
        canaries.main([place, *words])
