"""Canaries of two sizes: the same recipe as the quickstart, a corpus with a gap, the table of results."""

import json
from argparse import Namespace
from pathlib import Path

import pytest

from benchmarks import canaries
from microgpt.common.errors import ConfigError
from microgpt.corpus.chat import Message
from microgpt.evaluation.canary_items import CANARIES
from microgpt.model import ModelConfig, count_parameters
from microgpt.runs.spec import Spec


def test_runs_have_the_quickstarts_recipe_as_many_steps_and_three_times_the_size():
    settings = canaries.recipe()
    assert (settings["lr"], settings["single_digits"]) == (6e-3, True) and "max_time" not in settings
    plans = [Spec.of("1m", **settings | shape, max_steps=7).plan() for shape in canaries.SIZES.values()]
    small, large = (ModelConfig(**{**plan.to_dict()["model"], "vocab_size": 1261}) for plan in plans)
    assert 2.8 < count_parameters(large) / count_parameters(small) < 3.2
    assert {plan.train.max_steps for plan in plans} == {7}


def test_a_gap_leaves_out_the_country_and_its_capital_alone(tmp_path, monkeypatch):
    found = {}
    monkeypatch.setattr(canaries, "trained", lambda place, steps, seed, **settings: found.update(settings))
    monkeypatch.setattr(
        canaries,
        "generate",
        lambda n_bytes: [[Message("user", text)] for text in ("Oslo?", "Norway!", "Rome.")],
    )
    canaries.gapped(Namespace(gap="Norway", dir=tmp_path / "new", steps=1))
    lines = Path(found["data"]).read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["messages"][0]["content"] for line in lines] == ["Rome."]
    with pytest.raises(ConfigError, match="Atlantis"):
        canaries.gapped(Namespace(gap="Atlantis", dir=tmp_path, steps=1))


def test_the_table_has_a_row_for_each_canary_and_says_what_was_not_asked():
    asked = {"why_not": None, "share": 0.5, "low": 0.41, "high": 0.59, "random": 0.1}
    fits = {canary.name: asked for canary in CANARIES}
    small = {"canaries": fits | {"C1c": {"why_not": "does not fit: it takes 300"}}, "score": 0.5}
    large = {"canaries": fits, "score": None}
    one = {"models": [small, large], "against_first": [{"C1a": {"gain": 0.25, "p": 0.001}}]}
    head, _, *rows = canaries.table([one, one])
    assert head.count("|") - 1 == 2 + 4 + 2 + 2 and len(rows) == len(CANARIES) + 1
    cells = [cell.strip() for cell in rows[0].split("|")[1:-1]]
    assert cells[2] == "50.0% (41 to 59)" and cells[6:] == [
        "10.0%",
        "-",
        "+25.0% (p 0.001)",
        "+25.0% (p 0.001)",
    ]
    assert "does not fit" in rows[2] and rows[-1].split("|")[3:7] == [" 50.0% ", " 50.0% ", " - ", " - "]
