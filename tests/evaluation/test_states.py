"""What trained models remember passes every test; a seeded fault fails its own."""

import numpy as np
import pytest

from microgpt.batches.batches import Batches, eval_windows
from microgpt.common.errors import DataError
from microgpt.core import recurrent
from microgpt.corpus.chat import BOS, render
from microgpt.corpus.smalltalk import generate
from microgpt.corpus.token_file import TokenFile, write_token_file
from microgpt.evaluation.branches import branches, heard
from microgpt.evaluation.states import (
    BALANCED,
    FAIL,
    NONE,
    PASS,
    SHORT,
    WARN,
    arrays_of,
    carried,
    determined,
    growth,
    reach,
    read,
    shares,
    size,
    state_tests,
    texts,
)
from microgpt.model import GPT, ModelConfig
from microgpt.model.recurrence import RecurrentState
from microgpt.runs.settings import TrainConfig
from microgpt.tokenizer import train
from microgpt.training.adam import Adam

T = 72
STEPS = {"attention": 120, "differential": 120, "concat": 90}  # others learn to look back in 30
YOUNG = {"D4 reach"}  # what models of so few steps may fail: they do not remember far yet
KINDS = {
    "fusion": {"mixer": "rwkv7+mamba2", "mlp": "rwkv7", "fusion": "channel"},
    "concat": {"mixer": "rwkv7+mamba2", "fusion": "concat", "look_back": 1},
    "rwkv6": {"mixer": "rwkv6", "mlp": "rwkv6"},
    "rwkv7": {"mixer": "rwkv7", "mlp": "rwkv7"},
    "attention": {"mixer": "attention"},
    "differential": {"mixer": "differential"},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A tokenizer, text to train on, and held-out text."""
    folder = tmp_path_factory.mktemp("states")
    documents = list(generate(60_000))
    tokenizer = train([message.content for document in documents[:40] for message in document], n_merges=30)
    rendered = [render(document, tokenizer) for document in documents]
    files = []
    for name, part in (("train", rendered[40:]), ("val", rendered[:40])):
        write_token_file(folder / name, part, tokenizer)
        files.append(TokenFile.open(folder / name))
    return tokenizer, *files


@pytest.fixture(scope="module")
def trained(data):
    """Models that learned for a second, by kind; None: with weights that learned nothing."""
    made = {}

    def of(kind, steps=None):
        steps = STEPS.get(kind, 30) if steps is None else steps
        if (kind, steps) not in made:
            config = ModelConfig(2, 2, 32, T, data[0].vocab_size, recurrent_head=8, **KINDS[kind])
            model = made[kind, steps] = GPT(config).init(1)
            adam, batches = Adam(model, TrainConfig()), Batches(data[1], T, 8, 0)
            for step in range(steps):
                _, n = model.loss_and_grad(batches.batch(step))
                adam.update(0.01, adam.grad_norm(n), n)
        return made[kind, steps]

    return of


@pytest.fixture
def verdicts(data):
    """By name of the tests, the worst verdict."""

    def of(model):
        windows = eval_windows(data[2], T, data[0].byte_lengths, 2000)
        found = {}
        for check in state_tests(model, data[0], data[2], windows):
            if found.get(check.test) != FAIL:
                found[check.test] = check.verdict
        return found

    return of


def failed(found):
    return {name for name, verdict in found.items() if verdict == FAIL}


def faults(found):
    return failed(found) - YOUNG


@pytest.mark.parametrize("kind", KINDS)
def test_trained_models_pass(kind, trained, verdicts):
    model = trained(kind)
    before = model.params.flat.copy()
    found = verdicts(model)
    assert failed(found) <= YOUNG, found
    assert (found["S4 branches"] == NONE) == ("+" not in KINDS[kind]["mixer"])
    assert np.array_equal(before, model.params.flat) and not model.grads.flat.any()


def test_weights_that_learned_nothing_are_told(trained, verdicts):
    assert "learned" in failed(verdicts(trained("rwkv7", 0)))


def test_a_state_that_stands_still_is_told(trained, verdicts, monkeypatch):
    sound, kept = recurrent.wkv7_forward, {}

    def frozen(*args):
        y, after = sound(*args)
        return y, kept.setdefault(after.shape, after.copy())

    monkeypatch.setattr(recurrent, "wkv7_forward", frozen)
    assert {"S2 change", "D2 spread"} <= failed(verdicts(trained("rwkv7")))


def test_a_state_that_is_never_written_is_told(trained, verdicts, monkeypatch):
    sound = recurrent.wkv6_forward
    monkeypatch.setattr(recurrent, "wkv6_forward", lambda *args: (sound(*args)[0], sound(*args)[1] * 0))
    assert {"S1 size", "pieces"} <= failed(verdicts(trained("rwkv6")))


@pytest.mark.parametrize("dead", ["mamba2", "rwkv7"])
def test_a_dead_branch_is_told(dead, trained, verdicts):
    model = trained("fusion")
    names = [f"h.{layer}.{dead}.out.weight" for layer in range(2)]
    before = {name: model.params[name].copy() for name in names}
    try:
        for name in names:
            model.params[name][:] = 0
        assert {"S4 branches", "D3 needed"} <= failed(verdicts(model))
    finally:
        for name in names:
            model.params[name][:] = before[name]


def test_a_state_that_leaks_into_another_row_is_told(trained, verdicts, monkeypatch):
    shared = {}

    def leaking(self):
        self.length, self.memory, self._kept = 0, shared, {0: {}}

    monkeypatch.setattr(RecurrentState, "__init__", leaking)
    assert "rows apart" in failed(verdicts(trained("rwkv7")))


def test_rows_of_a_batch_that_leak_are_told(trained, verdicts, monkeypatch):
    sound = recurrent.ssd_forward

    def leaking(xbc, *others):
        y, after = sound(xbc, *others)
        return y + 1e-3 * y.mean(0), after

    monkeypatch.setattr(recurrent, "ssd_forward", leaking)
    assert faults(verdicts(trained("fusion"))) == {"rows apart"}


def test_a_state_that_is_not_reset_is_told(trained, verdicts, monkeypatch):
    monkeypatch.setattr(RecurrentState, "rewind", lambda self, n: setattr(self, "length", n) or n)
    assert faults(verdicts(trained("rwkv7"))) == {"reset"}


def test_a_state_that_is_lost_is_told(trained, verdicts, monkeypatch):
    nothing = property(lambda self: {}, lambda self, value: None)
    monkeypatch.setattr(RecurrentState, "memory", nothing, raising=False)
    assert "S0 states" in failed(verdicts(trained("rwkv7")))


def test_branches_add_up_to_the_model(trained, data):
    ids = texts(data[2], data[0], 2, T)
    for kind in ("fusion", "concat"):
        model = trained(kind)
        whole = model.logits(ids)
        with heard(model) as ears:
            assert np.abs(model.logits(ids) - whole).max() < 1e-4 * np.abs(whole).max()
        assert all((ear.squares > 0).all() and ear.n == ids.size * 32 for ear in ears)
        with heard(model, "mamba2"):
            without = model.logits(ids)
        names = [f"h.{layer}.mamba2.out.weight" for layer in range(2)]
        before = [model.params[name].copy() for name in names]
        for name in names:
            model.params[name][:] = 0
        try:
            assert np.abs(model.logits(ids) - without).max() < 1e-4 * np.abs(whole).max()
        finally:
            for name, weights in zip(names, before, strict=True):
                model.params[name][:] = weights


def test_the_ratio_is_of_what_reaches_the_stream(trained, data):
    """A branch that is scaled up by its weights and down by its share is as large as before."""
    model = trained("fusion")
    windows = eval_windows(data[2], T, data[0].byte_lengths, 1000)
    one = branches(model, windows)
    names = [f"h.{layer}.rwkv7.out.weight" for layer in range(2)]
    for name in names:
        model.params[name][:] *= 4
    try:
        other = branches(model, windows)
    finally:
        for name in names:
            model.params[name][:] /= 4
    assert other.sizes[0].ratio == pytest.approx(4 * one.sizes[0].ratio, rel=1e-4)
    (verdict, _) = shares(other)
    assert (verdict.verdict == WARN) == (not BALANCED[0] <= other.overall.ratio <= BALANCED[1])


def test_chance_in_a_state_is_told(trained, data, monkeypatch):
    sound, calls, rows = recurrent.wkv7_forward, [], texts(data[2], data[0], 2, 20)
    assert determined(trained("rwkv7"), rows).verdict == PASS

    def wavering(*args):
        calls.append(1)
        y, after = sound(*args)
        return y, after * (1 + 1e-6 * len(calls))

    monkeypatch.setattr(recurrent, "wkv7_forward", wavering)
    assert determined(trained("rwkv7"), rows).verdict == FAIL


def test_a_state_that_grows_is_told(trained, data, monkeypatch):
    sound, rows = recurrent.ssd_forward, texts(data[2], data[0], 2)
    assert growth(trained("fusion"), rows).verdict != FAIL
    monkeypatch.setattr(recurrent, "ssd_forward", lambda *a: (sound(*a)[0], sound(*a)[1] * 3))
    assert growth(trained("fusion"), rows).verdict == FAIL


def test_carried_and_decoded_states_are_the_same(trained, data):
    model, rows = trained("fusion"), texts(data[2], data[0], 2, 50)
    decoded, memory = read(model, rows)[0], carried(model, rows)
    assert decoded.keys() == memory.keys()
    for name, array in decoded.items():
        assert np.abs(array - memory[name]).max() < 1e-4, name
    assert size({"a": np.full(4, 200.0)}).verdict == FAIL


def test_a_first_token_that_reaches_nothing_is_told(trained, data):
    model, rows = trained("attention"), texts(data[2], data[0], 3, T)
    assert reach(model, rows).numbers["change"] > 0
    state = model.new_state()
    read(model, rows[:1], [state])
    assert {name.split(".")[-1] for name in arrays_of(state)} == {"keys", "values"}
    short = np.ascontiguousarray(rows[:, :1])
    assert reach(model, short).verdict != FAIL
    model = GPT(ModelConfig(1, 1, 8, T, data[0].vocab_size, attention="local", window=2)).init(0)
    assert reach(model, rows).verdict == FAIL


def test_too_little_text_for_texts_that_differ_is_refused(data, tmp_path):
    def held_out(n):
        write_token_file(tmp_path / f"{n}", [np.r_[data[0].special_id(BOS), np.full(n - 1, 65)]], data[0])
        return TokenFile.open(tmp_path / f"{n}")

    enough = 2 * T + 9 * SHORT
    for n in (T, enough - 1):
        with pytest.raises(
            DataError, match=f"{n} tokens; 10 different texts of {T} .* takes {enough}: name more"
        ):
            texts(held_out(n), data[0], 10, T)
    assert texts(held_out(enough), data[0], 10, T).shape == (10, T)
