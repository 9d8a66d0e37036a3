"""Cases of `ops/steps.py`."""

from typing import Any

import numpy as np

from microgpt.core import ops

from .case import Case, Inputs, normal


def _adam_step(i: Inputs) -> tuple[np.ndarray, None]:
    """Weights, gradient and moments after a step, (4, n)."""
    after = np.stack([i["p"], i["grad"], i["m1"], i["m2"]])
    rates = {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "weight_decay": 0.1}
    ops.adam_step(*after, **rates, step=3, grad_scale=0.5)
    return after, None


def _nesterov_momentum(i: Inputs) -> tuple[np.ndarray, None]:
    """Gradient and momentum after a step, (2, n)."""
    after = np.stack([i["grad"], i["m"]])
    ops.nesterov_momentum(*after, beta=0.95, grad_scale=0.5)
    return after, None


def _descend(i: Inputs) -> tuple[np.ndarray, None]:
    """Weights and update after a step, (2, n)."""
    after = np.stack([i["p"], i["update"]])
    ops.descend(*after, rate=0.1, keep=0.9)
    return after, None


def _newton_schulz(precision: str = "fp32") -> dict[str, Any]:
    """Of a case at (n, M, K): three steps, and a norm with room."""

    def forward(i: Inputs) -> tuple[np.ndarray, None]:
        x = i["x"].copy()
        ops.newton_schulz(x, np.array([[3.4445, -4.775, 2.0315]] * 3), 1.01, precision)
        return x, None

    def flop(n: int, M: int, K: int) -> float:
        short = min(M, K)  # of a long matrix, in rounds of two steps and one, symmetric products by half
        return 6 * n * (short * M * K + short**3)

    return {
        "make": lambda n, M, K: {"x": normal("x", n, M, K)},
        "forward": forward,
        "bench": (1, 384, 1536),
        "flop": flop,
        "bytes": lambda n, M, K: 4 * 3 * n * (5 * M * K + 5 * min(M, K) ** 2),
    }


MATRICES = [  # few rows, edges of blocks, more terms than a round has, wide, tall, too large for one thread
    *((1, 1, 1), (2, 1, 7), (3, 5, 2), (2, 47, 47), (1, 48, 61), (2, 67, 50), (1, 131, 49), (1, 250, 257)),
    *((1, 50, 1601), (1, 801, 50), (5, 20, 33), (2, 300, 900)),
]


CASES: dict[str, Case] = {
    "sum_squares": Case(
        make=lambda n: {"x": normal("x", n)},
        forward=lambda i: (np.array([ops.sum_squares(i["x"])]), None),
        shapes=[(0,), (1,), (7,), (65_536,), (200_003,)],
        bench=(10_000_000,),
        flop=lambda n: 2 * n,
        bytes=lambda n: 4 * n,
        y_error=1e-12,  # of sums in double
    ),
    "adam_step": Case(
        make=lambda n: {
            "p": normal("p", n),
            "grad": normal("grad", n),
            "m1": normal("m1", n),
            "m2": np.abs(normal("m2", n)),
        },
        forward=_adam_step,
        shapes=[(1,), (7,), (64,), (70_001,)],
        bench=(10_000_000,),
        flop=lambda n: 16 * n,
        bytes=lambda n: 4 * 8 * n,
        y_error=5e-7,
    ),
    "nesterov_momentum": Case(
        make=lambda n: {"grad": normal("grad", n), "m": normal("m", n)},
        forward=_nesterov_momentum,
        shapes=[(1,), (7,), (64,), (70_001,)],
        bench=(10_000_000,),
        flop=lambda n: 6 * n,
        bytes=lambda n: 4 * 4 * n,
        y_error=5e-7,
    ),
    "newton_schulz": Case(**_newton_schulz(), shapes=MATRICES, y_error=1e-4),
    "newton_schulz_in_bf16": Case(
        **_newton_schulz("bf16"), shapes=[(1, 130, 49), (2, 64, 300)], y_error=5e-2
    ),
    "descend": Case(
        make=lambda n: {"p": normal("p", n), "update": normal("update", n)},
        forward=_descend,
        shapes=[(1,), (7,), (64,), (70_001,)],
        bench=(10_000_000,),
        flop=lambda n: 3 * n,
        bytes=lambda n: 4 * 4 * n,
        y_error=5e-7,
    ),
}
