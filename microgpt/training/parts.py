"""Where batches come from and what is added to the loss: what each kind of source and penalty must do."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from microgpt.batches.batches import Batches
from microgpt.batches.carried import BatchesInOrder, continued
from microgpt.batches.mixed import MixedBatches
from microgpt.batches.packing import DOCUMENTS
from microgpt.common.errors import ConfigError
from microgpt.corpus.prepared.folder import Prepared
from microgpt.model import GPT, Batch
from microgpt.runs.checkpoint import by_slot
from microgpt.runs.kinds import SOURCES
from microgpt.runs.settings import TrainConfig
from microgpt.runs.spec import Plan

IN_ORDER, MIXTURE = "corpus in order", "mixture"


class Parts(NamedTuple):
    """What a source or a penalty may be made of.  batches: of the corpus, as the settings ask for."""

    model: GPT
    plan: Plan
    prepared: Prepared
    batches: Batches

    @property
    def config(self) -> TrainConfig:
        """The settings of the training."""
        return self.plan.train


class WithState(Protocol):
    """What goes on in a resumed run as if that had never been stopped."""

    def facts(self) -> Mapping[str, Any]:
        """What there is to tell of the last step, by name, as plain values; the log keeps it."""

    def state(self) -> Mapping[str, Any]:
        """Plain values, as JSON has them, that checkpoints hold."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state that was saved; from {} as at the beginning of a run."""


class Source(WithState, Protocol):
    """Makes the batches that are trained on.

    empty: why one may have no target that is scored, in words.  arithmetic: raised whenever the same run
    would get batches of other bits.
    """

    empty: str
    arithmetic: int

    def batch(self, index: int) -> Batch:
        """Micro-batch number `index`: a function of the index, the model and the source's state."""

    def outline(self) -> list[str]:
        """Lines that tell a person what it makes, where that needs telling."""

    def memory(self) -> Mapping[str, np.ndarray]:
        """float32 arrays, beside the state, that checkpoints hold; they are replaced, never changed."""

    def recall(self, memory: Mapping[str, np.ndarray]) -> None:
        """Go on from such arrays; from {} as at the beginning of a run."""


class Penalty(WithState, Protocol):
    """A term that is added to the loss, with its own gradient."""

    def add(self, loss: float, n: int) -> float:
        """Add n times its gradient to those of the model, which are sums over n targets by now.

        Args:    loss: of the batch alone, nats a target.
        Returns: the penalty in nats a target.
        """


class Corpus:
    """The windows of the corpus, in an order that needs no memory."""

    empty, arithmetic = "all its windows are prompts", 1

    def __init__(self, parts: Parts) -> None:
        self._batches = parts.batches

    def batch(self, index: int) -> Batch:
        """Batch `index` of the run."""
        return self._batches.batch(index)

    def outline(self) -> list[str]:
        """How full the windows are, where they are not by themselves."""
        batches = self._batches
        if batches.packing != DOCUMENTS:
            return []
        return [
            f"windows  {batches.n_windows:,} of whole documents, {100 * batches.fill:.1f} % full; "
            "token counts include the filling"
        ]

    def facts(self) -> Mapping[str, Any]:
        """None."""
        return {}

    def state(self) -> Mapping[str, Any]:
        """None."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Nothing to do."""

    def memory(self) -> Mapping[str, np.ndarray]:
        """None."""
        return {}

    def recall(self, memory: Mapping[str, np.ndarray]) -> None:
        """Nothing to do."""


class CorpusInOrder(Corpus):
    """The corpus in order, with what recurrent layers remember of the text before each row: truncated
    back-propagation through time (Williams & Peng 1990, Neural Computation 2), cut at each window.

    Every micro-batch of a step has rows, and memory, of its own.
    """

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        if not isinstance(parts.batches, BatchesInOrder):
            raise ConfigError(f"source {IN_ORDER!r} is chosen by --carry-state; give that instead")
        self._in_order, self._model, self._config = parts.batches, parts.model, parts.config
        self.recall({})

    def batch(self, index: int) -> Batch:
        """Batch `index` of the run, whose rows go on where they were left."""
        memory = self._memories[index % self._config.grad_accum]
        memory.update(continued(memory, self._in_order.begins(index) | ~_is_finite(memory)))
        return super().batch(index)._replace(memory=memory)

    def outline(self) -> list[str]:
        """What follows on what."""
        n = self._config.windows_per_step
        n_each = self._in_order.n_windows // n
        return [
            f"windows  in order, {n:,} stretches of {n_each:,} side by side; recurrent layers carry on what "
            "they remember, attention begins anew at each"
        ]

    def memory(self) -> Mapping[str, np.ndarray]:
        """Of each micro-batch and layer; of rows whose numbers went bad, nothing."""
        return by_slot(
            {str(k): continued(memory, ~_is_finite(memory)) for k, memory in enumerate(self._memories)}
        )

    def recall(self, memory: Mapping[str, np.ndarray]) -> None:
        """Go on from what `memory` told."""
        new, n = self._model.new_memory(self._config.batch_size), self._config.grad_accum
        self._memories = [{name: memory.get(f"{k}.{name}", new[name]) for name in new} for k in range(n)]


def _is_finite(memory: Mapping[str, np.ndarray]) -> np.ndarray:
    """Whether all that is remembered of a row is finite, (B,)."""
    of_layers = [np.isfinite(rows).reshape(len(rows), -1).all(1) for rows in memory.values()]
    return np.all(of_layers, 0)


class Mixture(Corpus):
    """Windows of several texts, each with its share."""

    def outline(self) -> list[str]:
        """The shares."""
        assert isinstance(self._batches, MixedBatches), "chosen where there are several texts"
        shares = " + ".join(f"{100 * share:g} %" for share in self._batches.shares)
        n = self._batches.parts[0].n_windows
        return [f"mixture  {shares} of the windows, by text as they are named; the first has {n:,} windows"]


SOURCES["corpus"] = Corpus
SOURCES[MIXTURE] = Mixture
SOURCES[IN_ORDER] = CorpusInOrder
