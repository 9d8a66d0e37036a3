"""Blocks: a mixer and an MLP, each in a residual branch of its own."""

import numpy as np

from microgpt.core import ops

from .config import ModelConfig
from .kinds import MIXERS, MLPS, NORMS
from .layer import Call, Cost, Layer, Saved
from .parameters import Arena, Parameter


class Branch:
    """A residual branch: x + dropout(inner(norm(x)))."""

    def __init__(self, name: str, norm: str, inner: Layer, config: ModelConfig) -> None:
        self.name, self.inner, self.C = name, inner, config.n_embd
        self.norm = NORMS[config.norm](norm, config.n_embd)

    def parameters(self) -> list[Parameter]:
        """Of the norm, then of what is inside."""
        return self.norm.parameters() + self.inner.parameters()

    def forward(self, x: np.ndarray, p: Arena, call: Call) -> tuple[np.ndarray, Saved]:
        """x (N, C) -> y (N, C)."""
        normed, factors = self.norm.forward(x, p)
        branch, inner = self.inner.forward(normed, p, call)
        return ops.residual_forward(x, branch, call.dropout, call.keys_at(self.name)), (x, factors, inner)

    def rebuild(self, x: np.ndarray, p: Arena, call: Call) -> Saved:
        """What the backward needs, without the branch's result."""
        normed, factors = self.norm.forward(x, p)
        return x, factors, self.inner.rebuild(normed, p, call)

    def backward(self, dy: np.ndarray, saved: Saved, p: Arena, g: Arena, call: Call) -> np.ndarray:
        """dy (N, C) -> dx (N, C)."""
        x, factors, inner = saved
        d_branch = ops.residual_backward(dy, call.dropout, call.keys_at(self.name))
        normed = self.norm.rebuild(x, factors, p)
        d_normed = self.inner.backward(d_branch, normed, inner, p, g, call)
        return self.norm.backward(d_normed, x, factors, p, g, dy)

    def cost(self, T: int) -> Cost:
        """The branch keeps its input."""
        return Cost(kept=self.C) + self.norm.cost() + self.inner.cost(T)


class Block:
    """One layer of the model: a branch with a mixer, then one with an MLP.

    Args: mixer: its kind.  index: of the block in the model.
    """

    def __init__(self, index: int, mixer: str, config: ModelConfig) -> None:
        at = f"h.{index}"
        self.mixer = MIXERS[mixer](at, 1 + index, config)  # the embedding's state is the first
        self.first = Branch(f"{at}.mixer", f"{at}.ln_1", self.mixer, config)
        self.second = Branch(f"{at}.mlp", f"{at}.ln_2", MLPS[config.mlp](at, config), config)

    def parameters(self) -> list[Parameter]:
        """Of both branches."""
        return self.first.parameters() + self.second.parameters()

    def forward(self, x: np.ndarray, p: Arena, call: Call) -> tuple[np.ndarray, Saved]:
        """x (N, C) -> y (N, C)."""
        x, first = self.first.forward(x, p, call)
        y, second = self.second.forward(x, p, call)
        return y, [first, second]

    def rebuild(self, x: np.ndarray, p: Arena, call: Call) -> Saved:
        """What the backward needs."""
        x, first = self.first.forward(x, p, call)
        return [first, self.second.rebuild(x, p, call)]

    def backward(self, dy: np.ndarray, saved: Saved, p: Arena, g: Arena, call: Call) -> np.ndarray:
        """dy (N, C) -> dx (N, C)."""
        dy = self.second.backward(dy, saved.pop(), p, g, call)  # pop: memory comes back as we go
        return self.first.backward(dy, saved.pop(), p, g, call)

    def cost(self, T: int) -> Cost:
        """Of both branches."""
        return self.first.cost(T) + self.second.cost(T)


class Recomputed:
    """A block that keeps its input alone and makes the rest again in the backward (Chen et al. 2016,
    arXiv 1604.06174): the same operations on the same numbers, so the same bits."""

    def __init__(self, block: Block) -> None:
        self.block, self.mixer = block, block.mixer

    def forward(self, x: np.ndarray, p: Arena, call: Call) -> tuple[np.ndarray, Saved]:
        """x (N, C) -> y (N, C)."""
        return self.block.forward(x, p, call)[0], x

    def backward(self, dy: np.ndarray, x: Saved, p: Arena, g: Arena, call: Call) -> np.ndarray:
        """dy (N, C) -> dx (N, C)."""
        return self.block.backward(dy, self.block.rebuild(x, p, call), p, g, call)
