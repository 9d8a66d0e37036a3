"""Saving in the background: one at a time, nothing raised, nothing lost, memory taken once."""

import os
import sys
import threading

import numpy as np
import pytest

from microgpt.common.errors import CheckpointError
from microgpt.files import durable
from microgpt.runs import layout, saver
from microgpt.runs.checkpoint import Snapshot, load_weights
from microgpt.runs.kept import newest_valid
from microgpt.runs.layout import checkpoints
from microgpt.runs.saver import Saver
from microgpt.training.adam import Adam
from tests.training.fakes import FakeModel, FakeTokenizer, arena, make_config


class State:
    """What a snapshot is taken of."""

    def __init__(self):
        self.model = FakeModel()
        self.adam = Adam(self.model, make_config())
        self.tokenizer = FakeTokenizer()


@pytest.fixture
def state():
    return State()


@pytest.fixture
def snap(state):
    return Snapshot(state.model, state.adam, state.tokenizer)


@pytest.fixture
def run(tmp_path):
    return tmp_path


def new_saver(run, keep=2, n_bytes=1000):
    return Saver(run, keep, pytest.fail, n_bytes)


def fill(snap, step, **metrics):
    return snap.fill({}, {"step": step, "metrics": metrics})


def steps(run):
    return [step for step, _ in checkpoints(run)]


class Gate:
    """Holds back the writing of files until it is opened; counts who writes at once."""

    def __init__(self, monkeypatch):
        self.opened, self.inside, self.most = threading.Event(), 0, 0
        self.real = durable.write_file
        monkeypatch.setattr(durable, "write_file", self)

    def __call__(self, path, parts):
        self.inside += 1
        self.most = max(self.most, self.inside)
        assert self.opened.wait(600)
        self.inside -= 1
        return self.real(path, parts)


class Watched:
    """A lock that tells when somebody has to wait for it."""

    def __init__(self, lock):
        self.lock, self.release, self.wanted = lock, lock.release, threading.Event()

    def acquire(self):
        if self.lock.locked():
            self.wanted.set()
        return self.lock.acquire()

    def __enter__(self):
        self.acquire()

    def __exit__(self, *_):
        self.release()


def test_training_goes_on_while_a_save_is_written(run, snap, state, monkeypatch):
    gate, worker = Gate(monkeypatch), new_saver(run)
    state.model.params.flat[:] = 1
    worker.save(fill(snap, 3))
    state.model.params.flat[:] = 2  # the next step
    assert worker.poll() is None and worker.saved_at == -1 and steps(run) == []
    gate.opened.set()
    result = worker.wait()
    assert result.step == 3 and result.error is None and result.seconds > 0
    assert worker.saved_at == 3 and worker.poll() is None
    load_weights(newest_valid(run), state.model)
    assert (state.model.params.flat == 1).all()


def test_one_save_at_a_time_and_no_fill_under_a_save(run, snap, monkeypatch):
    gate, worker = Gate(monkeypatch), new_saver(run)
    snap.in_use = Watched(snap.in_use)
    worker.save(fill(snap, 1))
    late = threading.Thread(target=lambda: worker.save(fill(snap, 2)))
    late.start()
    assert snap.in_use.wanted.wait(600)
    assert snap.step == 1, "the memory that is being written must not be filled"
    gate.opened.set()
    late.join()
    assert [worker.wait().step, worker.wait().step] == [1, 2] and gate.most == 1
    assert steps(run) == [2, 1]


def test_a_second_snapshot_waits_for_the_save_in_flight(run, snap, state, monkeypatch):
    gate, worker = Gate(monkeypatch), new_saver(run)
    other = fill(Snapshot(state.model, state.adam, state.tokenizer), 2)
    worker.save(fill(snap, 1))
    threading.Timer(0.05, gate.opened.set).start()
    worker.finish(other)
    assert gate.most == 1 and worker.saved_at == 2
    first = worker.poll()
    assert (first.step, first.error) == (1, None)


def test_memory_is_taken_once(snap, state):
    first = [fill(snap, 1).weights, snap.moments]
    state.model.params.flat[:] = 5
    second = [fill(snap, 2).weights, snap.moments]
    for before, after in zip(first, second, strict=True):
        assert all(np.shares_memory(before[name], after[name]) for name in before)
    assert all((view == 5).all() for view in second[0].values())


def test_a_failed_save_raises_nothing_and_the_next_one_is_good(run, snap, monkeypatch):
    worker = new_saver(run)
    with monkeypatch.context() as patch:
        patch.setattr(durable, "write_file", lambda *_: (_ for _ in ()).throw(OSError(28, os.strerror(28))))
        worker.save(fill(snap, 1))
        result = worker.wait()
        assert "No space left on device" in result.error and "\n" not in result.error
        assert worker.saved_at == -1 and steps(run) == []
    worker.save(fill(snap, 2))
    assert worker.wait().error is None and worker.saved_at == 2


@pytest.mark.parametrize("problem", [MemoryError("no memory"), ZeroDivisionError("a bug")])
def test_whatever_goes_wrong_in_the_background_is_told(run, snap, monkeypatch, problem):
    monkeypatch.setattr(saver, "persist", lambda *_: (_ for _ in ()).throw(problem))
    worker = new_saver(run)
    worker.save(fill(snap, 1))
    assert worker.wait().error == f"{type(problem).__name__}: {problem}"
    fill(snap, 2)  # the memory is free again


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere threads have no priority")
def test_a_save_in_the_background_gives_way_and_one_in_front_does_not(run, snap, monkeypatch):
    def niceness(*_):
        seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    seen, own = [], os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    monkeypatch.setattr(saver, "persist", niceness)
    worker = new_saver(run)
    worker.save(fill(snap, 1))
    worker.wait()
    worker.finish(fill(snap, 2))
    assert seen == [min(own + saver.GIVE_WAY, 19), own]


@pytest.mark.parametrize("problem", [RuntimeError("can't start new thread"), MemoryError()])
def test_without_a_thread_it_is_saved_at_once(run, snap, monkeypatch, problem):
    def no_thread(_):
        raise problem

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    worker = new_saver(run)
    worker.save(fill(snap, 1))
    assert worker.poll().error is None and steps(run) == [1]


def test_an_interrupted_save_without_a_thread_leaves_the_memory_free(run, snap, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", lambda _: (_ for _ in ()).throw(RuntimeError("no thread")))
    monkeypatch.setattr(saver, "persist", interrupted)
    worker = new_saver(run)
    with pytest.raises(KeyboardInterrupt):
        worker.save(fill(snap, 1))
    assert not snap.in_use.locked()


def test_the_last_save_raises_and_can_be_tried_again(run, snap, monkeypatch):
    worker = new_saver(run)
    with monkeypatch.context() as patch:
        patch.setattr(durable, "rename", lambda *_: (_ for _ in ()).throw(OSError(5, os.strerror(5))))
        with pytest.raises(CheckpointError, match="Input/output error"):
            worker.finish(fill(snap, 4))
    worker.finish(fill(snap, 4))
    assert worker.saved_at == 4 and steps(run) == [4]


def test_a_full_disk_is_known_before_anything_is_written(run, snap, monkeypatch):
    worker = new_saver(run, n_bytes=1 << 60)
    monkeypatch.setattr(durable, "write_file", lambda *_: pytest.fail("wrote"))
    with pytest.raises(CheckpointError, match=r"MB free on that disk.* stay free; make room"):
        worker.finish(fill(snap, 1))
    assert "cannot tell the free space" in layout.free_space_problem(run / "nowhere", 1)
    assert layout.free_space_problem(run, 1) is None


def test_a_run_directory_that_vanished_is_told_and_not_made_anew(run, snap):
    worker = new_saver(run / "gone")
    worker.save(fill(snap, 1))
    assert "No such file" in worker.wait().error and not (run / "gone").exists()


def test_a_state_that_is_not_finite_is_refused_and_never_written(run, snap, state):
    fill(snap, 1)
    state.adam.slots["m2"].flat[-1] = np.nan
    with pytest.raises(CheckpointError, match="some m2 are not finite"):
        fill(snap, 2)
    with pytest.raises(CheckpointError, match="no finite state"):
        new_saver(run).finish(snap)
    state.adam.slots["m2"].flat[-1] = 1
    new_saver(run).finish(fill(snap, 3))
    assert steps(run) == [3]


def test_the_best_by_held_out_loss_is_kept_beside_the_newest(run, snap):
    worker = new_saver(run)
    losses = {1: 3.0, 2: 1.5, 3: 1.5, 4: 2.0, 5: "nan", 6: 2.5}
    kept = {}
    for step, loss in losses.items():
        worker.finish(fill(snap, step, val_loss=loss, val_step=step))
        kept[step] = steps(run)
    assert kept == {1: [1], 2: [2, 1], 3: [3, 2], 4: [4, 3, 2], 5: [5, 4, 2], 6: [6, 5, 2]}
    worker.finish(fill(snap, 7, val_loss=1.0, val_step=7))
    worker.finish(fill(snap, 8))
    worker.finish(fill(snap, 9))
    assert steps(run) == [9, 8, 7]


def test_a_loss_that_an_older_step_had_makes_no_best(run, snap):
    worker = new_saver(run, keep=1)
    for step, val_step in ((1, 1), (2, 1), (3, 1)):
        worker.finish(fill(snap, step, val_loss=2.0 if step == 1 else 1.0, val_step=val_step))
    assert steps(run) == [3, 1]


def test_of_equally_good_ones_the_earliest_by_number_is_kept(run, snap):
    worker = new_saver(run, keep=1)
    for step in (99_999_999, 100_000_000, 100_000_001):
        worker.finish(fill(snap, step, val_loss=2.0, val_step=step))
    assert steps(run) == [100_000_001, 99_999_999]


def test_a_damaged_state_makes_no_best(run, snap):
    worker = new_saver(run, keep=1)
    for step, loss in ((1, 1.5), (2, 2.5)):
        worker.finish(fill(snap, step, val_loss=loss, val_step=step))
    path = run / "step_00000002" / "state.json"
    path.write_text(path.read_text().replace("2.5", "0.5"))
    worker.finish(fill(snap, 3))
    assert steps(run) == [3, 1]


def test_a_damaged_checkpoint_takes_no_place_of_a_good_one(run, snap):
    worker = new_saver(run, keep=2)
    for step in (1, 2):
        worker.finish(fill(snap, step))
    (run / "step_00000002" / "model.safetensors").write_bytes(b"cut")
    worker.finish(fill(snap, 3))
    assert steps(run) == [3, 2, 1], "1 is the second that is good"
    worker.finish(fill(snap, 4))
    assert steps(run) == [4, 3]


def test_the_newest_without_skipped_steps_is_kept(run, snap):
    worker = new_saver(run, keep=1)
    seen = []
    for step, bad_steps in ((1, 0), (2, 0), (3, 1), (4, 2), (5, 0)):
        worker.finish(snap.fill({}, {"step": step, "setbacks": {"bad_steps": bad_steps}}))
        seen.append(steps(run))
    assert seen == [[1], [2], [3, 2], [4, 2], [5]]


def test_a_name_that_is_not_sure_to_be_on_the_disk_is_taken_back(run, snap, monkeypatch):
    """Else the next save would find it there, and report a success that the disk had refused."""

    def failing(path):
        if path == run:
            raise OSError(5, os.strerror(5))

    worker = new_saver(run)
    with monkeypatch.context() as patch:
        patch.setattr(durable, "sync_directory", failing)
        with pytest.raises(CheckpointError, match="Input/output error"):
            worker.finish(fill(snap, 1))
    assert list(run.iterdir()) == []


def test_a_model_whose_file_nobody_could_read_is_refused_before_the_first_step(state):
    names = {f"h.{number}.a.rather.long.name.of.a.weight": (1,) for number in range(6000)}
    state.model.params, state.model.grads = arena(names), arena(names)
    with pytest.raises(CheckpointError, match=r"12,000 tensors make a header of .* a model of fewer layers"):
        Snapshot(state.model, Adam(state.model, make_config()), state.tokenizer)


def test_without_evaluations_only_the_newest_are_kept(run, snap):
    worker = new_saver(run, keep=1)
    for step in (1, 2, 3):
        worker.finish(fill(snap, step))
    assert steps(run) == [3]


def test_an_old_checkpoint_that_cannot_go_is_told(run, snap, monkeypatch):
    said = []
    worker = Saver(run, 1, said.append, 1000)
    worker.finish(fill(snap, 1))
    monkeypatch.setattr(
        durable, "remove_directory", lambda *_: (_ for _ in ()).throw(OSError(30, os.strerror(30)))
    )
    worker.finish(fill(snap, 2))
    assert worker.saved_at == 2 and len(said) == 1 and "step_00000001: Read-only file system" in said[0]


def test_litter_of_failed_saves_goes_with_the_next_one(run, snap):
    for name in (".tmp_step_00000001_1", ".tmp_removed_step_00000001_1"):
        (run / name).mkdir()
    (run / ".tmp_other").write_text("not of a save")
    new_saver(run).finish(fill(snap, 2))
    assert [path.name for path in run.glob(".tmp*")] == [".tmp_other"]


def test_a_tokenizer_that_cannot_be_written_is_a_failed_save(run, state, monkeypatch):
    from microgpt.tokenizer import TokenizerError

    def save(self, path):
        raise TokenizerError(f"{path}: cannot be written: No space left on device")

    monkeypatch.setattr(FakeTokenizer, "save", save)
    with pytest.raises(CheckpointError, match=r"cannot save .*No space left"):
        new_saver(run).finish(fill(Snapshot(state.model, state.adam, FakeTokenizer()), 1))
    assert not list(run.glob(".tmp*"))
