"""Recurrent operations that look at the rows just before: token shift and short convolutions."""

from typing import Any

import numpy as np

from microgpt.core import native
from microgpt.core.arrays import empty, empty_like, workspace
from microgpt.core.backend import op
from microgpt.core.native import arg, out

from .arguments import Maybe, maybe, partials, starts_of


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
        maybe("more", more, (J, B, T, C)),
        starts_of(starts, B, T),
        maybe("last", last, (B, C)),
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
        partials(J * C),
        arg("dy", dy, (J, B, T, C)),
        arg("x", x, (B, T, C)),
        arg("mix", mix, (J, C)),
        maybe("more", more, (J, B, T, C)),
        starts_of(starts, B, T),
        maybe("last", last, (B, C)),
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
        starts_of(starts, B, T),
        maybe("before", before, (B, K - 1, C)),
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
        starts_of(starts, B, T),
        maybe("before", before, (B, K - 1, C)),
        *(B, T, C, K),
    )
    return dx
