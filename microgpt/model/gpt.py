"""GPT: embedding, residual branches, norm, head and loss.  Forward and backward, no autograd."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np

from microgpt.common.errors import ShapeError
from microgpt.core import arrays, ops

from .architecture import HEAD_ROWS, Architecture
from .batch import IGNORED, Batch
from .block import Block, Recomputed
from .config import ModelConfig
from .embedding_mix import GRADIENT, MADE
from .layer import Call, Saved
from .leash import divergence
from .parameters import Arena
from .state import ModelState, State


class GPT:
    """A decoder-only transformer (Radford et al. 2019) by default with RMSNorm, rotary positions and a
    tied embedding.

    Args: dtype: float32 runs the C kernels; float64 runs the NumPy reference, for checking gradients.
          recompute: train in less memory and more time; results are the same to the bit.
          frozen: names of parameters that are not trained.
          types: how frozen matrices are stored that do not stay fp32, by name: bf16.
          precision: of matrix products, large ones and those in attention: fp32 or bf16.
    Attributes: params: an arena, zero until `init` or a checkpoint fills it.  grads: an arena of the
    parameters that are trained; gradients only ever grow until the caller zeroes them.  facts: what layers
    told of the last call of `loss_and_grad`, by name, such as the loads of experts.  depth: the first blocks,
    so many, take part, the others are as if they were not there; None: all.
    """

    def __init__(
        self,
        config: ModelConfig,
        dtype: Any = np.float32,
        recompute: bool = False,
        frozen: Collection[str] = (),
        precision: str = "fp32",
        types: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.config = config
        self.facts: dict[str, Any] = {}
        self.depth: int | None = None
        self.dtype = np.dtype(dtype)
        self.precision = precision
        layers = Architecture(config)
        parameters = [
            replace(p, trainable=p.trainable and p.name not in frozen, type=types.get(p.name, p.type))
            for p in layers.parameters()
        ]
        self.params = Arena(parameters, self.dtype)
        self.embedding, self.norm, self.head = layers.embedding, layers.norm, layers.head
        self.blocks: Sequence[Block | Recomputed] = (
            [Recomputed(block) for block in layers.blocks] if recompute else layers.blocks
        )

    @cached_property
    def grads(self) -> Arena:
        """The gradient arena, made when first asked for: a model that only talks needs none."""
        return self.params.trained()

    @property
    def idle(self) -> set[str]:
        """Names of the parameters of blocks that take no part."""
        apart = [] if self.depth is None else self.blocks[self.depth :]
        return {parameter.name for block in apart for parameter in block.parameters()}

    def init(self, seed: int) -> "GPT":
        """Fill the parameters with initial values."""
        self.params.init(seed)
        return self

    def new_state(self) -> ModelState:
        """The memory of a sequence that has not begun."""
        capacity = self.config.seq_len
        states: dict[str, State] = {**self.embedding.new_states(capacity)}
        for block in self.blocks:
            states |= block.new_states(capacity, self.dtype)
        return ModelState(states)

    def new_memory(self, B: int) -> dict[str, np.ndarray]:
        """What is remembered of the text before B rows when there is none, for `Batch.memory`."""
        shapes = self.embedding.memory()
        for block in self.blocks:
            shapes |= block.memory()
        return {name: np.zeros((B, *shape), self.dtype) for name, shape in shapes.items()}

    # ---- training --------------------------------------------------------------------------------

    def loss_and_grad(
        self,
        batch: Batch,
        keys: np.ndarray | None = None,
        passed: Callable[[str], object] = lambda part: None,
    ) -> tuple[float, int]:
        """Loss in nats, weighted and summed, and the number of targets that it is the sum of, whatever their
        weights; adds the gradient of the sum into `grads`.  Sums and counts of any parts of a batch add up to
        those of the whole.

        Args: keys: of each row's dropout, (B,) uint64; None for no dropout.
              passed: hears of each part when it is over: forward; head, both ways; backward.
        """
        call = self._call(batch, keys)
        x, saved = self._trunk_forward(batch.ids, call)
        passed("forward")
        scored = np.flatnonzero(batch.targets != IGNORED)
        call.n_targets = len(scored)
        nats, dx = self._head_loss_and_grad(x, batch, scored, call)
        del x
        passed("head")
        self._trunk_backward(dx, batch.ids, saved, call)
        passed("backward")
        self.facts = call.facts
        _remember(batch, call)
        return nats, len(scored)

    def bigrams_loss_and_grad(
        self, ids: np.ndarray, score: Callable[[np.ndarray], tuple[float, np.ndarray]]
    ) -> float:
        """The same without the blocks, for tokens (n,) by themselves: embedding, norm and head alone.

        Args:    score: of their logits (n, V), the sum of losses and its gradient (n, V).
        Returns: the sum.
        """
        ids = ids[:, None]
        call = Call(len(ids), 1, precision=self.precision)
        x = self.embedding.forward(ids, self.params, call)
        normed, factors = self.norm.forward(x, self.params)
        made = self.head.forward(normed, self.params, call)
        nats, dlogits = score(self._capped(made))
        if self.config.logit_cap:
            dlogits = ops.soft_cap_backward(dlogits, made, self.config.logit_cap)
        d_normed = self.head.backward(dlogits, normed, self.params, self.grads, call)
        dx = self.norm.backward(d_normed, x, factors, self.params, self.grads)
        self.embedding.backward(dx, ids, self.params, self.grads, call)
        return nats

    def _call(self, batch: Batch, keys: np.ndarray | None = None) -> Call:
        B, T = batch.ids.shape
        self._expect_room(T)
        dropout = 0.0 if keys is None else self.config.dropout
        before = {} if batch.memory is None else self.new_memory(B) | batch.memory
        return Call(B, T, dropout, keys, starts=batch.starts, precision=self.precision, before=before)

    def _expect_room(self, n: int) -> None:
        if not 1 <= n <= self.config.seq_len:
            raise ShapeError(f"{n} tokens; this model's window holds 1 to {self.config.seq_len}")

    def _trunk_forward(
        self, ids: np.ndarray, call: Call, keep: bool = True
    ) -> tuple[np.ndarray, list[Saved]]:
        """Embedding and all blocks: (x (N, C), what backward needs if `keep`)."""
        x = self.embedding.forward(ids, self.params, call)
        if call.dropout:
            x = ops.dropout_forward(x, call.dropout, call.keys_at("wte"))
        call.shared["ids"] = ids.reshape(-1)
        if self.config.embedding_mix:
            call.shared[MADE] = x
        saved = []
        for block in self.blocks[: self.depth]:
            x, kept = block.forward(x, self.params, call)
            if keep:
                saved.append(kept)
            del kept
        return x, saved

    def _trunk_backward(self, dx: np.ndarray, ids: np.ndarray, saved: list[Saved], call: Call) -> None:
        for block in reversed(self.blocks[: self.depth]):
            dx = block.backward(dx, saved.pop(), self.params, self.grads, call)
        if GRADIENT in call.shared:
            dx += call.shared.pop(GRADIENT)
        if call.dropout:
            dx = ops.dropout_backward(dx, call.dropout, call.keys_at("wte"))
        self.embedding.backward(dx, ids, self.params, self.grads, call)

    def _head_loss_and_grad(
        self, x: np.ndarray, batch: Batch, scored: np.ndarray, call: Call
    ) -> tuple[float, np.ndarray]:
        """Norm, logits and loss, a few rows at a time with their backward: (nats, dx).

        Rows whose target is not scored cost nothing here.
        """
        normed, factors = self.norm.forward(x, self.params)
        d_normed, total = arrays.zeros_like(x), 0.0
        for chunk in self._head_chunks(len(scored)):
            rows = scored[chunk]
            nats, d_normed[rows] = self._score(arrays.rows_of(normed, rows), batch, rows, call)
            total += nats
        dx = self.norm.backward(d_normed, x, factors, self.params, self.grads)
        return total, dx

    def _score(self, x: np.ndarray, batch: Batch, rows: np.ndarray, call: Call) -> tuple[float, np.ndarray]:
        """Sum of the losses of some rows x (n, C), by their numbers among B T, and dx of the head."""
        targets, leash = batch.targets.reshape(-1)[rows], batch.leash
        made = self.head.forward(x, self.params, call)
        logits = self._capped(made)
        kl, forbidden = None, batch.forbidden
        if forbidden is None or leash is not None:
            losses, lse = ops.cross_entropy_forward(logits, targets)
        if leash is not None:
            kl = divergence(logits, lse, leash.logits(rows))  # of the whole vocabulary
        if forbidden is not None:
            logits[:, forbidden] = -np.inf
            losses, lse = ops.cross_entropy_forward(logits, targets)
        dlogits = ops.cross_entropy_backward(logits, lse, targets, scale=1.0)
        if batch.weights is not None:
            weights = batch.weights.reshape(-1)[rows].astype(x.dtype)
            losses *= weights
            dlogits *= weights[:, None]
        nats = float(losses.sum(dtype=np.float64))
        if leash is not None and kl is not None:
            dlogits += x.dtype.type(leash.strength) * kl[1]
            apart = float(kl[0].sum(dtype=np.float64))
            nats += leash.strength * apart
            call.facts["kl"] = call.facts.get("kl", 0.0) + apart / call.n_targets
        if self.config.logit_cap:
            dlogits = ops.soft_cap_backward(dlogits, made, self.config.logit_cap)
        return nats, self.head.backward(dlogits, x, self.params, self.grads, call)

    def _logits(self, x: np.ndarray, call: Call) -> np.ndarray:
        """Of normed rows (N, C): (N, V)."""
        return self._capped(self.head.forward(x, self.params, call))

    def _capped(self, logits: np.ndarray) -> np.ndarray:
        return ops.soft_cap_forward(logits, self.config.logit_cap) if self.config.logit_cap else logits

    @staticmethod
    def _head_chunks(N: int) -> list[slice]:
        return [slice(start, min(start + HEAD_ROWS, N)) for start in range(0, N, HEAD_ROWS)]

    # ---- evaluation and inference ----------------------------------------------------------------

    def token_losses(self, batch: Batch) -> np.ndarray:
        """Loss of every token in nats, (B, T), not weighted; no dropout, no gradient; 0 where the target is
        IGNORED."""
        losses = np.empty(batch.targets.size, self.dtype)
        for rows, logits, targets in self._scores(batch):
            losses[rows] = ops.cross_entropy_forward(logits, targets)[0]
            del logits  # so that the next ones are made in their memory
        return losses.reshape(batch.ids.shape)

    def token_results(self, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """`token_losses`, and whether each target is the most likely token, (B, T)."""
        losses, is_right = np.empty(batch.targets.size, self.dtype), np.empty(batch.targets.size, bool)
        for rows, logits, targets in self._scores(batch):
            losses[rows] = ops.cross_entropy_forward(logits, targets)[0]
            is_right[rows] = logits.argmax(-1) == targets
            del logits
        return losses.reshape(batch.ids.shape), is_right.reshape(batch.ids.shape)

    def _scores(self, batch: Batch) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """Some rows, their logits and targets, until there were all."""
        call = self._call(batch)
        normed, targets = self._hidden(batch.ids, call), batch.targets.reshape(-1)
        _remember(batch, call)
        for rows in self._head_chunks(len(normed)):
            logits = self._logits(normed[rows], call)
            if batch.forbidden is not None:
                logits[:, batch.forbidden] = -np.inf
            yield rows, logits, targets[rows]
            del logits  # so that the next ones are made in their memory

    def logits(self, ids: np.ndarray) -> np.ndarray:
        """Logits of every position: (B, T, V)."""
        call = self._call(Batch(ids, ids))
        return self._logits(self._hidden(ids, call), call).reshape(*ids.shape, -1)

    def reader(self, batch: Batch) -> Callable[[np.ndarray], np.ndarray]:
        """What tells the logits (n, V) at some rows of a batch, by their numbers among B T, for a `Leash`;
        the model is asked once, now."""
        call = self._call(batch)
        normed = self._hidden(batch.ids, call)
        return lambda rows: self._logits(arrays.rows_of(normed, rows), call)

    def next_logits(self, rows: Sequence[tuple[ModelState, np.ndarray]]) -> np.ndarray:
        """Logits (R, V) after the last id of each of R sequences.

        Args: rows: for each sequence what the model remembers of it, and the ids (n,), one or more, that go
              on from there and enter that memory.
        """
        for state, ids in rows:
            self._expect_room(state.length + len(ids))
        lengths = [len(ids) for _, ids in rows]
        states = [(state, n) for (state, _), n in zip(rows, lengths, strict=True)]
        call = Call(1, sum(lengths), states=states, precision=self.precision)
        hidden = self._hidden(np.concatenate([ids for _, ids in rows]), call)
        return self._logits(hidden[np.cumsum(lengths) - 1], call)

    def _hidden(self, ids: np.ndarray, call: Call) -> np.ndarray:
        """The normed last residual stream, (N, C)."""
        x, _ = self._trunk_forward(ids, call, keep=False)
        return self.norm.forward(x, self.params)[0]


def _remember(batch: Batch, call: Call) -> None:
    """Leave in the batch what layers remember behind it, if it asks for that."""
    if batch.memory is not None:
        batch.memory.update((name, call.after[name]) for name in call.before)
