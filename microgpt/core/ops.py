"""Every operation of the model, forward and backward.  The type is the backend: float32 runs the C kernel,
float64 runs the function of the same name in `reference`, so casting a whole model to float64 gradient-checks
all of it.

Conventions: `dx` is returned; a parameter gradient `dweight` is added to in place.  What a backward needs,
the forward returned.  Letters as in the house: B batch, T time, C channels, H heads, hs = C/H, N = B*T rows,
V vocabulary.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from microgpt.common.errors import ShapeError

from . import native, reference, reference_recurrent
from .arrays import empty, empty_like, workspace
from .heads import Heads
from .native import arg, out

NORM_EPS = reference.NORM_EPS


def op(native_function: Callable) -> Callable:
    """Send a call to C or to the reference by the type of its first argument; stored bfloat16 goes to C."""
    name = native_function.__name__
    truth = getattr(reference, name, None) or getattr(reference_recurrent, name)
    backends = {np.dtype(np.float32): native_function, np.dtype(np.float64): truth}
    backends[np.dtype(np.uint16)] = native_function

    @functools.wraps(native_function)
    def dispatch(x: np.ndarray, *args: Any, **kwargs: Any) -> Any:
        backend = backends.get(x.dtype)
        if backend is None:
            raise ShapeError(f"{name}: first argument is {x.dtype}; expected float32 or float64")
        return backend(x, *args, **kwargs)

    return dispatch


# ---- layers --------------------------------------------------------------------------------------


@op
def embedding_forward(weight: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Look up rows.

    Args:    weight: (V, C), float32 or stored bfloat16 (`bf16_bits`).  ids: (N,) int32 in [0, V).
    Returns: y: (N, C).
    Raises:  ShapeError: an id outside the table.
    """
    (V, C), (N,) = weight.shape, ids.shape
    y = empty((N, C))
    bad = native.lib.mg_embedding_forward(
        out(y),
        arg("weight", weight, (V, C), _stored(weight)),
        arg("ids", ids, (N,), np.int32),
        N,
        C,
        V,
        _type(weight),
    )
    if bad >= 0:
        raise ShapeError(f"embedding_forward: id {ids[bad]} at position {bad}; expected 0 to {V - 1}")
    return y


@op
def embedding_backward(dy: np.ndarray, ids: np.ndarray, dweight: np.ndarray) -> None:
    """Add dy's rows into the rows of dweight that ids name."""
    N, C = dy.shape
    native.lib.mg_embedding_backward(
        arg("dweight", dweight, (len(dweight), C)),
        arg("dy", dy, (N, C)),
        arg("ids", ids, (N,), np.int32),
        N,
        C,
    )


@op
def rmsnorm_forward(
    x: np.ndarray, weight: np.ndarray, eps: float = NORM_EPS
) -> tuple[np.ndarray, np.ndarray]:
    """Divide each row by its root mean square and scale.

    y = x * rstd * weight,  rstd = 1 / sqrt(mean(x^2) + eps)

    Args:    x: (N, C).  weight: (C,).
    Returns: y: (N, C).  rstd: (N,), kept for backward.
    Source:  Zhang & Sennrich 2019 (arXiv 1910.07467).
    """
    N, C = x.shape
    y, rstd = empty_like(x), empty((N,))
    native.lib.mg_rmsnorm_forward(
        out(y), out(rstd), arg("x", x, (N, C)), arg("weight", weight, (C,)), N, C, eps
    )
    return y, rstd


@op
def rmsnorm_again(x: np.ndarray, weight: np.ndarray, rstd: np.ndarray) -> np.ndarray:
    """y of the forward once more, to the bit, from its rstd: cheaper than keeping y for the backward."""
    N, C = x.shape
    y = empty_like(x)
    native.lib.mg_rmsnorm_again(
        out(y), arg("x", x, (N, C)), arg("weight", weight, (C,)), arg("rstd", rstd, (N,)), N, C
    )
    return y


@op
def rmsnorm_backward(
    dy: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    rstd: np.ndarray,
    dweight: np.ndarray,
    dresidual: np.ndarray,
) -> np.ndarray:
    """Gradient of the norm's input, plus `dresidual` (N, C), the gradient that by-passed the norm."""
    N, C = x.shape
    dx, scratch = empty_like(x), empty((native.lib.MG_PARTIALS, C))
    native.lib.mg_rmsnorm_backward(
        out(dx),
        arg("dweight", dweight, (C,)),
        out(scratch),
        arg("dy", dy, (N, C)),
        arg("x", x, (N, C)),
        arg("weight", weight, (C,)),
        arg("rstd", rstd, (N,)),
        arg("dresidual", dresidual, (N, C)),
        N,
        C,
    )
    return dx


@op
def layernorm_forward(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float = NORM_EPS
) -> tuple[np.ndarray, np.ndarray]:
    """Centre each row, divide it by its deviation, scale and shift.

    y = (x - mean) * rstd * weight + bias,  rstd = 1 / sqrt(mean((x - mean)^2) + eps)

    Args:    x: (N, C).  weight, bias: (C,).
    Returns: y: (N, C).  stats: (N, 2), mean and rstd, kept for backward.
    Source:  Ba et al. 2016 (arXiv 1607.06450).
    """
    N, C = x.shape
    y, stats = empty_like(x), empty((N, 2))
    weights = arg("weight", weight, (C,)), arg("bias", bias, (C,))
    native.lib.mg_layernorm_forward(out(y), out(stats), arg("x", x, (N, C)), *weights, N, C, eps)
    return y, stats


@op
def layernorm_again(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, stats: np.ndarray) -> np.ndarray:
    """y of the forward once more, to the bit, from its stats."""
    N, C = x.shape
    y, weights = empty_like(x), (arg("weight", weight, (C,)), arg("bias", bias, (C,)))
    native.lib.mg_layernorm_again(out(y), arg("x", x, (N, C)), *weights, arg("stats", stats, (N, 2)), N, C)
    return y


@op
def layernorm_backward(
    dy: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    stats: np.ndarray,
    dweight: np.ndarray,
    dbias: np.ndarray,
    dresidual: np.ndarray,
) -> np.ndarray:
    """Gradient of the norm's input, plus `dresidual` (N, C), the gradient that by-passed the norm."""
    N, C = x.shape
    dx, scratch = empty_like(x), empty((native.lib.MG_PARTIALS, 2, C))
    native.lib.mg_layernorm_backward(
        out(dx),
        arg("dweight", dweight, (C,)),
        arg("dbias", dbias, (C,)),
        out(scratch),
        arg("dy", dy, (N, C)),
        arg("x", x, (N, C)),
        arg("weight", weight, (C,)),
        arg("stats", stats, (N, 2)),
        arg("dresidual", dresidual, (N, C)),
        N,
        C,
    )
    return dx


@op
def linear_forward(x: np.ndarray, weight: np.ndarray, precision: str = "fp32") -> np.ndarray:
    """y = x W^T.

    Args:    x: (N, K).  weight: (M, K), float32, or stored bfloat16 (`bf16_bits`), which gives the bits that
             its floats give.  precision: fp32, or bf16 in large products: `native.products_in`.
    Returns: y: (N, M).
    """
    (N, K), (M, _) = x.shape, weight.shape
    y, by, of = empty((N, M)), native.products_in(precision), _type(weight)
    by.lib.mg_linear_forward(
        out(y),
        _gemm_scratch(N, M, K, of, by),
        arg("x", x, (N, K)),
        arg("weight", weight, (M, K), _stored(weight)),
        N,
        M,
        K,
        of,
        by.how,
    )
    return y


def linear_backward(
    dy: np.ndarray, x: np.ndarray, weight: np.ndarray, dweight: np.ndarray, precision: str = "fp32"
) -> np.ndarray:
    """dx = dy W, returned;  dweight += dy^T x.  precision: as of the forward."""
    linear_backward_weight(dy, x, dweight, precision)
    return linear_backward_input(dy, weight, precision)


@op
def linear_backward_input(dy: np.ndarray, weight: np.ndarray, precision: str = "fp32") -> np.ndarray:
    """dx = dy W.   dy: (N, M).  weight: (M, K), as of the forward.  Returns dx: (N, K)."""
    (N, M), (_, K) = dy.shape, weight.shape
    dx, by, of = empty((N, K)), native.products_in(precision), _type(weight)
    by.lib.mg_linear_backward_input(
        out(dx),
        _gemm_scratch(N, K, M, of, by),
        arg("dy", dy, (N, M)),
        arg("weight", weight, (M, K), _stored(weight)),
        N,
        M,
        K,
        of,
        by.how,
    )
    return dx


@op
def linear_backward_weight(
    dy: np.ndarray, x: np.ndarray, dweight: np.ndarray, precision: str = "fp32"
) -> None:
    """dweight += dy^T x.   dy: (N, M).  x: (N, K).  dweight: (M, K)."""
    (N, M), (_, K) = dy.shape, x.shape
    by = native.products_in(precision)
    by.lib.mg_linear_backward_weight(
        arg("dweight", dweight, (M, K)),
        _gemm_scratch(M, K, N, by.lib.MG_TYPE_FP32, by),
        arg("dy", dy, (N, M)),
        arg("x", x, (N, K)),
        N,
        M,
        K,
        by.how,
    )


def _stored(weight: np.ndarray) -> Any:
    """What a weight is expected to be: bfloat16 if its numbers have two bytes."""
    return np.uint16 if weight.dtype == np.uint16 else np.float32


def _type(weight: np.ndarray) -> int:
    """The same for the kernels."""
    return native.lib.MG_TYPE_BF16 if weight.dtype == np.uint16 else native.lib.MG_TYPE_FP32


def _gemm_scratch(M: int, N: int, K: int, of: int, by: native.Products) -> Any:
    """Pointer to what the product of (M, K) and (K, N), which is of this type, works in."""
    return out(workspace(by.lib.mg_gemm_scratch(M, N, K, of, by.how)))


def linear_scratch(N: int, M: int, K: int, precision: str = "fp32") -> int:
    """Floats that the products of a linear layer, (N, K) to (N, M), work in."""
    by = native.products_in(precision)
    shapes = (N, M, K), (N, K, M), (M, K, N)
    return max(by.lib.mg_gemm_scratch(*shape, by.lib.MG_TYPE_FP32, by.how) for shape in shapes)


@op
def bias_forward(y: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Add bias (M,) to each row of y (N, M), in place; returns y."""
    N, M = y.shape
    native.lib.mg_bias_forward(arg("y", y, (N, M)), arg("bias", bias, (M,)), N, M)
    return y


@op
def bias_backward(dy: np.ndarray, dbias: np.ndarray) -> None:
    """dbias += the sum of the rows of dy (N, M)."""
    N, M = dy.shape
    scratch = empty((native.lib.MG_PARTIALS, M))
    native.lib.mg_bias_backward(arg("dbias", dbias, (M,)), out(scratch), arg("dy", dy, (N, M)), N, M)


rope_tables = reference.rope_tables
bf16_bits, bf16_floats = reference.bf16_bits, reference.bf16_floats


@op
def rope(qkv: np.ndarray, cos: np.ndarray, sin: np.ndarray, heads: Heads, start: int = 0) -> None:
    """Rotate queries and keys in place by their position, for a cache of rotated keys; training has this
    inside its attention.

    Args:    qkv: (T, W), packed as `heads` says.  cos, sin: (at least start+T, hs/2), of `rope_tables`.
             start: position of the first row.
    Source:  Su et al. 2021 (arXiv 2104.09864), eq. 34, with the pairs (i, i + hs/2) of a head.
    """
    T = len(qkv)
    tables = _tables("rope", cos, sin, start + T, heads.hs)
    native.lib.mg_rope(arg("qkv", qkv, (T, heads.width)), *tables, T, *_sizes(heads), start)


@op
def attention_forward(
    qkv: np.ndarray,
    cos: np.ndarray,
    sin: np.ndarray,
    heads: Heads,
    starts: np.ndarray | None = None,
    precision: str = "fp32",
) -> tuple[np.ndarray, np.ndarray]:
    """Causal self-attention over packed projections, with rotary positions.

    probs = softmax(q k^T / sqrt(hs)) over the keys s that t sees;  y = probs v;  q, k turned as by `rope`
    Seen: starts[t] <= s <= t; with a window s > t - window, or else the stride divides s - starts[t].

    Args:    qkv: (B, T, W), packed as `heads` says, not rotated.
             cos, sin: of `rope_tables`, at least T rows.
             starts: (B, T) int32, where the document of each row begins; None: all at 0.
             precision: of all products inside, fp32 or bf16: `native.products_in`.
    Returns: y: (B, T, C).  lse: (B, H, T), natural log, kept for backward.
    Raises:  ShapeError: wrong shapes; a start behind its row, or before the start of the row before.
    Cost:    4*hs FLOP for each query head and each pair of positions that is seen, so 2*B*T*T*C where
             every row is one document without a window; memory O(B*T*C), scores are never stored.
    Source:  Vaswani 2017 (arXiv 1706.03762) eq. 1; recomputation as in Dao 2022 (arXiv 2205.14135).
    """
    B, T, _ = qkv.shape
    tables, by = _tables("attention_forward", cos, sin, T, heads.hs), native.products_in(precision)
    y, lse, scratch = empty((B, T, heads.C)), empty((B, heads.H, T)), _attention_scratch(B, T, heads, by)
    bad = by.lib.mg_attention_forward(
        out(y),
        out(lse),
        out(scratch),
        arg("qkv", qkv, (B, T, heads.width)),
        *tables,
        _starts(starts, B, T),
        B,
        T,
        *_sizes(heads),
        heads.window,
        heads.stride,
        by.how,
    )
    _refuse_start("attention_forward", starts, bad)
    return y, lse


@op
def attention_backward(
    dy: np.ndarray,
    qkv: np.ndarray,
    cos: np.ndarray,
    sin: np.ndarray,
    y: np.ndarray,
    lse: np.ndarray,
    heads: Heads,
    starts: np.ndarray | None = None,
    precision: str = "fp32",
) -> np.ndarray:
    """Gradient of qkv: (B, T, W).  y and lse as the forward returned them, precision as it was told."""
    B, T, _ = qkv.shape
    dqkv, by = empty_like(qkv), native.products_in(precision)
    bad = by.lib.mg_attention_backward(
        out(dqkv),
        out(_attention_scratch(B, T, heads, by)),
        arg("dy", dy, (B, T, heads.C)),
        arg("qkv", qkv, (B, T, heads.width)),
        *_tables("attention_backward", cos, sin, T, heads.hs),
        arg("y", y, (B, T, heads.C)),
        arg("lse", lse, (B, heads.H, T)),
        _starts(starts, B, T),
        B,
        T,
        *_sizes(heads),
        heads.window,
        heads.stride,
        by.how,
    )
    _refuse_start("attention_backward", starts, bad)
    return dqkv


def _sizes(heads: Heads) -> tuple[int, int, int]:
    return heads.H, heads.H_kv, heads.hs


def _starts(starts: np.ndarray | None, B: int, T: int) -> Any:
    return native.ffi.NULL if starts is None else arg("starts", starts, (B, T), np.int32)


def _refuse_start(name: str, starts: np.ndarray | None, bad: int) -> None:
    if starts is not None and bad >= 0:
        b, t = divmod(bad, starts.shape[1])
        raise ShapeError(
            f"{name}: row {b} begins its document at {starts[b, t]} for position {t}; expected a position "
            "up to its own, and none before the one of the position before"
        )


def _tables(name: str, cos: np.ndarray, sin: np.ndarray, rows: int, hs: int) -> tuple[Any, Any]:
    if len(cos) < rows:
        raise ShapeError(f"{name}: {rows} positions; the rotary tables end at {len(cos) - 1}")
    shape = (len(cos), hs // 2)
    return arg("cos", cos, shape), arg("sin", sin, shape)


def _attention_scratch(B: int, T: int, heads: Heads, by: native.Products) -> np.ndarray:
    n = by.lib.mg_attention_scratch(B, T, *_sizes(heads), heads.window, heads.stride)
    return empty((n,))


@op
def attention_cached(qkv: np.ndarray, keys: np.ndarray, values: np.ndarray, heads: Heads) -> np.ndarray:
    """The attention of T new rows of one sequence against S cached rows, the last T of which are their own.

    Args:    qkv: (T, W), packed as `heads` says, rotated.  keys, values: (S, C_kv), S >= T, of one document.
    Returns: y: (T, C).
    """
    T, S = len(qkv), len(keys)
    if S < T:
        raise ShapeError(f"attention_cached: {S} cached rows; expected at least the {T} new ones")
    y, scratch = empty((T, heads.C)), empty((T, heads.H, S))
    native.lib.mg_attention_cached(
        out(y),
        out(scratch),
        arg("qkv", qkv, (T, heads.width)),
        arg("keys", keys, (S, heads.C_kv)),
        arg("values", values, (S, heads.C_kv)),
        T,
        S,
        *_sizes(heads),
        heads.window,
        heads.stride,
    )
    return y


@op
def gelu_forward(x: np.ndarray) -> np.ndarray:
    """y = 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), the tanh form of Hendrycks & Gimpel 2016."""
    y = empty_like(x)
    native.lib.mg_gelu_forward(out(y), arg("x", x, x.shape), x.size)
    return y


@op
def gelu_backward(dy: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """dx = dy * gelu'(x), computed from x alone, and y of the forward once more, to the bit.

    Overwrites dy with dx and x with y, and returns both.
    """
    dy_dx, x_y = arg("dy", dy, x.shape), arg("x", x, x.shape)
    native.lib.mg_gelu_backward(dy_dx, x_y, dy_dx, x_y, x.size)
    return dy, x


@op
def gelu_exact_forward(x: np.ndarray) -> np.ndarray:
    """y = x Phi(x), Phi the part of the standard normal distribution below x (Hendrycks & Gimpel 2016)."""
    y = empty_like(x)
    native.lib.mg_gelu_exact_forward(out(y), arg("x", x, x.shape), x.size)
    return y


@op
def gelu_exact_backward(dy: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """dx, and y of the forward once more, to the bit; as `gelu_backward`."""
    dy_dx, x_y = arg("dy", dy, x.shape), arg("x", x, x.shape)
    native.lib.mg_gelu_exact_backward(dy_dx, x_y, dy_dx, x_y, x.size)
    return dy, x


@op
def relu2_forward(x: np.ndarray) -> np.ndarray:
    """y = max(x, 0)^2 (So et al. 2021, arXiv 2109.08668)."""
    y = empty_like(x)
    native.lib.mg_relu2_forward(out(y), arg("x", x, x.shape), x.size)
    return y


@op
def relu2_backward(dy: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """dx, and y of the forward once more, to the bit; as `gelu_backward`."""
    dy_dx, x_y = arg("dy", dy, x.shape), arg("x", x, x.shape)
    native.lib.mg_relu2_backward(dy_dx, x_y, dy_dx, x_y, x.size)
    return dy, x


@op
def swiglu_forward(x: np.ndarray) -> np.ndarray:
    """y = gate sigmoid(gate) value, for x (N, 2F), of which each row is F gates and F values.

    Returns: y: (N, F).
    Source:  Shazeer 2020 (arXiv 2002.05202).
    """
    N, F = _gated("swiglu_forward", x)
    y = empty((N, F))
    native.lib.mg_swiglu_forward(out(y), arg("x", x, (N, 2 * F)), N, F)
    return y


@op
def swiglu_backward(dy: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """dx (N, 2F), and y (N, F) of the forward once more, to the bit.

    Overwrites x with dx and dy with y, and returns both.
    """
    N, F = _gated("swiglu_backward", x)
    dy_y, x_dx = arg("dy", dy, (N, F)), arg("x", x, (N, 2 * F))
    native.lib.mg_swiglu_backward(x_dx, dy_y, dy_y, x_dx, N, F)
    return x, dy


@op
def geglu_forward(x: np.ndarray) -> np.ndarray:
    """y = gelu(gate) value, as `swiglu_forward` otherwise, with the tanh form of GELU."""
    N, F = _gated("geglu_forward", x)
    y = empty((N, F))
    native.lib.mg_geglu_forward(out(y), arg("x", x, (N, 2 * F)), N, F)
    return y


@op
def geglu_backward(dy: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """dx (N, 2F) and y (N, F), as of `swiglu_backward`."""
    N, F = _gated("geglu_backward", x)
    dy_y, x_dx = arg("dy", dy, (N, F)), arg("x", x, (N, 2 * F))
    native.lib.mg_geglu_backward(x_dx, dy_y, dy_y, x_dx, N, F)
    return x, dy


def _gated(name: str, x: np.ndarray) -> tuple[int, int]:
    """Rows of gates and values, and how many of each a row has."""
    N, width = x.shape
    if width % 2:
        raise ShapeError(f"{name}: rows of {width}; expected as many gates as values")
    return N, width // 2


@op
def soft_cap_forward(x: np.ndarray, cap: float) -> np.ndarray:
    """y = cap tanh(x / cap), so that no logit is beyond +-cap (Gemma Team 2024, arXiv 2408.00118)."""
    y = empty_like(x)
    native.lib.mg_soft_cap_forward(out(y), arg("x", x, x.shape), x.size, cap)
    return y


@op
def soft_cap_backward(dy: np.ndarray, x: np.ndarray, cap: float) -> np.ndarray:
    """dx = dy (1 - tanh(x / cap)^2).  Overwrites and returns dy."""
    pointer = arg("dy", dy, x.shape)
    native.lib.mg_soft_cap_backward(pointer, pointer, arg("x", x, x.shape), x.size, cap)
    return dy


@op
def dropout_forward(x: np.ndarray, p: float, keys: np.ndarray) -> np.ndarray:
    """Zero each element with probability p, divide the others by 1-p.

    Which ones is a function of (key, index in the window): keys (B,) uint64 are those of B windows of equal
    size, one behind the other in x, so that no mask depends on what else is in the batch.
    """
    y = empty_like(x)
    B, n = _windows("dropout_forward", x, keys)
    native.lib.mg_dropout(out(y), arg("x", x, x.shape), arg("keys", keys, (B,), np.uint64), B, n, p)
    return y


@op
def dropout_backward(dy: np.ndarray, p: float, keys: np.ndarray) -> np.ndarray:
    """The same elements and factors as in the forward."""
    dx = empty_like(dy)
    B, n = _windows("dropout_backward", dy, keys)
    native.lib.mg_dropout(out(dx), arg("dy", dy, dy.shape), arg("keys", keys, (B,), np.uint64), B, n, p)
    return dx


@op
def residual_forward(x: np.ndarray, branch: np.ndarray, p: float, keys: np.ndarray) -> np.ndarray:
    """y = x + dropout(branch); a plain sum for p = 0."""
    y = empty_like(x)
    B, n = _windows("residual_forward", x, keys)
    native.lib.mg_residual_forward(
        out(y),
        arg("x", x, x.shape),
        arg("branch", branch, x.shape),
        arg("keys", keys, (B,), np.uint64),
        B,
        n,
        p,
    )
    return y


@op
def residual_backward(dy: np.ndarray, p: float, keys: np.ndarray) -> np.ndarray:
    """Gradient of the branch; that of x is dy itself.  For p = 0 they are the same array."""
    return dropout_backward(dy, p, keys) if p else dy


def _windows(name: str, x: np.ndarray, keys: np.ndarray) -> tuple[int, int]:
    """How many windows x consists of, and the elements of each."""
    B = len(keys)
    if not B or x.size % B:
        raise ShapeError(f"{name}: {x.size} elements; expected {B} windows of equal size, one for each key")
    return B, x.size // B


@op
def cross_entropy_forward(logits: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """loss[n] = lse[n] - logits[n, targets[n]] in nats, 0 where the target is -1.

    Args:    logits: (N, V).  targets: (N,) int32 in [-1, V).
    Returns: loss: (N,).  lse: (N,), log-sum-exp of the row, kept for backward.
    Raises:  ShapeError: a target outside the vocabulary.
    """
    N, V = logits.shape
    loss, lse = empty((N,)), empty((N,))
    bad = native.lib.mg_cross_entropy_forward(
        out(loss), out(lse), arg("logits", logits, (N, V)), arg("targets", targets, (N,), np.int32), N, V
    )
    if bad >= 0:
        raise ShapeError(
            f"cross_entropy_forward: target {targets[bad]} at position {bad}; expected -1 to {V - 1}"
        )
    return loss, lse


@op
def cross_entropy_backward(
    logits: np.ndarray, lse: np.ndarray, targets: np.ndarray, scale: float
) -> np.ndarray:
    """dlogits = scale * (softmax(logits) - onehot(target)).  Overwrites and returns `logits`."""
    N, V = logits.shape
    pointer = arg("logits", logits, (N, V))
    native.lib.mg_cross_entropy_backward(
        pointer, pointer, arg("lse", lse, (N,)), arg("targets", targets, (N,), np.int32), N, V, scale
    )
    return logits


@op
def dispatch_forward(x: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Copy each token's row to its k places, where the rows of an expert stand side by side.

    rows[places[n, j]] = x[n]

    Args:    x: (N, C).  places: (N, k) int32, each of 0 to N k - 1 once.
    Returns: rows: (N k, C).
    Raises:  ShapeError: a place that is none.
    """
    (N, k), C = places.shape, x.shape[1]
    rows = empty((N * k, C))
    _expect_places("dispatch_forward", places)
    native.lib.mg_dispatch_forward(
        out(rows), arg("x", x, (N, C)), arg("places", places, (N, k), np.int32), N, k, C
    )
    return rows


@op
def dispatch_backward(drows: np.ndarray, places: np.ndarray) -> np.ndarray:
    """dx: (N, C), the sum of the gradients of each token's rows."""
    (N, k), C = places.shape, drows.shape[1]
    dx = empty((N, C))
    _expect_places("dispatch_backward", places)
    native.lib.mg_dispatch_backward(
        out(dx), arg("drows", drows, (N * k, C)), arg("places", places, (N, k), np.int32), N, k, C
    )
    return dx


@op
def combine_forward(rows: np.ndarray, factors: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Add up by token what experts made of its rows.

    y[n] = sum over j of factors[n, j] * rows[places[n, j]]

    Args:    rows: (N k, C).  factors: (N, k).  places: (N, k) int32, as of `dispatch_forward`.
    Returns: y: (N, C).
    """
    (N, k), C = places.shape, rows.shape[1]
    y = empty((N, C))
    _expect_places("combine_forward", places)
    native.lib.mg_combine_forward(
        out(y),
        arg("rows", rows, (N * k, C)),
        arg("factors", factors, (N, k)),
        arg("places", places, (N, k), np.int32),
        N,
        k,
        C,
    )
    return y


@op
def combine_backward(
    dy: np.ndarray, rows: np.ndarray, factors: np.ndarray, places: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """drows = factor * dy and dfactors = dy . row, of every place.  Overwrites `rows` with drows, and returns
    both."""
    (N, k), C = places.shape, rows.shape[1]
    rows_drows, dfactors = arg("rows", rows, (N * k, C)), empty((N, k))
    _expect_places("combine_backward", places)
    native.lib.mg_combine_backward(
        rows_drows,
        out(dfactors),
        arg("dy", dy, (N, C)),
        rows_drows,
        arg("factors", factors, (N, k)),
        arg("places", places, (N, k), np.int32),
        N,
        k,
        C,
    )
    return rows, dfactors


def _expect_places(name: str, places: np.ndarray) -> None:
    if places.size and not 0 <= places.min() <= places.max() < places.size:
        raise ShapeError(
            f"{name}: places from {places.min()} to {places.max()}; expected 0 to {places.size - 1}"
        )


# ---- optimizer -----------------------------------------------------------------------------------


@op
def sum_squares(x: np.ndarray) -> float:
    """The sum of squares of a flat array, in double, in a fixed order.  Infinities and NaNs come through."""
    (n,) = x.shape
    return native.lib.mg_sum_squares(arg("x", x, (n,)), out(np.empty(n // 65536 + 1)), n)


@op
def adam_step(
    p: np.ndarray,
    grad: np.ndarray,
    m1: np.ndarray,
    m2: np.ndarray,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    step: int,
    grad_scale: float,
) -> None:
    """One Adam update with decoupled weight decay, in place over flat arrays.

    grad is read as grad_scale * grad and left zero, ready for the next step.

    Args:    step: completed updates, so 0 for the first.
    Source:  Kingma & Ba 2014 (arXiv 1412.6980); decay as in Loshchilov & Hutter 2017 (arXiv 1711.05101).
    """
    (n,) = p.shape
    native.lib.mg_adam_step(
        arg("p", p, (n,)),
        arg("m1", m1, (n,)),
        arg("m2", m2, (n,)),
        arg("grad", grad, (n,)),
        n,
        lr,
        beta1,
        beta2,
        1 - beta1,
        1 - beta2,
        eps,
        weight_decay,
        1 - beta1 ** (step + 1),
        1 - beta2 ** (step + 1),
        grad_scale,
    )


@op
def nesterov_momentum(grad: np.ndarray, m: np.ndarray, *, beta: float, grad_scale: float) -> None:
    """m = beta m + (1 - beta) grad_scale grad, and in the place of grad what Nesterov's method takes for it:
    beta m + (1 - beta) grad_scale grad.  In place over flat arrays.

    Source: Nesterov 1983, in the form of Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon/).
    """
    (n,) = grad.shape
    native.lib.mg_nesterov_momentum(arg("grad", grad, (n,)), arg("m", m, (n,)), n, beta, 1 - beta, grad_scale)


@op
def newton_schulz(
    x: np.ndarray, polynomials: np.ndarray, margin: float = 1.0, precision: str = "fp32"
) -> None:
    """Bring each of n matrices, in place, near to the orthogonal one that has its singular vectors.

    X = X / (margin |X| + 1e-7), |X| the root of the sum of squares; then for each polynomial (a, b, c)
    X = a X + (b A + c A^2) X,  A = X X^T

    Args:   x: (n, M, K).  polynomials: (steps, 3).  margin: at least 1.  precision: as of `linear_forward`.
    Source: Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon/).
    """
    n, M, K = x.shape
    by, abc = native.products_in(precision), np.ascontiguousarray(polynomials, np.float32)
    scratch = out(workspace(by.lib.mg_newton_schulz_scratch(M, K, by.how)))
    steps = len(abc)
    by.lib.mg_newton_schulz(
        arg("x", x, (n, M, K)), scratch, arg("polynomials", abc, (steps, 3)), n, M, K, steps, margin, by.how
    )


@op
def descend(p: np.ndarray, update: np.ndarray, *, rate: float, keep: float = 1.0) -> None:
    """p = keep p - rate update, in place over flat arrays; update is left zero."""
    (n,) = p.shape
    native.lib.mg_descend(arg("p", p, (n,)), arg("update", update, (n,)), n, rate, keep)
