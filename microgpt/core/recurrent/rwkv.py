"""The recurrent operations of RWKV-6 and RWKV-7: their scans, gates, and what goes into and out of them."""

from typing import Any

import numpy as np

from microgpt.core import native
from microgpt.core.arrays import empty, empty_like, workspace
from microgpt.core.backend import op
from microgpt.core.native import arg, out

from .arguments import Maybe, channels_of_heads, maybe, partials, same_shape, starts_of

Bonus = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


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

    Args:    r, w, k, v, kk, b: (B, T, H N); w above 1/2, below 2^-8 nothing is finite.
             before: (B, H, N, N), a row for each channel of a key.
    Returns: y: (B, T, H N).  after: (B, H, N, N).
    Source:  Peng et al. 2025 (arXiv 2503.14456); by chunks, Yang et al. 2024 (arXiv 2406.06484).
    """
    B, T, C = r.shape
    N = channels_of_heads(C, H)
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
    N = channels_of_heads(C, H)
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
    N = channels_of_heads(C, H)
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
    N = channels_of_heads(C, H)
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
    N = channels_of_heads(C, H)
    memory = starts_of(starts, B, T), maybe("before", before, (B, H, N, N))
    return [*same_shape(**rows), *weights, *memory, B, T, H, N]


@op
def gate_forward(x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """y = x sigmoid(z), of any shape."""
    y = empty_like(x)
    native.lib.mg_gate_forward(out(y), *same_shape(x=x, z=z), x.size)
    return y


@op
def gate_backward(dy: np.ndarray, x: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(dx, dz)."""
    dx, dz = empty_like(x), empty_like(x)
    native.lib.mg_gate_backward(out(dx), out(dz), *same_shape(dy=dy, x=x, z=z), x.size)
    return dx, dz


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
        *same_shape(k=k, decay=decay, rate=rate),
        arg("k_k", k_k, (C,)),
        arg("k_a", k_a, (C,)),
        *(N, H, channels_of_heads(C, H)),
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
        partials(2 * C),
        *same_shape(dw=dw, dk2=dk2, dkk=dkk, db=db, k=k, decay=decay, rate=rate),
        arg("k_k", k_k, (C,)),
        arg("k_a", k_a, (C,)),
        *(N, H, channels_of_heads(C, H)),
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
        *(N, H, channels_of_heads(C, H), eps),
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
        maybe("dr_k", dr_k, (C,)),
        partials(3 * C),
        arg("dy", dy, (N, C)),
        *_output_inputs(x, gate, weight, bias, bonus),
        *(N, H, channels_of_heads(C, H), eps),
    )
    return gradients


def _output_inputs(
    x: np.ndarray, gate: np.ndarray, weight: np.ndarray, bias: np.ndarray, bonus: Bonus | None
) -> list[Any]:
    (_, C), (r, k, v, r_k) = x.shape, bonus or (None, None, None, None)
    return [
        *same_shape(x=x, gate=gate),
        arg("weight", weight, (C,)),
        arg("bias", bias, (C,)),
        *(maybe(name, array, x.shape) for name, array in (("r", r), ("k", k), ("v", v))),
        maybe("r_k", r_k, (C,)),
    ]
