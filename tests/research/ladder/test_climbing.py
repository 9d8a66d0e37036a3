"""How a ladder is climbed: what is stated before, what ends it, what is forced; with runs that are none."""

import json

import pytest

from microgpt.commands import ladder as command
from microgpt.common.errors import ConfigError
from microgpt.files.records import read_json
from microgpt.research.ladder import budget, engine
from microgpt.research.ladder.engine import climb, settle, standings, with_fitted
from microgpt.research.ladder.rungs import Rung, read_ladder
from microgpt.research.ladder.state import State
from microgpt.runs.spec import Spec
from microgpt.training.horizon import Timing
from tests.research.ladder.toys import FakeRuns


def test_what_is_stated_is_stated_before_anything_is_trained(file, fake, monkeypatch):
    seen, out = [], file.parent / "out"

    def train(plan, place, listeners):
        begun = State.read(out).begun[-1]
        seen.append((place.name, begun.hypothesis, "why_not" in begun.foretold))
        return fake.train(plan, place, listeners)

    monkeypatch.setattr(engine, "trained", train)
    climb(read_ladder(file), out, is_forced=True)
    told = {"small": "Training works.", "large": "More helps."}
    assert seen == [(f"{name}-seed{seed}", told[name], True) for name in told for seed in (0, 1)]
    (out / "ladder.json").unlink()
    with pytest.raises(ConfigError, match="holds no ladder"):
        climb(read_ladder(file), out)


def test_a_rung_whose_run_is_there_before_it_began_is_no_forecast(file, fake):
    out = file.parent / "out"
    climb(read_ladder(file), out)
    (out / "large-seed1").mkdir()
    fake.trained.clear()
    with pytest.raises(ConfigError, match="is no forecast"):
        climb(read_ladder(file), out, is_forced=True)


def test_a_gate_that_is_not_passed_ends_the_climb_and_force_is_recorded(file, fake, capsys):
    words = [str(file), "--out-dir", str(file.parent / "out")]
    assert command.main(["run", *words]) == 1
    told, _ = capsys.readouterr()
    assert "rung     small" in told and "rung     large" not in told and "next     change" in told
    state = State.read(file.parent / "out")
    assert [one.name for one in state.begun] == ["small"] and not state.begun[0].forced
    assert {name for name, _ in fake.trained} == {"small-seed0", "small-seed1"}
    assert command.main(["run", *words, "--force"]) == 0
    assert "FORCED past" in capsys.readouterr().out
    assert fake.measured == ["small-seed0", "small-seed1", "large-seed0", "large-seed1"], "each once"
    begun = State.read(file.parent / "out").begun
    assert [one.name for one in begun] == ["small", "large"] and {"law", "forecast"} <= set(begun[0].forced)
    assert command.main(["status", *words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [rung["forced"] for rung in told["rungs"]] == [list(one.forced) for one in begun]
    assert [question["title"] for question in told["checklist"]] == [
        "Technical readiness",
        "Scientific validity",
        "Capability advancement",
        "Resource forecasting",
    ]


def test_what_a_seed_showed_stays_with_that_seed(file, monkeypatch):
    FakeRuns(monkeypatch, lost=("small-seed0",))
    file.write_text(file.read_text().replace("[gates]", '[gates]\ncanaries_from = "1k"'))
    ladder, out = read_ladder(file), file.parent / "out"
    climb(ladder, out, is_forced=True)
    small, large = (one.case for one in standings(ladder, State.read(out)))
    names = [[one and one["run"] for one in case.canaries] for case in (small, large)]
    assert names == [[None, "small-seed1"], ["large-seed0", "large-seed1"]]
    assert [run and run["showed"]["name"] for run in small.runs] == [None, "small-seed1"]


def test_a_ladder_that_was_killed_before_its_record_had_its_name_may_begin(tmp_path):
    (tmp_path / ".tmp_ladder.json_7").write_text("{")
    assert State.read(tmp_path).begun == []
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds no ladder"):
        State.read(tmp_path)


def test_a_ladder_keeps_to_the_steps_that_were_fitted(file, fake, monkeypatch):
    timings = [Timing(1.0, 0.0, 0.0, 0.0)] * 2
    monkeypatch.setattr(budget, "FEWEST_STEPS", 2)
    monkeypatch.setattr(engine, "timings_of", lambda plans, prepared: timings)
    ladder, out = read_ladder(file), file.parent / "out"
    climb(ladder, out, budget_s=4 * 6 / budget.FOR_TRAINING)
    state = read_json(out / "ladder.json")
    assert state["rungs"][0]["spec"]["train"]["max_steps"] == state["fitted"]["steps"]["small"] == 6
    assert {steps for _, steps in fake.trained} == {6}
    monkeypatch.setattr(engine, "timings_of", lambda *_: pytest.fail("timed again"))
    climb(ladder, out)
    climb(ladder, out, budget_s=4 * 6 / budget.FOR_TRAINING)
    with pytest.raises(ConfigError, match="were fitted into"):
        climb(ladder, out, budget_s=5.0)
    later = settle(ladder)[0][1]._replace(rung=Rung("later", Spec("tiny")))
    assert with_fitted(later, State.read(out)).plan.train.max_steps == 6, "the same share of its tokens"


def test_a_budget_gives_each_rung_the_same_share_of_its_tokens():
    plans = [
        Spec.of("tiny", max_steps=n, eval_every=0, sample_every=0, save_every=0).plan() for n in (200, 800)
    ]
    timings = [Timing(0.1, 0.0, 0.0, 0.0), Timing(0.4, 0.0, 0.0, 0.0)]  # 20 and 320 seconds
    whole_s = 2 * 340 / budget.FOR_TRAINING
    found = budget.fitted(["a", "b"], plans, timings, 2, whole_s / 2)
    assert found.share == pytest.approx(0.5, abs=0.01)
    assert 98 <= found.steps["a"] <= 100 and 396 <= found.steps["b"] <= 400
    assert found.expected_s <= whole_s / 2
    assert budget.fitted(["a", "b"], plans, timings, 2, 2 * whole_s).steps == {"a": 200, "b": 800}
    with pytest.raises(ConfigError, match="20 steps would be left for rung a"):
        budget.fitted(["a", "b"], plans, timings, 2, whole_s / 10)
