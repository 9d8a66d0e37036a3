"""The recurrent operations of Mamba-2: its scan, and the norm with a gate behind it."""

from typing import Any

import numpy as np

from microgpt.common.errors import ShapeError
from microgpt.core import native, reference_recurrent
from microgpt.core.arrays import empty, empty_like, workspace
from microgpt.core.backend import op
from microgpt.core.native import arg, out

from .arguments import Maybe, maybe, partials, starts_of

NORM_EPS = reference_recurrent.NORM_EPS


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
        starts_of(starts, B, T),
        maybe("before", before, (B, H, N, P)),
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
        partials(C),
        *(arg(name, a, (N, C)) for name, a in (("dy", dy), ("x", x), ("gate", gate))),
        arg("weight", weight, (C,)),
        *(N, C, eps),
    )
    return dx, dgate
