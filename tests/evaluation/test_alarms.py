"""Alarms on made-up runs: each sounds for its own reason, once, and none in a run that is as it should be."""

import math

import numpy as np
import pytest

from microgpt.evaluation.alarms import Alarms, Facts, Loss, fit_note, published_fit

BASELINES = {"uniform": 8.3, "unigram": 6.0, "bigram": 4.5, "5-gram": 3.9}


def watched(losses, training=None, facts=None, error=0.02, tokens=3 * 10**7):
    """Names of alarms of a run of 100 steps with an evaluation every ten."""
    watch = Alarms(facts or Facts(10**6, 100, (8.4, 0.2), lambda: BASELINES))
    found = []
    for number, loss in enumerate(losses, 1):
        for step in range(10 * number - 9, 10 * number + 1):
            found += watch.stepped(step, 8.4 if step == 1 else loss, 1e-3, 1000.0, 1.0)
        other = None if training is None else Loss(training[number - 1], error)
        found += watch.evaluated(10 * number, tokens, Loss(loss, error), other)
    assert all(alarm.why and alarm.look for alarm in found)
    assert len({alarm.name for alarm in found}) == len(found), "each sounds once"
    return [alarm.name for alarm in found]


FALLING = [6.5, 5.5, 5.0, 4.6, 4.3, 4.1, 4.0, 3.8, 3.7, 3.6]


def test_none_sounds_in_a_run_as_it_should_be():
    rng = np.random.default_rng(0)
    for _ in range(50):
        held_out = np.array(FALLING) + rng.normal(0, 0.02, 10)
        training = np.array(FALLING) - 0.05 + rng.normal(0, 0.02, 10)
        assert watched(held_out, training) == []


def test_the_first_loss_is_that_of_random_weights():
    for loss in (7.9, 9.2, math.nan):
        watch = Alarms(Facts(10**6, 100, (8.4, 0.2)))
        assert [alarm.name for alarm in watch.stepped(1, loss, 1e-3, 1000.0, 1.0)] == ["first loss"]
    assert Alarms(Facts(10**6, 100)).stepped(1, 2.0, 1e-3, 1000.0, 1.0) == []


def test_held_out_text_is_not_foretold_better_than_training_text_but_by_chance():
    assert watched(FALLING, np.array(FALLING) + 0.5) == ["held-out better than training"]
    assert watched(FALLING, np.array(FALLING) + 0.05) == []


def test_memorising_is_a_held_out_loss_that_rises_while_training_falls():
    rising = [4.4, 4.0, 3.8, 3.9, 4.0, 4.1, 4.2, 4.2, 4.3, 4.4]
    facts = Facts(10**6, 100)
    assert watched(rising, np.linspace(4, 1, 10), facts) == ["memorising"]
    assert watched(rising, rising, facts) == [], "both rise: that is something else"


def test_what_a_run_begins_with_is_no_best_that_it_has_come_to():
    watch, found = Alarms(Facts(10**6, 100)), []
    begun = [(0, 3.6, 3.6)]  # by counts of pairs
    for step, held_out, training in begun + [(10 * n, 4.1 - 0.04 * n, 3.5 - 0.1 * n) for n in range(1, 10)]:
        found += watch.evaluated(step, 10**6, Loss(held_out, 0.02), Loss(training, 0.02))
    assert not [alarm for alarm in found if alarm.name == "memorising"]


def test_baselines_are_to_be_beaten_late_in_the_run():
    assert watched([5.0] * 10) == ["beaten by bigram"] and watched([5.0] * 4) == []
    assert watched([6.5, *[4.2] * 9]) == ["beaten by 5-gram"] and watched([4.2] * 8) == []
    assert watched([6.0, *[3.92] * 9]) == [], "within the noise"
    assert watched([5.0] * 10, tokens=2 * 10**6 - 1) == [], "too little was seen"
    assert watched([4.2] * 10, tokens=19 * 10**6) == [], "enough for bigrams alone"
    facts = Facts(499_999, 100, None, lambda: BASELINES)
    assert watched([5.0] * 10, facts=facts) == [], "fewer numbers than a table of bigrams"
    watch = Alarms(Facts(10**6, 1000, None, lambda: BASELINES))
    assert not watch.evaluated(100, 3 * 10**7, Loss(5.0))
    watch.planned(150)
    assert [alarm.name for alarm in watch.evaluated(110, 3 * 10**7, Loss(5.0))] == ["beaten by bigram"]


def test_speed_that_falls_by_half_is_told():
    watch, found = Alarms(Facts(10**6, 1000)), []
    for step in range(1, 400):
        found += watch.stepped(step, 5.0, 1e-3, 1000.0 if step < 200 or step % 7 == 0 else 450.0, 1.0)
    assert [alarm.name for alarm in found] == ["throughput"] and "450" in found[0].why
    watch = Alarms(Facts(10**6, 1000))
    assert not any(watch.stepped(s, 5.0, 1e-3, 1000.0 if s % 5 else 90.0, 1.0) for s in range(1, 400))
    watch = Alarms(Facts(10**6, 1000))  # a moment is no reason
    assert not any(watch.stepped(s, 5.0, 1e-3, 1000.0 if s % 99 > 30 else 90.0, 0.5) for s in range(1, 999))
    watch = Alarms(Facts(10**6, 1000))
    assert not any(watch.stepped(s, 5.0, 1e-3, 1000.0 if s % 40 < 21 else 90.0, 9.0) for s in range(1, 20))


def test_weights_that_stand_still_and_a_rate_of_zero():
    watch = Alarms(Facts(10**6, 100))
    params = {"a": np.ones(5), "b": np.ones(3)}
    assert not watch.evaluated(10, 10, Loss(5.0), params=params)
    params["a"] = params["a"] + 0.1
    assert [alarm.name for alarm in watch.evaluated(20, 10, Loss(5.0), params=params)] == [
        "layer without gradient"
    ]
    found = [watch.stepped(step, 5.0, 0.0, 1000.0, 1.0) for step in range(2, 6)]
    assert [[alarm.name for alarm in some] for some in found] == [[], [], ["learning rate"], []]


def test_published_fits_are_asked_only_where_they_apply():
    wanted = 1.8169 + 482.01 / 125e6**0.3478 + 2085.43 / 2.5e9**0.3658
    assert published_fit(125e6, 2.5e9) == pytest.approx(wanted) and 3 < wanted < 3.6
    assert published_fit(39e6, 1e9) is published_fit(1e9, 0.4e9) is None
    facts = Facts(125_000_000, 100)
    assert watched([wanted + 1.1] * 3, facts=facts, tokens=2.5e9) == ["far above published fits"]
    assert watched([wanted + 0.9] * 3, facts=facts, tokens=2.5e9) == []
    assert "do not apply" in fit_note(10**7, 10**9) and "3." in fit_note(125_000_000, 2_500_000_000)


def test_chance_in_the_training_loss_counts_when_held_out_text_is_foretold_better():
    held_out, training = Loss(2.0, 0.01), Loss(2.1, 0.05)
    assert Alarms(Facts(1000, 100)).evaluated(5, 1000, held_out, training) == []
    (alarm,) = Alarms(Facts(1000, 100)).evaluated(5, 1000, held_out, training._replace(error=0.01))
    assert alarm.name == "held-out better than training"


def test_weights_may_stand_still_between_evaluations_that_are_near():
    watch, params = Alarms(Facts(1000, 100)), {"a.weight": np.ones((2, 3))}
    assert [watch.evaluated(step, 1000, Loss(5.0), None, params) for step in (10, 12)] == [[], []]
    assert [alarm.name for alarm in watch.evaluated(15, 1000, Loss(5.0), None, params)] == [
        "layer without gradient"
    ]
