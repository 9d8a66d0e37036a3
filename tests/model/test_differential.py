"""Differential attention as a mixer: its derivative, its memory, and what it refuses."""

from dataclasses import replace

import numpy as np
import pytest

from microgpt.common.errors import ConfigError
from microgpt.core import random
from microgpt.core.cases import normal
from microgpt.model import GPT, Batch, ModelConfig

CONFIG = ModelConfig(
    2, 4, 16, 130, 29, n_kv_head=2, init_std=0.3, mixer="differential", window=9, global_stride=4
)
VARIANTS = {
    "full": {},
    "windows": {"attention": "local local_global"},
    "normed heads": {"qk_norm": "head", "bias": "qkv proj"},
    "normed when turned": {"qk_norm": "head", "qk_norm_after_rope": True},
}


def ids(name, *shape):
    draws = random.uniform(random.key(0, name), int(np.prod(shape)))
    return (draws * 29).astype(np.int32).reshape(shape)


BATCH = Batch(ids("x", 2, 70), ids("y", 2, 70), starts=np.array([[0] * 70, [0] * 13 + [13] * 57], np.int32))


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_the_gradient_is_the_derivative(changes):
    gpt = GPT(replace(CONFIG, **changes), np.float64).init(3)
    gpt.loss_and_grad(BATCH)
    flat = gpt.params.flat.copy()
    slopes = {"all": normal("direction", flat.size)}
    for name in ("lambda_q1", "lambda_k2"):
        lambdas = gpt.params.zeros_like()
        lambdas[f"h.1.attn.{name}"][:] = 1
        slopes[name] = lambdas.flat
    for name, direction in slopes.items():
        losses = []
        for h in (1e-6, -1e-6):
            gpt.params.flat[:] = flat + h * direction
            losses.append(gpt.token_losses(BATCH).sum())
        slope = (losses[0] - losses[1]) / 2e-6
        assert slope == pytest.approx(direction @ gpt.grads.flat, rel=1e-6, abs=1e-8), name


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_one_pass_is_pieces_is_token_by_token(changes):
    gpt, x = GPT(replace(CONFIG, **changes)).init(3), ids("x", 130)
    whole = gpt.logits(x[None])[0]
    for sizes in ([1] * 130, [50, 80]):
        state, at = gpt.new_state(), 0
        for n in sizes:
            logits = gpt.next_logits([(state, x[at : at + n])])[0]
            at += n
            assert np.abs(logits - whole[at - 1]).max() <= 1e-5 * max(1, np.abs(whole).max())


def test_no_position_sees_what_follows():
    gpt, x = GPT(CONFIG).init(3), ids("x", 2, 130)
    before = gpt.logits(x)
    x[:, 100:] = (x[:, 100:] + 1) % 29
    assert before[:, :100].tobytes() == gpt.logits(x)[:, :100].tobytes()


def test_recomputing_changes_no_bit():
    results = []
    for recompute in (False, True):
        gpt = GPT(CONFIG, recompute=recompute).init(3)
        results.append((gpt.loss_and_grad(BATCH), gpt.grads.flat.tobytes()))
    assert results[0] == results[1]


def test_an_odd_number_of_heads_is_refused():
    with pytest.raises(ConfigError, match=r"^mixer differential: 1 key and value heads"):
        GPT(replace(CONFIG, n_kv_head=1))
