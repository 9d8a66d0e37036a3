"""Before the first step: what is sound passes in one line, what is broken is told or refused."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from microgpt.batches import batches
from microgpt.common.errors import DataError
from microgpt.core import native
from microgpt.corpus.smalltalk import generate
from microgpt.evaluation import probes
from microgpt.evaluation.probes import BRIEF_FLOP, N_TOKENS, telling, tokens_within
from microgpt.evaluation.probes_of_data import fitting
from microgpt.model import GPT, IGNORED, Batch, ModelConfig, flop_per_token
from microgpt.runs.checkpoint import WEIGHTS
from microgpt.runs.events import Probed
from microgpt.runs.metrics import read_metrics
from microgpt.runs.spec import Spec
from microgpt.training.run import train_run

SETTINGS = {
    "n_layer": 2,
    "seq_len": 24,
    "merges": 30,
    "batch_size": 4,
    "max_steps": 3,
    "eval_every": 0,
    "sample_every": 0,
    "threads": "1",
    "held_out_share": 0.2,
}


@pytest.fixture
def text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    texts = ["\n".join(message.content for message in document) for document in generate(30_000)]
    (tmp_path / "t.txt").write_text("<|endoftext|>".join(texts))
    return tmp_path / "t.txt"


def trained(data, name="run", **settings):
    """A short run: what its probes said, and where it is."""
    heard = []
    outcome = train_run(Spec.of("tiny", data=str(data), **(SETTINGS | settings)), name, [heard.append])
    return [event for event in heard if isinstance(event, Probed)], outcome


@pytest.mark.parametrize(
    "settings",
    [
        {"packing": "documents", "dropout": 0.1, "optimizer": "muon"},
        {"precision": "bf16", "look_back": 2, "n_kv_head": 1, "recompute": True},
        {"mixer": "rwkv7 mamba2", "recurrent_head": 8, "carry_state": True},
        {"mlp": "moe", "mixer": "rwkv6+attention", "recurrent_head": 8},
        {"data": "smalltalk", "smalltalk_bytes": 60_000, "held_out_share": 0.0, "prompt_loss_weight": 0.0},
    ],
)
def test_a_sound_run_is_told_so_in_one_line(text, settings, monkeypatch):
    monkeypatch.setenv("MICROGPT_ISA", native.info()["isa"])  # bf16 is had where it is asked for by name
    found, outcome = trained(settings.pop("data", text), **settings)
    assert [event.told() for event in found] == ["probes: all 8 good"]
    logged = [line for line in read_metrics(outcome.run / "metrics.jsonl") if line["event"] == "probes"]
    assert logged == [{"event": "probes", "step": 0, "good": 8, "bad": []}]
    assert not [path.name for path in outcome.run.iterdir() if "probe" in path.name]


def test_probes_change_no_bit_and_are_not_made_again(text):
    def weights(outcome):
        return hashlib.sha256((outcome.checkpoint / WEIGHTS).read_bytes()).hexdigest()

    same = {"dropout": 0.1, "decay_steps": 3}
    with_probes, without = trained(text, **same), trained(text, "other", **same, probes=False)
    assert (len(with_probes[0]), len(without[0])) == (1, 0)
    assert weights(with_probes[1]) == weights(without[1])
    again, outcome = trained(text, **same, max_steps=4)
    assert again == [] and outcome.step == 4


def test_what_is_bad_is_told_with_where_to_look(text, monkeypatch):
    monkeypatch.setattr(batches, "shifted", lambda tokens: (tokens[:, :-1].copy(), tokens[:, :-1].copy()))
    (event,), outcome = trained(text)
    first, *lines = event.told().splitlines()
    assert outcome.step == 3 and first == "probes: 6 good, 2 not:"
    assert lines[0].startswith("BAD  targets: ") and "look at the shift in batches" in lines[0]
    assert lines[1].startswith("BAD  first loss: ")


def test_more_held_out_than_trained_on_is_refused_unless_probes_are_left_out(text):
    with pytest.raises(DataError, match=r"bytes to train on, .* held out; look at --held-out.*--no-probes"):
        trained(text, held_out_share=0.7)
    assert not Path("run").exists()
    assert trained(text, held_out_share=0.7, probes=False)[1].step == 3


def test_of_large_models_fewer_tokens_and_weights_are_looked_at():
    tiny = ModelConfig.from_preset("tiny", 500)
    large = ModelConfig.from_preset("125m", 50_000)
    assert tokens_within(BRIEF_FLOP, flop_per_token(tiny)) == 4 * N_TOKENS
    assert probes.FEWEST_TOKENS <= tokens_within(BRIEF_FLOP, flop_per_token(large)) < 20
    params = GPT(tiny).params
    assert fitting(params, np.inf) == params.in_flat
    sizes = [4 * p.size for p in params.in_flat]
    chosen = fitting(params, sizes[0] - 4)
    assert params.in_flat[0] not in chosen and 0 < sum(4 * p.size for p in chosen) < sizes[0]


def test_rows_are_chosen_in_which_targets_are_scored():
    ids = np.arange(40, dtype=np.int32).reshape(4, 10)
    targets = np.full_like(ids, IGNORED)
    targets[1, 7:], targets[3, 2:5] = 1, 1
    found = telling(Batch(ids, targets), 5, n_rows=2)
    assert found.ids[0].tolist() == ids[3, :5].tolist() and found.ids.shape == (2, 5)
    targets[3] = IGNORED
    assert telling(Batch(ids, targets), 5).ids.shape == (4, 10), "nothing is scored at the beginning of any"
