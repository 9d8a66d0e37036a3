"""GPT: embedding, residual branches, norm, tied head and loss.  Forward and backward, no autograd."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from microgpt.common.errors import ShapeError
from microgpt.core import memory, ops

from .config import ModelConfig
from .layers import Block, Cache, Embedding, Pass, Recomputed, Saved
from .parameters import Arena, table

# Rows of logits that exist at once: (512, V) floats stay in the last-level cache, and (B*T, V) never exist.
HEAD_ROWS = 512


class GPT:
    """A decoder-only transformer (Radford et al. 2019) with RMSNorm, rotary positions and tied embedding.

    Args: dtype: float32 runs the C kernels; float64 runs the NumPy reference, for checking gradients.
          recompute: train in less memory and more time; results are the same to the bit.
    Attributes: params, grads: arenas of the same layout.  Parameters are zero until `init` or a checkpoint
    fills them; gradients only ever grow until the caller zeroes them.
    """

    def __init__(self, config: ModelConfig, dtype: Any = np.float32, recompute: bool = False) -> None:
        self.config = config
        self.dtype = np.dtype(dtype)
        self.params = Arena(table(config), dtype)
        self.cos, self.sin = ops.rope_tables(config.seq_len, config.head_size, config.rope_theta, self.dtype)
        self.embedding = Embedding(config.look_back)
        blocks = [Block(i, config.n_head) for i in range(config.n_layer)]
        self.blocks: Sequence[Block | Recomputed] = [Recomputed(b) for b in blocks] if recompute else blocks

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
        """Embedding and all blocks: (x (N, C), what backward needs if `keep`)."""
        x = self.embedding.forward(ids, self.params, run)
        if run.dropout:
            x = ops.dropout_forward(x, run.dropout, run.dropout_key(0))
        saved = []
        for block in self.blocks:
            x, kept = block.forward(x, self.params, run)
            if keep:
                saved.append(kept)
            del kept
        return x, saved

    def _trunk_backward(self, dx: np.ndarray, ids: np.ndarray, saved: list[Saved], run: Pass) -> None:
        for block in reversed(self.blocks):
            dx = block.backward(dx, saved.pop(), self.params, self.grads, run)
        if run.dropout:
            dx = ops.dropout_backward(dx, run.dropout, run.dropout_key(0))
        self.embedding.backward(dx, ids, self.params, self.grads)

    def _head_loss_and_grad(
        self, x: np.ndarray, targets: np.ndarray, scale: float
    ) -> tuple[float, np.ndarray]:
        """Norm, logits and loss, a few rows at a time with their backward: (loss, dx).

        Rows whose target is ignored cost nothing here.
        """
        weight, dweight = self.params["ln_f.weight"], self.grads["ln_f.weight"]
        normed, rstd = ops.rmsnorm_forward(x, weight)
        scored = np.flatnonzero(targets != -1)
        d_normed, total = memory.zeros_like(x), 0.0
        for chunk in self._head_chunks(len(scored)):
            rows = scored[chunk]
            inputs = memory.rows_of(normed, rows)
            loss, d_normed[rows] = self._score(inputs, targets[rows], scale / len(scored))
            total += loss
        dx = ops.rmsnorm_backward(d_normed, x, weight, rstd, dweight, memory.zeros_like(x))
        return total / max(len(scored), 1), dx

    def _score(self, x: np.ndarray, targets: np.ndarray, scale: float) -> tuple[float, np.ndarray]:
        """Sum of the losses of some rows, and dx of the head."""
        weight, dweight = self.params["wte.weight"], self.grads["wte.weight"]
        logits = ops.linear_forward(x, weight)
        losses, lse = ops.cross_entropy_forward(logits, targets)
        dlogits = ops.cross_entropy_backward(logits, lse, targets, scale)
        return float(losses.sum(dtype=np.float64)), ops.linear_backward(dlogits, x, weight, dweight)

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
