"""Norms of rows, forward, made again, and backward."""

import numpy as np

from microgpt.core import native, reference
from microgpt.core.arrays import empty, empty_like
from microgpt.core.backend import op
from microgpt.core.native import arg, out

NORM_EPS = reference.NORM_EPS


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
