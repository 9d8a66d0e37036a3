"""Text in windows, with what layers remember carried on, is what it is in one piece."""

from itertools import pairwise

import numpy as np
import pytest

from microgpt.model import GPT, Batch, ModelConfig
from microgpt.model.architecture import memory_shapes

CUTS = [0, 1, 9, 11, 30, 40]  # windows shorter than what is looked back to, too
KINDS = {
    "rwkv6": {"mixer": "rwkv6", "mlp": "rwkv6"},
    "rwkv7": {"mixer": "rwkv7", "mlp": "rwkv7", "look_back": 3},
    "mamba2": {"mixer": "mamba2", "look_back": 2},
    "fusion": {"mixer": "rwkv7+mamba2 mamba2", "mlp": "rwkv7", "look_back": 1},
}


@pytest.fixture(params=KINDS)
def model(request):
    return made(KINDS[request.param], np.float64)


def made(kind, dtype):
    config = ModelConfig(2, 2, 16, 40, 50, recurrent_head=8, **kind)
    model, rng = GPT(config, dtype=dtype).init(3), np.random.default_rng(0)
    model.params.flat[:] += 0.1 * rng.normal(size=model.params.flat.size)
    return model


def text(borders=()):
    """Three rows of 40, the second of which has documents that begin at `borders`."""
    rows = np.random.default_rng(1).integers(0, 50, (3, 41)).astype(np.int32)
    starts = np.zeros((3, 40), np.int32)
    for border in borders:
        starts[1, border:] = border
    return Batch(rows[:, :-1].copy(), rows[:, 1:].copy(), starts=starts if len(borders) else None)


def window(whole, first, last, memory):
    starts = None if whole.starts is None else np.maximum(whole.starts[:, first:last] - first, 0)
    ids, targets = (np.ascontiguousarray(x[:, first:last]) for x in whole[:2])
    return Batch(ids, targets, starts=starts, memory=memory)


def in_windows(model, whole):
    memory, losses = {}, []
    for first, last in pairwise(CUTS):
        if whole.starts is not None and (whole.starts[1, first] == first) and memory:
            memory.update({name: zeroed(rows, 1) for name, rows in memory.items()})
        losses.append(model.token_losses(window(whole, first, last, memory)))
    return np.concatenate(losses, 1), memory


def zeroed(rows, b):
    """As whoever makes the windows forgets a row whose document ended with the window before."""
    rows = rows.copy()
    rows[b] = 0
    return rows


@pytest.mark.parametrize("borders", [(), (4, 10, 29), (9, 30)])
def test_window_after_window_is_one_long_pass(model, borders):
    whole = text(borders)
    losses, memory = in_windows(model, whole)
    assert np.abs(losses - model.token_losses(whole)).max() < 1e-10
    shapes = {name: (3, *shape) for name, shape in memory_shapes(model.config).items()}
    assert {name: rows.shape for name, rows in memory.items()} == shapes


@pytest.mark.parametrize("kind", KINDS)
def test_the_kernels_do_the_same(kind):
    model, whole = made(KINDS[kind], np.float32), text((4, 10, 29))
    assert np.abs(in_windows(model, whole)[0] - model.token_losses(whole)).max() < 2e-4


def test_a_pass_without_a_memory_remembers_nothing(model):
    whole = text()
    assert model.token_losses(whole).tobytes() == model.token_losses(whole._replace(memory={})).tobytes()


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("borders", [(), (31, 36)])
def test_gradients_within_a_window_are_those_of_differences(model, borders, recompute):
    """What comes in is held constant, which is what truncates the back-propagation."""
    if recompute:
        twin = GPT(model.config, dtype=np.float64, recompute=True)
        twin.params.flat[:] = model.params.flat
        model = twin
    whole, memory = text(borders), {}
    model.token_losses(window(whole, 0, 30, memory))
    assert all(rows.any() for rows in memory.values())
    before = {name: rows.copy() for name, rows in memory.items()}
    last = window(whole, 30, 40, memory)
    model.grads.flat[:] = 0
    nats, _ = model.loss_and_grad(last)
    assert any((memory[name] != before[name]).any() for name in before)

    def loss():
        return model.token_losses(last._replace(memory=dict(before))).sum()

    assert nats == pytest.approx(loss(), abs=1e-10)
    h, rng = 1e-6, np.random.default_rng(2)
    for name in model.grads:
        x, direction = model.params[name], rng.normal(size=model.params[name].shape)
        kept = x.copy()
        x[:] = kept + h * direction
        high = loss()
        x[:] = kept - h * direction
        low = loss()
        x[:] = kept
        found = float((model.grads[name] * direction).sum())
        assert found == pytest.approx((high - low) / (2 * h), rel=1e-5, abs=1e-7), name
