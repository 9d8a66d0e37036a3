"""Rows to their experts and back."""

import numpy as np

from microgpt.common.errors import ShapeError
from microgpt.core import native
from microgpt.core.arrays import empty
from microgpt.core.backend import op
from microgpt.core.native import arg, out


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
