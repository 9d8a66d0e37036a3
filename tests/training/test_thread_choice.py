"""`--threads auto`: probed once, remembered, bounded, and without a trace in the run."""

import gc
import json
import pwd
import tracemalloc
import weakref

import numpy as np
import pytest

from microgpt.core import arrays, native
from microgpt.machine.kept import MOST_ENTRIES, Finding, cache_file, recall, remember
from microgpt.model import GPT, Batch, ModelConfig, flop_per_token
from microgpt.runs.settings import TrainConfig
from microgpt.training import thread_choice
from microgpt.training.thread_choice import (
    Probe,
    TrialStep,
    candidates,
    choose_threads,
    fastest,
    fill_small,
    most_useful,
)

TINY = ModelConfig.from_preset("tiny", vocab_size=300)
KEY = {"model": "x"}


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """Four CPUs of a known rate, and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(thread_choice, "product_flop_per_s", lambda precision: 1e11)
    monkeypatch.setattr(thread_choice, "available_cpus", lambda: 4)
    yield
    native.set_threads(1)


@pytest.fixture
def probed(monkeypatch):
    """Probes that find 2 threads fastest without running; the list of (windows, budget)."""
    calls = []

    def found(step, cpus, budget_s):
        calls.append((len(step.batch.ids), budget_s))
        return Finding(2, {1: 0.812, 2: 0.425, 4: 0.5}, steady=True)

    monkeypatch.setattr(thread_choice, "_probed", found)
    return calls


class FakeStep:
    """A step that takes the given time on each number of threads."""

    def __init__(self, times):
        self.times, self.ran = times, []

    def __call__(self):
        self.ran.append(native.threads())

    def seconds(self):
        self()
        return self.times[native.threads()]


def test_auto_probes_once_and_says_what_it_found(probed):
    said = []
    assert choose_threads(TINY, TrainConfig(), said.append) == 2
    assert choose_threads(TINY, TrainConfig(), said.append) == 2
    times = "1 -> 812 ms, 2 -> 425 ms, 4 -> 500 ms"
    assert said == [f"threads: 2 of 4 (probed: {times})", f"threads: 2 of 4 (measured earlier: {times})"]
    assert len(probed) == 1


@pytest.mark.parametrize("change", [{"batch_size": 5}, {"dropout": 0.1}, {"n_layer": 1}, {"cpu": "another"}])
def test_another_shape_batch_or_machine_is_probed_anew(change, probed, monkeypatch):
    choose_threads(TINY, TrainConfig(), str)
    model = {name: change[name] for name in ("dropout", "n_layer") if name in change}
    cpu = change.get("cpu", thread_choice.cpu_name())
    monkeypatch.setattr(thread_choice, "cpu_name", lambda: cpu)
    train = TrainConfig(batch_size=change.get("batch_size", 8))
    choose_threads(ModelConfig.from_preset("tiny", 300, **model), train, str)
    assert len(probed) == 2
    choose_threads(ModelConfig.from_preset("tiny", 300, init_std=0.5, **model), train, str)
    assert len(probed) == 2  # the weights' values do not matter


def test_a_number_or_a_single_cpu_needs_no_probe(probed, monkeypatch):
    said = []
    assert choose_threads(TINY, TrainConfig(threads="3"), said.append) == 3
    monkeypatch.setattr(thread_choice, "available_cpus", lambda: 1)
    assert choose_threads(TINY, TrainConfig(), said.append) == 1
    assert not said and not probed


def test_short_runs_and_endless_steps_are_not_probed(probed, monkeypatch):
    said = []
    assert choose_threads(TINY, TrainConfig(), said.append, steps=20) == 4
    assert choose_threads(TINY, TrainConfig(), said.append, limit_s=0.01) == 4
    assert all("all CPUs; the run is too short to probe" in line for line in said)
    monkeypatch.setattr(thread_choice, "product_flop_per_s", lambda precision: 1e6)
    assert choose_threads(TINY, TrainConfig(), said.append) == 4 and "step is too long" in said[-1]
    assert not probed and not cache_file().exists()


def test_a_probe_is_cut_to_a_few_windows_and_a_share_of_the_run(probed, monkeypatch):
    monkeypatch.setattr(
        thread_choice, "product_flop_per_s", lambda precision: 3 * TINY.seq_len * flop_per_token(TINY)
    )
    said = []
    choose_threads(TINY, TrainConfig(batch_size=8), said.append, limit_s=1000)
    choose_threads(TINY, TrainConfig(batch_size=7), said.append, limit_s=70)
    (windows, budget_s), (_, short_s) = probed
    assert windows == 1 and "probed on 1 of 8 windows: " in said[0]
    assert budget_s == 3 and short_s == pytest.approx(2.1)


def test_each_number_runs_in_turn_until_the_budget_is_spent():
    step = FakeStep({4: 0.02, 2: 0.02, 1: 0.025})
    found = Probe(step, [1, 2, 4], budget_s=100)
    assert step.ran == [4] + [4, 2, 1] * 9 and found.seconds == {1: 0.025, 2: 0.02, 4: 0.02}
    step = FakeStep({4: 0.02, 2: 0.02, 1: 0.025})
    native.set_threads(3)
    Probe(step, [1, 2, 4], budget_s=0)
    assert step.ran == [4, 4, 2, 1] and native.threads() == 3


def test_smaller_numbers_are_left_out_once_they_are_far_behind():
    step = FakeStep({8: 0.1, 4: 0.11, 2: 0.2, 1: 0.4})
    assert list(Probe(step, [1, 2, 4, 8], budget_s=0).seconds) == [2, 4, 8]


def test_the_choice_is_the_smallest_number_within_noise_of_the_best():
    assert fastest({1: 0.8, 2: 0.41, 4: 0.4}) == 2 and fastest({1: 0.8, 2: 0.5, 4: 0.4}) == 4
    assert most_useful({1: 0.3, 2: 0.4, 4: 0.9}) == 2
    assert [candidates(n) for n in (2, 4, 6)] == [[1, 2], [1, 2, 4], [1, 2, 4, 6]]


def test_a_probe_beside_other_work_is_not_remembered(monkeypatch):
    finding = Finding(4, {1: 0.3, 4: 0.4}, steady=False)
    monkeypatch.setattr(thread_choice, "_probed", lambda *args: finding)
    said = []
    assert choose_threads(TINY, TrainConfig(), said.append) == 4
    assert "so not remembered: 1 -> 300 ms" in said[0] and not cache_file().exists()


def test_the_trial_leaves_neither_memory_nor_another_result(monkeypatch):
    alive = []

    def trial(*args):
        step = TrialStep(*args)
        alive.append(weakref.ref(step.model))
        return step

    monkeypatch.setattr(thread_choice, "TrialStep", trial)
    monkeypatch.setattr(thread_choice, "available_cpus", lambda: 2)
    monkeypatch.setattr(thread_choice, "BUDGET_S", 0.0)
    wide = ModelConfig.from_preset("tiny", vocab_size=3000)

    def gradients():
        model = GPT(wide).init(0)
        ids = np.arange(64, dtype=np.int32)[None]
        model.loss_and_grad(Batch(ids, ids))
        return model.grads.flat

    before = gradients()
    gc.disable()
    try:
        choose_threads(wide, TrainConfig(), str)
        assert alive and alive[0]() is None and not any(arrays._free.values())
    finally:
        gc.enable()
    assert native.threads() == 1 and np.array_equal(gradients(), before)


# ---- the cache -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "[]",
        "{}",
        '{"format": 2, "entries": []}',
        '{"format": 1, "entries": 3}',
        "\0" * 9,
        '{"format": 1, "entries": [{"key": {"model": "x"}}]}',
        "[" * 100_000,
        '{"format": 1, "entries": [{"key": {"model": "x"}, "threads": 9, "seconds": {"1": 0.1}}]}',
        '{"format": 1, "entries": [{"key": {"model": "x"}, "threads": 1, "seconds": {"a": 0.1}}]}',
    ],
)
def test_a_damaged_cache_is_an_empty_one(text):
    cache_file().parent.mkdir()
    cache_file().write_text(text)
    assert recall(KEY) is None
    remember(KEY, Finding(2, {1: 0.5, 2: 0.25}))
    assert recall(KEY) == Finding(2, {1: 0.5, 2: 0.25}, steady=True)


def test_the_cache_keeps_the_newest():
    for number in range(MOST_ENTRIES + 2):
        remember({"n": number}, Finding(1, {1: 0.5}))
    remember({"n": 2}, Finding(2, {2: 0.5}))
    assert recall({"n": 1}) is None and recall({"n": 2}).threads == 2 and recall({"n": 201}).threads == 1
    assert len(json.loads(cache_file().read_text())["entries"]) == MOST_ENTRIES
    assert [path.name for path in cache_file().parent.iterdir()] == ["threads.json"]


@pytest.mark.parametrize("home", [None, "", "here"])
def test_without_a_home_nothing_is_kept_anywhere(home, tmp_path, monkeypatch):
    """As in a container whose user has no line in /etc/passwd."""

    def nobody(uid):
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_file() == tmp_path / ".cache/microgpt/threads.json"
    monkeypatch.delenv("HOME") if home is None else monkeypatch.setenv("HOME", home)
    monkeypatch.chdir(tmp_path)
    remember(KEY, Finding(1, {1: 0.5}))
    assert cache_file() is recall(KEY) is None and not list(tmp_path.iterdir())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_file() == tmp_path / "microgpt/threads.json"


def test_a_place_that_cannot_be_written_is_no_failure(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    remember(KEY, Finding(1, {1: 0.5}))
    assert recall(KEY) is None


def test_weights_of_a_trial_are_small_and_filled_in_place():
    flat = np.zeros(1_000_003, np.float32)
    tracemalloc.start()
    fill_small(flat)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < flat.nbytes / 4
    assert flat.std() == pytest.approx(0.02, rel=0.05) and (flat[:4096] == flat[4096:8192]).all()
    assert (flat[-579:] == flat[:579]).all()  # what is left over of whole rows
