"""`microgpt presets`: the table of sizes."""

import json

import pytest

from microgpt.commands import presets
from microgpt.model import ModelConfig, count_parameters, flop_per_token
from microgpt.model.presets import PRESETS


def test_every_preset_is_a_row_with_its_counts(capsys):
    presets.main([])
    title, *rows = capsys.readouterr().out.splitlines()
    assert title.split() == list(presets.TITLES)
    assert [row.split()[0] for row in rows] == list(PRESETS)
    small = next(row for row in rows if row.startswith("10m "))
    assert small.split()[1:8] == ["12", "256", "8", "256", "2188", "10,003,712", "10,003,712"]
    assert "12/4" in next(row for row in rows if row.startswith("34m-llama "))


def test_numbers_are_those_of_the_model_with_the_vocabulary_that_is_asked_for(capsys):
    presets.main(["--json", "--vocab-size", "5000"])
    for facts in json.loads(capsys.readouterr().out):
        model = ModelConfig.from_preset(facts["preset"], 5000)
        assert facts["params"] == count_parameters(model)
        is_sparse = facts["preset"].endswith("moe")
        assert (facts["active"] < facts["params"]) == is_sparse
        assert facts["flop"] == pytest.approx(flop_per_token(model))
        assert facts["memory"] > 4 * 4 * facts["params"]
