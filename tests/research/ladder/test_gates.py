"""What each gate says of what was measured: passed, failed, or not enough evidence."""

import json
from types import SimpleNamespace

import pytest

from microgpt.common.errors import ConfigError
from microgpt.corpus.smalltalk.checks import says
from microgpt.evaluation.canaries import Asked, Outcome
from microgpt.evaluation.canary_items import CANARIES, Step
from microgpt.evaluation.law_runs import Showed
from microgpt.evaluation.laws import Law
from microgpt.research.ladder import evidence, gates
from microgpt.research.ladder.checklist import checklist
from microgpt.research.ladder.engine import Standing
from microgpt.research.ladder.foretelling import foretold
from microgpt.research.ladder.gates import laws, proof_of_life, upwards
from microgpt.research.ladder.gates.case import FAIL, NONE, OPEN, PASS
from microgpt.research.ladder.people import Judged, table_of
from microgpt.research.ladder.rungs import Ladder, Rung
from microgpt.runs.spec import Spec
from tests.research.ladder.toys import asked, case, run


def test_better_takes_the_gain_with_each_seed():
    below = case([1.0, 1.0])
    assert upwards.better(case([0.95, 0.94], below)).verdict == PASS
    assert upwards.better(case([0.95, 0.96], below)).verdict == OPEN
    assert upwards.better(case([0.96, 0.96], below)).verdict == FAIL
    assert upwards.better(case([0.97, 0.97], below, losses=(1.5, 1.4))).verdict == PASS, (
        "half a nat is enough"
    )
    assert upwards.better(case([0.5], below)).verdict == OPEN, "one seed is no evidence"
    assert (
        proof_of_life.seeds(case([0.5])).verdict == OPEN
        and proof_of_life.seeds(case([0.5, 0.5])).verdict == PASS
    )


def test_runs_of_one_seed_are_compared_and_those_that_diverged_show_nothing():
    below = case([1.0] * 3)._replace(runs=[None, run(1.0), run(2.0)])
    above = case([1.0] * 3, below)._replace(runs=[run(0.9), run(0.99), run(1.8)])
    assert upwards.better(above).verdict == OPEN, "1 % and 10 %, of the second and third seed"
    lost = case([])._replace(runs=[None, None])
    assert [proof_of_life.probes(lost).verdict, proof_of_life.calm(lost).verdict] == [OPEN, FAIL]


def test_people_compare_it_with_the_rung_below_and_no_other():
    preference = SimpleNamespace(wins_a=10, wins_b=90, n=100, ties=0, p=0.001, better="b", is_enough=True)
    verdict = SimpleNamespace(preference=preference)
    below = case([1.0, 1.0])._replace(rung=Rung("5m", Spec("tiny")))
    for other, said in (("runs/x/5m-seed0", PASS), ("runs/x/0.5m-seed0", OPEN)):
        one = case([0.9, 0.9], below)._replace(judged=Judged(verdict, "b", other))
        assert upwards.preferred(one).verdict == said


def test_a_recipe_is_compared_with_the_rung_of_its_size(tmp_path):
    def spec(**train):
        return {"preset": "tiny", "model": {}, "train": train, "data": {}}

    rungs = {1_000: spec(lr=2e-3), 4_000: spec(lr=1e-3)}
    rows = [{"name": "as it is", "n_params": 1_050, "seed": [0, 1]}]
    rows += [{"name": f"x={i}", "n_params": 1_050, "verdict": "higher", "difference": 0.1} for i in range(3)]
    (tmp_path / "results.json").write_text(json.dumps(rows))
    with pytest.raises(ConfigError, match="is not there"):
        table_of(str(tmp_path), rungs)
    one = case([1.0, 1.0], case([1.2, 1.2], n_params=1_000), n_params=4_000)
    for recipe, said in ((spec(lr=2e-3), PASS), (spec(lr=1e-3), OPEN)):
        (tmp_path / "ablation.json").write_text(json.dumps(recipe))
        assert upwards.recipe(one._replace(tables=[table_of(str(tmp_path), rungs)])).verdict == said


def test_the_forecast_passes_within_5_and_fails_beyond_10_percent():
    told = {"loss": 1.0, "run_low": 0.99, "run_high": 1.01}
    for bpb, verdict in ((1.04, PASS), (0.96, PASS), (1.07, OPEN), (0.93, OPEN), (1.11, FAIL), (0.89, FAIL)):
        assert laws.forecast(case([bpb, bpb], foretold=told)).verdict == verdict
    assert laws.forecast(case([1.0], foretold=told)).verdict == OPEN
    assert laws.forecast(case([1.0, 1.0])).verdict == OPEN


# ------------------------------------------------------------------------------------------ canaries


def risen(low, high):
    """The verdict on canaries of two rungs, by what each seed answered."""
    return upwards.canaries(case([1, 1], case([1, 1], canaries=low), canaries=high))


def test_canaries_are_up_where_intervals_are_apart_with_each_seed():
    low, high = asked(a=50, b=50, c=50, d=190), asked(a=90, b=90, c=90, d=199)
    assert risen([low, low], [high, high]).verdict == PASS
    less = asked(a=90, b=90, c=62, d=199)
    assert risen([low, low], [high, less]).verdict == OPEN, "the third is up with one seed"
    found = risen([low, low], [less, less])
    assert found.verdict == FAIL and "2 of 4" in found.text


def test_canaries_whose_intervals_overlap_or_that_rise_by_little_are_not_up():
    for pair in ((60, 80), (0, 14)):  # 10 points; 7, with intervals apart
        low, high = (asked(a=n, b=n, c=n) for n in pair)
        assert risen([low] * 2, [high] * 2).verdict == FAIL


def test_canaries_are_compared_by_items_and_seeds_not_by_their_places():
    low, high = asked(a=50, b=50, c=50), asked(a=90, b=90, c=90)
    assert risen([None, low, low], [high, high, high]).verdict == PASS
    assert risen([None, low, low], [high, None, high]).verdict == OPEN, "one seed of both"
    first = {
        name: dict(list(marks.items())[:50]) for name, marks in low["marks"].items()
    }  # all of them right
    found = risen([low] * 2, [{"marks": first}] * 2)
    assert found.verdict == FAIL and "0 of 3" in found.text, "nothing is new, though the share is"
    others = {name: {f"new {item}": True for item in marks} for name, marks in low["marks"].items()}
    assert risen([low] * 2, [{"marks": others}] * 2).verdict == OPEN, "no item was asked of both"


def test_an_item_is_what_is_said_in_it():
    def outcome(text, is_right):
        return Outcome([Step(text, "good", says("good"))], is_right, None, "")

    one = Asked(CANARIES[0], [outcome("x", True), None, outcome("y", False)])
    other = Asked(CANARIES[0], [outcome("y", True), outcome("x", False)])
    marks, again = evidence.marks_of(one), evidence.marks_of(other)
    assert [*marks.values()] == [True, False] and [*again] == [*marks][::-1]


def test_states_are_sound_or_it_cannot_be_told():
    def told(*verdicts):
        states = [{"test": "S1 size", "verdict": verdict, "text": "so"} for verdict in verdicts]
        return case([1.0])._replace(runs=[run(1.0, states=states)])

    assert proof_of_life.states(told("pass", "warn")).verdict == PASS
    assert proof_of_life.states(told("pass", "fail")).verdict == FAIL
    assert proof_of_life.states(told()).verdict == NONE, "attention alone has none"
    few = told(evidence.TOO_LITTLE)
    assert proof_of_life.states(few).verdict == proof_of_life.balance(few).verdict == OPEN


def test_c1_to_c5_are_pooled_and_bounded_by_wilson():
    def asked(right):
        return {"categories": {name: {"right": right, "asked": 200} for name in (*upwards.POOLED, "C6")}}

    for one, other, verdict in (  # of 1,000 in each, over both seeds
        (170, 170, PASS),
        (163, 170, OPEN),
        (150, 170, OPEN),
        (150, 150, FAIL),
    ):
        assert upwards.coherent(case([1, 1], canaries=[asked(one), asked(other)])).verdict == verdict


def test_leaps_are_to_be_explained():
    leap = {"log": {"trouble": [{"event": "spike", "step": 7}], "seconds": 1.0}}
    one = case([1.0])._replace(runs=[run(1.0, **leap)])
    assert proof_of_life.calm(one).verdict == OPEN and proof_of_life.calm(case([1.0])).verdict == PASS
    told = one._replace(rung=Rung("r", Spec("tiny"), explained="the text has a page of digits there"))
    assert proof_of_life.calm(told).verdict == PASS


def test_a_training_whose_seeds_come_apart_is_not_called_reproducible():
    leaps = gates.Result("calm", "no leaps", PASS, "")
    seeds = gates.Result("seeds", "two seeds", PASS, "")
    ladder = Ladder("x", ())
    for bpbs, answer in (((1.0, 1.01), "yes"), ((1.0, 1.08), "no")):
        technical, science, *_ = checklist(ladder, Standing(case(bpbs), None, [leaps, seeds]))
        assert technical.parts[0].answer == science.parts[2].answer == answer
        assert technical.answer == "no" if answer == "no" else technical.answer == OPEN


def test_what_is_foretold_is_the_law_of_the_rungs_below():
    law = Law(0.5, 20.0, 0.25)
    below = [
        Showed(
            f"{size:g}-{k}",
            size,
            4 * size,
            float(law.loss(size, 0.0)) * (1 + 0.001 * k),
            tok_per_s=1e9 / size,
        )
        for size in (0.5e6, 1e6, 2e6)
        for k in (-1, 1)
    ]
    found = foretold(below, 4_000_000, 16_000_000, 8_000_000)
    assert found["loss"] == pytest.approx(float(law.loss(4e6, 0.0)), rel=5e-3)
    assert found["run_low"] < found["loss"] < found["run_high"] and found["passes"] == 2.0
    assert "5.0 passes" in foretold(below, 4_000_000, 40_000_000, 8_000_000)["why_not"]
    assert "2 of the 3 sizes" in foretold(below[:4], 2_000_000, 8_000_000, 8_000_000)["why_not"]
    assert foretold([], 1, 1, 1)["why_not"] == "no rung is below"
