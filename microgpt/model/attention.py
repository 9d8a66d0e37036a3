"""Causal self-attention, by default with rotary positions."""

from functools import lru_cache
from typing import Any

import numpy as np

from microgpt.core import ops

from .config import ModelConfig, Rotation
from .kinds import MIXERS
from .layer import Call, Cost, Saved
from .linear import Linear
from .parameters import Arena, Parameter
from .qk_norm import QKNorm
from .state import KVState
from .value_embedding import ValueEmbedding


class Attention:
    """y = proj(attention(rope(qkv(x)))), with heads that may share keys and values; queries and keys may go
    through a norm before they are turned or after, and values may get a share of the token's own.

    A document does not see the one before it in its row where the call tells the `starts`.  The layer's place
    in the pattern `attention` says how far it sees back.

    Source: Vaswani et al. 2017 (arXiv 1706.03762); rotary positions: Su et al. 2021 (arXiv 2104.09864).
    """

    def __init__(self, at: str, index: int, config: ModelConfig) -> None:
        self.at, self.heads, C = f"{at}.attn", config.heads_of(index - 1), config.n_embd
        self.seeing = self.heads  # those of the attention that runs, where they are others
        self.rotation, self.is_turned_first = config.rotation_of(index - 1), config.qk_norm_after_rope
        out_std, init = config.std_into_residual, config.init
        apart = self.heads.C, self.heads.C_kv, self.heads.C_kv
        self.qkv = Linear(
            f"{at}.attn.qkv",
            self.heads.width,
            C,
            config.init_std,
            config.has_bias("qkv"),
            init,
            blocks=apart,
        )
        self.proj = Linear(f"{at}.attn.proj", C, self.heads.C, out_std, config.has_bias("proj"), init)
        self.qk_norm = QKNorm(at, self.heads, config) if config.qk_norm != "none" else None
        has_values = config.has_value_embedding(index - 1)
        self.values = ValueEmbedding(at, self.heads, config) if has_values else None

    def parameters(self) -> list[Parameter]:
        """Of both projections, and of what is between them."""
        between = [part.parameters() for part in (self.qk_norm, self.values) if part]
        return sum(between, self.qkv.parameters() + self.proj.parameters())

    def forward(self, x: np.ndarray, p: Arena, call: Call) -> tuple[np.ndarray, Saved]:
        """x (N, C) -> y (N, C)."""
        if call.states is not None:
            return self._continued(x, p, call), None
        saved = self.rebuild(x, p, call)
        return self.proj.forward(self._result(saved[-2], p), p, call), saved

    def rebuild(self, x: np.ndarray, p: Arena, call: Call) -> Saved:
        """Projections, factors of norms, result and log-sum-exp: all but the last product."""
        qkv = self._projected(x, p, call)
        if self.is_turned_first:
            self._turn(qkv, call)
        inputs, factors = self._normed(qkv, p)
        tables, how = self._tables(x.dtype, not self.is_turned_first), self._how(call)
        inputs = self._spread(inputs).reshape(call.B, call.T, -1)
        return qkv, factors, *ops.attention_forward(inputs, *tables, *how)

    def backward(
        self, dy: np.ndarray, x: np.ndarray, saved: Saved, p: Arena, g: Arena, call: Call
    ) -> np.ndarray:
        """dy (N, C), and x of the forward -> dx (N, C)."""
        qkv, factors, y, lse = saved
        d_y = self._result_backward(self.proj.backward(dy, self._result(y, p), p, g, call), y, p, g)
        normed = self.qk_norm.rebuild(qkv, factors, p) if self.qk_norm else qkv
        inputs = self._spread(normed).reshape(call.B, call.T, -1)
        tables, how = self._tables(x.dtype, not self.is_turned_first), self._how(call)
        dqkv = ops.attention_backward(d_y, inputs, *tables, y, lse, *how).reshape(len(x), -1)
        dqkv = self._gathered(dqkv)
        if self.qk_norm:
            dqkv = self.qk_norm.backward(dqkv, qkv, factors, p, g)
        if self.is_turned_first:
            self._turn(dqkv, call, back=True)
        dx = self.qkv.backward(dqkv, x, p, g, call)
        if self.values:
            self.values.backward(dqkv, dx, x, p, g, call)
        return dx

    def new_states(self, capacity: int, dtype: Any) -> dict[str, KVState]:
        """No keys and values yet."""
        return {self.at: KVState(capacity, self.seeing.C_kv, dtype)}

    def cost(self, T: int) -> Cost:
        """Of the projections, and of what is between them."""
        cost = self.qkv.cost() + self._cost_of_seeing(T) + self.proj.cost()
        for part in (self.qk_norm, self.values):
            cost = cost + part.cost() if part else cost
        return cost

    def _cost_of_seeing(self, T: int) -> Cost:
        """Twelve FLOP both ways for each channel and each pair of positions that is seen."""
        heads = self.heads
        return Cost(
            flop=12 * heads.C * heads.pairs(T) / T,
            kept=heads.width + heads.C + heads.H,
            passing=2 * heads.width + heads.C,
            state_bytes=4 * 2 * heads.C_kv,
        )

    def _projected(self, x: np.ndarray, p: Arena, call: Call) -> np.ndarray:
        """Queries, keys and values (N, W), as they are before norms and positions."""
        qkv = self.qkv.forward(x, p, call)
        if self.values:
            self.values.forward(qkv, x, p, call)
        return qkv

    def _normed(self, qkv: np.ndarray, p: Arena) -> tuple[np.ndarray, list[np.ndarray]]:
        return self.qk_norm.forward(qkv, p) if self.qk_norm else (qkv, [])

    def _how(self, call: Call) -> tuple[Any, ...]:
        return self.seeing, call.starts, call.precision

    def _turn(self, qkv: np.ndarray, call: Call, back: bool = False) -> None:
        """Turn queries and keys (N, W) of whole windows by their positions in their documents, in place."""
        cos, sin = self._tables(qkv.dtype)
        for b, rows in enumerate(qkv.reshape(call.B, call.T, -1)):
            begins = [0] if call.starts is None else np.unique(call.starts[b])
            for document in np.split(rows, begins[1:]):
                ops.rope(document, cos, -sin if back else sin, self.heads)

    def _continued(self, x: np.ndarray, p: Arena, call: Call) -> np.ndarray:
        """The rows of one sequence after the other, each behind what its state holds."""
        heads, C, C_kv = self.seeing, self.seeing.C, self.seeing.C_kv
        qkv, y = self._projected(x, p, call), np.empty((len(x), C), x.dtype)
        if not self.is_turned_first:
            qkv, _ = self._normed(qkv, p)
        begin = 0
        for state, n in call.sequences(self.at):
            rows = slice(begin, begin + n)
            ops.rope(qkv[rows], *self._tables(x.dtype), self.heads, state.length)
            new = self._spread(self._normed(qkv[rows], p)[0] if self.is_turned_first else qkv[rows])
            keys, values = state.extend(new[:, C : C + C_kv], new[:, C + C_kv :])
            y[rows] = ops.attention_cached(new, keys, values, heads)
            begin += n
        return self.proj.forward(self._result(y, p), p, call)

    # What a kind of attention that is made of this one does between the projections and the heads that run.

    def _spread(self, qkv: np.ndarray) -> np.ndarray:
        """Rows (N, W) of the heads -> rows of those that run."""
        return qkv

    def _gathered(self, dqkv: np.ndarray) -> np.ndarray:
        """Gradients of rows of the heads that run -> (N, W)."""
        return dqkv

    def _result(self, y: np.ndarray, p: Arena) -> np.ndarray:
        """What the heads that run made -> (N, C)."""
        return y.reshape(-1, self.heads.C)

    def _result_backward(self, d_result: np.ndarray, y: np.ndarray, p: Arena, g: Arena) -> np.ndarray:
        """Gradient (N, C) of the result -> that of y."""
        return d_result.reshape(y.shape)

    def _tables(self, dtype: Any, is_turning: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """Those of this layer's rotation, or of none where heads are turned already."""
        rotation = self.rotation if is_turning else self.rotation._replace(n_pairs=0)
        return rope_tables(rotation, np.dtype(dtype))


@lru_cache(maxsize=16)
def rope_tables(rotation: Rotation, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """The tables of `ops.rope_tables`; layers and models of one shape share them."""
    T, hs, theta, n_pairs, stretch = rotation
    return ops.rope_tables(T, hs, theta, dtype, n_pairs, stretch)


MIXERS["attention"] = Attention
