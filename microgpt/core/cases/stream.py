"""Cases of `ops/stream.py`."""

from typing import Any

import numpy as np

from microgpt.core import ops, random

from .case import ROWS, Case, Inputs, Zeros, below, normal


def _embedding_backward(dy: np.ndarray, i: Inputs, saved: Any, zeros: Zeros) -> dict[str, np.ndarray]:
    dweight = zeros("weight")
    ops.embedding_backward(dy, i["ids"], dweight)
    return {"weight": dweight}


def _keys(x: np.ndarray) -> np.ndarray:
    """Keys of the windows that rows of x make up: three where that is possible."""
    n = 3 if len(x) % 3 == 0 else 1
    return random.keys(0, "cases", range(n))


def _cross_entropy_backward(dy: np.ndarray, i: Inputs, lse: Any, zeros: Zeros) -> dict[str, np.ndarray]:
    # The kernel scales all rows alike; a cotangent with a row of its own is applied outside.
    dlogits = ops.cross_entropy_backward(i["logits"].copy(), lse, i["targets"], 0.5)
    return {"logits": dlogits * (dy / 0.5)[:, None]}


CASES: dict[str, Case] = {
    "embedding": Case(
        make=lambda N, C: {"weight": normal("weight", 5, C), "ids": below("ids", 5, N)},
        forward=lambda i: (ops.embedding_forward(i["weight"], i["ids"]), None),
        backward=_embedding_backward,
        shapes=ROWS,
        bench=(2048, 384),
        flop=lambda N, C: N * C,
        bytes=lambda N, C: 4 * 5 * N * C,
    ),
    "embedding_of_stored_bf16": Case(
        make=lambda N, C: {"weight": ops.bf16_bits(normal("weight", 5, C)), "ids": below("ids", 5, N)},
        forward=lambda i: (ops.embedding_forward(i["weight"], i["ids"]), None),
        shapes=ROWS,
        bench=(2048, 384),
        flop=lambda N, C: N * C,
        bytes=lambda N, C: 6 * N * C,
    ),
    "dropout": Case(
        make=lambda N, C: {"x": normal("x", N, C)},
        forward=lambda i: (ops.dropout_forward(i["x"], 0.3, _keys(i["x"])), None),
        backward=lambda dy, i, saved, zeros: {"x": ops.dropout_backward(dy, 0.3, _keys(i["x"]))},
        shapes=ROWS,
        bench=(2048, 384),
        flop=lambda N, C: 2 * N * C,
        bytes=lambda N, C: 4 * 4 * N * C,
    ),
    "residual": Case(
        make=lambda N, C: {"x": normal("x", N, C), "branch": normal("branch", N, C)},
        forward=lambda i: (ops.residual_forward(i["x"], i["branch"], 0.3, _keys(i["x"])), None),
        backward=lambda dy, i, saved, zeros: {
            "x": dy,
            "branch": ops.residual_backward(dy, 0.3, _keys(i["x"])),
        },
        shapes=ROWS,
        bench=(2048, 384),
        flop=lambda N, C: 3 * N * C,
        bytes=lambda N, C: 4 * 5 * N * C,
    ),
    "residual_without_dropout": Case(
        make=lambda N, C: {"x": normal("x", N, C), "branch": normal("branch", N, C)},
        forward=lambda i: (ops.residual_forward(i["x"], i["branch"], 0.0, _keys(i["x"])), None),
        backward=lambda dy, i, saved, zeros: {
            "x": dy,
            "branch": ops.residual_backward(dy, 0.0, _keys(i["x"])),
        },
        shapes=ROWS,
        bench=(2048, 384),
        flop=lambda N, C: N * C,
        bytes=lambda N, C: 4 * 3 * N * C,
    ),
    "cross_entropy": Case(
        make=lambda N, V: {"logits": 4 * normal("logits", N, V), "targets": below("targets", V + 1, N) - 1},
        forward=lambda i: ops.cross_entropy_forward(i["logits"], i["targets"]),
        backward=_cross_entropy_backward,
        shapes=ROWS,
        bench=(512, 4261),
        flop=lambda N, V: 40 * N * V,
        bytes=lambda N, V: 4 * 3 * N * V,
    ),
}
