"""Cases of `ops/norms.py`."""

from typing import Any

import numpy as np

from microgpt.core import ops

from .case import ROWS, Case, Inputs, Zeros, normal


def _rmsnorm_backward(dy: np.ndarray, i: Inputs, rstd: Any, zeros: Zeros) -> dict[str, np.ndarray]:
    dweight, by_pass = zeros("weight"), zeros("x")
    return {"x": ops.rmsnorm_backward(dy, i["x"], i["weight"], rstd, dweight, by_pass), "weight": dweight}


def _layernorm_backward(dy: np.ndarray, i: Inputs, stats: Any, zeros: Zeros) -> dict[str, np.ndarray]:
    dweight, dbias, by_pass = zeros("weight"), zeros("bias"), zeros("x")
    dx = ops.layernorm_backward(dy, i["x"], i["weight"], stats, dweight, dbias, by_pass)
    return {"x": dx, "weight": dweight, "bias": dbias}


CASES: dict[str, Case] = {
    "rmsnorm": Case(
        make=lambda N, C: {"x": 3 * normal("x", N, C) + 1, "weight": normal("weight", C)},
        forward=lambda i: ops.rmsnorm_forward(i["x"], i["weight"]),
        backward=_rmsnorm_backward,
        shapes=[(1, 5), *ROWS[1:]],  # in a row of one, dx is a difference of equal numbers
        bench=(2048, 384),
        flop=lambda N, C: 14 * N * C,
        bytes=lambda N, C: 4 * 6 * N * C,
    ),
    "rmsnorm_again": Case(
        make=lambda N, C: {
            "x": normal("x", N, C),
            "weight": normal("weight", C),
            "rstd": np.abs(normal("rstd", N)),
        },
        forward=lambda i: (ops.rmsnorm_again(i["x"], i["weight"], i["rstd"]), None),
        shapes=ROWS,
        bench=(2048, 384),
        flop=lambda N, C: 2 * N * C,
        bytes=lambda N, C: 4 * 2 * N * C,
    ),
    "layernorm": Case(
        make=lambda N, C: {
            "x": 3 * normal("x", N, C) + 1,
            "weight": normal("weight", C),
            "bias": normal("bias", C),
        },
        forward=lambda i: ops.layernorm_forward(i["x"], i["weight"], i["bias"]),
        backward=_layernorm_backward,
        shapes=[(1, 5), *ROWS[1:]],  # in a row of one, y does not depend on x
        bench=(2048, 384),
        flop=lambda N, C: 25 * N * C,
        bytes=lambda N, C: 4 * 6 * N * C,
    ),
    "layernorm_again": Case(
        make=lambda N, C: {
            "x": normal("x", N, C),
            "weight": normal("weight", C),
            "bias": normal("bias", C),
            "stats": np.abs(normal("stats", N, 2)),
        },
        forward=lambda i: (ops.layernorm_again(i["x"], i["weight"], i["bias"], i["stats"]), None),
        shapes=ROWS,
        bench=(2048, 384),
        flop=lambda N, C: 4 * N * C,
        bytes=lambda N, C: 4 * 2 * N * C,
    ),
}
