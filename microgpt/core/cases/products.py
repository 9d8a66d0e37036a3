"""Cases of `ops/products.py`."""

from typing import Any

import numpy as np

from microgpt.core import ops

from .case import ROWS, Case, Inputs, Zeros, normal


def _bias_backward(dy: np.ndarray, i: Inputs, saved: Any, zeros: Zeros) -> dict[str, np.ndarray]:
    dbias = zeros("bias")
    ops.bias_backward(dy, dbias)
    return {"x": dy, "bias": dbias}


def _linear(precision: str = "fp32", is_stored: bool = False) -> dict[str, Any]:
    """Of a case at (N, M, K); is_stored: the weight is bfloat16, and not trained."""

    def make(N: int, M: int, K: int) -> Inputs:
        weight = normal("weight", M, K)
        return {"x": normal("x", N, K), "weight": ops.bf16_bits(weight) if is_stored else weight}

    def backward(dy: np.ndarray, i: Inputs, saved: Any, zeros: Zeros) -> dict[str, np.ndarray]:
        if is_stored:
            return {"x": ops.linear_backward_input(dy, i["weight"], precision)}
        dweight = zeros("weight")
        return {"x": ops.linear_backward(dy, i["x"], i["weight"], dweight, precision), "weight": dweight}

    return {
        "make": make,
        "forward": lambda i: (ops.linear_forward(i["x"], i["weight"], precision), None),
        "backward": backward,
        "flop": lambda N, M, K: (4 if is_stored else 6) * N * M * K,
        "bytes": lambda N, M, K: (
            2 * (4 * N * M + 4 * N * K + 2 * M * K) if is_stored else 4 * (3 * N * M + 3 * N * K + 4 * M * K)
        ),
        **errors_in(precision),
    }


def errors_in(precision: str) -> dict[str, float]:
    """How far from the truth a product may be whose operands have 8 bits."""
    return {"y_error": 1e-2, "grad_error": 1e-2} if precision == "bf16" else {}


FEW_ROWS = [(1, 1, 1), (3, 5, 7), (1, 769, 33), (2, 300, 800), (47, 65, 130)]


MANY_ROWS = [  # edges on all sides of a block, several rounds of terms
    *((48, 1, 1), (61, 67, 5), (121, 131, 33), (53, 3300, 49), (3203, 51, 50)),
    *((257, 31, 65), (300, 800, 17)),
]


CASES: dict[str, Case] = {
    "bias": Case(
        make=lambda N, M: {"x": normal("x", N, M), "bias": normal("bias", M)},
        forward=lambda i: (ops.bias_forward(i["x"].copy(), i["bias"]), None),
        backward=_bias_backward,
        shapes=ROWS,
        bench=(2048, 1536),
        flop=lambda N, M: 2 * N * M,
        bytes=lambda N, M: 4 * 3 * N * M,
    ),
    "linear": Case(
        shapes=MANY_ROWS,
        **_linear(),
        bench=(2048, 1536, 384),
    ),
    "linear_in_bf16": Case(shapes=MANY_ROWS, **_linear("bf16"), bench=(2048, 1536, 384)),
    "linear_of_stored_bf16": Case(
        shapes=[*FEW_ROWS, *MANY_ROWS], **_linear(is_stored=True), bench=(2048, 1536, 384)
    ),
    "linear_of_few_rows": Case(  # as in chat, through BLAS
        shapes=FEW_ROWS,
        **_linear(),
        bench=(1, 1536, 384),
    ),
}
