"""A run of random weights, as if it had been trained."""

import io
import sys

from microgpt.runs import checkpoint
from microgpt.runs.settings import TrainConfig
from microgpt.runs.spec import Plan
from microgpt.training.adam import Adam

PLAIN_TEXT = "The cat sat on the mat.\n\nThe dog ran after the cat.\n\n" * 40


def save(run, model, tokenizer, data, train_config=None, corpus="", step=7, metrics=None):
    run.mkdir(parents=True, exist_ok=True)
    train_config = train_config or TrainConfig()
    document = Plan(model.config, train_config, data).to_dict()
    state = {"step": step, "metrics": metrics or {"val_bpb": 2.5}, "corpus": corpus}
    snapshot = checkpoint.Snapshot(model, Adam(model, train_config), tokenizer)
    return checkpoint.persist(snapshot.fill(document, state), run, 2)


def typed(monkeypatch, text):
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
