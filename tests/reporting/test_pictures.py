"""Pictures have labels, units, every run that was asked for, and the format that their name tells."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from microgpt.common.errors import ConfigError
from microgpt.reporting.history import read_history
from microgpt.reporting.pictures import AXES, DARK, flop_of, picture, svg_of_course, svg_of_losses
from microgpt.runs.events import Planned
from tests.reporting.fakes import evaluated, events, start, write_log

pytest.importorskip("matplotlib")


@pytest.fixture
def histories(tmp_path):
    return [
        read_history(write_log(tmp_path / name, events(steps)))
        for name, steps in (("one", 300), ("two", 100))
    ]


def test_a_png_is_one_and_another_kind_is_refused(histories):
    assert picture(Path("x.PNG"), histories).startswith(b"\x89PNG")
    with pytest.raises(ConfigError, match=r"--out nowhere/x\.svg: there is no folder "):
        picture(Path("nowhere/x.svg"), histories)
    with pytest.raises(ConfigError, match=r"x\.gif: expected a name that ends in \.png or \.svg"):
        picture(Path("x.gif"), histories)


LABELS = {
    "steps": "optimizer steps",
    "tokens": "tokens seen",
    "time": "time of training (seconds)",
    "flop": "computed in training (FLOP)",
}


@pytest.mark.parametrize("x", AXES)
def test_every_panel_says_what_it_shows_and_in_which_unit(histories, x):
    text = picture(Path("x.svg"), histories[:1], x, DARK).decode()
    for words in ("nats a token", "bits per byte", "learning rate", "gradient norm", "tokens per second"):
        assert words in text
    assert text.count(LABELS[x]) == 5 and "held out, 95 % interval" in text and DARK.paper in text


def test_several_runs_are_told_apart(histories):
    text = picture(Path("x.svg"), histories).decode()
    assert ">one<" in text and ">two<" in text


def test_the_same_runs_make_the_same_bytes(histories):
    assert picture(Path("x.svg"), histories) == picture(Path("x.svg"), histories)


def test_pictures_of_a_page_take_its_colours(histories):
    for text in (svg_of_losses(histories[0]), svg_of_course(histories[0])):
        assert text.startswith("<svg") and "var(--ink)" in text and "var(--grid)" in text
        assert "#010203" not in text and "http" not in text.replace("http://www.w3.org/", "")


def test_a_run_that_has_just_begun_can_be_drawn(tmp_path):
    history = read_history(write_log(tmp_path / "a", [start(), evaluated(0)]))
    assert svg_of_losses(history) and svg_of_course(history)


def test_how_many_steps_have_few_blocks_is_what_was_planned_last(tmp_path):
    begun = dataclasses.replace(start(), shallow_steps=200)
    plans = [Planned(100, 320, 0.06, 250), Planned(280, 310, 0.06, 250)]
    for log, n in (([start()], 0), ([begun], 200), ([begun, *plans], 250)):
        assert read_history(write_log(tmp_path / str(n), log)).shallow_steps == n


def test_steps_with_few_blocks_count_as_what_they_cost():
    session = {"flop_per_token": 10, "shallow_cost": 0.25}
    history = SimpleNamespace(sessions=[session], shallow_steps=4)
    steps = np.array([0.0, 2, 4, 8])
    found = flop_of(history, {"step": steps, "tokens": 3 * steps})
    assert found.tolist() == [0, 3 * 2 * 2.5, 3 * 4 * 2.5, 3 * 4 * 2.5 + 3 * 4 * 10]
    del session["shallow_cost"]
    history.shallow_steps = 0
    assert flop_of(history, {"step": steps, "tokens": 3 * steps}).tolist() == (30 * steps).tolist()
