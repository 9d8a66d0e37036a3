"""Small networks beside the large products: up(act(down(x))) + bias, through few channels."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from microgpt.core import ops

from .first_values import matrix, vector, zeros
from .layer import Call, Cost
from .parameters import Arena, Parameter, Values
from .recurrence import gradient


class _Act(NamedTuple):
    forward: Callable[[np.ndarray], np.ndarray]
    slope: Callable[[np.ndarray], np.ndarray]  # from the result


ACTS = {
    "": _Act(lambda x: x, np.ones_like),
    "tanh": _Act(np.tanh, lambda y: 1 - y * y),
    "sigmoid": _Act(lambda x: (1 + np.tanh(x / 2)) / 2, lambda y: y * (1 - y)),
}


class LowRank:
    """x (N, C) -> y (N, n_out) through `rank` channels.

    Args: up: what its matrix begins with; that of `down` begins as zeros.
          act: what happens to the channels between: nothing, tanh or sigmoid.
          bias: what it begins as, (n_out,); None: there is none.
    """

    def __init__(
        self,
        name: str,
        n_out: int,
        C: int,
        rank: int,
        up: Values,
        act: str = "",
        bias: np.ndarray | None = None,
    ) -> None:
        self.act, self.rank = ACTS[act], rank
        self.down = matrix(f"{name}.down", rank, C, zeros)
        self.up = matrix(f"{name}.up", n_out, rank, up)
        self.bias = None if bias is None else vector(f"{name}.bias", bias)

    def parameters(self) -> list[Parameter]:
        """Of both products, and the bias."""
        return [*self.down.parameters(), *self.up.parameters(), *([self.bias] if self.bias else [])]

    def forward(self, x: np.ndarray, p: Arena, call: Call) -> tuple[np.ndarray, np.ndarray]:
        """y (N, n_out), and the channels between, which the backward needs."""
        between = self.act.forward(self.down.forward(x, p, call))
        y = self.up.forward(between, p, call)
        return ops.bias_forward(y, p[self.bias.name]) if self.bias else y, between

    def backward(
        self, dy: np.ndarray, x: np.ndarray, between: np.ndarray, p: Arena, g: Arena, call: Call
    ) -> np.ndarray:
        """dy (N, n_out), x and the channels between of the forward -> dx (N, C)."""
        if self.bias:
            ops.bias_backward(dy, gradient(self.bias.name, p, g))
        d_between = self.up.backward(dy, between, p, g, call) * self.act.slope(between)
        return self.down.backward(d_between, x, p, g, call)

    def cost(self) -> Cost:
        """The channels between stay."""
        return self.down.cost() + self.up.cost() + Cost(kept=self.rank)
