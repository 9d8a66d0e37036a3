"""Our own matrix product: every shape and orientation, every instruction-set level, any number of threads."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microgpt.common.errors import ConfigError
from microgpt.core import native, ops

SIZES = st.one_of(st.integers(1, 130), st.sampled_from([240, 257, 1024, 1025]))


@pytest.fixture(autouse=True, params=native.supported_levels())
def own_product(request):
    threads = native.threads()
    native.use_level(request.param)
    native.use_gemm("native")
    yield
    native.use_level()
    native.set_threads(threads)


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def products(N, M, K):
    """The three products of a linear layer in float32, and what they should be."""
    x, weight, dy, dweight = normal(1, N, K), normal(2, M, K), normal(3, N, M), normal(4, M, K)
    wanted = [x.astype(float) @ weight.T, dy.astype(float) @ weight, dweight + dy.T.astype(float) @ x]
    got = [ops.linear_forward(x, weight), ops.linear_backward_input(dy, weight)]
    ops.linear_backward_weight(dy, x, dweight)
    return [*got, dweight], wanted, (K, M, N)


@given(N=SIZES, M=SIZES, K=SIZES)
@settings(max_examples=40, deadline=None)
def test_products_of_any_shape(N, M, K):
    for got, wanted, terms in zip(*products(N, M, K), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=0, atol=2e-5 * terms**0.5)


@pytest.mark.parametrize("shape", [(512, 384, 1536), (300, 1025, 1100), (48, 33, 17)])
def test_bits_do_not_depend_on_threads(shape):
    found = []
    for threads in (1, 2, 5):
        native.set_threads(threads)
        found.append([array.tobytes() for array in products(*shape)[0]])
    assert found[0] == found[1] == found[2]


def test_nothing_beside_the_result_is_touched():
    """A row more and a column more than a register block holds: the edge block must not spill."""
    N, M, K = 61, 67, 5
    room = np.full((N + 2, M), 7, np.float32)
    x, weight, y = normal(1, N, K), normal(2, M, K), room[1:-1]
    pointer = native.ffi.cast("float *", y.ctypes.data)
    scratch = native.out(np.empty(native.lib.mg_gemm_scratch(N, M, K), np.float32))
    inputs = native.arg("x", x, (N, K)), native.arg("weight", weight, (M, K))
    native.lib.mg_linear_forward(pointer, scratch, *inputs, N, M, K)
    assert (room[[0, -1]] == 7).all()
    np.testing.assert_allclose(y, x @ weight.T, atol=1e-5)


def test_not_finite_comes_through():
    x, weight = normal(1, 64, 40), normal(2, 50, 40)
    x[3, 7], weight[9, 7] = np.inf, 0
    y = ops.linear_forward(x, weight)
    assert np.isnan(y[3, 9])
    assert np.isfinite(np.delete(y, 3, axis=0)).all()


def test_the_choice_is_checked(monkeypatch):
    monkeypatch.setenv("MICROGPT_GEMM", "cublas")
    with pytest.raises(ConfigError, match="MICROGPT_GEMM=cublas"):
        native.use_gemm()
    monkeypatch.setenv("MICROGPT_GEMM", "blas")
    native.use_gemm()
    assert native.info()["gemm"] == "blas"
    assert native.lib.mg_gemm_scratch(512, 512, 512) == 0
