"""The loop on a fake model: exact resume, stops, bad numbers, what is logged."""

import math
import os
import shutil

import numpy as np
import pytest

from microgpt.common.errors import CheckpointError
from microgpt.evaluation.loss import Evaluation, evaluate
from microgpt.model import Batch
from microgpt.runs import checkpoint, saver
from microgpt.runs.layout import METRICS, checkpoints
from microgpt.runs.metrics import MetricsLog, read_metrics
from microgpt.training import loop
from microgpt.training.clock import Clock
from microgpt.training.loop import FINISHED, NO_GAIN, OUT_OF_TIME, STOPPED, accumulate
from microgpt.training.stop import StopFlag
from tests.training.fakes import FakeBatches, FakeModel, FakeWindows, train
from tests.training.loops import digest, events, new_run, resumed


class StopAfter(StopFlag):
    """Asks for the end when the micro-batch with a certain index has been fetched."""

    def __init__(self, job, index):
        super().__init__()
        self._asked, self._index = job.source.asked, index

    def __bool__(self):
        if self._index in self._asked:
            self.request()
        return super().__bool__()


def test_training_learns_and_leaves_a_checkpoint(tmp_path):
    job = new_run(tmp_path, "a", max_steps=60)
    why, state = train(job)
    losses = [line["loss_nats"] for line in events(job.run) if line["event"] == "eval"]
    assert why == FINISHED and state.step == state.updates == 60
    assert losses[-1] < losses[0] - 0.2
    assert [step for step, _ in checkpoints(job.run)] == [60]


@pytest.mark.parametrize("grad_accum", [1, 3])
@pytest.mark.parametrize("stop_step", [0, 1, 4, 6, 10, 12, 19])
def test_a_stopped_and_resumed_run_equals_a_straight_one(tmp_path, grad_accum, stop_step):
    straight = new_run(tmp_path, "straight", grad_accum=grad_accum)
    train(straight)
    stopped = new_run(tmp_path, "stopped", grad_accum=grad_accum)
    # In the middle of a step if it has several micro-batches: that step is done again, whole.
    why, state = train(stopped, stop=StopAfter(stopped, stop_step * grad_accum))
    assert why == STOPPED and state.step == stop_step + (grad_accum == 1)
    assert digest(stopped) != digest(straight) or state.step == 20
    job, state = resumed(stopped.run, grad_accum=grad_accum)
    assert train(job, state)[0] == FINISHED
    assert digest(job) == digest(straight)
    assert events(job.run) == events(straight.run)
    last = "step_00000020"
    for name in (checkpoint.WEIGHTS, checkpoint.MOMENTS):
        assert (job.run / last / name).read_bytes() == (straight.run / last / name).read_bytes()


@pytest.mark.parametrize("grad_accum", [1, 3])
def test_every_checkpoint_saved_beside_training_goes_on_to_the_same_end(tmp_path, grad_accum):
    """What a background save holds is its own step, however far the training has come meanwhile."""
    straight = new_run(tmp_path, "straight", grad_accum=grad_accum, save_every=3, keep=99)
    train(straight)
    whole = events(straight.run)
    found = checkpoints(straight.run)
    assert [step for step, _ in found] == [20, 18, 15, 12, 9, 8, 6, 3]
    for step, source in found[1:]:
        run = tmp_path / f"from{step}"
        shutil.copytree(source, run / source.name)
        shutil.copyfile(straight.run / METRICS, run / METRICS)
        job, state = resumed(run, grad_accum=grad_accum, save_every=3, keep=99)
        train(job, state)
        assert digest(job) == digest(straight) and events(run) == whole


def test_a_save_that_fails_is_told_and_tried_again(tmp_path, monkeypatch, capsys):
    job = new_run(tmp_path, "a", save_every=4, keep=9)
    write = saver.persist

    def refuse(snap, *rest):
        if snap.step in (4, 8):
            raise CheckpointError("cannot save it: No space left on device")
        return write(snap, *rest)

    monkeypatch.setattr(saver, "persist", refuse)
    why, _ = train(job)
    assert why == FINISHED and [step for step, _ in checkpoints(job.run)] == [20, 16, 12]
    failures = [line for line in events(job.run) if line["event"] == "save_failed"]
    assert [line["checkpoint"] for line in failures] == [4, 8] and "No space left" in failures[0]["error"]
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert len(told) == 2 and "training goes on, and the next save tries again" in told[0]


@pytest.mark.parametrize("is_gone", [False, True])
def test_the_last_save_must_succeed(tmp_path, monkeypatch, is_gone):
    """In a directory that is gone, and on a full disk that has an older checkpoint."""
    job = new_run(tmp_path, "a", save_every=8)
    write = saver.persist

    def refuse(snap, *rest):
        if is_gone:
            shutil.rmtree(job.run, ignore_errors=True)
        elif snap.step == 20:
            raise CheckpointError("cannot save it: No space left on device")
        return write(snap, *rest)

    monkeypatch.setattr(saver, "persist", refuse)
    with pytest.raises(CheckpointError) as error:
        train(job)
    assert job.optimizer.updates == 20 and "\n" not in str(error.value)
    assert is_gone or checkpoint.find_checkpoint(job.run).name == "step_00000016"


def test_metrics_that_cannot_be_written_cost_one_line_and_no_step(tmp_path, capsys):
    job = new_run(tmp_path, "a")
    file = job.log._file

    class Full:
        """A disk with room for a few more bytes now and then."""

        def __init__(self):
            self.calls = 0

        def write(self, data):
            self.calls += 1
            if 5 <= self.calls <= 8:
                if self.calls % 2:
                    return file.write(data[:7])
                raise OSError(28, os.strerror(28))
            return file.write(data)

        def __getattr__(self, name):
            return getattr(file, name)

    job.log._file = Full()
    assert train(job)[0] == FINISHED
    assert len(events(job.run)) == 20 + 6 + 4 - 2, "two lines are missing, none is torn"
    state = checkpoint.read_json(checkpoint.find_checkpoint(job.run) / checkpoint.STATE)
    assert state["metrics_bytes"] == (job.run / METRICS).stat().st_size
    assert capsys.readouterr().err.count("No space left on device; training goes on without it") == 1


def test_a_killed_session_leaves_nothing_in_the_metrics_twice(tmp_path):
    straight = new_run(tmp_path, "straight", save_every=5)
    train(straight)
    killed = new_run(tmp_path, "killed", save_every=5)
    killed.model.poison = {13: KeyboardInterrupt}  # not a number: the step dies with a TypeError
    with pytest.raises(TypeError):
        train(killed)
    with open(killed.run / METRICS, "ab") as file:
        file.write(b'{"event": "tra')
    job, state = resumed(killed.run, save_every=5)
    assert state.step == 10
    train(job, state)
    assert digest(job) == digest(straight) and events(job.run) == events(straight.run)


@pytest.mark.parametrize("end", ["update", "bad step", "stop"])
def test_gradients_are_zero_between_steps(tmp_path, end):
    job = new_run(tmp_path, "a", max_steps=2 + (end == "bad step"), eval_every=0)
    if end == "bad step":
        job.model.poison = {3: math.nan}
    train(job)
    if end == "stop":
        job.model.loss_and_grad(job.source.batch(0))
        assert accumulate(job, 0, stop=True) is None
    assert not job.model.grads.flat.any()


def test_how_a_step_is_cut_into_micro_batches_does_not_matter(tmp_path):
    """One step of three micro-batches of 2 windows = one of 6 windows; every window has a mask of its own."""
    job = new_run(tmp_path, "a", grad_accum=3, max_steps=1, eval_every=0)
    nats, n, _ = accumulate(job, 0, stop=False)
    job.log.close()
    assert job.source.asked == [0, 1, 2]
    parts = [FakeBatches(2, seed=0).batch(index) for index in range(3)]
    whole = FakeModel()
    whole.init(0)
    summed = whole.loss_and_grad(joined(parts), np.concatenate(job.model.keys))
    np.testing.assert_allclose(job.model.grads.flat, whole.grads.flat, rtol=0, atol=1e-6)
    assert nats == pytest.approx(summed[0]) and n == summed[1] == 6 * 6
    job = new_run(tmp_path, "b", grad_accum=3, max_steps=4)
    train(job)
    assert job.source.asked == list(range(12)) and len(set(np.concatenate(job.model.keys))) == 24


def joined(parts):
    """One batch of the windows of several."""
    return Batch(*(np.concatenate([part[i] for part in parts]) for i in range(2)))


class Masked(FakeBatches):
    """Of the micro-batches, some have no targets at all, the others more or fewer."""

    def batch(self, index):
        batch = super().batch(index)
        batch.targets[:, : (1, 5, 6)[index % 3]] = -1
        return batch


def test_a_loss_is_the_mean_over_scored_targets_and_an_empty_step_is_none(tmp_path, capsys):
    job = new_run(tmp_path, "a", max_steps=9, eval_every=0, sample_every=0, save_every=1, keep=99)
    job.source = Masked(2, 0)
    _, state = train(job)
    assert (state.step, state.updates, state.position) == (9, 6, 9)
    logged = events(job.run)
    assert [line["step"] for line in logged if line["event"] == "train"] == [1, 2, 4, 5, 7, 8]
    assert [line["step"] for line in logged if line["event"] == "empty"] == [3, 6, 9]
    assert all(1 < line["loss_nats"] < 5 for line in logged if line["event"] == "train")
    for tensors in (checkpoint.WEIGHTS, checkpoint.MOMENTS):
        both = [(job.run / f"step_0000000{n}" / tensors).read_bytes() for n in (2, 3)]
        assert both[0] == both[1]
    assert state.metrics["loss"] == logged[-2]["loss_nats"] and state.watch.loss.n == 6
    assert capsys.readouterr().err.count("nothing to learn in step") == 1


def test_a_target_counts_the_same_in_a_full_micro_batch_and_in_one_with_few(tmp_path):
    """Of the mean gradient: its norm, the update, and the loss that is logged."""
    jobs = [
        new_run(tmp_path, name, **sizes, max_steps=3, eval_every=0, sample_every=0)
        for name, sizes in (("a", {"grad_accum": 3}), ("b", {"batch_size": 6}))
    ]
    jobs[0].source = Masked(2, 0)

    class Joined(Masked):
        def batch(self, index):
            parts = [super(Joined, self).batch(3 * index + i) for i in range(3)]
            return joined(parts)

    jobs[1].source = Joined(2, 0)
    for job in jobs:
        train(job)
    np.testing.assert_allclose(jobs[0].model.params.flat, jobs[1].model.params.flat, rtol=0, atol=1e-5)
    for one, other in zip(*(events(job.run) for job in jobs), strict=True):
        assert one["loss_nats"] == pytest.approx(other["loss_nats"], rel=1e-5)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-4)


def test_a_step_with_bad_numbers_changes_nothing_and_is_logged(tmp_path):
    for name, loss in (("loss", math.nan), ("gradient", 1.5)):
        job = new_run(tmp_path, name, max_steps=2, save_every=1, keep=9)
        job.model.poison = {2: loss}
        _, state = train(job)
        assert state.step == state.position == 2 and state.updates == state.setbacks.bad_steps == 1
        first, second = (job.run / f"step_0000000{n}" for n in (1, 2))
        for tensors in (checkpoint.WEIGHTS, checkpoint.MOMENTS):
            assert (first / tensors).read_bytes() == (second / tensors).read_bytes()
        (skip,) = [line for line in events(job.run) if line["event"] == "skip"]
        assert skip["step"] == 2 and skip["position"] == 1 and skip["grad_norm"] == "nan"


def test_a_stop_during_an_evaluation_skips_it_and_the_resume_makes_up_for_it(tmp_path):
    job = new_run(tmp_path, "a")
    stop = StopFlag()
    token_losses = job.model.token_losses

    def interrupted(batch):
        if job.optimizer.updates == 8:
            stop.request(15)
        return token_losses(batch)

    job.model.token_losses = interrupted
    why, state = train(job, stop=stop)
    assert why == STOPPED and stop.exit_code == 143 and state.step == 8 and state.evaluated_at == 4
    job, state = resumed(job.run)
    train(job, state)
    assert [line["step"] for line in events(job.run) if line["event"] == "eval"] == [0, 4, 8, 12, 16, 20]


def evaluations(monkeypatch, losses):
    """Held-out losses by evaluation, in order; the last one again and again."""
    left = list(losses)
    monkeypatch.setattr(
        loop, "evaluate", lambda *_: Evaluation(left[0], left.pop(0) / 2 if len(left) > 1 else left[0] / 2)
    )


def test_a_run_that_no_longer_gains_ends_and_leaves_its_best_checkpoint(tmp_path, monkeypatch):
    evaluations(monkeypatch, [3, 2, math.nan, 1.5, 1.6, 1.5, 1.4, 1.5])
    job = new_run(tmp_path, "a", max_steps=99, stop_after=3, keep=1)
    why, state = train(job)
    # at 0, 4, ...: 3, 2, nan, 1.5, 1.6, 1.5 (no gain), 1.4, then nothing better three times
    assert why == NO_GAIN and state.step == 24 + 3 * 4
    best = {name: state.metrics[f"best_{name}"] for name in ("loss", "bpb", "step")}
    assert best == {"loss": 1.4, "bpb": 0.7, "step": 24} and state.metrics["evals_since_best"] == 3
    assert [step for step, _ in checkpoints(job.run)] == [36, 24]
    again, state = resumed(job.run, max_steps=99, stop_after=3)
    assert train(again, state)[0] == NO_GAIN and state.step == 36, "it is as finished as before"
    again, state = resumed(job.run, max_steps=40)
    assert train(again, state)[0] == FINISHED and state.step == 40


@pytest.mark.parametrize(
    "save_every, saved", [(8, [4, 8, 16, 20, 24, 28]), (10, [10, 16, 20, 28]), (40, [20, 28]), (0, [28])]
)
def test_halfway_between_two_checkpoints_the_best_evaluation_so_far_gets_one(
    tmp_path, monkeypatch, save_every, saved
):
    evaluations(monkeypatch, [9, 8, 7, 7, 6, 5, 4, 4])  # after 0, 4, ... 28 steps
    job = new_run(tmp_path, "a", max_steps=28, save_every=save_every, keep=99)
    train(job)
    assert [step for step, _ in checkpoints(job.run)][::-1] == saved


def test_a_stop_between_evaluations_is_none_that_counts(tmp_path, monkeypatch):
    """The session that is stopped evaluates once more; when the run ends must not depend on that."""
    evaluations(monkeypatch, [3, 2, 2.5])
    straight = new_run(tmp_path, "a", max_steps=99, stop_after=2)
    assert train(straight)[1].step == 12
    evaluations(monkeypatch, [3, 2, 1, 2.5])
    stopped = new_run(tmp_path, "b", max_steps=99, stop_after=2)
    clock = Clock()
    monkeypatch.setattr(clock, "is_over", lambda: stopped.optimizer.updates == 6)
    assert train(stopped, clock=clock)[0] == OUT_OF_TIME
    job, state = resumed(stopped.run, max_steps=99, stop_after=2)
    assert state.step == 6 and state.metrics["val_loss"] == 1 and state.metrics["best_loss"] == 2
    assert train(job, state)[0] == NO_GAIN and state.step == 12


def test_nothing_is_evaluated_sampled_or_saved_when_off(tmp_path):
    job = new_run(tmp_path, "a", eval_every=0, sample_every=0, save_every=0, log_every=7)
    train(job)
    assert [(line["event"], line["step"]) for line in events(job.run)] == [("train", n) for n in (1, 7, 14)]


def test_evaluation_is_the_mean_over_scored_targets_in_nats_and_in_bits_per_byte():
    model = FakeModel()
    model.init(1)
    ids, targets = FakeBatches(5, seed=3).batch(0)[:2]
    targets[4, 2:] = -1
    losses = model.token_losses(Batch(ids, targets))
    told = []
    windows = FakeWindows(ids, targets, n_tokens=26, n_bytes=40)
    result = evaluate(model, windows, batch_size=2, progress=told.append)
    assert told == [2, 2, 1]
    assert result.loss == pytest.approx(losses.sum() / 26, rel=1e-6)
    assert result.bpb == pytest.approx(losses.sum() / math.log(2) / 40, rel=1e-6)


def test_a_metrics_file_shorter_than_recorded_is_cut_to_whole_lines(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"event": "train", "step": 1}\n{"event": "tr')
    with MetricsLog(path, keep_bytes=1000) as log:
        log.write("train", 2, loss=math.inf)
    assert read_metrics(path) == [{"event": "train", "step": 1}, {"event": "train", "step": 2, "loss": "inf"}]
