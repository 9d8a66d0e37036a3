"""GPT: embedding, residual branches, norm, tied head and loss.  Forward and backward, no autograd."""

from functools import cached_property
from typing import Any

import numpy as np

from microgpt.common.errors import ShapeError
from microgpt.core import ops

from .config import ModelConfig
from .layers import MLP, Attention, Branch, Cache, Pass, Saved
from .parameters import Arena, table

# Rows of logits that exist at once: (512, V) floats stay in the last-level cache, and (B*T, V) never exist.
HEAD_ROWS = 512


class GPT:
    """A decoder-only transformer (Radford et al. 2019) with RMSNorm, rotary positions and tied embedding.

    Args: dtype: float32 runs the C kernels; float64 runs the NumPy reference, for checking gradients.
    Attributes: params, grads: arenas of the same layout.  Parameters are zero until `init` or a checkpoint
    fills them; gradients only ever grow until the caller zeroes them.
    """

    def __init__(self, config: ModelConfig, dtype: Any = np.float32) -> None:
        self.config = config
        self.dtype = np.dtype(dtype)
        self.params = Arena(table(config), dtype)
        self.cos, self.sin = ops.rope_tables(config.seq_len, config.head_size, config.rope_theta, self.dtype)
        self.branches = [branch for i in range(config.n_layer) for branch in self._block(i)]

    def _block(self, i: int) -> list[Branch]:
        attention, mlp = Attention(i, self.config.n_head), MLP(i)
        return [
            Branch(f"h.{i}.ln_1.weight", attention, 2 * i + 1),
            Branch(f"h.{i}.ln_2.weight", mlp, 2 * i + 2),
        ]

    @cached_property
    def grads(self) -> Arena:
        """The gradient arena, made when first asked for: a model that only talks needs none."""
        return self.params.zeros_like()

    def init(self, seed: int) -> "GPT":
        """Fill the parameters with initial values."""
        self.params.init(seed)
        return self

    # ---- training --------------------------------------------------------------------------------

    def loss_and_grad(
        self, ids: np.ndarray, targets: np.ndarray, key: int | None = None, scale: float = 1.0
    ) -> float:
        """Mean loss in nats/token; adds scale times its gradient into `grads`.

        Args: ids, targets: (B, T) int32; target -1 is ignored.  key: of the dropout, None for none.
        """
        run = self._pass(ids, key)
        x, saved = self._trunk_forward(ids, run)
        loss, dx = self._head_loss_and_grad(x, targets.reshape(-1), scale)
        del x
        self._trunk_backward(dx, ids, saved, run)
        return loss

    def _pass(self, ids: np.ndarray, key: int | None = None, cache: Cache | None = None) -> Pass:
        B, T = ids.shape
        start = cache.length if cache is not None else 0
        if not 1 <= start + T <= self.config.seq_len:
            raise ShapeError(f"{start + T} tokens; this model's window holds 1 to {self.config.seq_len}")
        dropout = 0.0 if key is None else self.config.dropout
        return Pass(B, T, self.cos, self.sin, dropout, key or 0, cache)

    def _trunk_forward(self, ids: np.ndarray, run: Pass, keep: bool = True) -> tuple[np.ndarray, list[Saved]]:
        """Embedding and all branches: (x (N, C), what backward needs if `keep`)."""
        x = ops.embedding_forward(self.params["wte.weight"], ids.reshape(-1))
        if run.dropout:
            x = ops.dropout_forward(x, run.dropout, run.dropout_key(0))
        saved = []
        for branch in self.branches:
            x, kept = branch.forward(x, self.params, run)
            if keep:
                saved.append(kept)
            del kept
        return x, saved

    def _trunk_backward(self, dx: np.ndarray, ids: np.ndarray, saved: list[Saved], run: Pass) -> None:
        for branch in reversed(self.branches):
            dx = branch.backward(
                dx, saved.pop(), self.params, self.grads, run
            )  # pop: memory comes back as we go
        if run.dropout:
            dx = ops.dropout_backward(dx, run.dropout, run.dropout_key(0))
        ops.embedding_backward(dx, ids.reshape(-1), self.grads["wte.weight"])

    def _head_loss_and_grad(
        self, x: np.ndarray, targets: np.ndarray, scale: float
    ) -> tuple[float, np.ndarray]:
        """Norm, logits and loss, a few rows at a time with their backward: (loss, dx).

        Rows whose target is ignored cost nothing here.
        """
        p, g = self.params, self.grads
        normed, rstd = ops.rmsnorm_forward(x, p["ln_f.weight"])
        scored = np.flatnonzero(targets != -1)
        d_normed, total = np.zeros_like(normed), 0.0
        for chunk in self._head_chunks(len(scored)):
            rows = scored[chunk]
            inputs, wanted = normed[rows], targets[rows]
            logits = ops.linear_forward(inputs, p["wte.weight"])
            losses, lse = ops.cross_entropy_forward(logits, wanted)
            total += float(losses.sum(dtype=np.float64))
            dlogits = ops.cross_entropy_backward(logits, lse, wanted, scale / len(scored))
            d_normed[rows] = ops.linear_backward(dlogits, inputs, p["wte.weight"], g["wte.weight"])
        dx = ops.rmsnorm_backward(d_normed, x, p["ln_f.weight"], rstd, g["ln_f.weight"], np.zeros_like(x))
        return total / max(len(scored), 1), dx

    @staticmethod
    def _head_chunks(N: int) -> list[slice]:
        return [slice(start, min(start + HEAD_ROWS, N)) for start in range(0, N, HEAD_ROWS)]

    # ---- evaluation and inference ----------------------------------------------------------------

    def token_losses(self, ids: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Loss of every token in nats, (B, T); no dropout, no gradient; 0 where the target is -1."""
        normed = self._hidden(ids)
        flat = targets.reshape(-1)
        losses = np.empty(len(normed), self.dtype)
        for rows in self._head_chunks(len(normed)):
            logits = ops.linear_forward(normed[rows], self.params["wte.weight"])
            losses[rows] = ops.cross_entropy_forward(logits, flat[rows])[0]
        return losses.reshape(ids.shape)

    def logits(self, ids: np.ndarray) -> np.ndarray:
        """Logits of every position: (B, T, V)."""
        return ops.linear_forward(self._hidden(ids), self.params["wte.weight"]).reshape(*ids.shape, -1)

    def next_logits(self, ids: np.ndarray, cache: Cache) -> np.ndarray:
        """Logits (V,) after the last of ids (T,), which follow what the cache holds and enter it."""
        last = self._hidden(ids[None], cache)[-1:]
        cache.length += len(ids)
        return ops.linear_forward(last, self.params["wte.weight"])[0]

    def _hidden(self, ids: np.ndarray, cache: Cache | None = None) -> np.ndarray:
        """The normed last residual stream, (N, C)."""
        x, _ = self._trunk_forward(ids, self._pass(ids, cache=cache), keep=False)
        return ops.rmsnorm_forward(x, self.params["ln_f.weight"])[0]
