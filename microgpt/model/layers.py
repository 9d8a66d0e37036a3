"""Layers: a forward that returns (y, saved) and a backward that takes saved and returns dx.

A layer holds names and sizes, never activations, so one layer can serve any number of passes.  Weights come
in as an arena `p`; gradients are added into an arena `g` of the same layout.  x is (N, C) with N = B*T rows.

What a backward needs is kept by its forward or made again, whichever costs less; it is used up by the
backward, which may overwrite it.  A block keeps 10 N C floats: the inputs of its branches, q k v, attention's
output, and the MLP's wide layer before GELU.  Norms and GELUs are made again on the way back.
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

    def before(self, ids: np.ndarray, n: int) -> np.ndarray:
        """Note the ids (T,) that follow what is held; return the up to n before them."""

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


class Embedding:
    """A row of the table for each token, and those of the `look_back` tokens before it, weighted by channel:

    x_t = wte[id_t] + sum over k of back[k-1] * wte[id_(t-k)],  k from 1 to look_back

    To copy a word is to find the place where the last tokens stood before, and to say what followed.
    Attention alone needs two layers for that, which learn it late; here each position knows what came before.
    A depthwise causal convolution, as So et al. 2021 (arXiv 2109.08668) put behind queries, keys and values.
    """

    table, back = "wte.weight", "wte.back"

    def __init__(self, look_back: int) -> None:
        self.look_back = look_back

    def forward(self, ids: np.ndarray, p: Arena, run: Pass) -> np.ndarray:
        """ids (B, T) -> x (N, C)."""
        if not self.look_back:
            return ops.embedding_forward(p[self.table], ids.reshape(-1))
        earlier = ids[:, :0] if run.cache is None else run.cache.before(ids[0], self.look_back)[None]
        rows = self._rows(np.concatenate([earlier, ids], axis=1), p)
        x = rows.copy()
        for k, weight in enumerate(p[self.back], 1):
            x[:, k:] += weight * rows[:, :-k]
        return np.ascontiguousarray(x[:, earlier.shape[1] :]).reshape(ids.size, -1)

    def _rows(self, ids: np.ndarray, p: Arena) -> np.ndarray:
        return ops.embedding_forward(p[self.table], ids.reshape(-1)).reshape(*ids.shape, -1)

    def backward(self, dx: np.ndarray, ids: np.ndarray, p: Arena, g: Arena) -> None:
        """dx (N, C), and ids (B, T) of the forward."""
        d_rows = dx
        if self.look_back:
            rows, dx = self._rows(ids, p), dx.reshape(*ids.shape, -1)
            d_rows = dx.copy()
            for k, weight in enumerate(p[self.back], 1):
                d_rows[:, :-k] += weight * dx[:, k:]
                g[self.back][k - 1] += (dx[:, k:] * rows[:, :-k]).sum((0, 1))
        ops.embedding_backward(d_rows.reshape(ids.size, -1), ids.reshape(-1), g[self.table])


class Attention:
    """Multi-head causal self-attention with rotary positions: proj(attention(rope(qkv(x))))."""

    def __init__(self, layer: int, n_head: int) -> None:
        self.layer, self.n_head = layer, n_head
        self.qkv, self.proj = f"h.{layer}.attn.qkv.weight", f"h.{layer}.attn.proj.weight"

    def forward(self, x: np.ndarray, p: Arena, run: Pass) -> tuple[np.ndarray, Saved]:
        """x (N, C) -> y (N, C)."""
        if run.cache is not None:
            return self._forward_cached(x, p, run, run.cache), None
        saved = _, y, _ = self.inside(x, p, run)
        return ops.linear_forward(y.reshape(x.shape), p[self.proj]), saved

    def inside(self, x: np.ndarray, p: Arena, run: Pass) -> Saved:
        """What backward needs: all but the last projection."""
        qkv = ops.linear_forward(x, p[self.qkv]).reshape(run.B, run.T, -1)
        return qkv, *ops.attention_forward(qkv, run.cos, run.sin, self.n_head)

    def _forward_cached(self, x: np.ndarray, p: Arena, run: Pass, cache: Cache) -> np.ndarray:
        C = x.shape[1]
        qkv = ops.linear_forward(x, p[self.qkv])  # (T, 3C), one sequence
        ops.rope(qkv, run.cos, run.sin, self.n_head, cache.length)
        keys, values = cache.extend(self.layer, qkv[:, C : 2 * C], qkv[:, 2 * C :])
        return ops.linear_forward(ops.attention_cached(qkv, keys, values, self.n_head), p[self.proj])

    def backward(
        self, dy: np.ndarray, x: np.ndarray, saved: Saved, p: Arena, g: Arena, run: Pass
    ) -> np.ndarray:
        """dy (N, C), and x of the forward -> dx (N, C)."""
        qkv, y, lse = saved
        d_attention = ops.linear_backward(dy, y.reshape(x.shape), p[self.proj], g[self.proj])
        d_attention = d_attention.reshape(y.shape)
        dqkv = ops.attention_backward(d_attention, qkv, run.cos, run.sin, y, lse, self.n_head)
        return ops.linear_backward(dqkv.reshape(len(x), -1), x, p[self.qkv], g[self.qkv])


class MLP:
    """proj(gelu(fc(x))), four times as wide inside."""

    def __init__(self, layer: int) -> None:
        self.fc, self.proj = f"h.{layer}.mlp.fc.weight", f"h.{layer}.mlp.proj.weight"

    def forward(self, x: np.ndarray, p: Arena, run: Pass) -> tuple[np.ndarray, Saved]:
        """x (N, C) -> y (N, C)."""
        wide = self.inside(x, p, run)
        return ops.linear_forward(ops.gelu_forward(wide), p[self.proj]), wide

    def inside(self, x: np.ndarray, p: Arena, run: Pass) -> Saved:
        """What backward needs."""
        return ops.linear_forward(x, p[self.fc])

    def backward(
        self, dy: np.ndarray, x: np.ndarray, wide: Saved, p: Arena, g: Arena, run: Pass
    ) -> np.ndarray:
        """dy (N, C), and x of the forward -> dx (N, C).  `wide` is overwritten."""
        d_active = ops.linear_backward_input(dy, p[self.proj])
        d_wide, active = ops.gelu_backward(d_active, wide)
        ops.linear_backward_weight(dy, active, g[self.proj])
        return ops.linear_backward(d_wide, x, p[self.fc], g[self.fc])


class Branch:
    """A residual branch: x + dropout(inner(norm(x)))."""

    def __init__(self, norm: str, inner: Attention | MLP, site: int) -> None:
        self.norm, self.inner, self.site = norm, inner, site

    def forward(self, x: np.ndarray, p: Arena, run: Pass) -> tuple[np.ndarray, Saved]:
        """x (N, C) -> y (N, C)."""
        normed, rstd = ops.rmsnorm_forward(x, p[self.norm])
        branch, inner = self.inner.forward(normed, p, run)
        key = run.dropout_key(self.site) if run.dropout else 0
        return ops.residual_forward(x, branch, run.dropout, key), (x, rstd, inner)

    def inside(self, x: np.ndarray, p: Arena, run: Pass) -> Saved:
        """What backward needs, without the branch's result."""
        normed, rstd = ops.rmsnorm_forward(x, p[self.norm])
        return x, rstd, self.inner.inside(normed, p, run)

    def backward(self, dy: np.ndarray, saved: Saved, p: Arena, g: Arena, run: Pass) -> np.ndarray:
        """dy (N, C) -> dx (N, C)."""
        x, rstd, inner = saved
        key = run.dropout_key(self.site) if run.dropout else 0
        d_branch = ops.residual_backward(dy, run.dropout, key)
        normed = ops.rmsnorm_again(x, p[self.norm], rstd)
        d_normed = self.inner.backward(d_branch, normed, inner, p, g, run)
        return ops.rmsnorm_backward(d_normed, x, p[self.norm], rstd, g[self.norm], dy)


class Block:
    """One layer of the model: a branch of attention, then one of an MLP."""

    def __init__(self, layer: int, n_head: int) -> None:
        self.attention = Branch(f"h.{layer}.ln_1.weight", Attention(layer, n_head), 2 * layer + 1)
        self.mlp = Branch(f"h.{layer}.ln_2.weight", MLP(layer), 2 * layer + 2)

    def forward(self, x: np.ndarray, p: Arena, run: Pass) -> tuple[np.ndarray, Saved]:
        """x (N, C) -> y (N, C)."""
        x, attention = self.attention.forward(x, p, run)
        y, mlp = self.mlp.forward(x, p, run)
        return y, [attention, mlp]

    def inside(self, x: np.ndarray, p: Arena, run: Pass) -> Saved:
        """What backward needs."""
        x, attention = self.attention.forward(x, p, run)
        return [attention, self.mlp.inside(x, p, run)]

    def backward(self, dy: np.ndarray, saved: Saved, p: Arena, g: Arena, run: Pass) -> np.ndarray:
        """dy (N, C) -> dx (N, C)."""
        dy = self.mlp.backward(dy, saved.pop(), p, g, run)  # pop: memory comes back as we go
        return self.attention.backward(dy, saved.pop(), p, g, run)


class Recomputed:
    """A block that keeps its input alone and makes the rest again in the backward (Chen et al. 2016,
    arXiv 1604.06174): the same operations on the same numbers, so the same bits."""

    def __init__(self, block: Block) -> None:
        self.block = block

    def forward(self, x: np.ndarray, p: Arena, run: Pass) -> tuple[np.ndarray, Saved]:
        """x (N, C) -> y (N, C)."""
        return self.block.forward(x, p, run)[0], x

    def backward(self, dy: np.ndarray, x: Saved, p: Arena, g: Arena, run: Pass) -> np.ndarray:
        """dy (N, C) -> dx (N, C)."""
        return self.block.backward(dy, self.block.inside(x, p, run), p, g, run)
