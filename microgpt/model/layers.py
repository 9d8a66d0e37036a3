"""Layers: a forward that returns (y, saved) and a backward that takes saved and returns dx.

A layer holds names and sizes, never activations, so one layer can serve any number of passes.  Weights come
in as an arena `p`; gradients are added into an arena `g` of the same layout.  x is (N, C) with N = B*T rows.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from microgpt.core import ops, random

from .parameters import Arena

Saved = Any


class Cache(Protocol):
    """Keys and values of the positions seen so far, layer by layer."""

    length: int

    def extend(self, layer: int, keys: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Add rows (T, C) of one layer and return all its rows (length + T, C)."""


@dataclass(frozen=True)
class Pass:
    """What one run through the model needs besides weights.

    B, T: rows are B sequences of T.  cos, sin: rotary tables.  dropout: probability, 0 in evaluation.
    key: of this pass's dropout.  cache: None in training.
    """

    B: int
    T: int
    cos: np.ndarray
    sin: np.ndarray
    dropout: float = 0.0
    key: int = 0
    cache: Cache | None = None

    def dropout_key(self, site: int) -> int:
        """The key of one place where elements are dropped; a model numbers its places."""
        return random.key(self.key, "dropout", site)


class Attention:
    """Multi-head causal self-attention with rotary positions: proj(attention(rope(qkv(x))))."""

    def __init__(self, layer: int, n_head: int) -> None:
        self.layer, self.n_head = layer, n_head
        self.qkv, self.proj = f"h.{layer}.attn.qkv.weight", f"h.{layer}.attn.proj.weight"

    def forward(self, x: np.ndarray, p: Arena, run: Pass) -> tuple[np.ndarray, Saved]:
        """x (N, C) -> y (N, C)."""
        if run.cache is not None:
            return self._forward_cached(x, p, run, run.cache), None
        qkv = ops.linear_forward(x, p[self.qkv]).reshape(run.B, run.T, -1)
        ops.rope_forward(qkv, run.cos, run.sin, self.n_head)
        y, lse = ops.attention_forward(qkv, self.n_head)
        return ops.linear_forward(y.reshape(x.shape), p[self.proj]), (x, qkv, y, lse)

    def _forward_cached(self, x: np.ndarray, p: Arena, run: Pass, cache: Cache) -> np.ndarray:
        C = x.shape[1]
        qkv = ops.linear_forward(x, p[self.qkv])  # (T, 3C), one sequence
        ops.rope_forward(qkv[None], run.cos, run.sin, self.n_head, cache.length)
        keys, values = cache.extend(self.layer, qkv[:, C : 2 * C], qkv[:, 2 * C :])
        return ops.linear_forward(ops.attention_cached(qkv, keys, values, self.n_head), p[self.proj])

    def backward(self, dy: np.ndarray, saved: Saved, p: Arena, g: Arena, run: Pass) -> np.ndarray:
        """dy (N, C) -> dx (N, C)."""
        x, qkv, y, lse = saved
        d_attention = ops.linear_backward(dy, y.reshape(x.shape), p[self.proj], g[self.proj])
        dqkv = ops.attention_backward(d_attention.reshape(y.shape), qkv, y, lse, self.n_head)
        ops.rope_backward(dqkv, run.cos, run.sin, self.n_head)
        return ops.linear_backward(dqkv.reshape(len(x), -1), x, p[self.qkv], g[self.qkv])


class MLP:
    """proj(gelu(fc(x))), four times as wide inside."""

    def __init__(self, layer: int) -> None:
        self.fc, self.proj = f"h.{layer}.mlp.fc.weight", f"h.{layer}.mlp.proj.weight"

    def forward(self, x: np.ndarray, p: Arena, run: Pass) -> tuple[np.ndarray, Saved]:
        """x (N, C) -> y (N, C)."""
        wide = ops.linear_forward(x, p[self.fc])
        active = ops.gelu_forward(wide)
        return ops.linear_forward(active, p[self.proj]), (x, wide, active)

    def backward(self, dy: np.ndarray, saved: Saved, p: Arena, g: Arena, run: Pass) -> np.ndarray:
        """dy (N, C) -> dx (N, C)."""
        x, wide, active = saved
        d_active = ops.linear_backward(dy, active, p[self.proj], g[self.proj])
        return ops.linear_backward(ops.gelu_backward(d_active, wide), x, p[self.fc], g[self.fc])


class Branch:
    """A residual branch: x + dropout(inner(norm(x))).  A block is two of them, attention and MLP."""

    def __init__(self, norm: str, inner: Attention | MLP, site: int) -> None:
        self.norm, self.inner, self.site = norm, inner, site

    def forward(self, x: np.ndarray, p: Arena, run: Pass) -> tuple[np.ndarray, Saved]:
        """x (N, C) -> y (N, C)."""
        normed, rstd = ops.rmsnorm_forward(x, p[self.norm])
        branch, inner = self.inner.forward(normed, p, run)
        key = run.dropout_key(self.site) if run.dropout else 0
        return ops.residual_forward(x, branch, run.dropout, key), (x, rstd, inner)

    def backward(self, dy: np.ndarray, saved: Saved, p: Arena, g: Arena, run: Pass) -> np.ndarray:
        """dy (N, C) -> dx (N, C)."""
        x, rstd, inner = saved
        key = run.dropout_key(self.site) if run.dropout else 0
        d_branch = ops.residual_backward(dy, run.dropout, key)
        d_normed = self.inner.backward(d_branch, inner, p, g, run)
        return ops.rmsnorm_backward(d_normed, x, p[self.norm], rstd, g[self.norm], dy)
