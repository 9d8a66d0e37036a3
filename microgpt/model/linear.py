"""A matrix that rows are multiplied with."""

import numpy as np

from microgpt.core import ops

from .layer import Call, Cost
from .parameters import Arena, Parameter


class Linear:
    """y = x W^T, x (N, n_in) -> y (N, n_out)."""

    def __init__(self, name: str, n_out: int, n_in: int, std: float) -> None:
        self.weight = Parameter(f"{name}.weight", (n_out, n_in), std)
        self.name, self.n_out, self.n_in = self.weight.name, n_out, n_in

    def parameters(self) -> list[Parameter]:
        """The weight."""
        return [self.weight]

    def forward(self, x: np.ndarray, p: Arena, call: Call) -> np.ndarray:
        """x (N, n_in) -> y (N, n_out).  The backward needs x alone."""
        return ops.linear_forward(x, p[self.name], call.precision)

    def backward(self, dy: np.ndarray, x: np.ndarray, p: Arena, g: Arena, call: Call) -> np.ndarray:
        """dy (N, n_out), x of the forward -> dx (N, n_in)."""
        self.backward_weight(dy, x, g, call)
        return self.backward_input(dy, p, call)

    def backward_input(self, dy: np.ndarray, p: Arena, call: Call) -> np.ndarray:
        """dx alone, where x is made later."""
        return ops.linear_backward_input(dy, p[self.name], call.precision)

    def backward_weight(self, dy: np.ndarray, x: np.ndarray, g: Arena, call: Call) -> None:
        """Add to the weight's gradient, if it is trained."""
        if self.name in g:
            ops.linear_backward_weight(dy, x, g[self.name], call.precision)

    def cost(self) -> Cost:
        """Two FLOP a weight forward, four backward."""
        return Cost(flop=6 * self.weight.size, products=((self.n_out, self.n_in),))
