"""Norms of rows, forward, made again, and backward.

Rows are those of an array (N, C), or they lie in some columns of a wider one, as heads do: then they are a
view (N, H, C), and so are all arrays of their shape, which lie as x does.  A result goes into `y` or `dx`,
which may be `dy`; of an x (N, C) it goes into a new array where none is given.
"""

import numpy as np

from microgpt.core import native, reference
from microgpt.core.arrays import empty, empty_like
from microgpt.core.backend import op
from microgpt.core.native import arg, arg_rows, out, rows

NORM_EPS = reference.NORM_EPS


@op
def rmsnorm_forward(
    x: np.ndarray, weight: np.ndarray, eps: float = NORM_EPS, y: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Divide each row by its root mean square and scale.

    y = x * rstd * weight,  rstd = 1 / sqrt(mean(x^2) + eps)

    Args:    x: (N, C).  weight: (C,).
    Returns: y: (N, C).  rstd: (N,), kept for backward.
    Source:  Zhang & Sennrich 2019 (arXiv 1910.07467).
    """
    at, y, rstd = rows("x", x), _result(y, x), empty(x.shape[:-1])
    weights = arg("weight", weight, (at.C,))
    native.lib.mg_rmsnorm_forward(
        arg_rows("y", y, x, True), out(rstd), arg_rows("x", x, x), weights, *at, eps
    )
    return y, rstd


@op
def rmsnorm_again(
    x: np.ndarray, weight: np.ndarray, rstd: np.ndarray, y: np.ndarray | None = None
) -> np.ndarray:
    """y of the forward once more, to the bit, from its rstd: cheaper than keeping y for the backward."""
    at, y = rows("x", x), _result(y, x)
    weights, factors = arg("weight", weight, (at.C,)), arg("rstd", rstd, x.shape[:-1])
    native.lib.mg_rmsnorm_again(arg_rows("y", y, x, True), arg_rows("x", x, x), weights, factors, *at)
    return y


@op
def rmsnorm_backward(
    dy: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    rstd: np.ndarray,
    dweight: np.ndarray,
    dresidual: np.ndarray | None = None,
    dx: np.ndarray | None = None,
) -> np.ndarray:
    """Gradient of the norm's input, plus `dresidual` (N, C), the gradient that by-passed the norm."""
    at, dx = rows("x", x), _result(dx, x)
    scratch = empty((native.lib.MG_PARTIALS, at.C))
    native.lib.mg_rmsnorm_backward(
        arg_rows("dx", dx, x, True),
        arg("dweight", dweight, (at.C,)),
        out(scratch),
        arg_rows("dy", dy, x),
        arg_rows("x", x, x),
        arg("weight", weight, (at.C,)),
        arg("rstd", rstd, x.shape[:-1]),
        native.ffi.NULL if dresidual is None else arg_rows("dresidual", dresidual, x),
        *at,
    )
    return dx


@op
def layernorm_forward(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    eps: float = NORM_EPS,
    y: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Centre each row, divide it by its deviation, scale and shift.

    y = (x - mean) * rstd * weight + bias,  rstd = 1 / sqrt(mean((x - mean)^2) + eps)

    Args:    x: (N, C).  weight, bias: (C,).
    Returns: y: (N, C).  stats: (N, 2), mean and rstd, kept for backward.
    Source:  Ba et al. 2016 (arXiv 1607.06450).
    """
    at, y, stats = rows("x", x), _result(y, x), empty((*x.shape[:-1], 2))
    weights = arg("weight", weight, (at.C,)), arg("bias", bias, (at.C,))
    native.lib.mg_layernorm_forward(
        arg_rows("y", y, x, True), out(stats), arg_rows("x", x, x), *weights, *at, eps
    )
    return y, stats


@op
def layernorm_again(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, stats: np.ndarray, y: np.ndarray | None = None
) -> np.ndarray:
    """y of the forward once more, to the bit, from its stats."""
    at, y = rows("x", x), _result(y, x)
    weights = arg("weight", weight, (at.C,)), arg("bias", bias, (at.C,))
    found = arg("stats", stats, (*x.shape[:-1], 2))
    native.lib.mg_layernorm_again(arg_rows("y", y, x, True), arg_rows("x", x, x), *weights, found, *at)
    return y


@op
def layernorm_backward(
    dy: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    stats: np.ndarray,
    dweight: np.ndarray,
    dbias: np.ndarray,
    dresidual: np.ndarray | None = None,
    dx: np.ndarray | None = None,
) -> np.ndarray:
    """Gradient of the norm's input, plus `dresidual` (N, C), the gradient that by-passed the norm."""
    at, dx = rows("x", x), _result(dx, x)
    scratch = empty((native.lib.MG_PARTIALS, 2, at.C))
    native.lib.mg_layernorm_backward(
        arg_rows("dx", dx, x, True),
        arg("dweight", dweight, (at.C,)),
        arg("dbias", dbias, (at.C,)),
        out(scratch),
        arg_rows("dy", dy, x),
        arg_rows("x", x, x),
        arg("weight", weight, (at.C,)),
        arg("stats", stats, (*x.shape[:-1], 2)),
        native.ffi.NULL if dresidual is None else arg_rows("dresidual", dresidual, x),
        *at,
    )
    return dx


def _result(given: np.ndarray | None, x: np.ndarray) -> np.ndarray:
    """Where a result goes that lies as x does."""
    return empty_like(x) if given is None else given
