"""What is drawn, what goes on at the rung, what a kill or other threads change; nothing is trained."""

import dataclasses
import json
import math

import numpy as np
import pytest

from microgpt.commands import search as command
from microgpt.common.errors import ConfigError
from microgpt.research import search as room
from microgpt.research.sampling import STORE, draw, ended
from microgpt.research.search import Candidates, identity, run_search
from microgpt.research.search_table import front_of, markdown, members
from microgpt.research.trials import AGAIN, DIVERGED, FINISHED, IMPOSSIBLE, STOPPED, TABLE, read_trials
from microgpt.runs.guard import DivergedError
from microgpt.training.run import train_run
from tests.research.search.toys import SPACE, STEP, Fake, found


@pytest.mark.parametrize("sampler", ["nsga2", "tpe"])
def test_a_killed_search_goes_on_to_the_same_result(made, tmp_path, sampler):
    search = made(sampler=sampler, candidates=6, startup=2, population=2)
    whole = run_search(search, tmp_path / "whole", Fake())
    torn, fake = [], Fake(killed_at=(4, 8))
    for _ in fake.killed_at:
        with pytest.raises(KeyboardInterrupt):
            run_search(search, tmp_path / "torn", fake)
    torn = run_search(search, tmp_path / "torn", fake)
    assert found(torn) == found(whole) and sum(one.is_trained for one in whole) == 6
    assert len(fake.calls) <= len(set(fake.calls)) + 2, "to the rung again at most"
    tables = [(tmp_path / name / TABLE).read_bytes() for name in ("whole", "torn")]
    assert tables[0] == tables[1] and len(tables[0].splitlines()) == len(whole)
    assert len({json.dumps(one.settings) for one in whole}) > 4


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_samplers_that_learn_draw_better_ones_later(made, sampler):
    search, known = made(sampler=sampler, objectives=["bpb"], startup=8, population=8), []
    for number in range(48):
        drawn = draw(search.config, search.space, known, number)
        x = drawn.settings
        known.append(ended(drawn, [abs(math.log(x["lr"] / 4e-3)) + 3 / x["n_layer"] + 10 / x["n_inner"]], {}))
    values = [one.value for one in known]
    assert np.mean(values[32:]) < np.mean(values[:16]) - 0.2


def test_the_rung_stops_what_is_worse_than_the_median_and_tokens_are_those_of_the_rungs(made, kept, tmp_path):
    fake = Fake()
    trials = run_search(made(), tmp_path / "out", fake)
    assert {one.state for one in trials[:4]} == {FINISHED}, "the first are never stopped"
    stopped = [one for one in trials if one.state == STOPPED]
    assert stopped and all(one.bpb is None and one.tokens == 2 * STEP for one in stopped)
    for one in trials[4:]:
        before = [other.rung_bpb for other in trials[: one.number] if other.rung_bpb is not None]
        if one.rung_bpb is not None:
            assert (one.state == STOPPED) == (one.rung_bpb > np.median(before))
    assert not {one.number for one in stopped} & {
        one.number for one in front_of(trials, ("bpb", "state_bytes"))
    }
    done = [one for one in trials if one.state == FINISHED]
    assert sum(one.tokens for one in trials) == STEP * (10 * len(done) + 2 * len(stopped))
    assert [call for call in fake.calls if call[1] == 10] == [(one.number, 10) for one in done]


def test_a_threshold_and_never(made, kept, tmp_path):
    trials = run_search(made(stop=1e-6, candidates=2), tmp_path / "all", Fake())
    assert {one.state for one in trials} <= {STOPPED, AGAIN} and "the threshold is 0.0000" in trials[0].why
    trials = run_search(made(stop="never", candidates=5, startup=2), tmp_path / "none", Fake())
    assert {one.state for one in trials} <= {FINISHED, AGAIN}


def test_a_search_of_which_nothing_can_be_trained_says_why(made, kept, tmp_path):
    search = made({"n_head": [3, 5]}, sampler="random", candidates=2)
    with pytest.raises(ConfigError, match=r"none of 40 draws can be trained; .*does not split"):
        run_search(search, tmp_path / "out", Fake())


def test_a_rung_is_a_share_of_few_parts(made, kept, tmp_path):
    trials = run_search(made(rung=0.333, candidates=2, tokens=9 * STEP), tmp_path / "out", fake := Fake())
    assert fake.calls[0][1] == 3 and trials[0].tokens in (3 * STEP, 9 * STEP)
    with pytest.raises(ConfigError, match=r"between 0\.01 and 0\.99"):
        run_search(made(rung=0.0001), tmp_path / "other", Fake())


def test_what_cannot_be_diverges_or_came_before_takes_no_place(made, kept, tmp_path):
    class Diverging(Fake):
        def __call__(self, number, plan, steps):
            if plan.model.n_layer == 2 and steps == 10:
                raise DivergedError("numbers stay bad")
            return super().__call__(number, plan, steps)

    space = {"n_layer": [1, 2, 3], "n_head": [1, 3]}
    search = made(space, sampler="random", candidates=3, stop="never")
    trials = run_search(search, tmp_path / "out", Diverging())
    by_settings = {}
    for one in trials:
        if one.settings["n_head"] == 3:
            assert one.state == IMPOSSIBLE and "does not split into 3" in one.why and one.tokens == 0
        elif one.settings["n_layer"] in by_settings:
            assert one.state == AGAIN and one.tokens == 0
            assert one.bpb == by_settings[one.settings["n_layer"]].bpb
        else:
            by_settings[one.settings["n_layer"]] = one
            assert one.state == (DIVERGED if one.settings["n_layer"] == 2 else FINISHED)
    assert len(by_settings) == 3 and len(front_of(trials, ("bpb",))) == 1
    told = markdown(members(trials, ("bpb",)), trials)
    assert "2 finished" in told and "1 diverged" in told and f"{10 * 3 * STEP:,} tokens" in told


def test_a_search_that_goes_on_with_other_threads_knows_what_it_has_trained(
    made, kept, tmp_path, monkeypatch
):
    space, how = {"n_layer": [1, 2]}, {"sampler": "random", "stop": "never"}
    before = run_search(made(space, {"threads": "1"}, candidates=2, **how), tmp_path / "out", Fake())
    monkeypatch.setattr(room, "MOST_DRAWS", 1 + len(before))
    trials = run_search(made(space, {"threads": "2"}, candidates=3, **how), tmp_path / "out", Fake())
    assert len(trials) > len(before) and {one.state for one in trials[len(before) :]} == {AGAIN}
    with pytest.raises(ConfigError, match=r"another search \(run.dropout\)"):
        run_search(made(space, {"dropout": 0.2}, candidates=3, **how), tmp_path / "out", Fake())


def test_a_candidate_is_what_changes_a_step_of_it(made):
    plan = Candidates(made()).plan({})
    for same in ({"threads": "7"}, {"precision": "bf16"}, {"recompute": True}, {"log_every": 3}):
        assert identity(plan.with_train(**same)) == identity(plan)
    others = [plan.with_train(**other) for other in ({"lr": 2e-3}, {"seed": 1}, {"batch_size": 4})]
    others.append(dataclasses.replace(plan, model=dataclasses.replace(plan.model, n_inner=64)))
    assert len({identity(one) for one in [plan, *others]}) == 5


def test_a_folder_may_have_any_name(made, tmp_path):
    folder = tmp_path / "a?b=c#d%20e{f}&g;h"
    trials = run_search(made(candidates=1), folder, Fake())
    assert (folder / STORE).stat().st_size and [one.name for one in tmp_path.glob("a*")] == [folder.name]
    assert found(read_trials(folder)[1]) == found(trials)


def test_children_carry_the_tokens_of_their_parents(made, kept, tmp_path):
    parent = tmp_path / "parent"
    spec = made().base
    train_run(dataclasses.replace(spec, train={**spec.train, "max_steps": 3, "probes": False}), parent, [])
    search = made({"lr": [1e-3, 2e-3]}, {"parent": str(parent), "preset": "tiny"}, candidates=2, stop="never")
    trials = run_search(search, tmp_path / "out", Fake())
    assert {(one.parent_tokens, one.tokens) for one in trials if one.is_trained} == {(3 * STEP, 10 * STEP)}
    assert all(one.parent.startswith(str(parent)) for one in trials)
    told = markdown(members(trials, ("bpb",)), trials)
    assert "parents that had seen 768 tokens" in told
    other = tmp_path / "other"
    train_run(dataclasses.replace(spec, train={**spec.train, "max_steps": 2, "probes": False}), other, [])
    mixed = made({"lr": [1e-3], "parent": [str(parent), str(other)]})
    with pytest.raises(ConfigError, match="compared only with their like"):
        run_search(mixed, tmp_path / "mixed", Fake())


def test_priors_are_searched_as_settings_are(made, kept, tmp_path):
    space = {"priors": {"head_dim": [8, 16], "ffn": ["2x", "3x"]}}
    candidates = Candidates(made(space, {"n_layer": 1}))
    plan = candidates.plan({"priors.head_dim": 8, "priors.ffn": "3x"})
    assert (plan.model.n_head, plan.model.n_inner) == (4, 96)
    trials = run_search(made(space, candidates=2, stop="never"), tmp_path / "out", Fake())
    assert set(trials[0].settings) == {"priors.head_dim", "priors.ffn"} and trials[0].state == FINISHED


def test_other_folders_are_left_alone(made, kept, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds no search"):
        run_search(made(), tmp_path / "mine", Fake())
    run_search(made(candidates=1), tmp_path / "own", Fake())
    assert len(run_search(made(candidates=2), tmp_path / "own", Fake())) >= 2, "more may be asked for later"
    with pytest.raises(ConfigError, match=r"another search \(search.seed, space.lr\)"):
        run_search(made({**SPACE, "lr": [1e-3]}, seed=1), tmp_path / "own", Fake())
    with pytest.raises(ConfigError, match="holds no search"):
        command.main(["frontier", str(tmp_path / "mine")])
