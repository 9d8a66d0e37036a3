"""Values that a token brings into attention whatever its context."""

import numpy as np

from microgpt.core import arrays, ops
from microgpt.core.heads import Heads

from .config import ModelConfig
from .layer import Call, Cost
from .linear import Linear
from .parameters import Arena, Parameter

GATE_CHANNELS = 32  # of a layer's input, that the gates see: the first ones


class ValueEmbedding:
    """v = v + 2 sigmoid(gate(x)) * table[id]: a row of values for each token, and a gate for each head.

    The ids come with the call, so no gradient has to go anywhere but into the table.  The gates begin at 1.

    Source: as in nanochat (Karpathy 2025) after modded-nanogpt (Jordan et al. 2024); the idea of values that
    layers take from the first one is Zhou et al. 2024 (arXiv 2410.17897).
    """

    def __init__(self, at: str, heads: Heads, config: ModelConfig) -> None:
        self.heads, self.n_seen = heads, min(GATE_CHANNELS, config.n_embd)
        shape = (config.vocab_size, heads.C_kv)
        self.table = Parameter(f"{at}.attn.values.weight", shape, config.embedding_std, kind="embedding")
        self.gate = Linear(f"{at}.attn.value_gate", heads.H_kv, self.n_seen, 0.0)

    def parameters(self) -> list[Parameter]:
        """The table, and the gates' matrix."""
        return [self.table, *self.gate.parameters()]

    def forward(self, qkv: np.ndarray, x: np.ndarray, p: Arena, call: Call) -> None:
        """Add to the values in qkv (N, W); x (N, C) is the layer's input."""
        rows = self._rows(p, call)
        rows *= self._shares(x, p, call)[..., None]
        values = self._values(qkv)
        values += rows

    def backward(
        self, dqkv: np.ndarray, dx: np.ndarray, x: np.ndarray, p: Arena, g: Arena, call: Call
    ) -> None:
        """dqkv (N, W) is the gradient of what the forward left there; that of x is added to dx (N, C)."""
        rows, share, dv = self._rows(p, call), self._shares(x, p, call), self._values(dqkv)
        rows *= dv
        d_gates = rows.sum(-1) * share * (1 - share / 2)
        if self.table.name in g:
            d_rows = np.multiply(dv, share[..., None], out=rows).reshape(len(x), -1)
            ops.embedding_backward(d_rows, call.shared["ids"], g[self.table.name])
        dx[:, : self.n_seen] += self.gate.backward(d_gates, self._seen(x), p, g, call)

    def cost(self) -> Cost:
        """What is added is made again in the backward."""
        return self.gate.cost() + Cost(passing=self.heads.C_kv)

    def _rows(self, p: Arena, call: Call) -> np.ndarray:
        """(N, H_kv, hs) of the table."""
        rows = ops.embedding_forward(p[self.table.name], call.shared["ids"])
        return rows.reshape(-1, self.heads.H_kv, self.heads.hs)

    def _shares(self, x: np.ndarray, p: Arena, call: Call) -> np.ndarray:
        """How much of them is added, (N, H_kv), between 0 and 2."""
        return 2 / (1 + np.exp(-self.gate.forward(self._seen(x), p, call)))

    def _seen(self, x: np.ndarray) -> np.ndarray:
        return arrays.copy_of(x[:, : self.n_seen])

    def _values(self, qkv: np.ndarray) -> np.ndarray:
        """The values in rows of packed projections, (N, H_kv, hs), as a view."""
        values = qkv[:, self.heads.C + self.heads.C_kv :]
        return values.reshape(-1, self.heads.H_kv, self.heads.hs)
