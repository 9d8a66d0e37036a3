"""Alarms in real runs: none where all is as it should be; a fault sounds its own, in the log as well."""

import dataclasses
from pathlib import Path

import pytest

from microgpt.batches import batches
from microgpt.common.errors import DataError
from microgpt.core import native
from microgpt.corpus.smalltalk import generate
from microgpt.model.linear import Linear
from microgpt.runs.events import Alarmed
from microgpt.runs.metrics import read_metrics
from microgpt.runs.spec import Spec
from microgpt.training import assemble, loop
from microgpt.training.run import train_run


@pytest.fixture
def text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    texts = ["\n".join(message.content for message in document) for document in generate(40_000)]
    (tmp_path / "t.txt").write_text("<|endoftext|>".join(texts))
    return tmp_path / "t.txt"


def alarms(text, name="run", **settings):
    """Names of the alarms of a short run, in the order in which they sounded."""
    values = {
        "n_layer": 2,
        "seq_len": 24,
        "merges": 30,
        "batch_size": 4,
        "max_steps": 24,
        "eval_every": 8,
        "eval_tokens": 2000,
        "sample_every": 0,
        "threads": "1",
        "held_out_share": 0.2,
        "lr": 0.003,
    }
    heard = []
    outcome = train_run(Spec.of("tiny", data=str(text), **(values | settings)), name, [heard.append])
    found = [event for event in heard if isinstance(event, Alarmed)]
    logged = [line for line in read_metrics(outcome.run / "metrics.jsonl") if line["event"] == "alarm"]
    assert [line["alarm"] for line in logged] == [event.alarm for event in found]
    assert all(event.told().startswith(f"alarm: {event.alarm}: {event.why}; look at ") for event in found)
    return [event.alarm for event in found]


# Seeds, precisions, packings and parts: with those of test_faults and benchmarks.alarms no clean run alarms.
CLEAN = [
    {},
    {"seed": 1, "packing": "documents"},
    {"seed": 2, "precision": "bf16", "dropout": 0.1},
    {"seed": 3, "look_back": 2, "n_kv_head": 1, "prompt_loss_weight": 0.5, "data": "smalltalk"},
]


@pytest.mark.parametrize("settings", CLEAN)
def test_none_sounds_in_a_clean_run(text, settings, monkeypatch):
    monkeypatch.setenv("MICROGPT_ISA", native.info()["isa"])  # bf16 is had where it is asked for by name
    settings = dict(settings)
    if settings.pop("data", None):
        text, settings["smalltalk_bytes"] = "smalltalk", 100_000
    assert alarms(text, **settings) == []


def test_a_rate_of_zero_is_told_and_the_weights_that_stand_still(text, monkeypatch):
    monkeypatch.setattr(loop, "learning_rate", lambda *_: 0.0)
    assert alarms(text) == ["learning rate", "layer without gradient"]


def test_a_matrix_whose_gradient_is_lost_is_told(text, monkeypatch):
    whole = Linear.backward_weight

    def lost(self, *args):
        if self.name != "h.1.mlp.proj.weight":
            whole(self, *args)

    monkeypatch.setattr(Linear, "backward_weight", lost)
    assert alarms(text) == ["layer without gradient"]


def test_weights_that_are_not_what_was_asked_for_are_told_at_the_first_step(text, monkeypatch):
    monkeypatch.setattr(batches, "shifted", lambda tokens: (tokens[:, :-1].copy(), tokens[:, :-1].copy()))
    assert "first loss" in alarms(text, init_std=0.1)


def test_a_run_that_goes_on_is_not_taken_for_a_new_one(text):
    assert alarms(text, max_steps=24, decay_steps=40) == []
    assert alarms(text, max_steps=40, decay_steps=40) == []


def test_held_out_text_that_is_trained_on_is_refused(text, monkeypatch):
    monkeypatch.setattr(assemble, "open_corpus", lambda plan, _: opened(plan, lambda made: made.val))
    with pytest.raises(DataError, match=r"are trained on as well \(100.0%\); look at .*--no-probes"):
        alarms(text)
    assert not Path("run").exists()


def opened(plan, train_of, whole=assemble.open_corpus):
    """The corpus of a plan, with something else to train on."""
    made = whole(plan)
    return dataclasses.replace(made, train=train_of(made))
