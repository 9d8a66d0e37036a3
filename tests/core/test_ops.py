"""Every operation, by walking the table of cases: gradients, C against reference, threads, bad input."""

import ast
from pathlib import Path

import numpy as np
import pytest

from microgpt.common.errors import ShapeError
from microgpt.core import native, ops, random, reference
from microgpt.core.cases import CASES, normal
from microgpt.core.heads import Heads

EACH = [
    pytest.param(case, shape, id=f"{name}-{'x'.join(map(str, shape))}")
    for name, case in CASES.items()
    for shape in case.shapes
]


def floats(inputs):
    return {name: x for name, x in inputs.items() if x.dtype.kind == "f"}


def cast(inputs, dtype):
    return {name: x.astype(dtype) if x.dtype.kind == "f" else x for name, x in inputs.items()}


def run(case, inputs, dy):
    """Forward, then backward with cotangent dy: (y, gradients)."""
    y, saved = case.forward(inputs)
    y = y.copy()
    grads = case.backward(dy.astype(y.dtype), inputs, saved, lambda name: np.zeros_like(inputs[name]))
    return y, grads


def assert_close(got, truth, eps_multiple, name):
    """Errors are relative to the largest entry: small sums carry the error of their large terms."""
    scale = max(np.abs(truth).max(), 1e-30)
    error = np.abs(got.astype(np.float64) - truth).max() / scale
    assert error <= eps_multiple * np.finfo(np.float32).eps, f"{name}: relative error {error:.2e}"


@pytest.mark.parametrize("case, shape", EACH)
def test_gradient_is_the_derivative(case, shape):
    """Central differences in float64: a random direction at every size, every coordinate at small ones."""
    inputs = case.make(*shape)
    y, saved = case.forward(inputs)
    dy = normal("dy", *y.shape)
    grads = case.backward(dy, inputs, saved, lambda name: np.zeros_like(inputs[name]))
    assert set(grads) == set(floats(inputs))

    def slope(name, direction, h=1e-6):
        up, down = ({**inputs, name: inputs[name] + sign * h * direction} for sign in (1, -1))
        return ((case.forward(up)[0] - case.forward(down)[0]) * dy).sum() / (2 * h)

    for name, x in floats(inputs).items():
        directions = [normal("direction", *x.shape)]
        if x.size <= 24:
            directions += list(np.eye(x.size).reshape(x.size, *x.shape))
        scale = np.abs(grads[name]).max() + 1e-12
        for direction in directions:
            error = abs(slope(name, direction) - (grads[name] * direction).sum())
            assert error <= 1e-6 * scale * np.sqrt((direction**2).sum()), name


@pytest.mark.parametrize("level", native.supported_levels())
@pytest.mark.parametrize("case, shape", EACH)
def test_native_matches_reference(case, shape, level):
    inputs = cast(case.make(*shape), np.float32)
    truth_inputs = cast(inputs, np.float64)  # the same numbers: rounding the inputs is not the kernel's error
    dy = normal("dy", *case.forward(truth_inputs)[0].shape).astype(np.float32)
    truth_y, truth_grads = run(case, truth_inputs, dy)
    native.use_level(level)
    try:
        y, grads = run(case, inputs, dy)
    finally:
        native.use_level()
    assert_close(y, truth_y, 16, "y")
    for name, grad in grads.items():
        assert_close(grad, truth_grads[name], 64, f"d{name}")


@pytest.mark.parametrize("case, shape", EACH)
def test_threads_do_not_change_a_bit(case, shape):
    inputs = cast(case.make(*shape), np.float32)
    dy = normal("dy", *case.forward(inputs)[0].shape).astype(np.float32)
    results = []
    for threads in (1, 2, 5):
        native.set_threads(threads)
        try:
            y, grads = run(case, inputs, dy)
        finally:
            native.set_threads(1)
        results.append([y.tobytes(), *(grads[name].tobytes() for name in sorted(grads))])
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_parameter_gradients_are_added(name, dtype):
    case = CASES[name]
    inputs = cast(case.make(*case.shapes[1]), dtype)
    y, saved = case.forward(inputs)
    dy = normal("dy", *y.shape).astype(dtype)
    accumulators = {}

    def zeros(name):
        return accumulators.setdefault(name, np.zeros_like(inputs[name]))

    once = case.backward(dy, inputs, saved, zeros)
    once = {key: once[key].copy() for key in accumulators if key in once and once[key] is accumulators[key]}
    case.backward(dy, inputs, saved, zeros)
    for key, grad in once.items():
        np.testing.assert_allclose(accumulators[key], 2 * grad, rtol=1e-6)


def test_every_op_has_a_case_and_a_reference():
    tree = ast.parse(Path(ops.__file__).read_text())
    names = {f.name for f in tree.body if isinstance(f, ast.FunctionDef) and f.decorator_list}
    layers = {name.removesuffix("_forward") for name in names if name.endswith("_forward")}
    assert layers <= set(CASES)
    assert all(callable(getattr(ops, f"{name}_backward")) for name in layers)
    assert all(hasattr(reference, name) for name in names)


@pytest.mark.parametrize("level", native.supported_levels())
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_a_backward_makes_again_has_the_bits_of_the_forward(level, dtype):
    native.use_level(level)
    try:
        for N, C in ((1, 1), (3, 7), (67, 33), (300, 769)):
            x, weight = 3 * normal("x", N, C).astype(dtype), normal("weight", C).astype(dtype)
            y, rstd = ops.rmsnorm_forward(x, weight)
            assert ops.rmsnorm_again(x, weight, rstd).tobytes() == y.tobytes()
            y, dy = ops.gelu_forward(x), normal("dy", N, C).astype(dtype)
            assert ops.gelu_backward(dy, x.copy())[1].tobytes() == y.tobytes()
    finally:
        native.use_level()


def tables(T, hs, dtype):
    return ops.rope_tables(T, hs, dtype=dtype)


@pytest.mark.parametrize("level", native.supported_levels())
@pytest.mark.parametrize("T, hs, start", [(1, 2, 0), (3, 6, 1), (5, 64, 7), (9, 34, 0)])
def test_rope_turns_pairs_by_their_position(level, T, hs, start):
    """As complex numbers: a + ib times e^(i angle); values stay."""
    x = normal("qkv", T, 3, 2, 2, hs // 2)  # q k v, two heads, halves
    angle = np.outer(np.arange(start, start + T), 10000.0 ** (-2 * np.arange(hs // 2) / hs))
    turned = (x[..., 0, :] + 1j * x[..., 1, :]) * np.exp(1j * angle)[:, None, None]
    truth = np.stack([turned.real, turned.imag], -2)
    truth[:, 2] = x[:, 2]
    native.use_level(level)
    try:
        for dtype, eps in ((np.float64, 1e-12), (np.float32, 1e-6)):
            qkv = x.reshape(T, -1).astype(dtype)
            ops.rope(qkv, *tables(start + T, hs, dtype), Heads(2, 2, hs), start)
            assert np.abs(qkv - truth.reshape(T, -1)).max() < eps
    finally:
        native.use_level()


def test_cached_attention_is_the_last_rows_of_full_attention():
    qkv = normal("qkv", 1, 21, 3 * 12)
    full, _ = ops.attention_forward(qkv, *tables(21, 6, np.float64), Heads(2, 2, 6))
    for dtype, eps in ((np.float64, 1e-12), (np.float32, 2e-6)):
        x = qkv[0].astype(dtype)
        ops.rope(x, *tables(21, 6, dtype), Heads(2, 2, 6))
        keys, values = np.ascontiguousarray(x[:, 12:24]), np.ascontiguousarray(x[:, 24:])
        for T in (1, 4, 21):
            y = ops.attention_cached(np.ascontiguousarray(x[21 - T :]), keys, values, Heads(2, 2, 6))
            assert np.abs(y - full[0, 21 - T :]).max() < eps


def test_attention_ignores_the_future_to_the_bit():
    qkv, turns = normal("qkv", 1, 200, 3 * 8).astype(np.float32), tables(200, 4, np.float32)
    before, _ = ops.attention_forward(qkv, *turns, Heads(2, 2, 4))
    qkv[:, 150:] += 1
    after, _ = ops.attention_forward(qkv, *turns, Heads(2, 2, 4))
    assert before[:, :150].tobytes() == after[:, :150].tobytes()
    assert before[:, 150:].tobytes() != after[:, 150:].tobytes()


BORDERS = np.array([[0] * 150 + [150] * 50, [0] * 3 + [3] * 4 + [7] * 193], np.int32)  # where documents begin


@pytest.mark.parametrize("level", native.supported_levels())
def test_attention_stops_at_the_beginning_of_a_document_to_the_bit(level):
    heads, turns = Heads(4, 2, 4), tables(200, 4, np.float32)
    qkv, dy = (
        normal(name, 2, 200, n).astype(np.float32) for name, n in (("qkv", heads.width), ("dy", heads.C))
    )

    def both():
        y, lse = ops.attention_forward(qkv, *turns, heads, BORDERS)
        return y, ops.attention_backward(dy, qkv, *turns, y, lse, heads, BORDERS)

    native.use_level(level)
    try:
        before = both()
        qkv[0, :150] += 1
        dy[0, :150] *= 2
        after = both()
    finally:
        native.use_level()
    for old, new in zip(before, after, strict=True):
        assert old[0, 150:].tobytes() == new[0, 150:].tobytes()
        assert old[1].tobytes() == new[1].tobytes()
        assert (old[0, 1:150] != new[0, 1:150]).any()


def test_one_document_in_each_row_is_plain_attention_to_the_bit():
    heads, turns = Heads(2, 2, 6), tables(130, 6, np.float32)
    qkv, dy = (
        normal(name, 2, 130, n).astype(np.float32) for name, n in (("qkv", heads.width), ("dy", heads.C))
    )
    y, lse = ops.attention_forward(qkv, *turns, heads)
    y_0, lse_0 = ops.attention_forward(qkv, *turns, heads, np.zeros((2, 130), np.int32))
    assert (y.tobytes(), lse.tobytes()) == (y_0.tobytes(), lse_0.tobytes())
    d_qkv = ops.attention_backward(dy, qkv, *turns, y, lse, heads)
    d_qkv_0 = ops.attention_backward(dy, qkv, *turns, y, lse, heads, np.zeros((2, 130), np.int32))
    assert np.abs(d_qkv - d_qkv_0).max() <= 1e-6 * np.abs(d_qkv).max()


@pytest.mark.parametrize("starts", [[0, 2, 2], [0, 1, 0], [-1, 0, 0], [1, 1, 1]])
def test_starts_that_are_none_are_refused(starts):
    heads, turns = Heads(1, 1, 2), tables(3, 2, np.float32)
    qkv, starts = np.ones((1, 3, 6), np.float32), np.array([starts], np.int32)
    with pytest.raises(
        ShapeError, match=r"^attention_forward: row 0 begins its document at -?\d for position \d"
    ):
        ops.attention_forward(qkv, *turns, heads, starts)


def test_dropout_rate_and_scale():
    x = np.ones((1000, 100), np.float32)
    seven, eight = np.array([7], np.uint64), np.array([8], np.uint64)
    y = ops.dropout_forward(x, 0.1, seven)
    assert abs((y == 0).mean() - 0.1) < 0.005
    assert set(np.unique(y)) == {0, np.float32(1) / np.float32(1 - np.float32(0.1))}
    assert (ops.dropout_forward(x, 0.1, eight) != y).any()


@pytest.mark.parametrize("level", native.supported_levels())
@pytest.mark.parametrize("shape", [(3, 1, 1), (2, 5, 7), (3, 67, 33), (2, 300, 130)])
def test_a_window_is_dropped_from_alike_whatever_is_beside_it(level, shape):
    """To the bit, for windows that begin in the middle of a vector register, too."""
    x, branch = (normal(name, *shape).astype(np.float32) for name in ("x", "branch"))
    keys = random.keys(5, "windows", range(shape[0]))
    native.use_level(level)
    try:
        whole = ops.dropout_forward(x, 0.3, keys), ops.residual_forward(x, branch, 0.3, keys)
        for b in range(shape[0]):
            one = slice(b, b + 1)
            assert ops.dropout_forward(x[one], 0.3, keys[one]).tobytes() == whole[0][b].tobytes()
            alone = ops.residual_forward(x[one], branch[one], 0.3, keys[one])
            assert alone.tobytes() == whole[1][b].tobytes()
    finally:
        native.use_level()


def test_keys_must_share_the_rows_evenly():
    for keys in (np.zeros(2, np.uint64), np.zeros(0, np.uint64)):
        with pytest.raises(ShapeError, match="dropout_forward: 3 elements"):
            ops.dropout_forward(np.zeros((3, 1), np.float32), 0.5, keys)


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.99999999, 1 - 2**-50])
def test_a_long_memory_is_not_rounded_to_an_endless_one(beta):
    """1 - beta must not be taken in float32, where it is 0 for these."""
    args = {"lr": 0.1, "beta1": beta, "beta2": beta, "eps": 1e-8, "weight_decay": 0.0, "grad_scale": 1.0}
    truth = {name: np.zeros(9) for name in ("p", "grad", "m1", "m2")}
    native_side = {name: x.astype(np.float32) for name, x in truth.items()}
    for step in range(5):
        for side in (truth, native_side):
            side["grad"][:] = [1, -1, 0.5, 2, 3, -4, 0.1, 5, 0.01]
            ops.adam_step(*side.values(), step=step, **args)
    for name in ("p", "m1", "m2"):
        np.testing.assert_allclose(native_side[name], truth[name], rtol=2e-5)


@pytest.mark.parametrize("level", native.supported_levels())
def test_exp_within_two_ulp(level):
    """The exp of all kernels but attention, in the gradient of a cross-entropy whose log-sum-exp is 0."""
    x = np.concatenate([np.linspace(-88, 0, 300001), [-1e30, -87.4, -104.0]]).astype(np.float32)
    logits = np.stack([np.zeros_like(x), x], 1)
    native.use_level(level)
    try:
        p = ops.cross_entropy_backward(logits.copy(), np.zeros_like(x), np.zeros(len(x), np.int32), 1.0)[:, 1]
    finally:
        native.use_level()
    truth = np.exp(x.astype(np.float64))
    normal_range = x > -87.3
    ulp = np.spacing(truth[normal_range].astype(np.float32)).astype(np.float64)
    assert (np.abs(p[normal_range] - truth[normal_range]) / ulp).max() <= 2
    assert (p[~normal_range] < 1.3e-38).all()


@pytest.mark.parametrize("level", native.supported_levels())
def test_exp2_of_attention_within_two_ulp(level):
    """Query 1 scores x with key 0, whose value is 1, and 0 with itself: below -25 its y is 2^x to the bit."""
    x = np.linspace(-126, -25, 300001).astype(np.float32)
    qkv = np.zeros((len(x), 2, 6), np.float32)
    qkv[:, 1, 0], qkv[:, 0, 2], qkv[:, 0, 4] = x, 1, 1
    native.use_level(level)
    try:
        y, _ = ops.attention_forward(
            qkv, np.ones((2, 1), np.float32), np.zeros((2, 1), np.float32), Heads(1, 1, 2)
        )
    finally:
        native.use_level()
    factor = np.float32(1 / np.sqrt(np.float32(2))) * np.float32(1.44269504088896341)  # as the kernel scales
    scores = np.maximum(x * factor, np.float32(-126))
    truth = np.exp2(scores.astype(np.float64))
    assert (np.abs(y[:, 1, 0] - truth) / np.spacing(truth.astype(np.float32)).astype(np.float64)).max() <= 2


def test_non_finite_numbers_come_through():
    for bad in (np.nan, np.inf):
        x = np.ones(1000, np.float32)
        x[777] = bad
        assert not np.isfinite(ops.sum_squares(x))
        assert not np.isfinite(ops.gelu_forward(x)).all() or bad == np.inf
        assert not np.isfinite(ops.rmsnorm_forward(x.reshape(1, -1), np.ones(1000, np.float32))[0]).all()
        loss, _ = ops.cross_entropy_forward(x.reshape(1, -1), np.zeros(1, np.int32))
        assert not np.isfinite(loss).all()


def test_adam_matches_reference():
    n, args = (
        70_001,
        {
            "lr": 1e-3,
            "beta1": 0.9,
            "beta2": 0.999,
            "eps": 1e-8,
            "weight_decay": 0.1,
            "step": 3,
            "grad_scale": 0.5,
        },
    )
    names = ("p", "grad", "m1", "m2")
    truth = {name: normal(name, n).astype(np.float32).astype(np.float64) for name in names}
    truth["m2"] = np.abs(truth["m2"])
    native_side = {name: x.astype(np.float32) for name, x in truth.items()}
    ops.adam_step(*truth.values(), **args)
    ops.adam_step(*native_side.values(), **args)
    for name in names:
        assert_close(native_side[name], truth[name], 4, name)


@pytest.mark.parametrize("n", [0, 1, 7, 65_536, 200_003])
def test_sum_squares(n):
    x = normal("x", n).astype(np.float32)
    assert ops.sum_squares(x) == pytest.approx(reference.sum_squares(x), rel=1e-12)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: ops.gelu_forward(x[:, ::2]),
        lambda x: ops.gelu_forward(x.astype(np.float16)),
        lambda x: ops.linear_forward(x, np.ones((3, 5), np.float32)),
        lambda x: ops.linear_forward(x, np.ones((3, 8))),
        lambda x: ops.linear_backward_input(x, np.ones((7, 3), np.float32)),
        lambda x: ops.linear_backward_weight(x, x, np.ones((8, 7), np.float32)),
        lambda x: ops.rmsnorm_again(x, np.ones(8, np.float32), np.ones(3, np.float32)),
        lambda x: ops.gelu_backward(x[:, :7], x),
        lambda x: ops.embedding_forward(x, np.array([4], np.int32)),
        lambda x: ops.embedding_forward(x, np.array([-1], np.int32)),
        lambda x: ops.embedding_forward(x, np.array([1], np.int64)),
        lambda x: ops.cross_entropy_forward(x, np.array([0, 1, 2, 8], np.int32)),
        lambda x: ops.attention_forward(x.reshape(1, 4, 8), *tables(4, 2, np.float32), Heads(3, 3, 2)),
        lambda x: ops.attention_forward(
            x.reshape(1, 1, 32)[:, :, :24].copy(), *tables(0, 4, np.float32), Heads(2, 2, 4)
        ),
        lambda x: ops.attention_forward(
            x.reshape(1, 1, 32)[:, :, :24].copy(), *tables(1, 6, np.float32), Heads(2, 2, 4)
        ),
        lambda x: ops.rope(x.reshape(1, 32)[:, :24].copy(), *tables(3, 4, np.float32), Heads(2, 2, 4), 3),
        lambda x: ops.embedding_backward(x, np.zeros(4, np.int32), np.zeros((9, 7), np.float32)),
        lambda x: ops.embedding_backward(x, np.zeros(4, np.int32), np.zeros((9, 8))),
        lambda x: ops.attention_cached(
            np.ones((1, 24), np.float32), x[:, :7].copy(), x[:, :7].copy(), Heads(2, 2, 4)
        ),
        lambda x: ops.attention_cached(np.ones((1, 24), np.float32), x, x, Heads(3, 3, 2)),
        lambda x: ops.attention_cached(np.ones((5, 24), np.float32), x, x, Heads(2, 2, 4)),
    ],
)
def test_bad_arrays_are_refused_by_name(call):
    with pytest.raises(ShapeError, match=r"^\w+: "):
        call(np.ones((4, 8), np.float32))
