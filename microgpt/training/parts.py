"""Where batches come from and what is added to the loss: what each kind of source and penalty must do."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from microgpt.batches.batches import Batches
from microgpt.batches.packing import DOCUMENTS
from microgpt.corpus.prepared.folder import Prepared
from microgpt.model import GPT, Batch
from microgpt.runs.kinds import SOURCES
from microgpt.runs.settings import TrainConfig


class Parts(NamedTuple):
    """What a source or a penalty may be made of.  batches: of the corpus, as the settings ask for."""

    model: GPT
    config: TrainConfig
    prepared: Prepared
    batches: Batches


class WithState(Protocol):
    """What goes on in a resumed run as if that had never been stopped."""

    def state(self) -> Mapping[str, Any]:
        """Plain values, as JSON has them, that checkpoints hold."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state that was saved; from {} as at the beginning of a run."""


class Source(WithState, Protocol):
    """Makes the batches that are trained on."""

    def batch(self, index: int) -> Batch:
        """Micro-batch number `index`: a function of the index, the model and the source's state."""

    def outline(self) -> list[str]:
        """Lines that tell a person what it makes, where that needs telling."""


class Penalty(WithState, Protocol):
    """A term that is added to the loss, with its own gradient."""

    def add(self, loss: float, n: int) -> float:
        """Add n times its gradient to those of the model, which are sums over n targets by now.

        Args:    loss: of the batch alone, nats a target.
        Returns: the penalty in nats a target.
        """


class Corpus:
    """The windows of the corpus, in an order that needs no memory."""

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

    def state(self) -> Mapping[str, Any]:
        """None."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Nothing to do."""


SOURCES["corpus"] = Corpus
