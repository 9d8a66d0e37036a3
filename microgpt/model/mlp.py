"""Layers that work on each position alone."""

import numpy as np

from microgpt.core import ops

from .config import ModelConfig
from .kinds import MLPS
from .layer import Call, Cost, Saved
from .linear import Linear
from .parameters import Arena, Parameter


class GeluMLP:
    """y = proj(gelu(fc(x))), four times as wide inside (Hendrycks & Gimpel 2016, arXiv 1606.08415)."""

    def __init__(self, at: str, config: ModelConfig) -> None:
        C = config.n_embd
        self.fc = Linear(f"{at}.mlp.fc", 4 * C, C, config.init_std)
        self.proj = Linear(f"{at}.mlp.proj", C, 4 * C, config.std_into_residual)

    def parameters(self) -> list[Parameter]:
        """Of both projections."""
        return self.fc.parameters() + self.proj.parameters()

    def forward(self, x: np.ndarray, p: Arena, call: Call) -> tuple[np.ndarray, Saved]:
        """x (N, C) -> y (N, C)."""
        wide = self.rebuild(x, p, call)
        return self.proj.forward(ops.gelu_forward(wide), p, call), wide

    def rebuild(self, x: np.ndarray, p: Arena, call: Call) -> Saved:
        """The wide rows before GELU."""
        return self.fc.forward(x, p, call)

    def backward(
        self, dy: np.ndarray, x: np.ndarray, wide: Saved, p: Arena, g: Arena, call: Call
    ) -> np.ndarray:
        """dy (N, C), and x of the forward -> dx (N, C).  `wide` is overwritten."""
        d_active = self.proj.backward_input(dy, p, call)
        d_wide, active = ops.gelu_backward(d_active, wide)
        self.proj.backward_weight(dy, active, g, call)
        return self.fc.backward(d_wide, x, p, g, call)

    def cost(self, T: int) -> Cost:
        """The wide rows stay; their gradient and the active rows pass."""
        wide = Cost(kept=self.fc.n_out, passing=2 * self.fc.n_out + 5 * self.fc.n_in)
        return self.fc.cost() + wide + self.proj.cost()


MLPS["gelu"] = GeluMLP
