"""The model with parts of other models against those models in transformers: logits, loss, every gradient."""

import json
from pathlib import Path

import numpy as np
import pytest

from microgpt.files.tensors import read_into, shapes_in
from microgpt.model import GPT, Batch
from tests.model.hf_names import FAMILIES

HERE = Path(__file__).parent / "hf_tiny"
NAMES = sorted(path.name for path in HERE.iterdir() if path.is_dir())


def tensors_of(folder):
    tensors = {
        name: np.empty(shape, np.float32) for name, shape in shapes_in(folder / "model.safetensors").items()
    }
    read_into(folder / "model.safetensors", tensors)
    return tensors


@pytest.fixture(params=NAMES)
def pair(request):
    """A model of ours with their weights, how to translate their tensors, and what theirs gave."""
    folder = HERE / request.param
    theirs = json.loads((folder / "config.json").read_text())
    config, translate = FAMILIES[theirs["model_type"]](theirs)
    model, weights = GPT(config), translate(tensors_of(folder))
    assert set(weights) == set(model.params)
    for name, weight in weights.items():
        model.params[name][:] = weight
    with np.load(folder / "expected.npz") as expected:
        return model, translate, {name: expected[name] for name in expected.files}


def batch_of(ids):
    """What they score: each token but the first of a row."""
    targets = np.full(ids.shape, -1, np.int32)
    targets[:, :-1] = ids[:, 1:]
    return Batch(np.ascontiguousarray(ids, np.int32), targets)


def test_logits_loss_and_every_gradient_are_theirs(pair):
    model, translate, expected = pair
    batch = batch_of(expected["ids"])
    logits = model.logits(batch.ids)
    assert np.abs(logits - expected["logits"]).max() <= (5e-5 if model.config.mlp == "moe" else 2e-5)
    nats, n = model.loss_and_grad(batch)
    penalty = model.config.balance_loss * model.facts.get("balance_loss", 0)
    assert nats / n + penalty == pytest.approx(float(expected["loss"]), abs=1e-5)
    if "aux_loss" in expected:
        assert model.facts["balance_loss"] == pytest.approx(float(expected["aux_loss"]), abs=1e-5)
    grads = {name.removeprefix("grad/"): grad for name, grad in expected.items() if name.startswith("grad/")}
    truth = translate(grads)
    assert set(truth) == set(model.grads)
    for name, grad in model.grads.items():
        assert np.abs(grad / n - truth[name]).max() <= 1e-4 * np.abs(truth[name]).max(), name
