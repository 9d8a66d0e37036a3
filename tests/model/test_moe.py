"""Mixtures of experts: where tokens go, what penalties count, what no token depends on."""

from dataclasses import replace

import numpy as np
import pytest

from microgpt.common.errors import ConfigError
from microgpt.core import native, random
from microgpt.core.cases import normal
from microgpt.model import (
    GPT,
    Arena,
    Batch,
    ModelConfig,
    count_active_parameters,
    count_parameters,
    flop_per_token,
)
from microgpt.model.layer import Call
from microgpt.model.moe import MoE, is_collapsed

CONFIG = ModelConfig(
    2,
    2,
    12,
    40,
    29,
    mlp="moe",
    n_expert=5,
    top_k=2,
    expert_inner=8,
    init_std=0.4,
    z_loss=0.01,
    balance_loss=0.1,
)
VARIANTS = {
    "plain": {},
    "shares as they are, a shared expert": {
        "renormalize": False,
        "shared_expert_inner": 6,
        "expert": "swiglu",
    },
    "of the model, by token": {"balance_over": "model", "balance_by": "token"},
    "all experts": {"top_k": 5},
    "one of them": {"top_k": 1, "renormalize": False},
}
LOGITS = np.array(
    [
        [1, 0, -1, 0.5],
        [0, 2, 0.3, -0.2],
        [0.1, 0.2, 0.3, 0.4],
        [-1, 1, 1.5, 0],
        [2, -2, 0, 1],
        [0, 0.1, -0.1, 0.2],
    ]
)


def ids(name, *shape):
    draws = random.uniform(random.key(0, name), int(np.prod(shape)))
    return (draws * 29).astype(np.int32).reshape(shape)


def batch(B=2, T=30, masked=0):
    targets = ids("y", B, T)
    targets[:, :masked] = -1
    return Batch(ids("x", B, T), targets)


def layer(config=CONFIG, dtype=np.float64, name="h.0.mlp"):
    moe = MoE(name, config)
    p = Arena(moe.parameters(), dtype)
    p.init(3)
    return moe, p


def gradient(config, of, **how):
    gpt = GPT(config, **how).init(3)
    gpt.loss_and_grad(of)
    return gpt.grads.flat


@pytest.mark.parametrize(
    "by, over, one, both", [("token", "layer", 1.9535327, 1.9974560), ("token", "model", 1.9535327, 2.0)]
)
def test_the_balance_loss_is_that_of_known_logits(by, over, one, both):
    """Computed with transformers' load_balancing_loss_func; a layer of turned signs comes second."""
    config = ModelConfig(2, 1, 4, 9, 3, mlp="moe", n_expert=4, balance_by=by, balance_over=over)
    call = Call(1, len(LOGITS))
    for name, sign, expected in (("h.0.mlp", 1, one), ("h.1.mlp", -1, both)):
        moe, p = layer(config, name=name)
        p[f"{name}.router.weight"][:] = sign * np.eye(4)
        moe.forward(LOGITS, p, call)
        assert call.facts["balance_loss"] == pytest.approx(expected, abs=1e-7)
        assert call.facts[f"{name}.load"].sum() == pytest.approx(1)
    by_choice, p = layer(replace(config, balance_by="choice"), name="h.0.mlp")
    p["h.0.mlp.router.weight"][:] = np.eye(4)
    call = Call(1, len(LOGITS))
    by_choice.forward(LOGITS, p, call)
    assert call.facts["balance_loss"] == pytest.approx(one / 2, abs=1e-7)


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_the_gradient_is_the_derivative_of_loss_and_penalties(changes):
    config = replace(CONFIG, **changes)
    gpt, of = GPT(config, np.float64).init(3), batch(masked=4)

    def objective():
        nats, n = gpt.loss_and_grad(of)
        facts = gpt.facts
        return nats + n * (config.balance_loss * facts["balance_loss"] + config.z_loss * facts["z_loss"])

    objective()
    slopes, flat = gpt.grads.flat.copy(), gpt.params.flat.copy()
    direction = normal("direction", flat.size)
    up, down = 0.0, 0.0
    gpt.params.flat[:] = flat + 1e-6 * direction
    up = objective()
    gpt.params.flat[:] = flat - 1e-6 * direction
    down = objective()
    assert (up - down) / 2e-6 == pytest.approx(slopes @ direction, rel=1e-6)


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_no_token_depends_on_those_beside_it(changes):
    moe, p = layer(replace(CONFIG, **changes), np.float32)
    x = normal("x", 64, 12).astype(np.float32)
    whole, _ = moe.forward(x, p, Call(1, 64))
    for n in (0, 17, 63):
        alone, _ = moe.forward(x[n : n + 1], p, Call(1, 1))
        assert np.abs(alone - whole[n]).max() <= 1e-6


def test_an_expert_may_get_all_tokens_or_none():
    moe, p = layer(replace(CONFIG, top_k=1))
    p["h.0.mlp.router.weight"][:] = 0  # equal logits: the first expert
    x, dy, g, call = normal("x", 50, 12), normal("dy", 50, 12), p.zeros_like(), Call(1, 50)
    y, saved = moe.forward(x, p, call)
    expected, _ = moe.experts[0].forward(x, p, call)
    assert np.abs(y - expected).max() <= 1e-12
    moe.backward(dy, x, saved, p, g, call)
    assert g["h.0.mlp.experts.0.fc.weight"].any() and not g["h.0.mlp.experts.1.fc.weight"].any()
    assert call.facts["h.0.mlp.load"].tolist() == [1, 0, 0, 0, 0]


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_recomputing_and_threads_change_no_bit(changes):
    config, of = replace(CONFIG, **changes), batch(4, 40)
    first = gradient(config, of)
    assert gradient(config, of, recompute=True).tobytes() == first.tobytes()
    native.set_threads(2)
    try:
        assert gradient(config, of).tobytes() == first.tobytes()
    finally:
        native.set_threads(1)


def test_penalties_count_alike_however_a_step_is_cut():
    """The z penalties of two calls of a row each are that of one call of both rows; a balance penalty counts
    as often as its call has targets."""
    of = batch(2, 30)
    parts = [Batch(of.ids[b : b + 1], of.targets[b : b + 1]) for b in range(2)]
    plain = replace(CONFIG, balance_loss=0.0)
    whole = gradient(plain, of, dtype=np.float64)
    cut = sum(gradient(plain, part, dtype=np.float64) for part in parts)
    assert np.abs(whole - cut).max() <= 1e-12 * np.abs(whole).max()
    masked = batch(2, 30, masked=20)  # a third of the targets, and so of the penalty
    router = "h.0.mlp.router.weight"

    def penalty(of):
        with_it, without = (
            GPT(replace(plain, balance_loss=strength), np.float64).init(3) for strength in (1.0, 0.0)
        )
        return [gpt.loss_and_grad(of) and gpt.grads[router] for gpt in (with_it, without)]

    all_targets, few = (a - b for a, b in (penalty(of), penalty(masked)))
    assert np.abs(all_targets).max() > 0
    assert np.abs(few - all_targets / 3).max() <= 1e-12 * np.abs(all_targets).max()


def test_one_pass_is_token_by_token():
    gpt, x = GPT(CONFIG).init(3), ids("x", 40)
    whole, state = gpt.logits(x[None])[0], gpt.new_state()
    for t in range(40):
        logits = gpt.next_logits([(state, x[t : t + 1])])[0]
        assert np.abs(logits - whole[t]).max() <= 1e-5


def test_counts_and_costs_tell_all_from_active():
    config = ModelConfig.from_preset("34m-moe", 4261)
    dense = replace(config, mlp="gelu")
    router = 11 * 4 * 384
    assert count_active_parameters(config) == count_parameters(dense) + router
    assert count_parameters(config) == count_parameters(dense) + router + 11 * 8 * 384**2
    assert count_parameters(config) == pytest.approx(34e6, rel=0.05)
    assert flop_per_token(config) == flop_per_token(dense) + 6 * router


@pytest.mark.parametrize(
    "load, top_k, collapsed",
    [
        ([5, 5, 5, 5], 2, False),
        ([10, 10, 0, 0], 2, True),
        ([9, 9, 1, 1], 2, True),
        ([7, 7, 3, 3], 2, False),
        ([0, 0, 8, 0], 1, True),
        ([4, 4], 2, False),
    ],
)
def test_a_router_collapses_when_it_uses_less_than_half_of_its_choice(load, top_k, collapsed):
    assert is_collapsed(np.array(load), top_k) == collapsed
    assert is_collapsed(np.array(load) / sum(load), top_k) == collapsed


@pytest.mark.parametrize("changes", [{"top_k": 6}, {"expert": "moe"}, {"expert": "silly"}, {"n_expert": 0}])
def test_mixtures_that_cannot_be_are_refused(changes):
    with pytest.raises(ConfigError, match=r"^(top_k|expert|n_expert) "):
        GPT(replace(CONFIG, **changes))
