"""The learning rate and the settings it is made from."""

import dataclasses
import itertools
import json

import pytest

from microgpt.common.errors import ConfigError
from microgpt.common.words import format_duration, parse_duration
from microgpt.runs.settings import RECIPES, TrainConfig, recipe
from microgpt.runs.spec import Spec, settings_of_recipe
from microgpt.training.schedule import (
    FIRST_STEPS,
    MODERATE,
    learning_rate,
    outline,
    train_on,
    warmup_steps,
)

LONG = TrainConfig(max_steps=10_000, lr=1e-3, min_lr=1e-4, warmup_steps=500)


def test_warm_up_is_linear_and_ends_at_the_peak():
    assert learning_rate(0, LONG) == 1e-3 / 500
    assert learning_rate(249, LONG) == pytest.approx(0.5e-3)
    assert learning_rate(499, LONG) == 1e-3
    assert learning_rate(500, LONG) == 1e-3


def test_cosine_halves_in_the_middle_and_ends_at_the_floor():
    assert learning_rate((500 + 10_000) // 2, LONG) == pytest.approx((1e-3 + 1e-4) / 2)
    assert learning_rate(9_999, LONG) == pytest.approx(1e-4, rel=1e-4)
    assert learning_rate(10_000, LONG) == learning_rate(50_000, LONG) == 1e-4
    rates = [learning_rate(step, LONG) for step in range(500, 10_001)]
    assert rates == sorted(rates, reverse=True)


def test_a_short_run_warms_up_for_a_tenth_of_it():
    short = dataclasses.replace(LONG, max_steps=1000)
    assert warmup_steps(short) == 100
    assert learning_rate(99, short) == 1e-3
    assert learning_rate(1000, short) == 1e-4


@pytest.mark.parametrize(
    "settings",
    [
        {},
        *(
            {"schedule": "wsd", "warmup_steps": n, "decay_share": share}
            for n in (0, 10, 30)
            for share in (0.2, 0.8, 1.0)
        ),
    ],
)
def test_the_first_steps_do_not_depend_on_the_length_of_the_run(settings):
    runs = [dataclasses.replace(LONG, **settings, max_steps=n) for n in (10, 20, 40, 300)]
    for step in range(FIRST_STEPS):
        assert len({learning_rate(step, run) for run in runs}) == 1
    assert learning_rate(40, runs[2]) == runs[2].min_lr


@pytest.mark.parametrize(
    "settings, told",
    [
        ({"max_steps": 20}, "from 0 up to 0.001 over 10 steps, then level to step 20"),
        ({"max_steps": 20, "warmup_steps": 0}, "from 0.001 level to step 20"),
        ({"max_steps": 9}, "from 0 up to 0.0009, too few steps to come down again"),
        ({"max_steps": 100, "decay_share": 0.0}, "from 0 up to 0.001 over 10 steps, then level to step 100"),
        (
            {"max_steps": 100, "decay_share": 1.0, "decay_steps": 40},
            "from 0 up to 0.001 over 10 steps, then level to step 20, then down to 0.0001 at step 40",
        ),
    ],
)
def test_a_short_stretch_of_wsd_in_words(settings, told):
    assert outline(dataclasses.replace(LONG, **{"schedule": "wsd", "warmup_steps": 10} | settings)) == told


def test_decay_steps_overrides_the_length_of_the_run():
    fixed = dataclasses.replace(LONG, decay_steps=2000)
    longer = dataclasses.replace(fixed, max_steps=50_000)
    assert [learning_rate(s, fixed) for s in range(3000)] == [learning_rate(s, longer) for s in range(3000)]
    assert learning_rate(2000, fixed) == 1e-4


@pytest.mark.parametrize("decay_steps", [1, 2, 10, 29, 59])
def test_a_short_decay_has_its_warm_up_before_it(decay_steps):
    config = dataclasses.replace(LONG, max_steps=100, decay_steps=decay_steps)
    rates = [learning_rate(step, config) for step in range(100)]
    peak = rates.index(max(rates))
    assert peak <= decay_steps // 2 and rates[peak] == 1e-3
    assert rates[:peak] == sorted(rates[:peak]) and rates[peak:] == sorted(rates[peak:], reverse=True)
    assert set(rates[decay_steps:]) == {1e-4}


def test_no_warm_up_starts_at_the_peak():
    assert learning_rate(0, dataclasses.replace(LONG, warmup_steps=0)) == 1e-3


@pytest.mark.parametrize("more", [100, 2000, 10_000, 500_000])
def test_training_on_goes_from_the_finished_rate_up_to_a_moderate_one_and_down_again(more):
    new = dataclasses.replace(LONG, max_steps=10_000 + more)
    longer = train_on(10_000, LONG, new)
    rates = [learning_rate(step, longer) for step in range(10_000, 10_000 + more + 1)]
    top = max(rates)
    assert 1e-4 < rates[0] < 1e-4 + 1e-3 / 10 and rates[-1] == 1e-4
    assert top <= max(1e-4, min(MODERATE * 1e-3, learning_rate(10_000, new)))
    peak = rates.index(top)
    assert 0 < peak <= more // 2
    assert rates[:peak] == sorted(rates[:peak]) and rates[peak:] == sorted(rates[peak:], reverse=True)
    assert max(b - a for a, b in itertools.pairwise(rates)) < 2 * top / min(30, more // 2)
    again = train_on(longer.max_steps, longer, dataclasses.replace(longer, max_steps=2 * longer.max_steps))
    assert again.onward_step == longer.max_steps and again.onward_lr == 1e-4
    assert TrainConfig.from_dict(again.to_dict()) == again


def test_a_run_whose_end_moves_keeps_its_rate_at_that_step():
    """Before its end, after it, in its warm-up, longer, shorter; once more in a leg of its own."""
    first = train_on(10_000, LONG, dataclasses.replace(LONG, max_steps=20_000))
    for old, step in ((LONG, 5000), (LONG, 9999), (LONG, 100), (first, 10_300), (first, 15_000)):
        for max_steps in (step + 40, step + 700, 20_001, 90_000):
            new = train_on(step, old, dataclasses.replace(old, max_steps=max_steps))
            before, after = learning_rate(step - 1, old), learning_rate(step, new)
            assert abs(after - before) < 1e-3 / 15
            assert learning_rate(max_steps, new) == 1e-4
            if max_steps < old.max_steps and step not in (100, 10_300):
                assert after <= before


def test_a_run_interrupted_in_its_warm_up_still_gets_to_its_peak():
    longer = train_on(200, LONG, dataclasses.replace(LONG, max_steps=2000))
    assert longer.onward_step == 200 and max(learning_rate(s, longer) for s in range(200, 2000)) == 1e-3


def test_more_steps_that_leave_the_rate_as_it_is_are_the_run_that_was_planned_so():
    new = dataclasses.replace(LONG, max_steps=50_000)
    assert train_on(100, LONG, new) == new, "both are in the same warm-up"
    fixed = dataclasses.replace(LONG, decay_steps=2000)
    new = dataclasses.replace(fixed, max_steps=50_000)
    assert train_on(10_000, fixed, new) == new, "the decay has an end of its own"


def test_a_line_falls_evenly_from_the_warm_up_to_the_floor():
    line = dataclasses.replace(LONG, schedule="linear")
    assert [learning_rate(s, line) for s in range(500)] == [learning_rate(s, LONG) for s in range(500)]
    assert learning_rate(500, line) == 1e-3 and learning_rate(10_000, line) == 1e-4
    assert learning_rate((500 + 10_000) // 2, line) == pytest.approx((1e-3 + 1e-4) / 2)
    assert learning_rate(500 + 9500 // 4, line) == pytest.approx(1e-3 - 0.9e-3 / 4)


WSD = dataclasses.replace(LONG, schedule="wsd", decay_share=0.2)


def test_wsd_is_level_until_its_last_share_and_then_a_line():
    assert {learning_rate(step, WSD) for step in range(499, 8001)} == {1e-3}
    assert learning_rate(9000, WSD) == pytest.approx((1e-3 + 1e-4) / 2)
    assert learning_rate(10_000, WSD) == 1e-4
    whole = dataclasses.replace(WSD, decay_share=1.0)
    line = dataclasses.replace(LONG, schedule="linear")
    assert [learning_rate(s, whole) for s in range(10_001)] == [learning_rate(s, line) for s in range(10_001)]
    flat = dataclasses.replace(WSD, decay_share=0.0)
    assert learning_rate(9_999, flat) == 1e-3 and learning_rate(10_000, flat) == 1e-4


@pytest.mark.parametrize("step", [600, 8000])
def test_more_steps_in_the_stable_part_of_wsd_are_the_run_that_was_planned_so(step):
    longer = dataclasses.replace(WSD, max_steps=30_000)
    assert train_on(step, WSD, longer) == longer
    assert {learning_rate(s, longer) for s in range(step, 24_001)} == {1e-3}


def test_a_finished_run_of_wsd_goes_on_at_its_stable_rate_and_falls_again():
    longer = train_on(10_000, WSD, dataclasses.replace(WSD, max_steps=30_000))
    assert (longer.onward_step, longer.onward_lr, longer.onward_peak) == (10_000, 1e-4, 1e-3)
    warm = warmup_steps(longer)
    assert {learning_rate(s, longer) for s in range(10_000 + warm, 26_001)} == {1e-3}
    assert 1e-4 < learning_rate(10_000, longer) < 1.1e-4 and learning_rate(30_000, longer) == 1e-4
    a_little = train_on(10_000, WSD, dataclasses.replace(WSD, max_steps=10_400))
    top = max(learning_rate(s, a_little) for s in range(10_000, 10_400))
    assert 1e-4 < top < 0.35e-3, "as far into its decay as a run of this length would be"


def test_a_run_of_wsd_that_is_shortened_only_falls():
    shorter = train_on(6000, WSD, dataclasses.replace(WSD, max_steps=6500))
    rates = [learning_rate(step, shorter) for step in range(6000, 6501)]
    assert rates[0] == 1e-3 and rates[-1] == 1e-4 and rates == sorted(rates, reverse=True)


@pytest.mark.parametrize("schedule", ["cosine", "linear", "wsd"])
def test_the_header_tells_the_stretch(schedule):
    told = outline(dataclasses.replace(WSD, schedule=schedule))
    level = "level to step 8,000, then " if schedule == "wsd" else ""
    assert told == f"from 0 up to 0.001 over 500 steps, then {level}down to 0.0001 at step 10,000"


@pytest.mark.parametrize(
    "text, seconds", [("90s", 90), ("10m", 600), ("2h", 7200), ("1h30m", 5400), ("45", 45), ("0.5m", 30)]
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "10x", "-5m", "0s", "5m3h", "nan", "1e9999"])
def test_bad_durations_are_refused(text):
    with pytest.raises(ConfigError, match="--max-time"):
        parse_duration(text)


def test_durations_are_shown_for_people():
    assert [format_duration(s) for s in (0.012, 0.25, 45, 75, 3700)] == [
        "12.0ms",
        "250ms",
        "45s",
        "1m15s",
        "1h01m",
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": 0},
        {"grad_accum": -1},
        {"lr": float("nan")},
        {"lr": 0.0},
        {"beta2": 1.0},
        {"keep": 0},
        {"eps": 0.0},
        {"grad_clip": float("inf")},
        {"threads": "0"},
        {"threads": "many"},
        {"save_every": -1},
        {"min_lr": 1.0},
        {"max_time": "soon"},
        {"max_steps": 0},
        {"max_steps": -1},
        {"stop_after": -1},
        {"stop_after": 2, "eval_every": 0},
    ],
)
def test_settings_that_cannot_work_are_refused_by_their_flag(change):
    with pytest.raises(ConfigError, match="--" + next(iter(change)).replace("_", "-")) as error:
        TrainConfig(**change)
    assert "\n" not in str(error.value)


def test_max_steps_0_means_as_many_as_fit():
    assert TrainConfig(max_steps=0, max_time="10m").time_limit_s == 600


def test_configs_survive_json_and_refuse_what_they_do_not_know():
    assert TrainConfig.from_dict(LONG.to_dict()) == LONG
    whole = dataclasses.replace(LONG, weight_decay=0, grad_clip=1, prompt_loss_weight=1)
    assert TrainConfig.from_dict(json.loads(json.dumps(whole.to_dict()))) == whole
    for bad in ({"lr": "fast"}, {"momentum": 0.9}, {"batch_size": True}, {"lr": True}, {"seed": 1.0}):
        with pytest.raises(ConfigError, match=next(iter(bad))):
            TrainConfig.from_dict(LONG.to_dict() | bad)


def test_the_recipe_follows_the_size_and_its_floor_the_rate():
    assert recipe(10_000_000)["lr"] == 1e-3 and recipe(10_000_000)["warmup_steps"] == 2000
    assert recipe(24_000_000)["lr"] == 3e-4 and recipe(34_000_000)["warmup_steps"] == 5000
    assert recipe(10_000_000, lr=5e-5)["min_lr"] == pytest.approx(5e-6)
    for n_params in (1, 10**7, 10**9):
        TrainConfig(**recipe(n_params))


def test_what_is_named_comes_before_the_recipe_and_the_recipe_before_the_preset():
    road, fast = Spec.of("10m", recipe="road").plan(), Spec.of("10m").plan()
    assert (road.model.dropout, road.train.optimizer, road.train.schedule) == (0.1, "adam", "cosine")
    assert (fast.model.dropout, fast.train.optimizer, fast.train.schedule) == (0.0, "muon", "wsd")
    assert (fast.train.lr, fast.train.min_lr, fast.train.beta2) == (8e-3, 8e-4, 0.95)
    slower = Spec.of("10m", lr=8e-4).plan()
    assert (fast.train.muon_lr, slower.train.muon_lr) == (0.02, 0.002), "one rate moves both"
    mine = Spec.of("10m", recipe="fast", dropout=0.2, lr=1e-3, optimizer="adam").plan()
    assert (mine.model.dropout, mine.train.lr, mine.train.min_lr) == (0.2, 1e-3, 1e-4)
    assert (mine.train.optimizer, mine.train.beta2, mine.train.max_steps) == ("adam", 0.95, 20_000)
    told = settings_of_recipe(mine)
    assert told["schedule"] == "wsd" and told["min_lr"] == 1e-4
    assert not {"dropout", "lr", "optimizer", "max_steps"} & set(told)
    for name in RECIPES:
        assert settings_of_recipe(Spec.of("10m-untied", recipe=name).plan())["warmup_steps"] > 0
    with pytest.raises(ConfigError, match="--recipe slow: expected road or fast or sprint"):
        Spec.of("10m", recipe="slow").plan()
