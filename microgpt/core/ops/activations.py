"""Activations of MLPs, gated or not, and the soft cap of logits."""

import numpy as np

from microgpt.common.errors import ShapeError
from microgpt.core import native
from microgpt.core.arrays import empty, empty_like
from microgpt.core.backend import op
from microgpt.core.native import arg, out


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
