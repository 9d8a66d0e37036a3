"""Which positions attention sees: windows, strides, patterns; alone, in pieces, across documents."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from microgpt.common.errors import ConfigError, ShapeError
from microgpt.core import native, ops, random, reference
from microgpt.core.cases import normal
from microgpt.core.heads import Heads
from microgpt.model import GPT, Batch, ModelConfig, flop_per_token
from microgpt.model.architecture import Architecture

PATTERNS = ("full", "local", "local_global", "local local_global full")
CONFIG = ModelConfig(3, 4, 16, 300, 29, n_kv_head=2, init_std=0.3, window=20, global_stride=7)
PART = Heads(2, 1, 4, window=20, stride=7)


def ids(name, *shape):
    draws = random.uniform(random.key(0, name), int(np.prod(shape)))
    return (draws * 29).astype(np.int32).reshape(shape)


def model(attention, dtype=np.float32, **changes):
    return GPT(replace(CONFIG, attention=attention, **changes), dtype).init(3)


@pytest.mark.parametrize("window, stride", [(0, 0), (1, 0), (5, 0), (300, 0), (5, 1), (5, 3), (16, 16)])
def test_pairs_are_those_that_are_seen(window, stride):
    heads = Heads(1, 1, 2, window, stride)
    for T in (1, 4, 5, 6, 7, 8, 9, 63, 64, 65):
        assert heads.pairs(T) == reference._is_seen(T, T, heads, None).sum()


def test_what_is_seen_is_told_in_words():
    """Window 3, stride 4, a document that begins at 2: position 13 sees 11 to 13, and from afar 2, 6, 10."""
    starts = np.array([[0, 0] + [2] * 12], np.int32)
    seen = reference._is_seen(14, 14, Heads(1, 1, 2, 3, 4), starts)[0, 0]
    assert np.flatnonzero(seen[13]).tolist() == [2, 6, 10, 11, 12, 13]
    assert np.flatnonzero(seen[1]).tolist() == [0, 1]
    assert np.flatnonzero(seen[4]).tolist() == [2, 3, 4]


@pytest.mark.parametrize("level", native.supported_levels())
@pytest.mark.parametrize("stride", [0, 7])
def test_what_is_not_seen_changes_no_bit(level, stride):
    """Forward and backward of a query, after all that it does not see has changed."""
    heads, turns = replace(PART, stride=stride), ops.rope_tables(90, 4, dtype=np.float32)
    qkv = normal("qkv", 1, 90, heads.width).astype(np.float32)
    dy = np.zeros((1, 90, heads.C), np.float32)
    dy[0, 70] = 1

    def both(x):
        y, lse = ops.attention_forward(x, *turns, heads)
        return y[0, 70], ops.attention_backward(dy, x, *turns, y, lse, heads)[0]

    hidden = ~reference._is_seen(90, 90, heads, None)[0, 0, 70]
    other = qkv.copy()
    other[0, hidden] += 1
    native.use_level(level)
    try:
        (y, dqkv), (y_other, dqkv_other) = both(qkv), both(other)
    finally:
        native.use_level()
    assert y.tobytes() == y_other.tobytes()
    assert dqkv.tobytes() == dqkv_other.tobytes()
    assert not dqkv[hidden].any() and dqkv[~hidden].any(axis=1).all()


@pytest.mark.parametrize("attention", PATTERNS)
def test_no_position_sees_what_follows(attention):
    gpt, x = model(attention), ids("x", 2, 150)
    before = gpt.logits(x)
    x[:, 100:] = (x[:, 100:] + 1) % 29
    after = gpt.logits(x)
    assert before[:, :100].tobytes() == after[:, :100].tobytes()
    assert (before[:, 100:] != after[:, 100:]).any()


@pytest.mark.parametrize("attention", PATTERNS)
@pytest.mark.parametrize("T", [1, 2, 21, 130, 300])
def test_one_pass_is_pieces_is_token_by_token(attention, T):
    gpt, x = model(attention), ids("x", T)
    whole = gpt.logits(x[None])[0]
    for sizes in ([1] * T, [T], [T // 3, T - T // 3]):
        state, at = gpt.new_state(), 0
        for n in filter(None, sizes):
            logits = gpt.next_logits([(state, x[at : at + n])])[0]
            at += n
            assert np.abs(logits - whole[at - 1]).max() <= 1e-5 * max(1, np.abs(whole).max())


@pytest.mark.parametrize("attention", PATTERNS)
def test_a_document_in_a_row_is_a_document_alone(attention):
    gpt, x, borders = model(attention), ids("x", 1, 300), (0, 3, 90, 91, 230, 300)
    starts = np.zeros((1, 300), np.int32)
    for begin, end in itertools.pairwise(borders):
        starts[0, begin:end] = begin
    together = gpt.token_losses(Batch(x, x, starts=starts))[0]
    for begin, end in itertools.pairwise(borders):
        part = x[:, begin:end]
        alone = gpt.token_losses(Batch(part, part))[0]
        assert np.abs(together[begin:end] - alone).max() <= 1e-5 * max(1, np.abs(alone).max())


def test_the_gradient_of_a_pattern_is_the_derivative():
    gpt = model("local local_global full", np.float64, seq_len=40, window=6, global_stride=3)
    starts = np.array([[0] * 40, [0] * 13 + [13] * 27], np.int32)
    batch = Batch(ids("x", 2, 40), ids("y", 2, 40), starts=starts)
    gpt.loss_and_grad(batch)
    direction = normal("direction", gpt.params.flat.size)
    slope, flat = float(direction @ gpt.grads.flat), gpt.params.flat.copy()
    losses = []
    for h in (1e-6, -1e-6):
        gpt.params.flat[:] = flat + h * direction
        losses.append(gpt.token_losses(batch).sum())
    assert (losses[0] - losses[1]) / 2e-6 == pytest.approx(slope, rel=1e-6)


def test_recomputing_changes_no_bit():
    batch = Batch(ids("x", 2, 150), ids("y", 2, 150))
    results = []
    for recompute in (False, True):
        gpt = GPT(replace(CONFIG, attention="local_global local full"), recompute=recompute).init(3)
        results.append((gpt.loss_and_grad(batch), gpt.grads.flat.tobytes()))
    assert results[0] == results[1]


def test_layers_follow_the_pattern():
    config = replace(CONFIG, n_layer=7, attention="local local_global full")
    seen = [(block.mixer.heads.window, block.mixer.heads.stride) for block in Architecture(config).blocks]
    assert seen == [(20, 0), (20, 7), (0, 0)] * 2 + [(20, 0)]
    assert config.layer_counts == {0: 3, 1: 2, 2: 2}
    assert replace(CONFIG, attention="full full").layer_counts == {0: 3}


@pytest.mark.parametrize(
    "seq_len, window, stride",
    [(256, 96, 16), (512, 136, 23), (2047, 271, 45), (2048, 181, 45), (4096, 256, 64)],
)
def test_a_window_follows_the_length_of_the_sequence(seq_len, window, stride):
    heads = ModelConfig(1, 1, 2, seq_len, 3, attention="local_global").heads_of(0)
    assert (heads.window, heads.stride) == (window, stride)


def test_costs_count_the_pairs_that_are_seen():
    def of_attention(attention):
        return flop_per_token(replace(CONFIG, attention=attention)) - flop_per_token(CONFIG)

    full, local = (sum(min(t + 1, n) for t in range(300)) for n in (300, 20))
    far = sum(-(-max(0, t + 1 - 20) // 7) for t in range(300))
    by_pair = 12 * 16 * 3 / 300
    assert of_attention("local") == pytest.approx(by_pair * (local - full))
    assert of_attention("local_global") == pytest.approx(by_pair * (local + far - full))


@pytest.mark.parametrize(
    "changes", [{"attention": ""}, {"attention": "local wide"}, {"window": -1}, {"global_stride": -1}]
)
def test_what_attention_cannot_be_is_refused(changes):
    with pytest.raises(ConfigError, match=r"^(attention|window|global_stride) "):
        replace(CONFIG, **changes)


@pytest.mark.parametrize("window, stride", [(-1, 0), (0, 3), (3, -1)])
def test_heads_that_see_nothing_are_refused(window, stride):
    with pytest.raises(ShapeError, match=r"^window "):
        Heads(1, 1, 2, window, stride)
