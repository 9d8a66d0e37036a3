"""Adam against its formula in float64, decay groups, clipping."""

import numpy as np
import pytest

from microgpt.model import GPT, Arena, Batch, ModelConfig
from microgpt.model.parameters import Parameter
from microgpt.training.adam import Adam, segments
from microgpt.training.muon import Muon
from tests.training.fakes import FakeModel, arena, make_config


def expected(p, grads, config, lr, clips, decays):
    """p after updates with the given gradients, in float64."""
    p, m1, m2 = p.astype(np.float64), 0.0, 0.0
    for t, (grad, clip) in enumerate(zip(grads, clips, strict=True), start=1):
        grad = grad.astype(np.float64) * clip
        m1 = config.beta1 * m1 + (1 - config.beta1) * grad
        m2 = config.beta2 * m2 + (1 - config.beta2) * grad**2
        step = m1 / (1 - config.beta1**t) / (np.sqrt(m2 / (1 - config.beta2**t)) + config.eps)
        p = p - lr * (step + decays * p)
    return p


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adam_follows_its_formula(weight_decay):
    rng = np.random.default_rng(0)
    config = make_config(weight_decay=weight_decay, grad_clip=1.0)
    model = FakeModel()
    model.init(0)
    before = model.params.flat.copy()
    adam = Adam(model, config)
    grads = [(scale * rng.standard_normal(before.size)).astype(np.float32) for scale in (1.0, 0.01, 3.0)]
    clips = []
    for grad in grads:
        model.grads.flat[:] = grad
        norm = adam.grad_norm()
        assert norm == pytest.approx(np.linalg.norm(grad.astype(np.float64)), rel=1e-6)
        clips.append(min(1.0, 1.0 / norm))
        adam.update(0.01, norm)
    decays = np.concatenate([np.full(11 * 11, weight_decay), np.zeros(11)])  # the vector does not decay
    want = expected(before, grads, config, 0.01, clips, decays)
    assert adam.updates == 3 and clips[1] == 1.0 and clips[2] < 0.1
    # A few roundings of numbers of about the parameter's size for each of three updates.
    np.testing.assert_allclose(model.params.flat, want, rtol=1e-6, atol=2e-7)


def test_a_rate_of_zero_before_the_first_step_changes_nothing():
    model = FakeModel()
    model.init(3)
    model.params.flat[0] = -0.0
    before = model.params.flat.tobytes()
    adam = Adam(model, make_config(weight_decay=0.1))
    adam.apply(lr=0.0)
    assert model.params.flat.tobytes() == before
    assert not adam.slots["m1"].flat.any() and not adam.slots["m2"].flat.any() and adam.updates == 0


def test_matrices_decay_and_vectors_do_not():
    params = arena({"a": (2, 3), "b": (4, 5), "ln": (7,), "c": (3, 3)})
    assert segments(params, 0.5) == [(0, 0, 26, 0.5, 1), (26, 26, 7, 0.0, 1), (33, 33, 9, 0.5, 1)]
    assert segments(params, 0.0) == [(0, 0, 42, 0.0, 1)]


def test_what_is_frozen_or_idle_is_stepped_over():
    shapes = {"a": (2, 3), "b": (4, 5), "ln": (7,), "c": (3, 3)}
    names = [Parameter(name, shape, 0.0, trainable=name != "b") for name, shape in shapes.items()]
    assert segments(Arena(names), 0.5) == [(0, 0, 6, 0.5, 1), (26, 6, 16, 0.5, 1)]
    assert segments(Arena(names), 0.5, idle={"ln", "b"}) == [(0, 0, 6, 0.5, 1), (33, 13, 9, 0.5, 1)]


def moved(optimizer, config, **settings):
    """How far one update moves each parameter of a model."""
    ids = np.arange(16, dtype=np.int32).reshape(2, 8)
    model, start = GPT(config).init(1), GPT(config).init(1).params
    made = optimizer(model, make_config(**settings))
    _, n = model.loss_and_grad(Batch(ids, ids))
    made.update(0.01, 1.0, n)
    return {name: model.params[name] - start[name] for name in start}


def test_the_rate_of_hidden_matrices_follows_the_width():
    whole, scaled = (moved(Adam, ModelConfig(2, 2, 16, 8, 23), width_scaling=width) for width in (0, 4))
    for name, far in whole.items():
        factor = 0.25 if name.startswith("h.") and "ln_" not in name else 1.0
        np.testing.assert_allclose(scaled[name], factor * far, rtol=0, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("optimizer", [Adam, Muon])
def test_embedding_and_head_have_their_share_of_the_rate(optimizer):
    config = ModelConfig(2, 2, 16, 8, 23, tied=False, value_embedding=1)
    whole, shared = (moved(optimizer, config, embedding_rate=share) for share in (1.0, 0.25))
    for name, far in whole.items():
        factor = 0.25 if name in ("wte.weight", "head.weight") else 1.0
        np.testing.assert_allclose(shared[name], factor * far, rtol=0, atol=1e-6, err_msg=name)


def test_frozen_parameters_stay_and_the_others_learn_as_before():
    frozen = ("wte.weight", "h.0.mlp.fc.weight", "h.1.ln_2.weight")
    model_config = ModelConfig(2, 2, 16, 8, 23)
    ids = np.arange(16, dtype=np.int32).reshape(2, 8)
    models = [GPT(model_config).init(1), GPT(model_config, frozen=frozen).init(1)]
    for model in models:
        adam = Adam(model, make_config(weight_decay=0.1, grad_clip=0.0))
        _, n = model.loss_and_grad(Batch(ids, ids))
        adam.update(0.01, adam.grad_norm(n), n)
    whole, part = models
    assert set(adam.slots["m1"]) == set(whole.params) - set(frozen)
    for name, start in GPT(model_config).init(1).params.items():
        moved = whole.params[name].tobytes()
        assert moved != start.tobytes(), name
        assert part.params[name].tobytes() == (start.tobytes() if name in frozen else moved), name
