"""The first layer: from ids to rows."""

import numpy as np

from microgpt.core import ops

from .config import ModelConfig
from .layer import Call, Cost
from .norm import new_norm
from .parameters import Arena, Parameter
from .state import TokensState

# Of the weights of earlier tokens' embeddings, of either sign: so that a token and the one before it add up
# to something in which both can be told apart from the start.
BACK_STD = 0.7
EARLIER = "wte.earlier"  # ids that go on before each row, by this name in `Call.before`


class Embedding:
    """A row of the table for each token, and those of the `look_back` tokens before it, weighted by channel:

    x_t = wte[id_t] + sum over k of back[k-1] * wte[id_(t-k)],  k from 1 to look_back, within the document

    To copy a word is to find the place where the last tokens stood before, and to say what followed.
    Attention alone needs two layers for that, which learn it late; here each position knows what came before.
    A depthwise causal convolution, as So et al. 2021 (arXiv 2109.08668) put behind queries, keys and values.

    With learned positions wpe[t] is added, t counted from the beginning of the document (Radford et al.
    2019); with a norm of its own, x goes through that.
    """

    def __init__(self, config: ModelConfig) -> None:
        shape = (config.vocab_size, config.n_embd)
        self.look_back = config.look_back
        std, init = config.embedding_std, config.init
        self.weight = Parameter("wte.weight", shape, std, kind="embedding", init=init)
        places = (config.seq_len, config.n_embd)
        self.places = Parameter("wpe.weight", places, std, kind="embedding", init=init)
        self.has_places = config.positions == "learned"
        self.norm = new_norm("ln_0", config.n_embd, config) if config.embedding_norm else None
        self.back = Parameter("wte.back", (self.look_back, config.n_embd), BACK_STD, decay=False, kind="gain")

    def parameters(self) -> list[Parameter]:
        """The table; of earlier tokens' weights, the table of positions and the norm those there are."""
        tables = [self.weight] + [self.back] * bool(self.look_back) + [self.places] * self.has_places
        return tables + (self.norm.parameters() if self.norm else [])

    def memory(self) -> dict[str, tuple[int, ...]]:
        """The last ids of a row's text: one more than each, so that 0 is none."""
        return {EARLIER: (self.look_back,)} if self.look_back else {}

    def new_states(self, capacity: int) -> dict[str, TokensState]:
        """No tokens yet."""
        return {"wte": TokensState(capacity)}

    def forward(self, ids: np.ndarray, p: Arena, call: Call) -> np.ndarray:
        """ids (B, T) -> x (N, C)."""
        x = self._continued(ids.reshape(-1), p, call) if call.states is not None else self._x(ids, p, call)
        return self.norm.forward(x, p)[0] if self.norm else x

    def backward(self, dx: np.ndarray, ids: np.ndarray, p: Arena, g: Arena, call: Call) -> None:
        """dx (N, C), and ids (B, T) of the forward."""
        if self.norm:
            x = self._x(ids, p, call)
            dx = self.norm.backward(dx, x, self.norm.forward(x, p)[1], p, g)
        if self.has_places and self.places.name in g:
            ops.embedding_backward(dx, _places(call), g[self.places.name])
        if self.look_back:
            dx = dx.reshape(*ids.shape, -1)
            ids, starts, n = self._with_earlier(ids, call)
            if n:
                dx = np.concatenate([np.zeros((len(dx), n, dx.shape[-1]), dx.dtype), dx], 1)
            dx = self._unmixed(dx, ids, p, g, starts)
        if self.weight.name in g:
            ops.embedding_backward(dx.reshape(ids.size, -1), ids.reshape(-1), g[self.weight.name])

    def cost(self) -> Cost:
        """Nothing stays: what the norm's backward needs is made again."""
        return Cost(flop=self.norm.cost().flop) if self.norm else Cost()

    def _x(self, ids: np.ndarray, p: Arena, call: Call) -> np.ndarray:
        """Rows of whole windows (N, C), before the norm."""
        seen, starts, n = self._with_earlier(ids, call)
        if EARLIER in call.before:
            call.after[EARLIER] = _last_ids(seen, starts, self.look_back).astype(p.flat.dtype)
        rows = self._rows(seen, p)
        if self.look_back:
            rows = self._mixed(rows.reshape(*seen.shape, -1), p, starts)[:, n:]
        x = np.ascontiguousarray(rows.reshape(ids.size, -1))
        return self._placed(x, _places(call), p) if self.has_places else x

    def _placed(self, x: np.ndarray, places: np.ndarray, p: Arena) -> np.ndarray:
        """x (N, C) plus the rows of its positions, (N,)."""
        rows = ops.embedding_forward(p[self.places.name], places)
        rows += x
        return rows

    def _rows(self, ids: np.ndarray, p: Arena) -> np.ndarray:
        return ops.embedding_forward(p[self.weight.name], ids.reshape(-1))

    def _with_earlier(self, ids: np.ndarray, call: Call) -> tuple[np.ndarray, np.ndarray | None, int]:
        """ids (B, n + T) with the n that go on before them, and where documents begin among all these.

        Ids that a row does not have before it count as of another document.
        """
        if EARLIER not in call.before:
            return ids, call.starts, 0
        earlier = call.before[EARLIER].astype(np.int32)
        n, first = self.look_back, (earlier == 0).sum(1, dtype=np.int32)[:, None]
        starts = np.broadcast_to(first, ids.shape)
        if call.starts is not None:
            starts = np.where(call.starts > 0, call.starts + n, first)
        starts = np.concatenate([np.broadcast_to(first, earlier.shape), starts], 1)
        return np.concatenate([np.maximum(earlier - 1, 0), ids], 1), starts, n

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
        for state, n in call.sequences("wte"):
            earlier = state.last(self.look_back)
            rows = self._rows(np.concatenate([earlier, ids[begin : begin + n]]), p)
            rows = self._mixed(rows[None], p)[0, len(earlier) :] if self.look_back else rows
            if self.has_places:
                rows = self._placed(rows, np.arange(state.length, state.length + n, dtype=np.int32), p)
            parts.append(rows)
            state.extend(ids[begin : begin + n])
            begin += n
        return np.concatenate(parts)


def _places(call: Call) -> np.ndarray:
    """The position of each row in its document, (N,) int32."""
    places = np.broadcast_to(np.arange(call.T, dtype=np.int32), (call.B, call.T))
    return (places if call.starts is None else places - call.starts).reshape(-1)


def _last_ids(ids: np.ndarray, starts: np.ndarray | None, n: int) -> np.ndarray:
    """One more than each of the last n ids, (B, n); 0 for those before the last document."""
    assert starts is not None
    is_of_last = np.arange(ids.shape[1] - n, ids.shape[1]) >= starts[:, -1:]
    return np.where(is_of_last, ids[:, -n:] + 1, 0)


def _seen(rows: np.ndarray, k: int, starts: np.ndarray | None) -> np.ndarray:
    """Rows (B, T - k, C) of positions from k on, 0 where the token k before belongs to another document."""
    if starts is None:
        return rows
    is_seen = starts[:, k:] <= np.arange(starts.shape[1] - k)
    return rows * is_seen[:, :, None].astype(rows.dtype)
