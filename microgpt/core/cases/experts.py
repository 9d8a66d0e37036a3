"""Cases of `ops/experts.py`."""

from typing import Any

import numpy as np

from microgpt.core import ops

from .case import Case, Inputs, Zeros, below, normal


def _places(N: int, k: int) -> np.ndarray:
    """Some permutation of the places of k choices of N tokens, (N, k)."""
    return np.argsort(below("places", 1 << 30, N * k), kind="stable").astype(np.int32).reshape(N, k)


def _combine_backward(dy: np.ndarray, i: Inputs, saved: Any, zeros: Zeros) -> dict[str, np.ndarray]:
    drows, dfactors = ops.combine_backward(dy, i["rows"].copy(), i["factors"], i["places"])
    return {"rows": drows, "factors": dfactors}


CASES: dict[str, Case] = {
    "dispatch": Case(
        make=lambda N, k, C: {"x": normal("x", N, C), "places": _places(N, k)},
        forward=lambda i: (ops.dispatch_forward(i["x"], i["places"]), None),
        backward=lambda dy, i, saved, zeros: {"x": ops.dispatch_backward(dy, i["places"])},
        shapes=[(1, 1, 1), (3, 2, 7), (8, 1, 64), (67, 3, 33), (300, 2, 130)],
        bench=(4096, 2, 384),
        flop=lambda N, k, C: N * k * C,
        bytes=lambda N, k, C: 4 * 2 * (k + 1) * N * C,
    ),
    "combine": Case(
        make=lambda N, k, C: {
            "rows": normal("rows", N * k, C),
            "factors": normal("factors", N, k),
            "places": _places(N, k),
        },
        forward=lambda i: (ops.combine_forward(i["rows"], i["factors"], i["places"]), None),
        backward=_combine_backward,
        shapes=[(1, 1, 1), (3, 2, 7), (8, 1, 64), (67, 3, 33), (300, 2, 130)],
        bench=(4096, 2, 384),
        flop=lambda N, k, C: 5 * N * k * C,
        bytes=lambda N, k, C: 4 * (3 * k + 2) * N * C,
    ),
}
