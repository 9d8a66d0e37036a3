"""Every operation, by walking the table of cases: gradients, C against reference, threads, bad input."""

import ast
from pathlib import Path

import numpy as np
import pytest

from microgpt.common.errors import ShapeError
from microgpt.core import native, ops, random, recurrent, reference, reference_recurrent
from microgpt.core.cases import CASES, cotangent, normal
from microgpt.core.heads import Heads
from tests.core.homes import HOMES, PACKAGES

EACH = [
    pytest.param(case, shape, id=f"{name}-{'x'.join(map(str, shape))}")
    for name, case in CASES.items()
    for shape in case.shapes
]


GRADIENTS = [param for param in EACH if param.values[0].backward]


@pytest.fixture(params=native.supported_levels())
def level(request):
    """Every instruction set that this CPU has, one after the other."""
    threads = native.threads()
    native.use_level(request.param)
    yield request.param
    native.use_level()
    native.set_threads(threads)


@pytest.fixture
def levels():
    """The same in one test, where what is wanted of each takes long to make."""
    threads = native.threads()

    def each():
        for level in native.supported_levels():
            native.use_level(level)
            yield level

    yield each
    native.use_level()
    native.set_threads(threads)


@pytest.mark.parametrize("case, shape", GRADIENTS)
def test_gradient_is_the_derivative(case, shape):
    """Central differences in float64: a random direction at every size, every coordinate at small ones."""
    inputs = case.inputs(shape, np.float64)
    dy = cotangent(case.forward(inputs)[0])
    found = case.run(inputs, dy)
    variables = {name: x for name, x in inputs.items() if x.dtype.kind == "f"}
    assert set(found) == {"y", *(f"d{name}" for name in variables)}

    def slope(name, direction, h=1e-6):
        up, down = ({**inputs, name: inputs[name] + sign * h * direction} for sign in (1, -1))
        return ((case.forward(up)[0] - case.forward(down)[0]) * dy).sum() / (2 * h)

    for name, x in variables.items():
        directions, grad = [normal("direction", *x.shape)], found[f"d{name}"]
        if x.size <= 24:
            directions += list(np.eye(x.size).reshape(x.size, *x.shape))
        scale = np.abs(grad).max() + 1e-12
        for direction in directions:
            error = abs(slope(name, direction) - (grad * direction).sum())
            assert error <= 1e-6 * scale * np.sqrt((direction**2).sum()), name


@pytest.mark.parametrize("case, shape", EACH)
def test_native_matches_reference_with_the_same_bits_on_any_number_of_threads(case, shape, levels):
    truth, inputs = case.run(case.inputs(shape, np.float64)), case.inputs(shape, np.float32)
    before = {name: x.copy() for name, x in inputs.items()}
    for level in levels():
        bits = set()
        for threads in (1, 2, 5):
            native.set_threads(threads)
            found = case.run(inputs)
            assert case.mistakes(found, truth) == [], level
            bits.add(b"".join(found[name].tobytes() for name in truth))
        assert len(bits) == 1, level
    assert all(np.array_equal(inputs[name], x) for name, x in before.items())


def accumulators_of(case, dtype):
    """What a case asks of `zeros` for two backwards, each asked for once, and what it was after the first."""
    inputs = case.inputs(case.shapes[1], dtype)
    y, saved = case.forward(inputs)
    dy, made = cotangent(y), {}

    def zeros(name):
        return made.setdefault(name, np.zeros_like(inputs[name]))

    grads = case.backward(dy, inputs, saved, zeros)
    once = {name: made[name].copy() for name in made if grads[name] is made[name]}
    case.backward(dy, inputs, saved, zeros)
    return once, made


PARAMETERS = {
    name: case for name, case in CASES.items() if case.backward and accumulators_of(case, np.float64)[0]
}


@pytest.mark.parametrize("case", PARAMETERS.values(), ids=PARAMETERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_parameter_gradients_are_added(case, dtype):
    once, twice = accumulators_of(case, dtype)
    assert once and all(grad.any() for grad in once.values())
    for name, grad in once.items():
        np.testing.assert_allclose(twice[name], 2 * grad, rtol=1e-6)


def test_every_op_is_run_by_a_case_and_has_a_reference(monkeypatch):
    called, homes = set(), {}
    for module in HOMES:
        tree = ast.parse(Path(module.__file__).read_text())
        functions = [f for f in tree.body if isinstance(f, ast.FunctionDef)]
        homes |= {f.name: module for f in functions if f.decorator_list}
    names = set(homes)
    files = [file for package in PACKAGES for file in Path(package.__file__).parent.glob("[!_]*.py")]
    assert len(HOMES) == len(files) > 8

    def recorded(name, op):
        def call(*args, **others):
            called.add(name)
            return op(*args, **others)

        return call

    for name in names:
        op = recorded(name, getattr(homes[name], name))
        monkeypatch.setattr(homes[name], name, op)
        monkeypatch.setattr(ops if hasattr(ops, name) else recurrent, name, op)
    for case in CASES.values():
        case.run(case.inputs(case.shapes[0], np.float32))
    assert called == names and len(names) > 20
    assert all(hasattr(reference, name) or hasattr(reference_recurrent, name) for name in names)
    pairs = {name.removesuffix("_forward") for name in names if name.endswith("_forward")}
    assert all(
        CASES[name].backward and hasattr(homes[f"{name}_forward"], f"{name}_backward") for name in pairs
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["rmsnorm", "layernorm"])
@pytest.mark.parametrize("N, H, C", [(67, 3, 20), (1, 3, 20), (9, 1, 33)])
def test_norms_of_heads_in_wider_rows_are_those_of_the_heads_by_themselves(level, name, dtype, N, H, C):
    left, width = 5, 71
    weights = [normal(of, C).astype(dtype) for of in ("weight", "bias")][: 1 + (name == "layernorm")]
    forward, again, backward = (getattr(ops, f"{name}_{what}") for what in ("forward", "again", "backward"))
    whole_x, whole_dy = (3 * normal(of, N, width).astype(dtype) for of in ("x", "dy"))
    before = whole_dy.copy()
    place = slice(left, left + H * C)
    x, dy = (whole[:, place].reshape(N, H, C) for whole in (whole_x, whole_dy))
    x2, dy2 = (np.ascontiguousarray(of).reshape(-1, C) for of in (x, dy))
    whole_y = np.zeros_like(whole_x)
    y = whole_y[:, place].reshape(N, H, C)
    result, kept = forward(x, *weights, y=y)
    expected, expected_kept = forward(x2, *weights)
    assert result is y and y.tobytes() == expected.tobytes() and kept.tobytes() == expected_kept.tobytes()
    assert not whole_y[:, :left].any() and not whole_y[:, place.stop :].any()
    y[...] = 0
    again(x, *weights, kept, y=y)
    assert y.tobytes() == expected.tobytes()
    grads, expected_grads = ([np.zeros(C, dtype) for _ in weights] for _ in range(2))
    expected = backward(dy2, x2, weights[0], expected_kept, *expected_grads)
    assert backward(dy, x, weights[0], kept, *grads, dx=dy) is dy and dy.tobytes() == expected.tobytes()
    assert all(np.array_equal(*pair) for pair in zip(grads, expected_grads, strict=True))
    assert np.array_equal(np.delete(whole_dy, place, 1), np.delete(before, place, 1))  # beside them


def test_norms_refuse_rows_that_lie_elsewhere():
    wide, weight = np.ones((4, 12), np.float32), np.ones(4, np.float32)
    x = wide[:, :8].reshape(4, 2, 4)
    for more in ({}, {"y": np.ones((4, 2, 4), np.float32)}):
        with pytest.raises(ShapeError, match=r"^rmsnorm_forward: y is float32\[4, 2, 4\], elsewhere in mem"):
            ops.rmsnorm_forward(x, weight, **more)
    for wrong in (wide[:, :4], wide[:, ::3], wide.reshape(4, 4, 3)[:, ::2], np.ones(4, np.float32)):
        with pytest.raises(ShapeError, match=r"^rmsnorm_forward: x is float32.*; expected rows"):
            ops.rmsnorm_forward(wrong, weight)
    y = np.ones((3, 4), np.float32)
    y.flags.writeable = False
    with pytest.raises(ShapeError, match=r"^rmsnorm_forward: y is not to be written"):
        ops.rmsnorm_forward(np.ones((3, 4), np.float32), weight, y=y)
    y = np.ones((3, 4), np.float32)
    with pytest.raises(ShapeError, match=r"^rmsnorm_backward: dresidual is float32\[2, 4\]"):
        ops.rmsnorm_backward(y, y, weight, np.ones(3, np.float32), weight.copy(), y[:2])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_a_backward_makes_again_has_the_bits_of_the_forward(level, dtype):
    for N, C in ((1, 1), (3, 7), (67, 33), (300, 769)):
        x, weight = 3 * normal("x", N, C).astype(dtype), normal("weight", C).astype(dtype)
        y, rstd = ops.rmsnorm_forward(x, weight)
        assert ops.rmsnorm_again(x, weight, rstd).tobytes() == y.tobytes()
        y, stats = ops.layernorm_forward(x, weight, x[0])
        assert ops.layernorm_again(x, weight, x[0], stats).tobytes() == y.tobytes()
        for name in ("gelu", "gelu_exact", "relu2"):
            y, dy = getattr(ops, f"{name}_forward")(x), normal("dy", N, C).astype(dtype)
            assert getattr(ops, f"{name}_backward")(dy, x.copy())[1].tobytes() == y.tobytes(), name
        for name in ("swiglu", "geglu"):
            both, dy = 3 * normal("x", N, 2 * C).astype(dtype), normal("dy", N, C).astype(dtype)
            y = getattr(ops, f"{name}_forward")(both)
            assert getattr(ops, f"{name}_backward")(dy, both.copy())[1].tobytes() == y.tobytes(), name


@pytest.mark.parametrize("x", [1e-30, 1e-4, 0.3, 0.54, 0.55, 3.0, 40.0, 1e30, np.inf])
def test_a_soft_cap_keeps_the_digits_of_small_logits_and_bounds_large_ones(level, x):
    logits = np.array([x, -x], np.float32)
    y = ops.soft_cap_forward(logits, 2.0)
    assert y == pytest.approx(2 * np.tanh(logits.astype(np.float64) / 2), rel=3e-7)


def test_a_layer_norm_of_a_large_mean_keeps_its_digits(level):
    """sum(x^2) - mean^2 would be 0 here."""
    x = (1000 + 0.01 * normal("x", 3, 512)).astype(np.float32)
    y, _ = ops.layernorm_forward(x, np.ones(512, np.float32), np.zeros(512, np.float32), 0.0)
    assert np.abs(y - reference.layernorm_forward(x.astype(np.float64), 1.0, 0.0, 0.0)[0]).max() < 0.03


def tables(T, hs, dtype):
    return ops.rope_tables(T, hs, dtype=dtype)


@pytest.mark.parametrize("T, hs, start", [(1, 2, 0), (3, 6, 1), (5, 64, 7), (9, 34, 0)])
def test_rope_turns_pairs_by_their_position(level, T, hs, start):
    """As complex numbers: a + ib times e^(i angle); values stay."""
    x = normal("qkv", T, 3, 2, 2, hs // 2)  # q k v, two heads, halves
    angle = np.outer(np.arange(start, start + T), 10000.0 ** (-2 * np.arange(hs // 2) / hs))
    turned = (x[..., 0, :] + 1j * x[..., 1, :]) * np.exp(1j * angle)[:, None, None]
    truth = np.stack([turned.real, turned.imag], -2)
    truth[:, 2] = x[:, 2]
    for dtype, eps in ((np.float64, 1e-12), (np.float32, 1e-6)):
        qkv = x.reshape(T, -1).astype(dtype)
        ops.rope(qkv, *tables(start + T, hs, dtype), Heads(2, 2, hs), start)
        assert np.abs(qkv - truth.reshape(T, -1)).max() < eps


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


def test_attention_stops_at_the_beginning_of_a_document_to_the_bit(level):
    heads, turns = Heads(4, 2, 4), tables(200, 4, np.float32)
    qkv, dy = (
        normal(name, 2, 200, n).astype(np.float32) for name, n in (("qkv", heads.width), ("dy", heads.C))
    )

    def both():
        y, lse = ops.attention_forward(qkv, *turns, heads, BORDERS)
        return y, ops.attention_backward(dy, qkv, *turns, y, lse, heads, BORDERS)

    before = both()
    qkv[0, :150] += 1
    dy[0, :150] *= 2
    after = both()
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


@pytest.mark.parametrize("shape", [(3, 1, 1), (2, 5, 7), (3, 67, 33), (2, 300, 130)])
def test_a_window_is_dropped_from_alike_whatever_is_beside_it(level, shape):
    """To the bit, for windows that begin in the middle of a vector register, too."""
    x, branch = (normal(name, *shape).astype(np.float32) for name in ("x", "branch"))
    keys = random.keys(5, "windows", range(shape[0]))
    whole = ops.dropout_forward(x, 0.3, keys), ops.residual_forward(x, branch, 0.3, keys)
    for b in range(shape[0]):
        one = slice(b, b + 1)
        assert ops.dropout_forward(x[one], 0.3, keys[one]).tobytes() == whole[0][b].tobytes()
        alone = ops.residual_forward(x[one], branch[one], 0.3, keys[one])
        assert alone.tobytes() == whole[1][b].tobytes()


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


def test_exp_within_two_ulp(level):
    """The exp of all kernels but attention, in the gradient of a cross-entropy whose log-sum-exp is 0."""
    x = np.concatenate([np.linspace(-88, 0, 300001), [-1e30, -87.4, -104.0]]).astype(np.float32)
    logits = np.stack([np.zeros_like(x), x], 1)
    p = ops.cross_entropy_backward(logits.copy(), np.zeros_like(x), np.zeros(len(x), np.int32), 1.0)[:, 1]
    truth = np.exp(x.astype(np.float64))
    normal_range = x > -87.3
    ulp = np.spacing(truth[normal_range].astype(np.float32)).astype(np.float64)
    assert (np.abs(p[normal_range] - truth[normal_range]) / ulp).max() <= 2
    assert (p[~normal_range] < 1.3e-38).all()


def test_exp2_of_attention_within_two_ulp(level):
    """Query 1 scores x with key 0, whose value is 1, and 0 with itself: below -25 its y is 2^x to the bit."""
    x = np.linspace(-126, -25, 300001).astype(np.float32)
    qkv = np.zeros((len(x), 2, 6), np.float32)
    qkv[:, 1, 0], qkv[:, 0, 2], qkv[:, 0, 4] = x, 1, 1
    y, _ = ops.attention_forward(
        qkv, np.ones((2, 1), np.float32), np.zeros((2, 1), np.float32), Heads(1, 1, 2)
    )
    factor = np.float32(1 / np.sqrt(np.float32(2))) * np.float32(1.44269504088896341)  # as the kernel scales
    scores = np.maximum(x * factor, np.float32(-126))
    truth = np.exp2(scores.astype(np.float64))
    assert (np.abs(y[:, 1, 0] - truth) / np.spacing(truth.astype(np.float32)).astype(np.float64)).max() <= 2


def test_non_finite_numbers_come_through():
    for bad in (np.nan, np.inf):
        x = np.ones(1000, np.float32)
        x[777] = bad
        assert not np.isfinite(ops.sum_squares(x))
        assert not np.isfinite(ops.gelu_forward(x)).all()
        assert not np.isfinite(ops.rmsnorm_forward(x.reshape(1, -1), np.ones(1000, np.float32))[0]).all()
        loss, _ = ops.cross_entropy_forward(x.reshape(1, -1), np.zeros(1, np.int32))
        assert not np.isfinite(loss).all()


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
        lambda x: ops.gelu_exact_backward(x[:, :7], x),
        lambda x: ops.relu2_backward(x[:, :7], x),
        lambda x: ops.swiglu_forward(x[:, :7].copy()),
        lambda x: ops.swiglu_backward(x, x),
        lambda x: ops.geglu_backward(x, x),
        lambda x: ops.soft_cap_backward(x[:, :7], x, 1.0),
        lambda x: ops.bias_forward(x, np.ones(7, np.float32)),
        lambda x: ops.bias_backward(x, np.ones(7, np.float32)),
        lambda x: ops.layernorm_forward(x, np.ones(8, np.float32), np.ones(7, np.float32)),
        lambda x: ops.layernorm_again(x, x[0], x[0], np.ones((4, 1), np.float32)),
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
