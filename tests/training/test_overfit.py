"""A few windows can be learned by heart, and a model that cannot is told from one that can."""

import numpy as np

from microgpt.batches.batches import Batches
from microgpt.corpus.token_file import TokenFile, write_token_file
from microgpt.model import GPT, IGNORED, ModelConfig
from microgpt.runs.settings import TrainConfig
from microgpt.training.clock import Clock
from microgpt.training.overfit import first_windows, overfit


class Plain:
    vocab_size, sha256 = 30, "00" * 32
    byte_lengths = np.ones(30, np.int32)


def batches(tmp_path, ids):
    write_token_file(tmp_path / "t.tokens", [np.asarray(ids, np.int32)], Plain())
    return Batches(TokenFile.open(tmp_path / "t.tokens"), 16, 4, 0)


def test_ten_windows_are_learned_to_the_last_token_and_frozen_weights_learn_nothing(tmp_path, monkeypatch):
    data = batches(tmp_path, np.random.default_rng(0).integers(0, 30, 400))
    config = ModelConfig(2, 2, 32, 16, 30)
    result = overfit(GPT(config), data, TrainConfig(), Clock(), n_windows=10)
    assert result.is_whole and result.n_windows == 10 and result.steps < 1000
    slow = overfit(GPT(config), data, TrainConfig(embedding_rate=0.01), Clock(), n_windows=10)
    assert slow.steps == result.steps, "rates are its own"
    monkeypatch.setattr("microgpt.training.overfit.MOST_STEPS", 50)
    names = [name for name in GPT(config).params if name != "ln_f.weight"]
    result = overfit(GPT(config, frozen=names), data, TrainConfig(), Clock(), n_windows=10)
    assert not result.is_whole and result.steps == 50


def test_what_follows_equal_beginnings_is_asked_once(tmp_path):
    ids = np.tile(np.arange(17), 12)
    ids[17 * 5 + 3] = 29  # one window begins like the others and goes on otherwise
    data = batches(tmp_path, ids)
    batch = first_windows(data, 10, 8)
    assert batch.ids.shape == batch.targets.shape == (10, 8)
    leads_to = {}
    for b, t in zip(*np.nonzero(batch.targets != IGNORED), strict=True):
        assert leads_to.setdefault(tuple(batch.ids[b, : t + 1]), batch.targets[b, t]) == batch.targets[b, t]
