"""Cases of `ops/activations.py`."""

from typing import Any

import numpy as np

from microgpt.core import ops

from .case import ROWS, Case, Inputs, Zeros, normal


def _activation(name: str, flop: int, inputs: int = 1) -> Case:
    """The case of an activation to (N, F), of so many inputs an element; backward overwrites what it gets."""

    def backward(dy: np.ndarray, i: Inputs, saved: Any, zeros: Zeros) -> dict[str, np.ndarray]:
        return {"x": getattr(ops, f"{name}_backward")(dy.copy(), i["x"].copy())[0]}

    return Case(
        make=lambda N, F: {"x": 3 * normal("x", N, inputs * F)},
        forward=lambda i: (getattr(ops, f"{name}_forward")(i["x"]), None),
        backward=backward,
        shapes=ROWS,
        bench=(2048, 1536),
        flop=lambda N, F: flop * N * F,
        bytes=lambda N, F: 4 * (3 * inputs + 3) * N * F,
    )


CASES: dict[str, Case] = {
    "gelu": _activation("gelu", 61),
    "gelu_exact": _activation("gelu_exact", 98),
    "relu2": _activation("relu2", 6),
    "swiglu": _activation("swiglu", 55, inputs=2),
    "geglu": _activation("geglu", 65, inputs=2),
    "soft_cap": Case(
        make=lambda N, V: {"x": 9 * normal("x", N, V)},
        forward=lambda i: (ops.soft_cap_forward(i["x"], 5.0), None),
        backward=lambda dy, i, saved, zeros: {"x": ops.soft_cap_backward(dy.copy(), i["x"], 5.0)},
        shapes=ROWS,
        bench=(512, 4261),
        flop=lambda N, V: 84 * N * V,
        bytes=lambda N, V: 4 * 5 * N * V,
    ),
}
