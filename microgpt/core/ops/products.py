"""Products with weight matrices, fp32 or bf16, and biases."""

from typing import Any

import numpy as np

from microgpt.core import native, reference
from microgpt.core.arrays import empty, workspace
from microgpt.core.backend import op
from microgpt.core.native import arg, out


@op
def linear_forward(x: np.ndarray, weight: np.ndarray, precision: str = "fp32") -> np.ndarray:
    """y = x W^T.

    Args:    x: (N, K).  weight: (M, K), float32, or stored bfloat16 (`bf16_bits`), which gives the bits that
             its floats give.  precision: fp32, or bf16 in large products: `native.products_in`.
    Returns: y: (N, M).
    """
    (N, K), (M, _) = x.shape, weight.shape
    y, by, of = empty((N, M)), native.products_in(precision), type_of(weight)
    by.lib.mg_linear_forward(
        out(y),
        _gemm_scratch(N, M, K, of, by),
        arg("x", x, (N, K)),
        arg("weight", weight, (M, K), stored(weight)),
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
    dx, by, of = empty((N, K)), native.products_in(precision), type_of(weight)
    by.lib.mg_linear_backward_input(
        out(dx),
        _gemm_scratch(N, K, M, of, by),
        arg("dy", dy, (N, M)),
        arg("weight", weight, (M, K), stored(weight)),
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


def stored(weight: np.ndarray) -> Any:
    """What a weight is expected to be: bfloat16 if its numbers have two bytes."""
    return np.uint16 if weight.dtype == np.uint16 else np.float32


def type_of(weight: np.ndarray) -> int:
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


bf16_bits, bf16_floats = reference.bf16_bits, reference.bf16_floats
