"""Small networks beside the large products: up(act(down(x))) + bias, through few channels."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from microgpt.core import ops, random

from .layer import Call, Cost
from .linear import Linear
from .parameters import Arena, Parameter
from .recurrence import gradient

UP_GAIN = 0.1  # the rows of `up` begin about as long


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

    Args: act: what happens to those: nothing, tanh or sigmoid.
          bias: what it begins as, (n_out,); None: there is none.
    """

    def __init__(
        self, name: str, n_out: int, C: int, rank: int, act: str = "", bias: np.ndarray | None = None
    ) -> None:
        self.act, self.rank = ACTS[act], rank
        self.down = Linear(f"{name}.down", rank, C, 1.0)
        self.up = Linear(f"{name}.up", n_out, rank, UP_GAIN / math.sqrt(n_out))
        self.down.weight = replace(self.down.weight, values=lambda key, shape: np.zeros(shape))
        self.bias = None
        if bias is not None:
            begin = bias.copy()
            self.bias = Parameter(
                f"{name}.bias", (n_out,), 0, decay=False, kind="gain", values=lambda key, shape: begin
            )

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


def even(half: float) -> Callable[[int, tuple[int, ...]], np.ndarray]:
    """First values even between -half and half."""

    def values(key: int, shape: tuple[int, ...]) -> np.ndarray:
        return (2 * random.uniform(key, math.prod(shape)) - 1).reshape(shape) * half

    return values


def constant(begin: np.ndarray) -> Callable[[int, tuple[int, ...]], np.ndarray]:
    """First values that no chance has a part in."""
    return lambda key, shape: begin
