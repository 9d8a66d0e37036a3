"""Seeded faults: each changes one line of a sound program, and its own probe or alarm tells it by name."""

import math

import numpy as np
import pytest

from microgpt.batches import batches as batches_module
from microgpt.batches.batches import Batches, eval_windows
from microgpt.core import reference
from microgpt.corpus.chat import render
from microgpt.corpus.smalltalk import generate
from microgpt.corpus.token_file import TokenFile, write_token_file
from microgpt.evaluation import probes, probes_of_data
from microgpt.evaluation.alarms import Alarms, Facts, Loss
from microgpt.evaluation.loss import evaluate
from microgpt.evaluation.probes import gradient, probe_all, slope
from microgpt.model import GPT, ModelConfig
from microgpt.model.block import Branch
from microgpt.runs.settings import TrainConfig
from microgpt.tokenizer import train as train_tokenizer
from microgpt.training.adam import Adam

T = 24


@pytest.fixture(scope="module")
def small_tokenizer():
    texts = [message.content for document in generate(3000) for message in document]
    return train_tokenizer(texts, n_merges=30)


class Run:
    """A small run: its data, its model, and what is seen of it."""

    def __init__(self, folder, tokenizer, dtype=np.float32, n_bytes=16_000, frozen=(), **shape):
        self.folder, self.tokenizer = folder, tokenizer
        documents = [render(document, tokenizer) for document in generate(n_bytes)]
        n_held_out = len(documents) // 5
        self.train = self.file("train.tokens", documents[n_held_out:])
        self.held_out = self.file("val.tokens", documents[:n_held_out])
        shape = {"n_layer": 3, "n_head": 2, "n_embd": 16, "init_std": 0.1, **shape}
        config = ModelConfig(**shape, seq_len=T, vocab_size=tokenizer.vocab_size)
        self.model = GPT(config, dtype, frozen=frozen).init(0)
        self.packing = "stream"
        self.is_random = True

    def file(self, name, documents, tokenizer=None):
        write_token_file(self.folder / name, documents, tokenizer or self.tokenizer)
        return TokenFile.open(self.folder / name)

    @property
    def batches(self):
        return Batches(self.train, T, 8, 0, packing=self.packing)

    def bad(self):
        """Names of the probes that it does not pass."""
        return {one.name for one in self._all() if one.is_good is False}

    def probed(self, name):
        return next(one for one in self._all() if one.name == name)

    def _all(self):
        files = self.train, self.held_out
        return probe_all(self.model, self.tokenizer, *files, self.batches, self.folder, self.is_random)

    def learn(self, steps=60, lr=0.01, facts=None, every=20):
        """Train, and return the names of the alarms that sounded."""
        adam, data, names = Adam(self.model, TrainConfig()), self.batches, []
        watch = Alarms(facts or Facts(self.model.params.flat.size, steps))
        for step in range(1, steps + 1):
            nats, n = self.model.loss_and_grad(data.batch(step - 1))
            adam.update(lr, adam.grad_norm(n), n)
            found = watch.stepped(step, nats / n, lr, 1000.0, 1.0)
            if step % every == 0:
                lengths = self.tokenizer.byte_lengths
                losses = [
                    Loss(one.loss, one.error)
                    for one in (
                        evaluate(self.model, eval_windows(file, T, lengths, 1000), 8)
                        for file in (self.held_out, self.train)
                    )
                ]
                found += watch.evaluated(step, step * 8 * T, *losses, self.model.params)
            names += [alarm.name for alarm in found]
        self.is_random = False
        return names


@pytest.fixture
def run(tmp_path, small_tokenizer):
    return lambda **options: Run(tmp_path, small_tokenizer, **options)


@pytest.mark.parametrize("packing", ["stream", "documents"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"dropout": 0.2, "look_back": 2, "n_kv_head": 1},
        {"mlp": "moe"},
        {"mixer": "rwkv7 mamba2 rwkv6", "mlp": "rwkv7", "recurrent_head": 8},
    ],
)
def test_a_sound_run_passes_all_before_and_after_learning(run, packing, options):
    sound = run(**options)
    sound.packing = packing
    before = sound.model.params.flat.copy()
    assert sound.bad() == set()
    assert (sound.model.params.flat == before).all() and not sound.model.grads.flat.any()
    assert sound.learn() == []
    assert sound.bad() == set() and sound.probed("shift").is_good
    assert sorted(path.name for path in sound.folder.iterdir()) == ["train.tokens", "val.tokens"]


def twice(tokens):
    targets = np.full_like(tokens[:, 1:], -1)
    targets[:, :-1] = tokens[:, 2:]
    return tokens[:, :-1].copy(), targets


def not_at_all(tokens):
    return tokens[:, :-1].copy(), tokens[:, :-1].copy()


@pytest.mark.parametrize(("fault", "what"), [(twice, "one after next"), (not_at_all, "copies")])
def test_labels_shifted_twice_or_not_at_all(run, monkeypatch, fault, what):
    monkeypatch.setattr(batches_module, "shifted", fault)
    broken = run()
    assert "targets" in broken.bad()
    broken.learn(100)
    assert what in broken.probed("shift").text and "shift" in broken.bad()


def test_a_loss_that_shifts_once_more(run, monkeypatch):
    whole = GPT.loss_and_grad

    def shifted(self, batch, keys=None):
        return whole(self, batch._replace(targets=np.roll(batch.targets, -1, 1)), keys)

    monkeypatch.setattr(GPT, "loss_and_grad", shifted)
    broken = run()
    assert "loss" in broken.bad()
    broken.learn(100)
    assert "shift" in broken.bad()


@pytest.mark.parametrize("ahead", [1, T])
def test_a_mask_off_by_one_and_none(run, monkeypatch, ahead):
    def is_seen(n_queries, n_keys, heads, starts):
        return np.arange(n_keys) <= np.arange(n_queries)[:, None] + ahead

    sound = run(dtype=np.float64)
    assert sound.bad() == set()
    monkeypatch.setattr(reference, "_is_seen", is_seen)
    assert sound.bad() == {"causality"}


def test_a_held_out_part_larger_than_training(run):
    broken = run()
    broken.train, broken.held_out = broken.held_out, broken.train
    assert broken.bad() == {"sizes"}


@pytest.mark.parametrize(("n_leaked", "bad"), [(3, set()), (12, {"duplicates"})])
def test_held_out_documents_inside_training(run, n_leaked, bad):
    broken = run()
    leaked = np.split(broken.train.ids, broken.train.offsets[1:].astype(int))[:n_leaked]
    own = np.split(broken.held_out.ids, broken.held_out.offsets[1:].astype(int))[: 16 - n_leaked]
    broken.held_out = broken.file("leaked.tokens", [np.array(ids) for ids in [*leaked, *own]])
    assert broken.bad() == bad and broken.probed("duplicates").text.startswith(f"{n_leaked} of 16 ")


def test_a_tokenizer_of_another_corpus(run):
    broken = run()
    broken.tokenizer = train_tokenizer(["quite another text, of the same length of vocabulary"] * 9, 30)
    assert "tokenizer" in broken.bad()


def test_tokens_that_stand_for_other_bytes_than_the_text_had(run):
    broken = run()
    broken.held_out.n_bytes += 1
    assert broken.bad() == {"tokenizer"}


def test_a_frozen_layer(run):
    broken = run(frozen=["h.1.attn.qkv.weight"])
    assert broken.bad() == {"gradient"} and "h.1.attn.qkv.weight" in broken.probed("gradient").text
    assert broken.learn() == ["layer without gradient"]


def test_dead_dropout(run, monkeypatch):
    call = GPT._call
    monkeypatch.setattr(GPT, "_call", lambda self, batch, keys=None: call(self, batch))
    assert run(dropout=0.1).bad() == {"dropout"}


def test_a_learning_rate_of_zero(run):
    assert run().learn(lr=0.0) == ["learning rate", "layer without gradient"]


WHOLE = Branch.backward


def lost(self, dy, saved, p, g, call):
    dx = WHOLE(self, dy, saved, p, g, call)
    return dy if self.name == "h.1.mlp" else dx


def test_the_gradient_of_one_branch_is_lost(run, monkeypatch):
    monkeypatch.setattr(Branch, "backward", lost)
    broken = run()
    assert broken.bad() == {"slope"}
    broken.learn()
    assert "slope" in broken.bad()


def test_the_slope_of_a_text_learned_by_heart_is_that_of_its_gradient_or_is_not_told(run, monkeypatch):
    sound = run(n_bytes=1500, n_layer=2, n_embd=32)
    adam, batch = Adam(sound.model, TrainConfig()), sound.batches.batch(0)
    for step in range(40):
        _, n = sound.model.loss_and_grad(batch)
        adam.update(0.01 * (1 - step / 420), adam.grad_norm(n), n)
    assert slope(sound.model, batch).is_good
    with monkeypatch.context() as broken:
        broken.setattr(Branch, "backward", lost)
        assert slope(sound.model, batch).is_good is False
    sound.model.params["ln_f.weight"][:] *= 2
    assert slope(sound.model, batch).told().startswith("-    slope: not applicable: ")


def test_a_loss_that_bends_is_not_a_gradient_that_is_wrong(run, monkeypatch):
    sound = run()
    sound.learn()
    batch = sound.batches.batch(0)
    for name, value in {"SLOPE_NATS": 30.0, "SLOPE_SHARE": 0.5, "SLOPE_STEP": 1.0}.items():
        monkeypatch.setattr(probes, name, value)
    with monkeypatch.context() as long:
        long.setattr(probes, "SHORTER", math.inf)
        assert slope(sound.model, batch).is_good is False
    assert slope(sound.model, batch).is_good
    monkeypatch.setattr(Branch, "backward", lost)
    assert slope(sound.model, batch).is_good is False


def test_numbers_that_are_not_finite_are_told_of_the_slope_too(run):
    broken = run()
    broken.model.params["ln_f.weight"][:] = np.nan
    for probe in (gradient, slope):
        found = probe(broken.model, broken.batches.batch(0))
        assert found.is_good is False and found.text.startswith("not finite: ")
    assert not broken.model.grads.flat.any()


def test_a_gradient_that_does_not_reach_a_parameter(run, monkeypatch):
    broken = run()
    whole = GPT.loss_and_grad

    def without(self, batch, keys=None):
        result = whole(self, batch, keys)
        self.grads["h.2.attn.proj.weight"][:] = 0
        return result

    monkeypatch.setattr(GPT, "loss_and_grad", without)
    assert broken.bad() == {"gradient"} and broken.learn() == ["layer without gradient"]


def test_weights_that_foretell_worse_than_a_guess(run):
    broken = run()
    broken.is_random = False
    broken.model.params.flat[:] *= 5
    assert "first loss" in broken.bad()


def test_a_disk_that_gives_back_other_bits(run, monkeypatch):
    broken = run()
    whole = probes_of_data.read_into

    def read_into(path, arena):
        whole(path, arena)
        arena.flat[0] += 1e-7

    monkeypatch.setattr(probes_of_data, "read_into", read_into)
    assert broken.bad() == {"save"}
