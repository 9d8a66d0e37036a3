"""The first layer: from ids to rows."""

import numpy as np

from microgpt.core import ops

from .config import ModelConfig
from .layer import Call
from .parameters import Arena, Parameter
from .state import TokensState

# Of the weights of earlier tokens' embeddings, of either sign: so that a token and the one before it add up
# to something in which both can be told apart from the start.
BACK_STD = 0.7


class Embedding:
    """A row of the table for each token, and those of the `look_back` tokens before it, weighted by channel:

    x_t = wte[id_t] + sum over k of back[k-1] * wte[id_(t-k)],  k from 1 to look_back, within the document

    To copy a word is to find the place where the last tokens stood before, and to say what followed.
    Attention alone needs two layers for that, which learn it late; here each position knows what came before.
    A depthwise causal convolution, as So et al. 2021 (arXiv 2109.08668) put behind queries, keys and values.
    """

    def __init__(self, config: ModelConfig) -> None:
        shape = (config.vocab_size, config.n_embd)
        self.look_back = config.look_back
        self.weight = Parameter("wte.weight", shape, config.init_std, kind="embedding")
        self.back = Parameter("wte.back", (self.look_back, config.n_embd), BACK_STD, decay=False, kind="gain")

    def parameters(self) -> list[Parameter]:
        """The table, and the weights of earlier tokens if there are any."""
        return [self.weight, self.back] if self.look_back else [self.weight]

    def new_state(self, capacity: int) -> TokensState:
        """No tokens yet."""
        return TokensState(capacity)

    def forward(self, ids: np.ndarray, p: Arena, call: Call) -> np.ndarray:
        """ids (B, T) -> x (N, C)."""
        if call.states is not None:
            return self._continued(ids.reshape(-1), p, call)
        rows = self._rows(ids, p)
        if self.look_back:
            rows = self._mixed(rows.reshape(*ids.shape, -1), p, call.starts)
        return rows.reshape(ids.size, -1)

    def backward(self, dx: np.ndarray, ids: np.ndarray, p: Arena, g: Arena, call: Call) -> None:
        """dx (N, C), and ids (B, T) of the forward."""
        if self.look_back:
            dx = self._unmixed(dx.reshape(*ids.shape, -1), ids, p, g, call.starts)
        if self.weight.name in g:
            ops.embedding_backward(dx.reshape(ids.size, -1), ids.reshape(-1), g[self.weight.name])

    def _rows(self, ids: np.ndarray, p: Arena) -> np.ndarray:
        return ops.embedding_forward(p[self.weight.name], ids.reshape(-1))

    def _mixed(self, rows: np.ndarray, p: Arena, starts: np.ndarray | None = None) -> np.ndarray:
        """x (B, T, C) of the rows of every token."""
        x = rows.copy()
        for k, weight in enumerate(p[self.back.name], 1):
            x[:, k:] += _seen(weight * rows[:, :-k], k, starts)
        return x

    def _unmixed(
        self, dx: np.ndarray, ids: np.ndarray, p: Arena, g: Arena, starts: np.ndarray | None
    ) -> np.ndarray:
        """Gradient (B, T, C) of the rows of every token."""
        rows, d_rows = self._rows(ids, p).reshape(dx.shape), dx.copy()
        for k, weight in enumerate(p[self.back.name], 1):
            seen = _seen(dx[:, k:], k, starts)
            d_rows[:, :-k] += weight * seen
            if self.back.name in g:
                g[self.back.name][k - 1] += (seen * rows[:, :-k]).sum((0, 1))
        return d_rows

    def _continued(self, ids: np.ndarray, p: Arena, call: Call) -> np.ndarray:
        """The rows of one sequence after the other, each behind what its state holds."""
        parts, begin = [], 0
        for state, n in call.sequences(0):
            earlier = state.last(self.look_back)
            rows = self._rows(np.concatenate([earlier, ids[begin : begin + n]]), p)
            parts.append(self._mixed(rows[None], p)[0, len(earlier) :] if self.look_back else rows)
            state.extend(ids[begin : begin + n])
            begin += n
        return np.concatenate(parts)


def _seen(rows: np.ndarray, k: int, starts: np.ndarray | None) -> np.ndarray:
    """Rows (B, T - k, C) of positions from k on, 0 where the token k before belongs to another document."""
    if starts is None:
        return rows
    is_seen = starts[:, k:] <= np.arange(starts.shape[1] - k)
    return rows * is_seen[:, :, None].astype(rows.dtype)
