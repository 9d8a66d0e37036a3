"""`microgpt judge`: from two checkpoints to a verdict."""

import json

import pytest

from microgpt.commands import judge
from microgpt.common.errors import ConfigError, DataError
from microgpt.evaluation.judgements import read_judgements
from tests.commands.test_eval import saved, tokenizer  # noqa: F401


@pytest.fixture
def models(tokenizer, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    return [saved(tmp_path / name, tokenizer, 32, seed) for seed, name in enumerate("xy")]


def typed(monkeypatch, *keys):
    lines = iter(keys)
    monkeypatch.setattr("builtins.input", lambda prompt: next(lines, "q"))


def test_a_rater_goes_on_another_day_and_is_counted(models, monkeypatch, capsys):
    flags = ["--count", "4", "--max-tokens", "4", "--rater", "ann"]
    typed(monkeypatch, "1", "11111", "", "q")
    assert judge.main([*models, *flags]) == 0
    (first,) = read_judgements(["judged-by-ann.csv"])
    typed(monkeypatch, "2", "", "", "=", "", "", "1", "", "")
    assert judge.main([*models, *flags]) == 0
    found = read_judgements(["judged-by-ann.csv"])
    assert found[0] == first and len({one.pair for one in found}) == 4
    capsys.readouterr()
    assert judge.main(["--results", "judged-by-ann.csv"]) == 0
    out = capsys.readouterr().out
    assert "too few: 4 pairs; a preference takes 50" in out and "no pair was judged by two raters" in out
    assert max(map(len, out.splitlines()[3:])) <= 80
    assert judge.main(["--results", "judged-by-ann.csv", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["preference"]["is_enough"] is False
    with pytest.raises(ConfigError, match="name a new file"):
        judge.main([*models[::-1], *flags])
    with pytest.raises(DataError, match="other answers"):
        judge.main([*models, *flags, "--seed", "5"])


def test_a_page_is_written_once(models, capsys):
    assert judge.main([*models, "--count", "3", "--max-tokens", "4", "--html", "p.html"]) == 0
    assert "3 pairs in p.html" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="is there already"):
        judge.main([*models, "--html", "p.html"])
    with pytest.raises(ConfigError, match="takes two"):
        judge.main(models[:1])
    with pytest.raises(DataError, match="nothing to judge"):
        judge.main([models[0], models[0], "--count", "2", "--max-tokens", "2"])


def test_a_judgement_gets_a_line_of_its_own(models, monkeypatch, tmp_path):
    flags = [*models, "--count", "2", "--max-tokens", "4"]
    typed(monkeypatch, "1", "", "", "q")
    assert judge.main(flags) == 0
    path = tmp_path / "judged-by-me.csv"
    path.write_bytes(path.read_bytes().rstrip(b"\r\n"))  # as an editor may leave it
    typed(monkeypatch, "2", "", "", "q")
    assert judge.main(flags) == 0
    assert len(read_judgements([str(path)])) == 2
    with pytest.raises(ConfigError, match=f"^{tmp_path}: "):
        judge.add(tmp_path, "a folder")
