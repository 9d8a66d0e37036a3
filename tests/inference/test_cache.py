"""Decoding step by step with a cache gives what one pass over everything gives."""

import numpy as np
import pytest

from microgpt.common.errors import ShapeError
from microgpt.core import random
from microgpt.inference.cache import KVCache


def tokens(model, n, name="ids"):
    draws = random.uniform(random.key(0, name), n)
    return (draws * model.config.vocab_size).astype(np.int32)


def cached_logits(model, cache, ids, sizes):
    """Logits after each of the given chunks."""
    ends = np.cumsum(sizes)
    starts = ends - sizes
    return np.array([model.next_logits(ids[a:b], cache) for a, b in zip(starts, ends, strict=True)])


@pytest.mark.parametrize("sizes", [[1] * 48, [48], [47, 1], [1, 46, 1], [5, 7, 1, 1, 20, 14]])
def test_cached_decoding_equals_the_full_forward(model, sizes):
    ids = tokens(model, 48)
    full = model.logits(ids[None])[0][np.cumsum(sizes) - 1]
    cached = cached_logits(model, KVCache(model.config), ids, sizes)
    np.testing.assert_allclose(cached, full, atol=1e-4, rtol=0)
    assert (cached.argmax(-1) == full.argmax(-1)).all()
    assert np.ptp(full) > 1  # a model without opinions would prove nothing


def test_a_cut_cache_goes_on_as_if_the_rest_had_never_been(model):
    ids, other = tokens(model, 30), tokens(model, 30, "other")
    cache = KVCache(model.config)
    model.next_logits(np.concatenate([ids[:20], other[:10]]), cache)
    cache.truncate(20)
    again = model.next_logits(ids[20:], cache)
    np.testing.assert_allclose(again, model.logits(ids[None])[0, -1], atol=1e-4, rtol=0)
    assert cache.length == 30


def test_rows_given_back_are_contiguous_views_of_all_positions(model):
    cache = KVCache(model.config)
    rows = np.arange(32, dtype=np.float32).reshape(2, 16)
    keys, values = cache.extend(1, rows, -rows)
    assert keys.shape == (2, 16) and keys.flags.c_contiguous and values.flags.c_contiguous
    assert cache.length == 0  # the model moves it on when all layers are through
    cache.length = 2
    keys, values = cache.extend(1, rows[:1] + 100, rows[:1])
    np.testing.assert_array_equal(keys, [*rows, rows[0] + 100])
    np.testing.assert_array_equal(values, [*-rows, rows[0]])


def test_a_full_cache_is_refused(model):
    cache = KVCache(model.config)
    cache.length = 48
    with pytest.raises(ShapeError, match="49 positions; this cache holds 48"):
        cache.extend(0, np.zeros((1, 16), np.float32), np.zeros((1, 16), np.float32))
    with pytest.raises(ShapeError, match="cannot cut"):
        cache.truncate(49)


def test_a_prompt_that_overflows_the_window_is_refused_by_the_model(model):
    with pytest.raises(ShapeError, match="window holds"):
        model.next_logits(tokens(model, 49), KVCache(model.config))
