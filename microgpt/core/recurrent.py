"""The operations of recurrent layers, forward and backward; conventions as in `ops`.

Rows are (B, T, C).  Each takes `starts` (B, T) int32, where the document of each row begins (None: at 0):
nothing is remembered across the begin of one.  What is remembered at position 0 comes in as the last argument
(None: nothing), and has no gradient; what is remembered behind the last position is returned where it is more
than rows of the input.
"""

from typing import Any

import numpy as np

from microgpt.common.errors import ShapeError

from . import native, reference_recurrent
from .arrays import empty, empty_like, workspace
from .backend import op
from .native import arg, out

NORM_EPS = reference_recurrent.NORM_EPS
Maybe = np.ndarray | None
Bonus = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _maybe(name: str, array: Maybe, shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
    """A pointer to an array, or to none."""
    return native.ffi.NULL if array is None else arg(name, array, shape, dtype)


def _starts(starts: Maybe, B: int, T: int) -> Any:
    return _maybe("starts", starts, (B, T), np.int32)


def _partials(n: int) -> Any:
    """Pointer to what n sums over rows are added up in."""
    return out(empty((native.lib.MG_PARTIALS * n,)))


# ---- looking at the rows before ------------------------------------------------------------------


@op
def shift_mix_forward(
    x: np.ndarray, mix: np.ndarray, more: Maybe = None, starts: Maybe = None, last: Maybe = None
) -> np.ndarray:
    """J mixes of each row and the one before it: y_j = x + (before - x) * (mix_j + more_j).

    Args:    x: (B, T, C).  mix: (J, C).  more: (J, B, T, C), shares of each position.  last: (B, C), the row
             before position 0.
    Returns: y: (J, B, T, C).
    Source:  Peng et al. 2023 (arXiv 2305.13048), token shift.
    """
    (B, T, C), J = x.shape, len(mix)
    y = empty((J, B, T, C))
    native.lib.mg_shift_mix_forward(
        out(y),
        arg("x", x, (B, T, C)),
        arg("mix", mix, (J, C)),
        _maybe("more", more, (J, B, T, C)),
        _starts(starts, B, T),
        _maybe("last", last, (B, C)),
        *(B, T, C, J),
    )
    return y


@op
def shift_mix_backward(
    dy: np.ndarray,
    x: np.ndarray,
    mix: np.ndarray,
    dmix: np.ndarray,
    more: Maybe = None,
    starts: Maybe = None,
    last: Maybe = None,
) -> Any:
    """dx (B, T, C); with `more` (dx, dmore)."""
    (B, T, C), J = x.shape, len(mix)
    dx, dmore = empty_like(x), None if more is None else empty_like(more)
    native.lib.mg_shift_mix_backward(
        out(dx),
        arg("dmix", dmix, (J, C)),
        native.ffi.NULL if dmore is None else out(dmore),
        _partials(J * C),
        arg("dy", dy, (J, B, T, C)),
        arg("x", x, (B, T, C)),
        arg("mix", mix, (J, C)),
        _maybe("more", more, (J, B, T, C)),
        _starts(starts, B, T),
        _maybe("last", last, (B, C)),
        *(B, T, C, J),
    )
    return dx if dmore is None else (dx, dmore)


@op
def conv_silu_forward(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, starts: Maybe = None, before: Maybe = None
) -> np.ndarray:
    """y = silu(bias + sum over k of weight[k] * x of k positions before), each channel for itself.

    Args:    x: (B, T, C).  weight: (K, C).  bias: (C,).  before: (B, K-1, C), the rows before position 0.
    Returns: y: (B, T, C).
    """
    (B, T, C), K = x.shape, len(weight)
    y = empty_like(x)
    native.lib.mg_conv_silu_forward(
        out(y),
        arg("x", x, (B, T, C)),
        arg("weight", weight, (K, C)),
        arg("bias", bias, (C,)),
        _starts(starts, B, T),
        _maybe("before", before, (B, K - 1, C)),
        *(B, T, C, K),
    )
    return y


@op
def conv_silu_backward(
    dy: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    dweight: np.ndarray,
    dbias: np.ndarray,
    starts: Maybe = None,
    before: Maybe = None,
) -> np.ndarray:
    """dx (B, T, C)."""
    (B, T, C), K = x.shape, len(weight)
    dx, scratch = empty_like(x), workspace((native.lib.MG_PARTIALS * (K + 1) + B * T) * C)
    native.lib.mg_conv_silu_backward(
        out(dx),
        arg("dweight", dweight, (K, C)),
        arg("dbias", dbias, (C,)),
        out(scratch),
        arg("dy", dy, (B, T, C)),
        arg("x", x, (B, T, C)),
        arg("weight", weight, (K, C)),
        arg("bias", bias, (C,)),
        _starts(starts, B, T),
        _maybe("before", before, (B, K - 1, C)),
        *(B, T, C, K),
    )
    return dx


# ---- Mamba-2 -------------------------------------------------------------------------------------


@op
def ssd_forward(
    xbc: np.ndarray,
    dt: np.ndarray,
    dt_bias: np.ndarray,
    A_log: np.ndarray,
    D: np.ndarray,
    N: int,
    starts: Maybe = None,
    before: Maybe = None,
) -> tuple[np.ndarray, np.ndarray]:
    """A state S (N, P) for each of H heads that fades, takes in x where B says, and is read where C says.

    s = softplus(dt + dt_bias);  S = exp(-exp(A_log) s) S + B (s x)^T;  y = S^T C + D x

    Args:    xbc: (B, T, H P + 2 N), x of all heads, then B and C.  dt: (B, T, H).  dt_bias, A_log, D: (H,).
             N: channels of B and of C.  before: (B, H, N, P).
    Returns: y: (B, T, H P).  after: (B, H, N, P).
    Source:  Dao & Gu 2024 (arXiv 2405.21060), with one group.
    """
    (B, T, H), P = dt.shape, _head_width(xbc, dt, N)
    y, after = empty((B, T, H * P)), empty((B, H, N, P))
    inputs = _ssd_inputs(xbc, dt, dt_bias, A_log, D, N, starts, before)
    native.lib.mg_ssd_forward(out(y), out(after), _ssd_scratch(B, T, H, P, N), *inputs, B, T, H, P, N)
    return y, after


@op
def ssd_backward(
    dy: np.ndarray,
    xbc: np.ndarray,
    dt: np.ndarray,
    dt_bias: np.ndarray,
    A_log: np.ndarray,
    D: np.ndarray,
    N: int,
    ddt_bias: np.ndarray,
    dA_log: np.ndarray,
    dD: np.ndarray,
    starts: Maybe = None,
    before: Maybe = None,
) -> tuple[np.ndarray, np.ndarray]:
    """(dxbc, ddt)."""
    (B, T, H), P = dt.shape, _head_width(xbc, dt, N)
    dxbc, ddt = empty_like(xbc), empty_like(dt)
    of_heads = (("ddt_bias", ddt_bias), ("dA_log", dA_log), ("dD", dD))
    native.lib.mg_ssd_backward(
        out(dxbc),
        out(ddt),
        *(arg(name, gradient, (H,)) for name, gradient in of_heads),
        _ssd_scratch(B, T, H, P, N),
        arg("dy", dy, (B, T, H * P)),
        *_ssd_inputs(xbc, dt, dt_bias, A_log, D, N, starts, before),
        *(B, T, H, P, N),
    )
    return dxbc, ddt


def _head_width(xbc: np.ndarray, dt: np.ndarray, N: int) -> int:
    width, H = xbc.shape[-1] - 2 * N, dt.shape[-1]
    if width < H or width % H:
        raise ShapeError(f"ssd: rows of {xbc.shape[-1]}; expected those of {H} equal heads and twice {N}")
    return width // H


def _ssd_inputs(
    xbc: np.ndarray,
    dt: np.ndarray,
    dt_bias: np.ndarray,
    A_log: np.ndarray,
    D: np.ndarray,
    N: int,
    starts: Maybe,
    before: Maybe,
) -> list[Any]:
    (B, T, H), P = dt.shape, _head_width(xbc, dt, N)
    return [
        arg("xbc", xbc, (B, T, H * P + 2 * N)),
        arg("dt", dt, (B, T, H)),
        *(arg(name, x, (H,)) for name, x in (("dt_bias", dt_bias), ("A_log", A_log), ("D", D))),
        _starts(starts, B, T),
        _maybe("before", before, (B, H, N, P)),
    ]


def _ssd_scratch(B: int, T: int, H: int, P: int, N: int) -> Any:
    return out(workspace(native.lib.mg_ssd_scratch(B, T, H, P, N)))


@op
def gated_rmsnorm_forward(
    x: np.ndarray, gate: np.ndarray, weight: np.ndarray, eps: float = NORM_EPS
) -> np.ndarray:
    """y = u / rms(u) * weight with u = x silu(gate), per row.   x, gate: (N, C).  weight: (C,)."""
    N, C = x.shape
    y = empty_like(x)
    native.lib.mg_gated_rmsnorm_forward(
        out(y), arg("x", x, (N, C)), arg("gate", gate, (N, C)), arg("weight", weight, (C,)), N, C, eps
    )
    return y


@op
def gated_rmsnorm_backward(
    dy: np.ndarray,
    x: np.ndarray,
    gate: np.ndarray,
    weight: np.ndarray,
    dweight: np.ndarray,
    eps: float = NORM_EPS,
) -> tuple[np.ndarray, np.ndarray]:
    """(dx, dgate)."""
    N, C = x.shape
    dx, dgate = empty_like(x), empty_like(x)
    native.lib.mg_gated_rmsnorm_backward(
        out(dx),
        out(dgate),
        arg("dweight", dweight, (C,)),
        _partials(C),
        *(arg(name, a, (N, C)) for name, a in (("dy", dy), ("x", x), ("gate", gate))),
        arg("weight", weight, (C,)),
        *(N, C, eps),
    )
    return dx, dgate


# ---- RWKV ----------------------------------------------------------------------------------------


@op
def wkv7_forward(
    r: np.ndarray,
    w: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    kk: np.ndarray,
    b: np.ndarray,
    H: int,
    starts: Maybe = None,
    before: Maybe = None,
) -> tuple[np.ndarray, np.ndarray]:
    """A state S (N, N) for each of H heads that fades by channels of the key, forgets what it holds for one
    key, and takes in a value for another:  S = diag(w) S - b (S^T kk)^T + k v^T;  y = S^T r

    Args:    r, w, k, v, kk, b: (B, T, H N).  before: (B, H, N, N), a row for each channel of a key.
    Returns: y: (B, T, H N).  after: (B, H, N, N).
    Source:  Peng et al. 2025 (arXiv 2503.14456).
    """
    B, T, C = r.shape
    N = _channels_of_heads(C, H)
    y, after = empty_like(r), empty((B, H, N, N))
    native.lib.mg_wkv7_forward(
        out(y),
        out(after),
        out(workspace(native.lib.mg_wkv7_scratch(T, N))),
        *_scan_inputs({"r": r, "w": w, "k": k, "v": v, "kk": kk, "b": b}, H, starts, before),
    )
    return y, after


@op
def wkv7_backward(
    dy: np.ndarray,
    r: np.ndarray,
    w: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    kk: np.ndarray,
    b: np.ndarray,
    H: int,
    starts: Maybe = None,
    before: Maybe = None,
) -> tuple[np.ndarray, ...]:
    """(dr, dw, dk, dv, dkk, db)."""
    _, T, C = r.shape
    N = _channels_of_heads(C, H)
    gradients = tuple(empty_like(r) for _ in range(6))
    native.lib.mg_wkv7_backward(
        *(out(gradient) for gradient in gradients),
        out(workspace(native.lib.mg_wkv7_scratch(T, N))),
        *_scan_inputs({"dy": dy, "r": r, "w": w, "k": k, "v": v, "kk": kk, "b": b}, H, starts, before),
    )
    return gradients


@op
def wkv6_forward(
    r: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    decay: np.ndarray,
    u: np.ndarray,
    H: int,
    starts: Maybe = None,
    before: Maybe = None,
) -> tuple[np.ndarray, np.ndarray]:
    """A state S (N, N) for each of H heads that fades by channels of the key and takes in values for keys; a
    token reads what was there before it, and itself by a bonus of its own:

    y = S^T r + v sum(r u k);  S = diag(exp(-exp(decay))) S + k v^T

    Args:    r, k, v, decay: (B, T, H N).  u: (H N,).  before: (B, H, N, N), a row for each channel of a key.
    Returns: y: (B, T, H N).  after: (B, H, N, N).
    Source:  Peng et al. 2024 (arXiv 2404.05892).
    """
    B, T, C = r.shape
    N = _channels_of_heads(C, H)
    y, after = empty_like(r), empty((B, H, N, N))
    native.lib.mg_wkv6_forward(
        out(y),
        out(after),
        out(workspace(native.lib.mg_wkv6_scratch(B, T, H, N))),
        *_scan_inputs({"r": r, "k": k, "v": v, "decay": decay}, H, starts, before, arg("u", u, (C,))),
    )
    return y, after


@op
def wkv6_backward(
    dy: np.ndarray,
    r: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    decay: np.ndarray,
    u: np.ndarray,
    H: int,
    du: np.ndarray,
    starts: Maybe = None,
    before: Maybe = None,
) -> tuple[np.ndarray, ...]:
    """(dr, dk, dv, d_decay)."""
    B, T, C = r.shape
    N = _channels_of_heads(C, H)
    gradients = tuple(empty_like(r) for _ in range(4))
    native.lib.mg_wkv6_backward(
        *(out(gradient) for gradient in gradients),
        arg("du", du, (C,)),
        out(workspace(native.lib.mg_wkv6_scratch(B, T, H, N))),
        *_scan_inputs(
            {"dy": dy, "r": r, "k": k, "v": v, "decay": decay}, H, starts, before, arg("u", u, (C,))
        ),
    )
    return gradients


def _scan_inputs(
    rows: dict[str, np.ndarray], H: int, starts: Maybe, before: Maybe, *weights: Any
) -> list[Any]:
    """What a scan over states (N, N) of H heads reads: rows (B, T, H N) by name, weights, what is remembered,
    and the sizes."""
    B, T, C = next(iter(rows.values())).shape
    N = _channels_of_heads(C, H)
    memory = _starts(starts, B, T), _maybe("before", before, (B, H, N, N))
    return [*_rows(**rows), *weights, *memory, B, T, H, N]


@op
def gate_forward(x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """y = x sigmoid(z), of any shape."""
    y = empty_like(x)
    native.lib.mg_gate_forward(out(y), *_rows(x=x, z=z), x.size)
    return y


@op
def gate_backward(dy: np.ndarray, x: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(dx, dz)."""
    dx, dz = empty_like(x), empty_like(x)
    native.lib.mg_gate_backward(out(dx), out(dz), *_rows(dy=dy, x=x, z=z), x.size)
    return dx, dz


def _channels_of_heads(C: int, H: int) -> int:
    if C % H:
        raise ShapeError(f"rows of {C} channels; expected a multiple of {H} heads")
    return C // H


def _rows(**arrays: np.ndarray) -> list[Any]:
    """Pointers to arrays that all have the shape of the first."""
    shape = next(iter(arrays.values())).shape
    return [arg(name, array, shape) for name, array in arrays.items()]


@op
def rwkv7_inputs_forward(
    k: np.ndarray, decay: np.ndarray, rate: np.ndarray, k_k: np.ndarray, k_a: np.ndarray, H: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What `wkv7` takes, with a = sigmoid(rate):

    w = exp(-exp(-1/2) sigmoid(decay));  k2 = k (1 + (a - 1) k_a);  kk = k k_k, each head divided by its
    length, of 1e-12 at least;  b = kk a

    Args:    k, decay, rate: (N, C).  k_k, k_a: (C,).
    Returns: w, k2, kk, b: (N, C) each.
    """
    N, C = k.shape
    made = tuple(empty_like(k) for _ in range(4))
    native.lib.mg_rwkv7_inputs_forward(
        *(out(array) for array in made),
        *_rows(k=k, decay=decay, rate=rate),
        arg("k_k", k_k, (C,)),
        arg("k_a", k_a, (C,)),
        *(N, H, _channels_of_heads(C, H)),
    )
    return made  # type: ignore[return-value]


@op
def rwkv7_inputs_backward(
    dw: np.ndarray,
    dk2: np.ndarray,
    dkk: np.ndarray,
    db: np.ndarray,
    k: np.ndarray,
    decay: np.ndarray,
    rate: np.ndarray,
    k_k: np.ndarray,
    k_a: np.ndarray,
    H: int,
    dk_k: np.ndarray,
    dk_a: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(dk, d_decay, d_rate)."""
    N, C = k.shape
    gradients = empty_like(k), empty_like(k), empty_like(k)
    native.lib.mg_rwkv7_inputs_backward(
        *(out(gradient) for gradient in gradients),
        arg("dk_k", dk_k, (C,)),
        arg("dk_a", dk_a, (C,)),
        _partials(2 * C),
        *_rows(dw=dw, dk2=dk2, dkk=dkk, db=db, k=k, decay=decay, rate=rate),
        arg("k_k", k_k, (C,)),
        arg("k_a", k_a, (C,)),
        *(N, H, _channels_of_heads(C, H)),
    )
    return gradients


@op
def rwkv_output_forward(
    x: np.ndarray,
    gate: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    H: int,
    eps: float,
    bonus: Bonus | None = None,
) -> np.ndarray:
    """y = gate * (xhat weight + bias + v * sum(r k r_k)): each head of x less its mean and divided by its
    deviation, and a bonus for the token itself.

    Args:    x, gate: (N, C).  weight, bias: (C,).  bonus: r, k, v (N, C), r_k (C,); None: there is none.
    Returns: y: (N, C).
    """
    N, C = x.shape
    y = empty_like(x)
    native.lib.mg_rwkv_output_forward(
        out(y),
        *_output_inputs(x, gate, weight, bias, bonus),
        *(N, H, _channels_of_heads(C, H), eps),
    )
    return y


@op
def rwkv_output_backward(
    dy: np.ndarray,
    x: np.ndarray,
    gate: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    H: int,
    eps: float,
    dweight: np.ndarray,
    dbias: np.ndarray,
    bonus: Bonus | None = None,
    dr_k: Maybe = None,
) -> tuple[np.ndarray, ...]:
    """(dx, dgate); with a bonus (dx, dgate, dr, dk, dv)."""
    N, C = x.shape
    gradients = tuple(empty_like(x) for _ in range(2 if bonus is None else 5))
    none = [native.ffi.NULL] * (5 - len(gradients))
    native.lib.mg_rwkv_output_backward(
        *(out(gradient) for gradient in gradients),
        *none,
        arg("dweight", dweight, (C,)),
        arg("dbias", dbias, (C,)),
        _maybe("dr_k", dr_k, (C,)),
        _partials(3 * C),
        arg("dy", dy, (N, C)),
        *_output_inputs(x, gate, weight, bias, bonus),
        *(N, H, _channels_of_heads(C, H), eps),
    )
    return gradients


def _output_inputs(
    x: np.ndarray, gate: np.ndarray, weight: np.ndarray, bias: np.ndarray, bonus: Bonus | None
) -> list[Any]:
    (_, C), (r, k, v, r_k) = x.shape, bonus or (None, None, None, None)
    return [
        *_rows(x=x, gate=gate),
        arg("weight", weight, (C,)),
        arg("bias", bias, (C,)),
        *(_maybe(name, array, x.shape) for name, array in (("r", r), ("k", k), ("v", v))),
        _maybe("r_k", r_k, (C,)),
    ]
