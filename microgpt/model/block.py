"""Blocks: a mixer and an MLP, each in a residual branch of its own."""

from typing import Any

import numpy as np

from microgpt.core import ops

from .config import ModelConfig
from .embedding_mix import EmbeddingMix
from .fusion import new_mixer
from .kinds import MLPS
from .layer import NO_KEYS, Call, Cost, Layer, Saved, memory_of
from .lora import adapt
from .norm import new_norm
from .parameters import Arena, Parameter
from .state import State


class Branch:
    """A residual branch: x + dropout(inner(norm(x))); a norm may also stand behind, or on both sides."""

    def __init__(self, name: str, norm: str, inner: Layer, config: ModelConfig) -> None:
        self.name, self.inner, self.C = name, inner, config.n_embd
        is_before, is_after = (config.norm_place in (place, "both") for place in ("before", "after"))
        self.norm = new_norm(norm, config.n_embd, config) if is_before else None
        self.last_norm = new_norm(f"{norm}_post", config.n_embd, config) if is_after else None

    def parameters(self) -> list[Parameter]:
        """Of the norm, then of what is inside, then of the norm behind it."""
        before, after = (norm.parameters() if norm else [] for norm in (self.norm, self.last_norm))
        return before + self.inner.parameters() + after

    def forward(
        self, x: np.ndarray, p: Arena, call: Call, onto: np.ndarray | None = None
    ) -> tuple[np.ndarray, Saved]:
        """x (N, C) -> y (N, C).  onto: what the branch is added to, if not x."""
        branch, saved = self._branch(x, p, call)
        onto = x if onto is None else onto
        return ops.residual_forward(onto, branch, call.dropout, call.keys_at(self.name)), saved

    def rebuild(self, x: np.ndarray, p: Arena, call: Call) -> Saved:
        """What the backward needs, without the branch's result."""
        if self.last_norm:  # its backward needs what is inside
            return self._branch(x, p, call)[1]
        normed, factors = self._normed(x, p)
        return x, factors, self.inner.rebuild(normed, p, call), None

    def backward(
        self,
        dy: np.ndarray,
        saved: Saved,
        p: Arena,
        g: Arena,
        call: Call,
        by_pass: np.ndarray | None = None,
    ) -> np.ndarray:
        """dy (N, C) -> dx (N, C).  by_pass: the gradient that goes around the branch, if not dy."""
        x, factors, inner, last = saved
        by_pass = dy if by_pass is None else by_pass
        d_branch = ops.residual_backward(dy, call.dropout, call.keys_at(self.name))
        if self.last_norm:
            made, of_made = last
            d_branch = self.last_norm.backward(d_branch, made, of_made, p, g)
        normed = self.norm.rebuild(x, factors, p) if self.norm else x
        d_normed = self.inner.backward(d_branch, normed, inner, p, g, call)
        if self.norm:
            return self.norm.backward(d_normed, x, factors, p, g, by_pass)
        return ops.residual_forward(by_pass, d_normed, 0.0, NO_KEYS)

    def cost(self, T: int) -> Cost:
        """The branch keeps its input, and what a norm behind it gets."""
        cost = Cost(kept=self.C) + self.inner.cost(T)
        cost = cost + self.norm.cost() if self.norm else cost
        return cost + self.last_norm.cost() + Cost(kept=self.C) if self.last_norm else cost

    def _branch(self, x: np.ndarray, p: Arena, call: Call) -> tuple[np.ndarray, Saved]:
        normed, factors = self._normed(x, p)
        made, inner = self.inner.forward(normed, p, call)
        if not self.last_norm:
            return made, (x, factors, inner, None)
        branch, of_made = self.last_norm.forward(made, p)
        return branch, (x, factors, inner, (made, of_made))

    def _normed(self, x: np.ndarray, p: Arena) -> tuple[np.ndarray, np.ndarray | None]:
        return self.norm.forward(x, p) if self.norm else (x, None)


class Block:
    """One layer of the model: a branch with a mixer, then one with an MLP; or both beside each other.

    Beside each other: x + mixer(norm(x)) + mlp(norm'(x)), as in GPT-NeoX (Black et al. 2022,
    arXiv 2204.06745).

    Args: mixer: its kind.  index: of the block in the model.
    """

    def __init__(self, index: int, mixer: str, config: ModelConfig) -> None:
        at = f"h.{index}"
        self.mixer, self.mlp = new_mixer(mixer, at, 1 + index, config), MLPS[config.mlp](f"{at}.mlp", config)
        self.first = Branch(f"{at}.mixer", f"{at}.ln_1", self.mixer, config)
        self.second = Branch(f"{at}.mlp", f"{at}.ln_2", self.mlp, config)
        self.mix = EmbeddingMix(at, config.n_embd) if config.embedding_mix else None
        self.is_parallel = config.parallel
        if config.lora_rank:
            for branch in (self.first, self.second):
                adapt(branch, config)

    def parameters(self) -> list[Parameter]:
        """Of the mix with the embedding, if there is one, and of both branches."""
        mix = self.mix.parameters() if self.mix else []
        return mix + self.first.parameters() + self.second.parameters()

    def forward(self, x: np.ndarray, p: Arena, call: Call) -> tuple[np.ndarray, Saved]:
        """x (N, C) -> y (N, C)."""
        before, x = x, self._mixed(x, p, call)
        y, first = self.first.forward(x, p, call)
        y, second = self.second.forward(x if self.is_parallel else y, p, call, onto=y)
        return y, [before, first, second]

    def rebuild(self, x: np.ndarray, p: Arena, call: Call) -> Saved:
        """What the backward needs."""
        before, x = x, self._mixed(x, p, call)
        if self.is_parallel:
            return [before, self.first.rebuild(x, p, call), self.second.rebuild(x, p, call)]
        y, first = self.first.forward(x, p, call)
        return [before, first, self.second.rebuild(y, p, call)]

    def backward(self, dy: np.ndarray, saved: Saved, p: Arena, g: Arena, call: Call) -> np.ndarray:
        """dy (N, C) -> dx (N, C)."""
        dx = self.second.backward(dy, saved.pop(), p, g, call)  # pop: memory comes back as we go
        if self.is_parallel:
            dx = self.first.backward(dy, saved.pop(), p, g, call, by_pass=dx)
        else:
            dx = self.first.backward(dx, saved.pop(), p, g, call)
        return self.mix.backward(dx, saved.pop(), p, g, call) if self.mix else dx

    def new_states(self, capacity: int, dtype: Any) -> dict[str, State]:
        """Of the mixer, and of an MLP that remembers."""
        states: dict[str, State] = self.mixer.new_states(capacity, dtype)
        return states | (self.mlp.new_states(capacity, dtype) if hasattr(self.mlp, "new_states") else {})

    def memory(self) -> dict[str, tuple[int, ...]]:
        """What both remember of a row's text beyond a call."""
        return memory_of(self.mixer) | memory_of(self.mlp)

    def cost(self, T: int) -> Cost:
        """Of both branches, and of the mix."""
        cost = self.first.cost(T) + self.second.cost(T)
        if self.is_parallel:
            cost = cost + Cost(kept=-self.first.C)  # both keep the same input
        return cost + self.mix.cost() if self.mix else cost

    def _mixed(self, x: np.ndarray, p: Arena, call: Call) -> np.ndarray:
        return self.mix.forward(x, p, call) if self.mix else x


class Recomputed:
    """A block that keeps its input alone and makes the rest again in the backward (Chen et al. 2016,
    arXiv 1604.06174): the same operations on the same numbers, so the same bits."""

    def __init__(self, block: Block) -> None:
        self.block, self.new_states, self.memory = block, block.new_states, block.memory
        self.parameters = block.parameters

    def forward(self, x: np.ndarray, p: Arena, call: Call) -> tuple[np.ndarray, Saved]:
        """x (N, C) -> y (N, C)."""
        return self.block.forward(x, p, call)[0], x

    def backward(self, dy: np.ndarray, x: Saved, p: Arena, g: Arena, call: Call) -> np.ndarray:
        """dy (N, C) -> dx (N, C)."""
        return self.block.backward(dy, self.block.rebuild(x, p, call), p, g, call)
