"""What `train_run` tells and how it ends, with a run that is finished, stopped, or fails."""

import json
import os
import signal

import numpy as np
import pytest

from microgpt.common.errors import ConfigError, MicrogptError
from microgpt.files.records import read_json
from microgpt.runs.events import Ended, Trained
from microgpt.runs.spec import Spec
from microgpt.training import loop
from microgpt.training.identity import differences
from microgpt.training.run import resume_run, train_run
from microgpt.training.stop import StopFlag
from tests.training.fakes import FakeTime, StopAt
from tests.training.toys import checkpoint_bytes, small


def test_a_listener_that_fails_ends_the_session_like_a_kill(text):
    class BrokenError(Exception):
        pass

    def listener(event):
        if isinstance(event, Trained) and event.step == 7:
            raise BrokenError

    with pytest.raises(BrokenError):
        train_run(small(text, 12, save_every=5), "a", [listener])
    outcome = train_run(small(text, 12), "a", [])
    straight = train_run(small(text, 12), "b", [])
    assert checkpoint_bytes(outcome) == checkpoint_bytes(straight)


def test_a_finished_run_is_told_without_a_step_and_another_spec_is_refused(text):
    first = train_run(small(text, 3), "a", [])
    again = train_run(small(text, 3), "a", [])
    assert again.why == "finished" and again.step == 3 and again.checkpoint == first.checkpoint
    with pytest.raises(ConfigError, match=r"cannot be resumed with --lr 0.02 \(the run has 0.01\)"):
        train_run(small(text, 6, lr=0.02), "a", [])


def test_the_same_call_again_finds_a_timed_run_done_and_counts_the_time_it_had(text):
    now = FakeTime(tick=0.01)
    settings = {"max_time": "60s", "eval_every": 0, "sample_every": 0}
    spec = Spec.of(**{**_flat(small(text, 5)), **settings}, preset="tiny")
    stop = StopAt(3)
    first = train_run(spec, "a", [stop], stop=stop, now=now)
    assert first.why == "stopped" and first.step == 3
    second = train_run(spec, "a", [], now=FakeTime(tick=0.01))
    assert second.why in ("finished", "out of time") and second.step > 3
    state = read_json(second.checkpoint / "state.json")
    assert state["elapsed_s"] < 60
    again = train_run(spec, "a", [], now=FakeTime(tick=0.01))
    assert again.step == second.step


def test_a_run_that_has_done_no_step_is_planned_anew_for_the_time_it_gets(text):
    settings = {"max_time": "8s", "eval_every": 0, "sample_every": 0}
    spec = Spec.of(**{**_flat(small(text, 5)), **settings}, preset="tiny")
    stop = StopFlag()
    stop.request()
    first = train_run(spec, "a", [], stop=stop, now=FakeTime(tick=0.01))
    assert first.why == "stopped" and first.step == 0
    more = Spec.of(max_time="60s")
    second = resume_run("a", more, now=FakeTime(tick=0.01))
    assert second.step > 0 and second.max_steps > 3 * first.max_steps


def test_bits_of_layers_that_are_computed_otherwise_now_are_told(text):
    shape = {"mixer": "rwkv7", "mlp": "rwkv7", "recurrent_head": 16}
    outcome = train_run(small(text, 3, **shape), "a", [])
    state = read_json(outcome.checkpoint / "state.json")
    assert state["arithmetic_of_mixers"] == 2
    before = {name: value for name, value in state.items() if name != "arithmetic_of_mixers"}
    told = "layers were computed by version 1 of the arithmetic of their mixers, now by 2"
    assert differences(before, state) == [told]
    assert "arithmetic_of_mixers" not in read_json(
        train_run(small(text, 1), "b", []).checkpoint / "state.json"
    )


def test_a_number_of_steps_that_was_named_stays_where_none_is_done(text):
    stop = StopFlag()
    stop.request()
    assert train_run(small(text, 5), "a", [], stop=stop).step == 0
    assert resume_run("a", Spec.of(max_time="60s"), now=FakeTime(tick=0.01)).max_steps == 5


def _flat(spec):
    """The settings of a spec without a number of steps."""
    settings = spec.model | spec.train | spec.data
    del settings["max_steps"]
    return settings


def test_a_spec_is_plain_data_of_checked_types(text, tmp_path, monkeypatch):
    spec = Spec.of("tiny", data="text.txt", lr=np.float64(0.5), max_steps=np.int64(3), threads=2)
    assert spec.data == {"data": [str(text)]} and type(spec.train["max_steps"]) is int
    assert Spec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert "preset" not in Spec.of(lr=1.0).to_dict()
    assert Spec(data={"data": "text.txt"}).data_config().data == (str(text),)
    for wrong, line in (
        ({"max_steps": 3.0}, "spec: max_steps is 3.0, expected int"),
        ({"recompute": 1}, "spec: recompute is 1, expected bool"),
        ({"max_time": 600}, "spec: max_time is 600, expected str or null"),
        ({"onward_step": 5}, "there is no setting 'onward_step'"),
    ):
        with pytest.raises(ConfigError, match=line):
            Spec.of(**wrong)
    with pytest.raises(ConfigError, match="spec: unknown setting foo"):
        Spec(train={"foo": 1})


def test_an_error_reaches_the_caller_and_all_listeners_whatever_they_make_of_it(text, monkeypatch):
    heard = []

    def broken(event):
        if isinstance(event, Ended):
            raise RuntimeError("a listener that fails")

    def out_of_memory(*_):
        raise MemoryError

    monkeypatch.setattr(loop, "accumulate", out_of_memory)
    with pytest.raises(MicrogptError, match="out of memory at step 0"):
        train_run(small(text, 3), "a", [broken, heard.append])
    assert isinstance(heard[-1], Ended) and heard[-1].why == "MemoryError"


def test_ctrl_c_saves_and_then_ends_a_loop_of_runs(text):
    def press(event):
        if isinstance(event, Trained) and event.step == 5:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            train_run(small(text, 12), "a", [press])
    finally:
        signal.signal(signal.SIGINT, before)
    assert train_run(small(text, 12), "a", []).step == 12
