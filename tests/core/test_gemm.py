"""Our own matrix product: every shape and orientation, every instruction-set level, any number of threads."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from microgpt.common.errors import ConfigError
from microgpt.core import native, ops, reference

SMALL = st.integers(1, 130)
SIZES = st.one_of(SMALL, st.sampled_from([240, 257, 1024, 1025]))
SHAPES = st.one_of([st.tuples(*(SMALL if i == small else SIZES for i in range(3))) for small in range(3)])


@pytest.fixture(autouse=True)
def everything_back():
    threads = native.threads()
    yield
    native.use_level()
    native.set_threads(threads)


@pytest.fixture(params=native.supported_levels())
def own(request):
    """Our kernel on every level, in fp32."""
    native.use_level(request.param)
    native.use_gemm("native")


@pytest.fixture
def levels():
    """Each instruction-set level in turn: what is wanted of them is the same, and made once."""

    def each():
        for level in native.supported_levels():
            native.use_level(level)
            native.use_gemm("native")
            yield level

    return each


@pytest.fixture(params=native.supported_levels())
def bf16(request):
    """bf16 on every level, whatever level is best for it."""
    native.use_level(request.param)


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def operands(N, M, K):
    """x, weight, dy, and what dweight is before its product is added."""
    return normal(1, N, K), normal(2, M, K), normal(3, N, M), normal(4, M, K)


def products(x, weight, dy, dweight, precision="fp32"):
    """The three products of a linear layer."""
    total = dweight.copy()
    ops.linear_backward_weight(dy, x, total, precision)
    return [
        ops.linear_forward(x, weight, precision),
        ops.linear_backward_input(dy, weight, precision),
        total,
    ]


def true_products(x, weight, dy, dweight, rounded=lambda x: x):
    """What they should be, for operands that are so rounded."""
    x, weight, dy = (rounded(array.astype(float)) for array in (x, weight, dy))
    return [x @ weight.T, dy @ weight, dweight + dy.T @ x]


def are_right(shape, levels):
    arrays = operands(*shape)
    wanted = true_products(*arrays)
    N, M, K = shape
    for level in levels():
        for got, true, terms in zip(products(*arrays), wanted, (K, M, N), strict=True):
            np.testing.assert_allclose(got, true, rtol=0, atol=2e-5 * terms**0.5, err_msg=level)


@given(shape=SHAPES)
@settings(max_examples=20)
def test_products_of_any_shape(levels, shape):
    are_right(shape, levels)


@pytest.mark.parametrize("shape", [(3073, 50, 61), (50, 3073, 61), (50, 61, 3073), (1537, 1537, 50)])
def test_sums_of_several_rounds(levels, shape):
    are_right(shape, levels)


@pytest.mark.parametrize("shape", [(512, 384, 1536), (300, 1025, 1100), (48, 33, 17)])
def test_bits_do_not_depend_on_threads(own, shape):
    found, arrays = [], operands(*shape)
    for threads in (1, 2, 5):
        native.set_threads(threads)
        found.append([array.tobytes() for array in products(*arrays)])
    assert found[0] == found[1] == found[2]


def test_nothing_beside_the_result_is_touched(own):
    """A row more and a column more than a register block holds: the edge block must not spill."""
    N, M, K = 61, 67, 5
    room = np.full((N + 2, M), 7, np.float32)
    x, weight, y = normal(1, N, K), normal(2, M, K), room[1:-1]
    pointer = native.ffi.cast("float *", y.ctypes.data)
    how = native.lib.MG_TYPE_FP32, native.lib.MG_GEMM_FP32
    scratch = native.out(np.empty(native.lib.mg_gemm_scratch(N, M, K, *how), np.float32))
    inputs = native.arg("x", x, (N, K)), native.arg("weight", weight, (M, K))
    native.lib.mg_linear_forward(pointer, scratch, *inputs, N, M, K, *how)
    assert (room[[0, -1]] == 7).all()
    np.testing.assert_allclose(y, x @ weight.T, atol=1e-5)


def test_not_finite_comes_through(own):
    x, weight = normal(1, 64, 40), normal(2, 50, 40)
    x[3, 7], weight[9, 7] = np.inf, 0
    y = ops.linear_forward(x, weight)
    assert np.isnan(y[3, 9])
    assert np.isfinite(np.delete(y, 3, axis=0)).all()


def test_a_product_of_no_terms_is_zero(own):
    native.use_gemm("native")
    assert (ops.linear_forward(np.empty((64, 0), np.float32), np.empty((300, 0), np.float32)) == 0).all()


def test_the_choice_is_checked(monkeypatch):
    monkeypatch.setenv("MICROGPT_GEMM", "cublas")
    with pytest.raises(ConfigError, match="MICROGPT_GEMM=cublas"):
        native.use_gemm()
    monkeypatch.setenv("MICROGPT_GEMM", "blas")
    native.use_gemm()
    assert native.info()["gemm"] == "blas"
    assert native.info("bf16")["gemm"] == "native"
    assert ops.linear_scratch(512, 512, 512) == 0 < ops.linear_scratch(512, 512, 512, "bf16")


# ---- bf16


@given(shape=SHAPES)
@example(shape=(111, 1, 1))
@settings(max_examples=20)
def test_bf16_is_the_product_of_rounded_operands(levels, shape):
    N, M, _ = shape
    arrays = operands(*shape)
    rounded, exact = true_products(*arrays, reference.to_bf16), true_products(*arrays)
    size = max(np.abs(one).max() for one in exact)  # a sum may cancel to less than its terms are rounded by
    for level in levels():
        for found, *wanted, rows in zip(products(*arrays, "bf16"), rounded, exact, (N, N, M), strict=True):
            true = wanted[rows < native.lib.MG_PACKED_ROWS]  # few rows stay in fp32
            np.testing.assert_allclose(found, true, rtol=0, atol=1e-5 * size, err_msg=level)


def test_bf16_rounds_to_nearest_even(bf16):
    """Ties on both sides, one of which carries into the exponent; just above a tie; the largest float."""
    cases = {
        1 + 2**-8: 1,
        1 + 3 * 2**-8: 1 + 2**-6,
        -1 - 3 * 2**-8: -1 - 2**-6,
        2 - 2**-8: 2,
        1 + 2**-8 + 2**-20: 1 + 2**-7,
        1 + 2**-9: 1,
        3.4e38: np.inf,
    }
    x = np.repeat(np.array(list(cases), np.float32)[:, None], 48, axis=0)
    y = ops.linear_forward(x, np.ones((1, 1), np.float32), "bf16")[::48, 0]
    assert y.tolist() == list(cases.values())


def test_bf16_has_the_same_bits_on_every_level_and_number_of_threads():
    found, arrays = set(), operands(130, 261, 3201)
    for level in native.supported_levels():
        native.use_level(level)
        for threads in (1, 3):
            native.set_threads(threads)
            found.add(b"".join(array.tobytes() for array in products(*arrays, "bf16")))
    assert len(found) == 1


def test_bf16_leaves_few_rows_in_fp32(bf16):
    x, weight = normal(1, 47, 200), normal(2, 64, 200)
    y = ops.linear_forward(x, weight, "bf16")
    np.testing.assert_allclose(y, x.astype(float) @ weight.T, atol=3e-4)


def test_bf16_passes_on_what_is_not_finite(bf16):
    x, weight = normal(1, 64, 41), normal(2, 50, 41)
    x[3, 7], x[5, 40] = np.inf, np.nan
    y = ops.linear_forward(x, weight, "bf16")
    assert np.isinf(y[3]).all() and np.isnan(y[5]).all()
    assert np.isfinite(np.delete(y, [3, 5], axis=0)).all()


def test_bf16_is_refused_by_a_cpu_without_it(monkeypatch):
    monkeypatch.delenv("MICROGPT_ISA", raising=False)
    monkeypatch.setattr(native, "supported_levels", lambda: ["baseline", "avx2"])
    assert native.choose_precision("auto") == native.choose_precision("fp32") == "fp32"
    with pytest.raises(ConfigError, match="no AVX512_BF16"):
        native.choose_precision("bf16")
    monkeypatch.setenv("MICROGPT_ISA", "avx2")
    assert native.choose_precision("auto") == "fp32" and native.choose_precision("bf16") == "bf16"
