"""Recurrent layers in whole models: gradients, causality, documents, states, recomputing."""

from dataclasses import replace

import numpy as np
import pytest

from microgpt.common.errors import ConfigError
from microgpt.core import random
from microgpt.core.cases import normal
from microgpt.model import GPT, Batch, ModelConfig, count_parameters
from microgpt.model.layer import Call
from microgpt.model.presets import COUNTED_WITH, COUNTED_WITH_OTHERS, PRESETS
from microgpt.model.recurrence import KEPT_EVERY, RecurrentState
from microgpt.model.settings import FUSIONS

SMALL = ModelConfig(
    2, 2, 8, 300, 17, recurrent_head=4, mamba_state=3, mixer="mamba2", init_std=0.3, look_back=1
)
MODELS = {
    "mamba2": SMALL,
    "rwkv7": replace(SMALL, mixer="rwkv7", mlp="rwkv7", n_layer=3),
    "rwkv6": replace(SMALL, mixer="rwkv6", mlp="rwkv6"),
    "hybrid": replace(SMALL, mixer="mamba2 attention rwkv7", mlp="rwkv6", n_layer=3),
    **{kind: replace(SMALL, mixer="rwkv7+mamba2", fusion=kind, fusion_share=0.3) for kind in FUSIONS},
    "fusion with attention": replace(SMALL, mixer="rwkv6+attention rwkv7", mlp="rwkv7", fusion="gate"),
}
EACH = pytest.mark.parametrize("config", MODELS.values(), ids=MODELS)


def tokens(name, *shape):
    draws = random.uniform(random.key(0, name, *shape), int(np.prod(shape)))
    return (draws * 17).astype(np.int32).reshape(shape)


def filled(config, dtype=np.float32, **others):
    """A model in which every parameter has a part: some begin as zeros or alike."""
    model = GPT(config, dtype, **others).init(3)
    for name in model.params:
        x = model.params[name]
        x += 0.1 * normal(name, *x.shape).astype(dtype)
    return model


def documents(B, T):
    """Where documents begin in rows of T, at two places."""
    starts = np.zeros((B, T), np.int32)
    for b in range(B):
        for begin in (T // 3 + b, 2 * T // 3):
            starts[b, begin:] = begin
    return starts


@EACH
def test_every_gradient_is_the_derivative(config):
    """Central differences in float64 of a model's loss, with two borders of documents, name by name."""
    model = filled(config, np.float64)
    batch = Batch(tokens("ids", 2, 11), tokens("targets", 2, 11), starts=documents(2, 11))
    model.loss_and_grad(batch)
    h = 1e-5
    for name, x in model.params.items():
        direction, before = normal("direction", *x.shape), x.copy()
        losses = []
        for sign in (1, -1):
            x[:] = before + sign * h * direction
            losses.append(model.token_losses(batch).sum())
        x[:] = before
        grad = model.grads[name]
        slope = (losses[0] - losses[1]) / (2 * h)
        size = np.abs(grad).max() * np.sqrt((direction**2).sum()) + 1e-3
        assert abs(slope - (grad * direction).sum()) <= 1e-6 * size, name
        assert grad.any(), name


@EACH
def test_no_token_sees_the_future_to_the_bit(config):
    model, ids = filled(config), tokens("ids", 1, 40)
    before = model.logits(ids)
    for t in (1, 7, 39):
        changed = ids.copy()
        changed[0, t] = (changed[0, t] + 1) % 17
        after = model.logits(changed)
        assert after[0, :t].tobytes() == before[0, :t].tobytes()
        assert (after[0, t] != before[0, t]).any()


@EACH
def test_documents_and_rows_do_not_see_each_other(config):
    """Losses at documents packed into rows are those of each alone."""
    model, ids, T = filled(config), tokens("ids", 2, 60), 60
    starts = documents(2, T)
    together = model.token_losses(Batch(ids, ids, starts=starts))
    for b in range(2):
        for begin in np.unique(starts[b]):
            places = np.flatnonzero(starts[b] == begin)
            alone = np.ascontiguousarray(ids[b : b + 1, places])
            wanted = model.token_losses(Batch(alone, alone))[0]
            np.testing.assert_allclose(together[b, places], wanted, atol=1e-5)
    rows = [slice(b, b + 1) for b in range(2)]
    apart = [model.token_losses(Batch(ids[row], ids[row], starts=starts[row])) for row in rows]
    np.testing.assert_allclose(together, np.concatenate(apart), atol=1e-6)


@EACH
@pytest.mark.parametrize("sizes", [[1] * 9, [2, 1, 5, 1], [300], [128, 128, 44], [127, 2, 1, 170]], ids=str)
def test_pieces_and_single_tokens_give_what_one_pass_gives(config, sizes):
    model, n = filled(config), sum(sizes)
    ids, ends = tokens("ids", n), np.cumsum(sizes)
    full = model.logits(ids[None])[0][ends - 1]
    state, other = model.new_state(), model.new_state()
    model.next_logits([(other, tokens("other", 5))])
    found = []
    for end, size in zip(ends, sizes, strict=True):
        if size == 1 and other.length < 300:  # beside another sequence
            found.append(model.next_logits([(other, tokens("more", 1)), (state, ids[end - 1 : end])])[1])
        else:
            found.append(model.next_logits([(state, ids[end - size : end])])[0])
    np.testing.assert_allclose(found, full, atol=1e-5 * np.abs(full).max(), rtol=0)
    assert state.length == n


@EACH
def test_windows_go_on_where_the_last_ones_ended(config):
    """A row of recurrent layers alone cut into two calls, the second with what the first remembers."""
    if "attention" in config.mixer:
        pytest.skip("attention carries nothing from window to window")
    config = replace(config, look_back=0)
    model, ids = filled(config), tokens("ids", 2, 50)
    starts = documents(2, 50)
    whole, _ = model._trunk_forward(ids, Call(2, 50, starts=starts))
    for cut in (1, 2, 20, 33):
        first = Call(2, cut, starts=np.ascontiguousarray(starts[:, :cut]))
        before, _ = model._trunk_forward(np.ascontiguousarray(ids[:, :cut]), first)
        later = np.ascontiguousarray(np.maximum(starts[:, cut:] - cut, 0))
        fresh = starts[:, cut] == cut  # a document that begins with the second window remembers nothing
        memory = {key: x * ~fresh.reshape(-1, *[1] * (x.ndim - 1)) for key, x in first.after.items()}
        memory = {key: np.ascontiguousarray(x, np.float32) for key, x in memory.items()}
        second = Call(2, 50 - cut, starts=later, before=memory)
        after, _ = model._trunk_forward(np.ascontiguousarray(ids[:, cut:]), second)
        both = np.concatenate([before.reshape(2, cut, -1), after.reshape(2, 50 - cut, -1)], 1)
        np.testing.assert_allclose(both, whole.reshape(2, 50, -1), atol=2e-5 * np.abs(whole).max())


@EACH
def test_recomputing_does_not_change_a_bit(config):
    batch, results = Batch(tokens("ids", 2, 30), tokens("targets", 2, 30), starts=documents(2, 30)), []
    for recompute in (False, True):
        model = filled(config, recompute=recompute)
        nats, _ = model.loss_and_grad(batch)
        results.append((nats, model.grads.flat.tobytes()))
    assert results[0] == results[1]


@EACH
def test_counts_are_exact(config):
    for n_layer in (1, 2, 3, 4, 5, 7):
        deeper = replace(config, n_layer=n_layer)
        assert count_parameters(deeper) == GPT(deeper).params.flat.size, n_layer


@pytest.mark.parametrize("name", [name for name in PRESETS if "mixer" in PRESETS[name]])
def test_presets_count_to_their_names(name):
    millions = float(name.split("m")[0])
    size = COUNTED_WITH_OTHERS.get(name, COUNTED_WITH)
    assert count_parameters(ModelConfig.from_preset(name, size)) == pytest.approx(millions * 1e6, rel=0.05)


def test_a_frozen_layer_has_no_gradient_and_the_others_keep_theirs():
    config = MODELS["hybrid"]
    names = list(GPT(config).params)
    frozen = [name for name in names if "rwkv7" in name or "mamba2" in name]
    batch, found = Batch(tokens("ids", 2, 9), tokens("targets", 2, 9)), []
    for left_out in ((), frozen):
        model = filled(config, frozen=left_out)
        model.loss_and_grad(batch)
        found.append(dict(model.grads.items()))
    assert set(found[1]) == set(names) - set(frozen)
    assert all(found[0][name].tobytes() == grad.tobytes() for name, grad in found[1].items())


def test_a_recurrent_state_goes_back_to_where_it_was_kept():
    model, ids = filled(MODELS["hybrid"]), tokens("ids", 280)
    state = model.new_state()
    for begin, end in ((0, KEPT_EVERY), (KEPT_EVERY, 2 * KEPT_EVERY), (2 * KEPT_EVERY, 280)):
        model.next_logits([(state, ids[begin:end])])
    twin = state.copy()
    assert state.rewind(270) == 2 * KEPT_EVERY and twin.length == 280
    (again,) = model.next_logits([(state, ids[2 * KEPT_EVERY :])])
    np.testing.assert_allclose(again, model.logits(ids[None])[0, -1], atol=1e-4)
    assert twin.rewind(200) == KEPT_EVERY and twin.rewind(3) == 0


def test_a_state_keeps_only_what_a_piece_ended_at():
    state = RecurrentState()
    state.advance(100)
    state.advance(100)
    assert state.rewind(150) == 0 and state.memory == {}


@pytest.mark.parametrize(
    "change, word",
    [
        ({"mixer": "mamba2+mamba2"}, "two different"),
        ({"mixer": "mamba2+rwkv7+rwkv6"}, "two different"),
        ({"mixer": "mamba2+dance"}, "dance"),
        ({"recurrent_head": 3}, "recurrent_head 3"),
        ({"fusion_share": 1.0}, "fusion_share"),
        ({"fusion": "sum"}, "fusion"),
        ({"mixer": "attention", "mlp": "rwkv7", "recurrent_head": 3}, "recurrent_head 3"),
    ],
)
def test_impossible_configurations_are_refused_by_name(change, word):
    with pytest.raises(ConfigError, match=word):
        replace(SMALL, **change)
