"""Recipes in turns: the clock that stands still, the words of a contestant, what is read off the curves."""

import dataclasses
import io
import json

import pytest

from benchmarks import _our_run, _turns, quality
from microgpt.common.errors import ConfigError
from microgpt.model import flop_per_token
from microgpt.runs.spec import Spec


def curve(name, seed, *points):
    return {
        "name": name,
        "seed": seed,
        "parameters": 7,
        "points": [{"seconds": s, "step": s // 2, "tokens": 10 * s, "bpb": bpb} for s, bpb in points],
    }


def test_time_passes_inside_steps_alone(monkeypatch, capsys):
    time = [0.0]
    monkeypatch.setattr(_turns.time, "monotonic", lambda: time[0])
    monkeypatch.setattr(_turns.sys, "stdin", io.StringIO("15\n25\n"))
    clock = _turns.TurnClock()

    def step(seconds):
        clock.start()
        time[0] += seconds
        clock.after_step()
        time[0] += 100  # an evaluation

    clock.start()
    time[0] += 7  # what preparation measures
    assert clock.now() == 7
    clock.ready(parameters=1)
    step(10)
    assert clock.now() == 10 and capsys.readouterr().out.count("\n") == 1
    step(6)
    assert json.loads(capsys.readouterr().out) == {"turn": 16.0} and clock.until_s == 41


def test_a_step_costs_what_it_was_said_to_cost(monkeypatch, capsys):
    time = [0.0]
    monkeypatch.setattr(_turns.time, "monotonic", lambda: time[0])
    monkeypatch.setattr(_turns.sys, "stdin", io.StringIO("3\n"))
    clock = _turns.TurnClock(2.0)
    clock.ready(parameters=1)
    assert clock.now() == 0
    clock.start()
    time[0] += 50
    assert clock.now() == 2, "a step that takes no time has no speed"
    clock.stop()
    clock.after_step()
    assert clock.now() == 2
    clock.start(0.25)
    assert clock.now() == 2.5, "a step of the first blocks alone costs a part"
    clock.stop()
    assert clock.now() == 2.5
    assert quality.step_seconds("fast:lr=0.004=0.93") == ("fast:lr=0.004", 0.93)
    with pytest.raises(ConfigError, match="no such contestant"):
        quality.main(["fast", "--step-seconds", "road=1"])


def test_runs_of_first_blocks_alone_have_more_steps_in_the_same_time():
    def steps(**settings):
        job = {"preset": "10m-untied", "settings": settings, "seconds": 305.0, "start_s": 5.0, "step_s": 2.0}
        return _our_run.steps_within(job)

    assert steps() == 150
    whole = Spec.of("10m-untied").plan().model
    share = flop_per_token(dataclasses.replace(whole, n_layer=2)) / flop_per_token(whole)
    assert steps(shallow_blocks=2, shallow_share=0.5) == round(75 / share + 75)


def test_a_contestant_is_a_recipe_with_settings():
    assert quality.settings_of("fast:mlp=relu2,lr=0.004,qk_norm=true") == {
        "recipe": "fast",
        "mlp": "relu2",
        "lr": 0.004,
        "qk_norm": True,
    }
    with pytest.raises(ConfigError, match="no recipe 'quick'"):
        quality.settings_of("quick:lr=1")


def test_how_soon_a_curve_was_where_another_ended():
    points = curve("fast", 0, (0, 4.0), (100, 2.0), (200, 1.0))["points"]
    assert quality.seconds_to(points, 3.0) == pytest.approx(50)
    assert quality.seconds_to(points, 1.0) == pytest.approx(200)
    assert quality.seconds_to(points, 0.9) is None
    assert quality.seconds_to(points[1:], 3.0) == 100, "it was there from the beginning"


def test_the_table_has_medians_and_the_best_first():
    runs = [curve("road", s, (0, 4.0), (100, 2.0 + s)) for s in range(3)]
    runs += [curve("fast", s, (0, 4.0), (100, 1.0 + s)) for s in range(3)]
    head, _, first, second = quality.table(runs)
    assert head.endswith("| s to road's 3.000 |")
    assert first == "| fast | 7 | 1,000 | 100 | 2.000 | 1.000, 2.000, 3.000 | 2.000 | 50 |"
    assert second.startswith("| road | 7 |") and second.endswith(
        "| 2.000, 3.000, 4.000 | 3.000 | - |"
    )  # one never came there
