"""Causal self-attention with rotary positions."""

from functools import lru_cache
from typing import Any

import numpy as np

from microgpt.core import ops

from .config import ModelConfig
from .kinds import MIXERS
from .layer import Call, Cost, Saved
from .linear import Linear
from .parameters import Arena, Parameter
from .state import KVState


class Attention:
    """y = proj(attention(rope(qkv(x)))), with heads that may share keys and values.

    A document does not see the one before it in its row where the call tells the `starts`.  The layer's place
    in the pattern `attention` says how far it sees back.

    Source: Vaswani et al. 2017 (arXiv 1706.03762); rotary positions: Su et al. 2021 (arXiv 2104.09864).
    """

    def __init__(self, at: str, index: int, config: ModelConfig) -> None:
        self.index, self.heads, C = index, config.heads_of(index - 1), config.n_embd
        self.seq_len, self.theta = config.seq_len, config.rope_theta
        self.qkv = Linear(f"{at}.attn.qkv", self.heads.width, C, config.init_std)
        self.proj = Linear(f"{at}.attn.proj", C, self.heads.C, config.std_into_residual)

    def parameters(self) -> list[Parameter]:
        """Of both projections."""
        return self.qkv.parameters() + self.proj.parameters()

    def forward(self, x: np.ndarray, p: Arena, call: Call) -> tuple[np.ndarray, Saved]:
        """x (N, C) -> y (N, C)."""
        if call.states is not None:
            return self._continued(x, p, call), None
        saved = _, y, _ = self.rebuild(x, p, call)
        return self.proj.forward(y.reshape(len(x), -1), p, call), saved

    def rebuild(self, x: np.ndarray, p: Arena, call: Call) -> Saved:
        """Projections, result and log-sum-exp: all but the last product."""
        qkv = self.qkv.forward(x, p, call).reshape(call.B, call.T, -1)
        tables = self._tables(x.dtype)
        return qkv, *ops.attention_forward(qkv, *tables, self.heads, call.starts, call.precision)

    def backward(
        self, dy: np.ndarray, x: np.ndarray, saved: Saved, p: Arena, g: Arena, call: Call
    ) -> np.ndarray:
        """dy (N, C), and x of the forward -> dx (N, C)."""
        qkv, y, lse = saved
        d_y = self.proj.backward(dy, y.reshape(len(x), -1), p, g, call).reshape(y.shape)
        how = self.heads, call.starts, call.precision
        dqkv = ops.attention_backward(d_y, qkv, *self._tables(x.dtype), y, lse, *how)
        return self.qkv.backward(dqkv.reshape(len(x), -1), x, p, g, call)

    def new_state(self, capacity: int, dtype: Any) -> KVState:
        """No keys and values yet."""
        return KVState(capacity, self.heads.C_kv, dtype)

    def cost(self, T: int) -> Cost:
        """Twelve FLOP both ways for each channel and each pair of positions that is seen."""
        heads = self.heads
        seen = Cost(
            flop=12 * heads.C * heads.pairs(T) / T,
            kept=heads.width + heads.C + heads.H,
            passing=2 * heads.width + heads.C,
            state_bytes=4 * 2 * heads.C_kv,
        )
        return self.qkv.cost() + seen + self.proj.cost()

    def _continued(self, x: np.ndarray, p: Arena, call: Call) -> np.ndarray:
        """The rows of one sequence after the other, each behind what its state holds."""
        C, C_kv = self.heads.C, self.heads.C_kv
        qkv, y = self.qkv.forward(x, p, call), np.empty((len(x), C), x.dtype)
        begin = 0
        for state, n in call.sequences(self.index):
            rows = slice(begin, begin + n)
            ops.rope(qkv[rows], *self._tables(x.dtype), self.heads, state.length)
            keys, values = state.extend(qkv[rows, C : C + C_kv], qkv[rows, C + C_kv :])
            y[rows] = ops.attention_cached(qkv[rows], keys, values, self.heads)
            begin += n
        return self.proj.forward(y, p, call)

    def _tables(self, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
        return rope_tables(self.seq_len, self.heads.hs, self.theta, np.dtype(dtype))


@lru_cache(maxsize=16)
def rope_tables(seq_len: int, hs: int, theta: float, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """The tables of `ops.rope_tables`; layers and models of one shape share them."""
    return ops.rope_tables(seq_len, hs, theta, dtype)


MIXERS["attention"] = Attention
