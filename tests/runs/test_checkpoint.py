"""Checkpoints: round trip, damage, faults while saving, what is kept, what is found."""

import json
import os
import shutil

import numpy as np
import pytest
import safetensors.numpy

from microgpt.common.errors import CheckpointError, ConfigError
from microgpt.files import durable
from microgpt.runs import layout
from microgpt.runs.checkpoint import load_weights
from microgpt.runs.kept import ALL_FILES, MANIFEST, MODEL_FILES, find_checkpoint, newest_calm, verify
from microgpt.runs.layout import RunDirectory, checkpoint_name, checkpoints, newest_run
from tests.training.fakes import FakeModel, arena, make_config, make_job, train


@pytest.fixture
def run(tmp_path):
    """A finished run of 6 steps with checkpoints at 2, 4 and 6."""
    run = tmp_path / "runs" / "a"
    run.mkdir(parents=True)
    train(make_job(run, make_config(max_steps=6, save_every=2, keep=3)))
    return run


def damage(path):
    """Flip one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def names(run):
    return [path.name for _, path in checkpoints(run)]


def heard():
    lines = []
    return lines, lines.append


def test_layout_is_the_documented_one(run):
    newest = run / "step_00000006"
    assert sorted(path.name for path in newest.iterdir()) == sorted([*ALL_FILES, MANIFEST])
    assert sorted(path.name for path in run.iterdir()) == ["metrics.jsonl", *reversed(names(run))]
    state = json.loads((newest / "state.json").read_text())
    assert state["step"] == 6 and state["position"] == 6 and state["tokens"] == 6 * 2 * 6
    assert state["metrics"]["val_step"] == 6 and state["isa"] == "fake"
    moments = safetensors.numpy.load_file(newest / "optimizer.safetensors")
    assert set(moments) == {f"{m}.{name}.weight" for m in ("m1", "m2") for name in ("table", "bias")}


def test_weights_come_back_and_anyone_can_read_them(run):
    model = FakeModel()
    load_weights(find_checkpoint(run), model)
    tensors = safetensors.numpy.load_file(run / "step_00000006" / "model.safetensors")
    assert model.params["table.weight"].any()
    for name, view in model.params.items():
        np.testing.assert_array_equal(tensors[name], view)


def test_only_the_newest_are_kept(tmp_path):
    for keep, left in ((1, [10]), (2, [10, 8]), (9, [10, 8, 6, 4, 2])):
        run = tmp_path / str(keep)
        run.mkdir()
        train(make_job(run, make_config(max_steps=10, save_every=2, keep=keep)))
        assert names(run) == [checkpoint_name(step) for step in left]


@pytest.mark.parametrize("name", [*ALL_FILES, MANIFEST])
def test_a_damaged_file_is_refused_by_name_and_the_older_checkpoint_taken(run, name):
    newest = run / "step_00000006"
    damage(newest / name)
    with pytest.raises(CheckpointError, match=name) as error:
        verify(newest)
    assert "\n" not in str(error.value)
    lines, say = heard()
    assert find_checkpoint(run, say=say).name == "step_00000004"
    assert len(lines) == 1 and name in lines[0]
    with pytest.raises(CheckpointError, match=name):
        find_checkpoint(newest)


@pytest.mark.parametrize("change", ["cut", "longer", "missing"])
def test_a_wrong_length_is_refused(run, change):
    path = run / "step_00000006" / "model.safetensors"
    data = path.read_bytes()
    path.unlink()
    if change != "missing":
        path.write_bytes(data[:-1] if change == "cut" else data + b"\0")
    lines, say = heard()
    assert find_checkpoint(run, say=say).name == "step_00000004" and "model.safetensors" in lines[0]


def test_a_file_that_cannot_be_read_is_as_good_as_damaged(run, monkeypatch):
    real = durable.sha256_of

    def failing(path):
        if path.parent.name == "step_00000006":
            raise OSError(5, os.strerror(5))
        return real(path)

    monkeypatch.setattr(durable, "sha256_of", failing)
    lines, say = heard()
    assert find_checkpoint(run, say=say).name == "step_00000004"
    assert "Input/output error" in lines[0] and "model.safetensors" in lines[0]


def test_sizes_of_all_files_count_even_where_only_the_model_is_read(run):
    (run / "step_00000006" / "optimizer.safetensors").write_bytes(b"short")
    lines, say = heard()
    assert find_checkpoint(run, MODEL_FILES, say).name == "step_00000004" and len(lines) == 1


def test_every_byte_of_the_manifest_counts(run):
    path = run / "step_00000006" / MANIFEST
    good = path.read_bytes()
    for position in range(len(good)):
        bad = bytearray(good)
        bad[position] ^= (1, 32, 128)[position % 3]
        path.write_bytes(bad)
        with pytest.raises(CheckpointError):
            verify(path.parent)
    path.write_bytes(good)
    verify(path.parent)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        "null",
        '{"format": 1}',
        '{"format": 2, "files": {}}',
        '{"format": 1, "files": []}',
        '{"format": 1, "files": {"model.safetensors": {"size": "big"}}}',
        "[" * 100_000,
        "\xff",
    ],
)
def test_a_hostile_manifest_is_an_error_of_one_line(run, content):
    (run / "step_00000006" / MANIFEST).write_text(content, encoding="latin-1")
    with pytest.raises(CheckpointError) as error:
        verify(run / "step_00000006")
    assert "\n" not in str(error.value)


def test_all_damaged_is_an_error(run):
    for _, path in checkpoints(run):
        (path / "state.json").unlink()
    lines, say = heard()
    with pytest.raises(CheckpointError, match="no checkpoint in it can be used"):
        find_checkpoint(run, say=say)
    assert len(lines) == 3


@pytest.mark.parametrize("shape", [(11, 10), (121,)])
def test_weights_of_another_shape_are_refused_and_nothing_is_changed(run, shape):
    model = FakeModel()
    other = arena({"table.weight": shape, "bias.weight": (11,)})
    model.params = other
    with pytest.raises(CheckpointError, match=r"table\.weight is \(11, 11\)"):
        load_weights(find_checkpoint(run), model)
    assert not other.flat.any()


def test_missing_and_extra_tensors_are_refused(run):
    model = FakeModel()
    for wrong in ({"table.weight": (11, 11)}, {"table.weight": (11, 11), "bias.weight": (11,), "more": (1,)}):
        model.params = arena(wrong)
        with pytest.raises(CheckpointError, match=r"tensor (bias\.weight|more) is"):
            load_weights(find_checkpoint(run), model)


STEPS = ("write_file", "describe", "sync_directory", "rename")


@pytest.mark.parametrize("call", STEPS)
@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
def test_a_fault_while_saving_leaves_the_older_checkpoint_and_no_litter(run, monkeypatch, call, number):
    """The n-th call of each kind of write fails: what was there stays, nothing half-made is left."""
    real, calls = getattr(durable, call), []

    def failing(*args):
        calls.append(args)
        if len(calls) == number:
            raise OSError(28, os.strerror(28))
        return real(*args)

    before = {
        path: path.read_bytes() for path in run.rglob("*") if path.is_file() and "metrics" not in path.name
    }
    monkeypatch.setattr(durable, call, failing)
    job = make_job(run, make_config(max_steps=8, eval_every=0, sample_every=0, keep=9))
    try:
        train(job)
        assert len(calls) < number and "step_00000008" in names(run)
    except CheckpointError as error:
        assert "No space left on device" in str(error) and "earlier checkpoints are intact" in str(error)
        assert "step_00000008" not in names(run), "what is not sure to be on the disk is not saved"
    assert not list(run.glob(".tmp*"))
    assert all(path.read_bytes() == data for path, data in before.items())


def test_the_older_checkpoint_goes_only_after_the_newer_was_read_back(run, monkeypatch):
    real = durable.rename

    def rename_and_damage(source, target):
        real(source, target)
        damage(target / "model.safetensors")

    monkeypatch.setattr(durable, "rename", rename_and_damage)
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        train(make_job(run, make_config(max_steps=8, eval_every=0, keep=1)))
    assert names(run) == ["step_00000006", "step_00000004", "step_00000002"], "the bad one is gone"


def test_a_step_that_comes_again_is_written_again(run):
    """After going back a run comes to the same step with other weights."""
    old = load_weights_of(run / "step_00000006")
    train(make_job(run, make_config(max_steps=6, lr=0.01, eval_every=0, sample_every=0)))
    assert not np.array_equal(load_weights_of(run / "step_00000006"), old)


def load_weights_of(path):
    verify(path)
    model = FakeModel()
    load_weights(path, model)
    return model.params.flat


def test_values_that_are_not_finite_are_never_saved(tmp_path):
    for name in ("params", "m1", "m2"):
        job = make_job(tmp_path, make_config())
        (job.model.params if name == "params" else job.optimizer.slots[name]).flat[3] = np.inf
        with pytest.raises(CheckpointError, match="not finite"), job.log:
            job.snapshot.fill({}, {"step": 0})


def test_a_snapshot_shares_no_memory_with_the_run(tmp_path):
    job = make_job(tmp_path, make_config())
    with job.log:
        snap = job.snapshot.fill({}, {"step": 0})
    before = {name: tensor.copy() for name, tensor in snap.weights.items()}
    job.model.params.flat[:] = 1
    job.optimizer.slots["m1"].flat[:] = 1
    assert all((snap.weights[name] == before[name]).all() for name in before)
    assert not any(tensor.any() for tensor in snap.moments.values())


def test_a_damaged_checkpoint_is_replaced_when_its_step_comes_again(run):
    damage(run / "step_00000006" / "model.safetensors")
    train(make_job(run, make_config(max_steps=6, eval_every=0, sample_every=0)))
    verify(run / "step_00000006")
    assert not list(run.glob(".tmp*"))


def test_find_checkpoint_says_what_is_wrong_with_a_path(tmp_path, run):
    empty = tmp_path / "empty"
    empty.mkdir()
    for path in (empty, tmp_path / "nowhere", run / "metrics.jsonl"):
        with pytest.raises(CheckpointError, match="expected"):
            find_checkpoint(path)
    copy = tmp_path / "best"
    shutil.copytree(run / "step_00000004", copy)
    assert find_checkpoint(copy) == copy


def test_the_newest_run_is_the_one_that_saved_last(tmp_path, run, monkeypatch):
    other = run.parent / "b"
    shutil.copytree(run, other)
    (run.parent / "empty").mkdir()
    os.utime(other / "step_00000006", (1, 1))
    assert newest_run(run.parent) == run
    os.utime(run / "step_00000006", (0, 0))
    assert newest_run(run.parent) == other
    monkeypatch.chdir(tmp_path)
    assert find_checkpoint(None).parent.name == "b"
    monkeypatch.chdir(run)
    with pytest.raises(CheckpointError, match="no checkpoint under runs/"):
        find_checkpoint(None)


def test_a_checkpoint_that_goes_while_the_newest_run_is_looked_for(run, monkeypatch):
    def one_is_gone(path):
        return [(9, path / "step_00000009"), *real(path)]

    real = layout.checkpoints
    monkeypatch.setattr(layout, "checkpoints", one_is_gone)
    (run.parent / "b").mkdir()
    assert newest_run(run.parent) == run


def skipping(checkpoint, bad_steps=2):
    """Make a checkpoint one that was saved between skipped steps."""
    path = checkpoint / "state.json"
    state = json.loads(path.read_text())
    path.write_text(json.dumps(state | {"setbacks": state["setbacks"] | {"bad_steps": bad_steps}}))
    manifest = json.loads((checkpoint / MANIFEST).read_text())
    manifest["files"]["state.json"] = durable.describe(path)._asdict()
    (checkpoint / MANIFEST).write_text(json.dumps(manifest))
    verify(checkpoint)


def test_a_run_goes_back_to_the_newest_checkpoint_without_skipped_steps(run):
    newest, middle, oldest = (path for _, path in checkpoints(run))
    lines, say = heard()
    assert newest_calm(run, say) == newest
    skipping(newest)
    assert newest_calm(run, say) == middle and not lines
    damage(middle / "model.safetensors")
    assert newest_calm(run, say) == oldest and len(lines) == 1 and "step_00000004" in lines[0]
    skipping(oldest)
    assert newest_calm(run, say) == newest, "better than none"
    for path in (newest, oldest):
        damage(path / "state.json")
    assert newest_calm(run, say) is None and newest_calm(run.parent, say) is None


def test_a_second_trainer_is_refused_at_once(run):
    with RunDirectory(run):
        with pytest.raises(ConfigError, match="another training is using"), RunDirectory(run):
            pass
        assert run.exists()
    with RunDirectory(run):
        pass


def test_starting_removes_nothing_and_a_save_only_what_a_session_left(run):
    for name in (".tmp_step_00000008_77", ".tmp_removed_step_00000004_77", ".tmp_notes", ".tmp_step_8_77"):
        (run / name).mkdir()
        (run / name / "model.safetensors").write_bytes(b"half")
    (run / ".tmp_step_00000009_5").write_bytes(b"no directory, so not ours")
    (run / ".tmp_trained_on.hashes_77").write_bytes(b"half")
    with RunDirectory(run):
        assert len(list(run.glob(".tmp*"))) == 6
    train(make_job(run, make_config(max_steps=2, eval_every=0, sample_every=0)))
    left = sorted(path.name for path in run.glob(".tmp*"))
    assert left == [".tmp_notes", ".tmp_step_00000009_5", ".tmp_step_8_77"]


def test_what_the_next_save_removes_counts_as_free(run, monkeypatch):
    usage = shutil.disk_usage(run)._replace(free=layout.SPARE_BYTES)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert layout.free_space_problem(run, 1000)
    for name, is_ours in ((".tmp_mine", False), (".tmp_step_00000008_77", True)):
        (run / name).mkdir()
        (run / name / "model.safetensors").write_bytes(b"x" * 1000)
        assert (layout.free_space_problem(run, 1000) is None) == is_ours


def test_a_run_directory_that_stays_empty_is_not_left_behind(tmp_path):
    with RunDirectory(tmp_path / "x" / "y"):
        assert (tmp_path / "x" / "y").is_dir()
    assert not (tmp_path / "x" / "y").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot use"), RunDirectory(tmp_path / "file"):
        pass


def test_an_empty_directory_of_the_users_stays(tmp_path):
    with RunDirectory(tmp_path):
        pass
    assert tmp_path.is_dir()


def test_a_name_that_is_taken_gets_a_number(tmp_path):
    path = tmp_path / "runs" / "x"
    with RunDirectory(path, is_numbered=True) as first, RunDirectory(path, is_numbered=True) as second:
        assert (first.path, second.path) == (path, tmp_path / "runs" / "x-2")
        with RunDirectory(path, is_numbered=True) as third:
            assert third.path.name == "x-3"
    assert not list((tmp_path / "runs").iterdir())


@pytest.mark.parametrize(
    "content, is_ours",
    [
        (b"", True),
        (b'{"ev', True),
        (b'{"event": "start", "st', True),
        (b'{"event": "start", "step": 0, "n_params": 3}\n{"ev', True),
        (b"\0" * 9000, True),
        (b'{"event": "start"\0\0\0', True),
        (b'{"loss": 1}\n', False),
        (b'{"event": "click", "user": 3}\n', False),
        (b"notes", False),
    ],
)
def test_a_log_is_known_by_its_first_line(tmp_path, content, is_ours):
    (tmp_path / "metrics.jsonl").write_bytes(content)
    assert layout.is_log(tmp_path / "metrics.jsonl") == is_ours


def test_what_is_no_file_is_no_log(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for name in ("fifo", "nothing", "."):
        assert not layout.is_log(tmp_path / name)


def test_a_checkpoint_belongs_to_the_run_it_lies_in_however_it_is_named(run, tmp_path, monkeypatch):
    inside, link = run / "step_00000004", tmp_path / "link"
    link.symlink_to(inside)
    assert layout.run_of(inside) == layout.run_of(link) == run
    for folder, path in ((run, inside.name), (inside, ".")):
        monkeypatch.chdir(folder)
        assert layout.run_of(layout.Path(path)).resolve() == run.resolve()
    for copy in (tmp_path / "best", tmp_path / inside.name):
        shutil.copytree(inside, copy)
        assert layout.run_of(copy) is None
    (tmp_path / "metrics.jsonl").write_text("mine")
    assert layout.run_of(tmp_path / inside.name) is None
