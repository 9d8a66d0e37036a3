"""The screen of `microgpt watch` fits and tells the numbers with their units."""

import re

import pytest

from microgpt.reporting.history import read_history
from microgpt.reporting.screen import screen, told
from microgpt.runs.events import Resumed
from tests.reporting.fakes import MACHINE, evaluated, events, start, trained, write_log

pytest.importorskip("plotext")
COLOUR = re.compile(r"\033\[[\d;]*m")


@pytest.mark.parametrize("width, height", [(80, 23), (80, 50), (132, 60), (40, 20)])
def test_it_fits_a_terminal(tmp_path, width, height):
    history = read_history(write_log(tmp_path / "a"))
    lines = COLOUR.sub("", screen(history, width, height, "running")).splitlines()
    assert len(lines) <= height and max(map(len, lines)) <= width
    assert any("loss (nats a token)" in line for line in lines)
    assert any("tokens per second" in line for line in lines) == (height >= 50)


def test_it_tells_where_the_run_stands(tmp_path):
    found = events()[:-1]
    text = screen(read_history(write_log(tmp_path / "a", found)), 80, 23, "running", colours=False)
    assert "\033" not in text
    first, second, third, alarm, *_ = text.splitlines()
    assert first == "a: running, step 300 of 300, 18s trained, 0.0ms left"
    assert second.startswith("loss 1.0") and second.endswith("norm 0.9  17,006 tokens/s, 51% of peak")
    assert third == "held out at step 300: 1.1337 nats a token, 0.5668 bpb (best 0.5668 at 300)"
    assert alarm == "alarm at step 250: half the speed: a step takes 2 s, it took 1"


def test_a_speed_is_compared_with_the_peak_of_its_own_session_alone(tmp_path):
    slow = MACHINE | {"peak_flop_per_s": 6e10}  # 10,000 tokens a second
    resumed = [start(), trained(10), Resumed(10, n_params=9, max_steps=30, **slow)]
    assert told(read_history(write_log(tmp_path / "a", resumed)), "running")[1].endswith(" 17,003 tokens/s")
    went_on = read_history(write_log(tmp_path / "b", [*resumed, trained(14)]))
    assert told(went_on, "running")[1].endswith(" 17,000 tokens/s, 100% of peak")


@pytest.mark.parametrize(
    "found",
    [[start()], [start(), trained(1, float("nan"))], [start(), evaluated(0, float("nan"))]],
    ids=["nothing yet", "no loss", "no held-out loss"],
)
def test_what_is_not_known_is_left_out(tmp_path, found):
    assert screen(read_history(write_log(tmp_path / "a", found)), 80, 23, "running").startswith("a: running")


def test_a_name_cannot_control_a_terminal(tmp_path):
    text = screen(read_history(write_log(tmp_path / "a\033[2J")), 80, 23, "running", colours=False)
    assert "\033" not in text
