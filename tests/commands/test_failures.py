"""`microgpt failures`: one model and two, for people and for programs."""

import json

import pytest

from microgpt.commands import failures
from microgpt.commands._model_flags import Loaded
from microgpt.common.errors import ConfigError
from microgpt.evaluation.causes import NEVER, NO_SUCH, READ, TOLD
from microgpt.evaluation.failures import Limitation
from microgpt.evaluation.statistics import share
from tests.commands.test_eval import saved, tokenizer  # noqa: F401


@pytest.fixture
def places(tokenizer, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    return [saved(tmp_path / name, tokenizer, 64, seed) for seed, name in enumerate("ab")]


def test_one_model_that_holds_no_conversation_has_documents_and_tokens(places, monkeypatch, capsys):
    monkeypatch.setattr(Loaded, "knows_chats", lambda self: False)
    assert failures.main([places[0], "--max-tokens", "2000", "--show", "2"]) == 0
    out = capsys.readouterr().out
    assert "no question was asked" in out and out.count("  document ") == 2 and "of assistant" in out


def test_two_are_compared_and_written(places, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(Loaded, "knows_chats", lambda self: True)
    words = [*places, "--max-tokens", "2000", "--show", "2", "--questions", "1", "--items", "1"]
    assert failures.main([*words, "--out", "found.json"]) == 0
    out = capsys.readouterr().out
    assert f"where {places[1]} is worse than {places[0]}" in out and "only second" in out
    assert "1. " in out and " of 1 wrong" in out
    found = json.loads((tmp_path / "found.json").read_text())
    worse = found["second_is_worse"]
    assert worse["questions"]["capitals"]["neither"] == 1 and len(found["models"]) == 2
    assert all(document["other"] > document["loss"] for document in worse["documents"])
    assert failures.main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == found


def test_missing_data_is_told_however_far_behind_it_stands():
    kinds = [READ, TOLD, NEVER, READ, NO_SUCH]
    limits = [Limitation(str(n), kind, share(9 - n, 9), None, []) for n, kind in enumerate(kinds)]
    lines = failures.limit_lines(limits, 1)
    assert [line.split(":")[0] for line in lines if "wrong" in line] == ["1. 0", "3. 2", "5. 4"], (
        "by their places"
    )
    assert lines[-1] == "   and 2 more; --show 5 tells all"
    assert "more, of" not in "".join(failures.limit_lines(limits, 5))


def test_three_are_refused(places):
    with pytest.raises(ConfigError, match="3 checkpoints"):
        failures.main([*places, places[0]])
