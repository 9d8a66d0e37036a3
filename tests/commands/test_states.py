"""`microgpt states`: what it prints, and its exit code."""

import json

from microgpt.commands import states
from tests.commands.test_eval import saved, tokenizer  # noqa: F401


def test_a_model_that_learned_nothing_ends_with_exit_code_1(tokenizer, tmp_path, monkeypatch, capsys):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    place = saved(tmp_path / "run", tokenizer, 32, smalltalk_bytes=200_000)
    assert states.main([place, "--max-tokens", "500", "--json"]) == 1
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["test"] for one in found][:3] == ["learned", "S0 states", "S1 size"]
    assert found[0]["verdict"] == "fail" and found[0]["numbers"]["loss"] > 0
    assert states.main([place, "--max-tokens", "500"]) == 1
    first, *lines, last = capsys.readouterr().out.splitlines()
    assert "smalltalk (the held-out part)" in first and " failed, " in last
    assert [line[:4].strip() for line in lines] == [one["verdict"] for one in found]
