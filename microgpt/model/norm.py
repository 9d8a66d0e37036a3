"""Norms of rows."""

import numpy as np

from microgpt.core import arrays, ops

from .kinds import NORMS
from .layer import Cost
from .parameters import Arena, Parameter


class RMSNorm:
    """y = x / rms(x) * weight (Zhang & Sennrich 2019, arXiv 1910.07467)."""

    def __init__(self, name: str, C: int) -> None:
        self.weight = Parameter(f"{name}.weight", (C,), 0, decay=False, kind="gain")
        self.name = self.weight.name

    def parameters(self) -> list[Parameter]:
        """The gain of each channel."""
        return [self.weight]

    def forward(self, x: np.ndarray, p: Arena) -> tuple[np.ndarray, np.ndarray]:
        """x (N, C) -> y (N, C), and the factor of each row (N,), which the backward needs beside x."""
        return ops.rmsnorm_forward(x, p[self.name])

    def rebuild(self, x: np.ndarray, rstd: np.ndarray, p: Arena) -> np.ndarray:
        """y once more, to the bit."""
        return ops.rmsnorm_again(x, p[self.name], rstd)

    def backward(
        self, dy: np.ndarray, x: np.ndarray, rstd: np.ndarray, p: Arena, g: Arena, by_pass: np.ndarray
    ) -> np.ndarray:
        """dx plus by_pass (N, C), the gradient that went around the norm."""
        weight = p[self.name]
        dweight = g[self.name] if self.name in g else arrays.zeros_like(weight)
        return ops.rmsnorm_backward(dy, x, weight, rstd, dweight, by_pass)

    def cost(self) -> Cost:
        """Six FLOP a weight by convention, as for matrices."""
        return Cost(flop=6 * self.weight.size, kept=1)


NORMS["rmsnorm"] = RMSNorm
