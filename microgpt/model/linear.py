"""A matrix that rows are multiplied with."""

import numpy as np

from microgpt.core import ops

from .layer import Call, Cost
from .parameters import Arena, Parameter


class Linear:
    """y = x W^T + b, x (N, n_in) -> y (N, n_out); without b if not asked for.

    Args: std: deviation of the initial weights; 0: zeros.  init: how they are drawn: normal or uniform.
          kind, blocks: of the weight, see `Parameter`.
    """

    def __init__(
        self,
        name: str,
        n_out: int,
        n_in: int,
        std: float,
        bias: bool = False,
        init: str = "normal",
        kind: str = "matrix",
        blocks: tuple[int, ...] = (),
    ) -> None:
        init = init if std else "zeros"
        self.weight = Parameter(f"{name}.weight", (n_out, n_in), std, init=init, kind=kind, blocks=blocks)
        self.bias = Parameter(f"{name}.bias", (n_out,), 0, decay=False, kind="gain", init="zeros")
        self.name, self.n_out, self.n_in, self.has_bias = self.weight.name, n_out, n_in, bias

    def parameters(self) -> list[Parameter]:
        """The weight, and the bias if there is one."""
        return [self.weight, self.bias] if self.has_bias else [self.weight]

    def forward(self, x: np.ndarray, p: Arena, call: Call) -> np.ndarray:
        """x (N, n_in) -> y (N, n_out).  The backward needs x alone."""
        y = ops.linear_forward(x, p[self.name], call.precision)
        return ops.bias_forward(y, p[self.bias.name]) if self.has_bias else y

    def backward(self, dy: np.ndarray, x: np.ndarray, p: Arena, g: Arena, call: Call) -> np.ndarray:
        """dy (N, n_out), x of the forward -> dx (N, n_in)."""
        self.backward_weight(dy, x, p, g, call)
        return self.backward_input(dy, p, call)

    def backward_input(self, dy: np.ndarray, p: Arena, call: Call) -> np.ndarray:
        """dx alone, where x is made later."""
        return ops.linear_backward_input(dy, p[self.name], call.precision)

    def backward_weight(self, dy: np.ndarray, x: np.ndarray, p: Arena, g: Arena, call: Call) -> None:
        """Add to the gradients of weight and bias, if they are trained."""
        if self.name in g:
            ops.linear_backward_weight(dy, x, g[self.name], call.precision)
        if self.has_bias and self.bias.name in g:
            ops.bias_backward(dy, g[self.bias.name])

    def cost(self) -> Cost:
        """Two FLOP a weight forward, four backward; by convention of a bias, too."""
        flop = 6 * sum(parameter.size for parameter in self.parameters())
        return Cost(flop=flop, products=((self.n_out, self.n_in),))
