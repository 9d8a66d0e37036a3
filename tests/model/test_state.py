"""Decoding step by step from a state gives what one pass over everything gives."""

import numpy as np
import pytest

from microgpt.common.errors import ShapeError
from microgpt.core import random
from microgpt.model import GPT, ModelConfig
from microgpt.model.state import KVState, ModelState


def tokens(model, n, name="ids"):
    draws = random.uniform(random.key(0, name), n)
    return (draws * model.config.vocab_size).astype(np.int32)


def state_logits(model, state, ids, sizes):
    """Logits after each of the given chunks."""
    ends = np.cumsum(sizes)
    starts = ends - sizes
    return np.array([model.next_logits([(state, ids[a:b])])[0] for a, b in zip(starts, ends, strict=True)])


@pytest.mark.parametrize("sizes", [[1] * 48, [48], [47, 1], [1, 46, 1], [5, 7, 1, 1, 20, 14]])
def test_cached_decoding_equals_the_full_forward(model, sizes):
    ids = tokens(model, 48)
    full = model.logits(ids[None])[0][np.cumsum(sizes) - 1]
    cached = state_logits(model, model.new_state(), ids, sizes)
    np.testing.assert_allclose(cached, full, atol=1e-4, rtol=0)
    assert (cached.argmax(-1) == full.argmax(-1)).all()
    assert np.ptp(full) > 1  # a model without opinions would prove nothing


@pytest.mark.parametrize("kind", [{"n_kv_head": 2}, {"n_kv_head": 1, "look_back": 3}])
def test_shared_keys_and_earlier_tokens_are_remembered(kind):
    shape = {"n_layer": 2, "n_head": 4, "n_embd": 16, "seq_len": 48, "vocab_size": 97, "init_std": 0.4}
    model = GPT(ModelConfig(**shape, **kind)).init(7)
    ids, sizes = tokens(model, 48), [5, 7, 1, 1, 20, 14]
    full = model.logits(ids[None])[0][np.cumsum(sizes) - 1]
    np.testing.assert_allclose(state_logits(model, model.new_state(), ids, sizes), full, atol=1e-4, rtol=0)


def test_a_state_taken_back_goes_on_as_if_the_rest_had_never_been(model):
    ids, other = tokens(model, 30), tokens(model, 30, "other")
    state = model.new_state()
    model.next_logits([(state, np.concatenate([ids[:20], other[:10]]))])
    assert state.rewind(20) == 20
    (again,) = model.next_logits([(state, ids[20:])])
    np.testing.assert_allclose(again, model.logits(ids[None])[0, -1], atol=1e-4, rtol=0)
    assert state.length == 30


def test_rows_of_different_lengths_do_not_see_each_other(model):
    ids, other = tokens(model, 30), tokens(model, 30, "other")
    states = [model.new_state(), model.new_state(), model.new_state()]
    model.next_logits([(states[0], ids[:20])])
    together = model.next_logits([(states[0], ids[20:25]), (states[1], other[:1]), (states[2], ids[:9])])
    wanted = [model.logits(row[None])[0, -1] for row in (ids[:25], other[:1], ids[:9])]
    np.testing.assert_allclose(together, wanted, atol=1e-4, rtol=0)
    assert [state.length for state in states] == [25, 1, 9]


def test_a_copy_goes_its_own_way(model):
    ids, other = tokens(model, 30), tokens(model, 30, "other")
    state = model.new_state()
    model.next_logits([(state, ids[:10])])
    twin = state.copy()
    model.next_logits([(twin, other[:5])])
    (logits,) = model.next_logits([(state, ids[10:])])
    np.testing.assert_allclose(logits, model.logits(ids[None])[0, -1], atol=1e-4, rtol=0)
    assert (state.length, twin.length) == (30, 15)


class Coarse:
    """A memory that can only go back to multiples of four, as one with checkpoints can."""

    def __init__(self, length):
        self.length = length

    def rewind(self, n):
        self.length = min(self.length, n // 4 * 4)
        return self.length


def test_a_model_goes_back_as_far_as_its_coarsest_memory():
    fine = KVState(48, 2)
    fine.extend(np.zeros((11, 2), np.float32), np.zeros((11, 2), np.float32))
    state = ModelState({"fine": fine, "coarse": Coarse(11)})
    assert state.rewind(10) == 8
    assert [part.length for part in state.states.values()] == [8, 8]


def test_rows_given_back_are_contiguous_views_of_all_positions():
    state = KVState(48, 16)
    rows = np.arange(32, dtype=np.float32).reshape(2, 16)
    keys, values = state.extend(rows, -rows)
    assert keys.shape == (2, 16) and keys.flags.c_contiguous and values.flags.c_contiguous
    keys, values = state.extend(rows[:1] + 100, rows[:1])
    np.testing.assert_array_equal(keys, [*rows, rows[0] + 100])
    np.testing.assert_array_equal(values, [*-rows, rows[0]])


def test_a_full_state_is_refused():
    state = KVState(3, 16)
    row = np.zeros((1, 16), np.float32)
    state.length = 3
    with pytest.raises(ShapeError, match="4 positions; this state holds 3"):
        state.extend(row, row)
    with pytest.raises(ShapeError, match="cannot go back to 4"):
        state.rewind(4)


def test_a_prompt_that_overflows_the_window_is_refused_by_the_model(model):
    with pytest.raises(ShapeError, match="window holds"):
        model.next_logits([(model.new_state(), tokens(model, 49))])
