"""Attention with bf16 products: near the truth in float64; the same bits on any number of threads."""

import numpy as np
import pytest

from microgpt.core import native, ops
from microgpt.core.heads import Heads

# B, T, H, hs: one row, odd lengths, heads narrower than a vector, wider than a word's vector, several chunks.
SHAPES = [(1, 1, 2, 2), (2, 131, 2, 10), (1, 33, 2, 40), (3, 16, 2, 34), (1, 401, 1, 16), (1, 513, 2, 64)]


@pytest.fixture(autouse=True, params=native.supported_levels())
def bf16(request):
    threads = native.threads()
    native.use_level(request.param)
    yield
    native.use_level()
    native.set_threads(threads)


def attention(B, T, H, hs, dtype=np.float32, shared=1, starts=None, precision="bf16"):
    """y, lse and dqkv of one draw."""
    generator, heads = np.random.default_rng(0), Heads(shared * H, H, hs)
    qkv, dy = (generator.standard_normal((B, T, n)).astype(dtype) for n in (heads.width, heads.C))
    cos, sin = ops.rope_tables(T, hs, dtype=dtype)
    how = heads, starts, precision
    y, lse = ops.attention_forward(qkv, cos, sin, *how)
    return y, lse, ops.attention_backward(dy, qkv, cos, sin, y, lse, *how)


@pytest.mark.parametrize("shape", SHAPES)
def test_near_the_truth(shape):
    for got, wanted in zip(attention(*shape), attention(*shape, np.float64), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=0, atol=0.008 * np.abs(wanted).max())


@pytest.mark.parametrize("shape", SHAPES)
def test_near_the_truth_with_shared_keys_and_several_documents(shape):
    B, T = shape[:2]
    starts = np.where(np.arange(T) < T // 3, 0, np.where(np.arange(T) < T // 3 + 5, T // 3, T // 3 + 5))
    how = {"shared": 2, "starts": np.tile(np.minimum(starts, np.arange(T)).astype(np.int32), (B, 1))}
    for got, wanted in zip(attention(*shape, **how), attention(*shape, np.float64, **how), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=0, atol=0.008 * np.abs(wanted).max())


@pytest.mark.parametrize("shape", [(2, 131, 2, 10), (1, 513, 2, 64)])
def test_bits_do_not_depend_on_threads(shape):
    found = set()
    for threads in (1, 2, 5):
        native.set_threads(threads)
        found.add(b"".join(array.tobytes() for array in attention(*shape)))
    assert len(found) == 1


def test_it_is_not_fp32():
    exact = attention(1, 64, 2, 32, precision="fp32")
    assert not np.array_equal(attention(1, 64, 2, 32)[0], exact[0])
