"""The loop and the clock: a run ends in its time, by a plan that follows the speed."""

import math
import shutil

import pytest

from microgpt.common.errors import ConfigError
from microgpt.evaluation.loss import Evaluation
from microgpt.runs import checkpoint
from microgpt.runs.layout import METRICS, checkpoints
from microgpt.runs.saver import Saver
from microgpt.training import horizon, loop
from microgpt.training.clock import Clock
from microgpt.training.horizon import Timing, measure, planned_steps, replanned_steps
from microgpt.training.loop import FINISHED, OUT_OF_TIME
from tests.training.fakes import FakeTime, make_config, make_job, train
from tests.training.loops import digest, events, make_slow, new_run, resumed


def test_the_run_ends_before_its_deadline_with_evaluation_and_checkpoint(tmp_path):
    job = new_run(tmp_path, "a", max_steps=10**6, eval_every=10**6, sample_every=0)
    why, state = train(job, clock=Clock(deadline=0, now=FakeTime()))
    assert why == OUT_OF_TIME and state.step == 0
    assert [line["event"] for line in events(job.run)] == ["eval"]
    assert [step for step, _ in checkpoints(job.run)] == [0]


def test_measuring_before_the_start_changes_nothing_and_planning_leaves_time_for_all(tmp_path):
    job = new_run(tmp_path, "a", weight_decay=0.1)
    job.log.close()
    before = digest(job)
    clock = Clock(deadline=50, now=FakeTime(tick=0.125))
    timing = measure(job.model, job.optimizer, job.source, job.held_out, clock)
    assert digest(job) == before and job.optimizer.updates == 0 and not job.model.grads.flat.any()
    assert timing.start_s == 0 < min(timing.micro_s, timing.update_s, timing.evaluation_s, timing.save_s)
    assert timing.evaluation_s == pytest.approx(timing.update_s * 5 / 2), "5 windows, 2 at a time"
    assert job.model.calls > 3, "as often as there is time for"
    timing = Timing(micro_s=0.5, update_s=0.25, evaluation_s=10, save_s=2)
    config = make_config(
        grad_accum=2, eval_every=100, sample_every=0, save_every=50, max_steps=0, max_time="1h"
    )
    steps = planned_steps(3600, timing, config)
    assert 0.9 * 3600 < steps * (1.25 + 10 / 100 + 2 / 50) + 2 * 10 + 2 < 3600
    with pytest.raises(ConfigError, match="--max-time 1h is too short"):
        planned_steps(20, timing, config)
    config = make_config(eval_every=0, sample_every=0, max_steps=0, max_time="5s")
    assert planned_steps(5, timing, config) == 3, "no time is kept for what is off"


@pytest.mark.parametrize("limit_s", range(12, 40))
def test_as_few_steps_as_are_planned_are_done(tmp_path, limit_s, monkeypatch):
    """Every part takes as long as it was measured to."""
    monkeypatch.setattr(Saver, "finish", lambda self, snap: None)
    time, timing = FakeTime(), Timing(micro_s=2.0, update_s=0.0, evaluation_s=3.0, save_s=1.0)
    settings = {"eval_every": 10**6, "sample_every": 0}
    config = make_config(max_steps=0, max_time="1h", **settings)
    steps = planned_steps(limit_s, timing, config)
    job = new_run(tmp_path, "a", max_steps=steps, **settings)
    monkeypatch.setattr(loop, "evaluate", lambda *_: make_later(time, 3.0) or Evaluation(1.0, 1.0))
    make_slow(job, time, lambda index: 2.0)
    why, state = train(job, clock=Clock(limit_s, {"save": 1.0}, time))
    assert why == FINISHED and state.step == steps and time.s + 1 <= limit_s


def make_later(time, seconds):
    time.s += seconds


def test_what_takes_a_large_share_of_the_limit_is_measured_once(tmp_path):
    job = new_run(tmp_path, "a")
    job.log.close()
    time = FakeTime()
    make_slow(job, time, lambda index: 2.0)
    timing = measure(job.model, job.optimizer, job.source, job.held_out, Clock(deadline=60, now=time))
    assert timing.micro_s == pytest.approx(2, rel=0.1) and time.s < 5, "one step of thirty"


@pytest.mark.parametrize("is_timed", [True, False])
def test_a_timed_run_that_is_slower_than_planned_still_ends_its_cosine(tmp_path, is_timed):
    time, job = FakeTime(), new_run(tmp_path, "a", max_steps=2000, sample_every=0)
    job.is_timed = is_timed
    make_slow(job, time, lambda index: 0.004)
    why, state = train(job, clock=Clock(deadline=0.8, now=time))
    recorded = checkpoint.read_config(checkpoint.find_checkpoint(job.run))["train"]["max_steps"]
    last = [line["lr"] for line in events(job.run) if line["event"] == "train"][-1]
    assert 150 < state.step < 250 and recorded == job.config.max_steps
    if is_timed:
        assert why == FINISHED and state.step == recorded and last < 2 * job.config.min_lr
    else:
        assert why == OUT_OF_TIME and recorded == 2000 and last > 0.9 * job.config.lr


def test_small_changes_of_speed_do_not_change_the_plan():
    assert replanned_steps(100, 1100, 1.0, 1000 / 0.96 + 1) == 1100
    assert replanned_steps(100, 1100, 1.0, 500) == 100 + 480
    assert replanned_steps(100, 1100, 0.5, 1000) == 100 + 1920


def test_a_plan_is_not_cut_to_what_would_be_no_end():
    """Where the time is over, or as good as over, the plan stays for the next session."""
    assert replanned_steps(3711, 7661, 0.01, -5) == 7661
    assert replanned_steps(3711, 7661, 0.01, 0.5) == 7661, "50 steps are too few to come down in"
    assert replanned_steps(3711, 7661, 0.01, 1.0) == 3711 + 96


@pytest.mark.parametrize("eval_every, planned, ending", [(50, 9600, OUT_OF_TIME), (0, 103, FINISHED)])
def test_a_timed_run_that_runs_out_of_time_keeps_its_plan_unless_that_is_done(
    tmp_path, eval_every, planned, ending, monkeypatch
):
    """A pause between two steps, longer than all the time that was left."""
    monkeypatch.setattr(loop, "is_quarter", lambda *_: False)
    time = FakeTime()
    job = new_run(tmp_path, "a", max_steps=planned, eval_every=eval_every, sample_every=0)
    job.is_timed = True
    make_slow(job, time, lambda index: 200 if index == 101 else 0.01)
    why, state = train(job, clock=Clock(deadline=100, now=time))
    saved = checkpoint.read_config(checkpoint.find_checkpoint(job.run))["train"]
    assert why == ending and state.step == 102
    assert saved["max_steps"] == job.config.max_steps == (planned if why == OUT_OF_TIME else 102)


@pytest.mark.parametrize("at", [8, 12])
def test_a_resume_from_the_step_at_which_the_plan_changed_is_exact(tmp_path, monkeypatch, at):
    monkeypatch.setattr(
        horizon, "replanned_steps", lambda step, planned, *_: planned - 40 if step == at else planned
    )
    flags = {"max_steps": 80, "save_every": 4, "keep": 99, "sample_every": 0}
    straight = new_run(tmp_path, "straight", **flags)
    straight.is_timed = True
    train(straight)
    assert straight.config.max_steps == 40
    for step in (at, at + 4):
        run = tmp_path / f"from{step}"
        source = straight.run / f"step_{step:08d}"
        shutil.copytree(source, run / source.name)
        shutil.copyfile(straight.run / METRICS, run / METRICS)
        recorded = checkpoint.read_config(source)["train"]
        job, state = resumed(run, **recorded)
        train(job, state)
        assert digest(job) == digest(straight), step


def test_the_clock_keeps_time_for_what_closes_a_run():
    time = FakeTime()
    clock = Clock(deadline=60, now=time)
    with clock.timing("save"):
        time.s += 20
    assert clock.costs_s == {"save": 20} and clock.left_s == 40 and clock.remaining_s == 40 - 1.25 * 20
    assert not Clock(deadline=60, costs_s={"save": 40}, now=FakeTime()).is_over()
    assert Clock(deadline=60, costs_s={"save": 40, "evaluation": 10}, now=FakeTime()).is_over()


def test_the_limit_counts_from_the_beginning_and_the_elapsed_time_from_the_first_step():
    time = FakeTime()
    clock = Clock(now=time)
    time.s += 30  # what was prepared
    clock.limit(None)
    assert clock.left_s == math.inf
    clock.limit(60)
    assert clock.left_s == 60 - 30 - 1, "a second is kept for the end of the process"
    clock.limit(10)
    assert clock.left_s == 10 - 30 - 0.5, "or a twentieth of the limit"
    clock.go_on(500)
    time.s += 7
    assert clock.elapsed_s == 507


def test_the_deadline_holds_when_everything_is_due_just_before_it(tmp_path, monkeypatch):
    def took(seconds, result=None):
        time.s += seconds
        return result

    # In the background for as long as it likes, but what closes the run waits for it.
    monkeypatch.setattr(Saver, "save", lambda self, snap: setattr(self, "saved_at", took(0, snap.step)))
    monkeypatch.setattr(Saver, "finish", lambda self, snap: took(20))
    monkeypatch.setattr(loop, "evaluate", lambda *args: took(20, Evaluation(1.0, 1.0)))
    for deadline in range(100, 400, 7):
        time = FakeTime()
        run = tmp_path / str(deadline)
        run.mkdir()
        job = make_job(run, make_config(max_steps=10**6, eval_every=9, sample_every=9, save_every=9))
        job.sample = lambda step, stop: took(20, "")
        batch = job.source.batch
        job.source.batch = lambda index, batch=batch: took(1, batch(index))
        costs_s = {"save": 20.0, "evaluation": 20.0, "sample": 20.0}
        assert train(job, clock=Clock(deadline, costs_s, time))[0] == OUT_OF_TIME
        assert time.s <= deadline


@pytest.mark.parametrize("eval_every", [0, 300])
def test_a_short_timed_run_follows_the_speed_though_it_has_no_evaluation_on_the_way(tmp_path, eval_every):
    time = FakeTime()
    job = new_run(tmp_path, "a", max_steps=200, eval_every=eval_every, sample_every=0)
    job.is_timed = True
    make_slow(job, time, lambda index: 1.0)  # twice as slow as it was planned for
    why, state = train(job, clock=Clock(deadline=100, now=time))
    assert why == FINISHED and 80 <= state.step == job.config.max_steps <= 100
