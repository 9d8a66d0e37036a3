"""--on-event: what a command hears, and that one that fails or hangs is a warning."""

import json
import os
import shlex
import subprocess

import pytest

from microgpt.reporting.hook import OnEvent
from microgpt.runs.events import Alarmed, Ended, Evaluated, Told
from tests.reporting.fakes import evaluated, start, trained

ALARM = Alarmed(20, "half the speed", "why", "where")


def heard(command, *events, time_s=20.0):
    """What is told of warnings when a command hears of these events."""
    told = []
    hook = OnEvent(command, told.append, time_s)
    for event in events:
        hook(event)
    return [event.told() for event in told if isinstance(event, Told)]


@pytest.mark.parametrize(
    "why, name",
    [
        ("finished", "end"),
        ("out of time", "end"),
        ("no gain", "end"),
        ("stopped", "stop"),
        ("no space", "stop"),
    ],
)
def test_an_alarm_and_the_end_are_told_with_what_there_is_to_tell(tmp_path, why, name):
    place = tmp_path / 'told by "it"'
    events = [
        start(),
        evaluated(10, 2.0),
        trained(20),
        ALARM,
        evaluated(30, float("nan")),
        Ended(30, why, 1e8),
    ]
    assert heard(f"cat >> {shlex.quote(str(place))}", *events) == []
    alarm, end = map(json.loads, place.read_text().splitlines())
    assert alarm == {
        **{"event": "alarm", "run": None, "step": 20, "held_out_bpb": 1.0},
        **{"alarm": "half the speed", "why": "why", "look": "where"},
    }
    assert (end["event"], end["step"], end["why"], end["held_out_bpb"]) == (name, 30, why, "nan")


def test_a_command_that_fails_is_a_warning(tmp_path):
    (warning,) = heard("echo no such address >&2; exit 3", Ended(3, "finished", 1e8))
    assert warning.startswith("warning: --on-event: echo no") and warning.endswith(
        "exit code 3, no such address"
    )


def test_a_command_that_hangs_is_ended_with_what_it_started(tmp_path, monkeypatch):
    """Its time is over once what it started has begun to write."""
    place = tmp_path / "words"
    os.mkfifo(place)
    wait, words = subprocess.Popen.communicate, []

    def communicate(process, line=None, time_s=None):
        if time_s is None:
            return wait(process)
        words.append(place.open())  # waits for its writer
        assert words[0].readline() == "begun\n"
        raise subprocess.TimeoutExpired(process.args, time_s)

    monkeypatch.setattr(subprocess.Popen, "communicate", communicate)
    command = f"(echo begun; sleep 600; echo late) > {place} & sleep 600"
    (warning,) = heard(command, Ended(3, "finished", 1e8), time_s=0.3)
    assert "ended after 0.3 s, which is the limit" in warning
    with words[0]:
        assert words[0].read() == "", "until nobody is left who could write"


def test_a_command_has_a_limit_of_its_time():
    (warning,) = heard("sleep 600", Ended(3, "finished", 1e8), time_s=0.01)
    assert "ended after 0.01 s" in warning


def test_training_does_not_wait_for_an_alarm(tmp_path):
    place = tmp_path / "go on"
    hook = OnEvent(f"while [ ! -e {place} ]; do sleep 0.05; done", lambda event: None)
    hook(ALARM)
    place.touch()  # only now can it end
    hook(Evaluated(21, 1.0, 1.0, None, 1, 1, 1, 1.0, 1.0))
    hook(Ended(22, "finished", 1e8))
