"""What happens in a run, as records that are sent to listeners.

A listener is any function of one event: the log, the line on the screen, a plot, an alarm.  The fields of an
event are what metrics.jsonl says of it, but for those that are for the session alone; README, "What a run
writes down", has them all.  A field says its unit at the end of its name (_nats, _s seconds, _bytes, bpb bits
per byte); what says none is a count, or has none.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from microgpt.common.words import format_duration
from microgpt.machine.memory import peak_memory

EventListener = Callable[["Event"], None]
_UNLOGGED = {"is_logged": False}


def _for_session(default: Any = dataclasses.MISSING) -> Any:
    """A field that is not written into the log."""
    if default is dataclasses.MISSING:
        return dataclasses.field(metadata=_UNLOGGED)
    return dataclasses.field(default=default, metadata=_UNLOGGED)


@dataclasses.dataclass(frozen=True)
class Event:
    """Something that happened after so many optimizer steps.

    name: how the log calls it; "" for what is not logged.
    """

    name: ClassVar[str] = ""
    step: int

    def values(self) -> dict[str, Any]:
        """What the log says of it beside name and step; without what there was no need to measure."""
        fields = dataclasses.fields(self)[1:]
        return {
            field.name: value
            for field in fields
            if field.metadata.get("is_logged", True)
            and ((value := getattr(self, field.name)) is not None or field.default is dataclasses.MISSING)
        }

    def told(self) -> str:
        """A line for a person, where the event deserves one; else an empty string."""
        return ""


@dataclasses.dataclass(frozen=True)
class Told(Event):
    """Something that a person should read, such as a warning."""

    text: str

    def told(self) -> str:
        return self.text


@dataclasses.dataclass(frozen=True)
class Began(Event):
    """A session is about to take its first step.

    machine: what computes.  flop_per_token: of training on one.  peak_flop_per_s: that the threads can do at
    most, measured.  memory_bytes: that training will take, estimated.  inexact: why a resume cannot equal a
    run that was never stopped.  shallow_steps: with the first blocks alone.  shallow_cost: of one of them, as
    a share of one with all.  run: its directory.  bpb, bpb_step: the last held-out result, and its step.
    header: lines that say what is trained, on what, and with what.
    """

    n_params: int
    max_steps: int
    machine: dict[str, Any]
    flop_per_token: int
    peak_flop_per_s: float
    memory_bytes: float
    inexact: list[str] | None = None
    shallow_steps: int | None = None
    shallow_cost: float | None = None
    run: str | None = _for_session(None)
    bpb: float | None = _for_session(None)
    bpb_step: int = _for_session(0)
    header: tuple[str, ...] = _for_session(())

    def values(self) -> dict[str, Any]:
        """The facts about the machine stand beside the others."""
        found = super().values()
        inexact = {"inexact": found.pop("inexact")} if self.inexact else {}
        return found | found.pop("machine") | inexact


class Started(Began):
    """The first session of a run."""

    name = "start"


class Resumed(Began):
    """A session that goes on with a run."""

    name = "resume"


@dataclasses.dataclass(frozen=True)
class Trained(Event):
    """An optimizer step was done.

    loss_nats, penalty_nats: a target; what was added to it, where there is a penalty.  lr: learning rate.
    grad_norm: of all gradients, before they are clipped.  tokens: seen so far.  dt_s: of this step.
    elapsed_s: of training so far, over all sessions.  left_s: to the end of the session, as expected.
    facts:  what layers tell of the step by name, such as the share of tokens that each expert got.
    blocks: that were trained alone, the first ones; None: all.
    """

    name = "train"
    loss_nats: float
    lr: float
    grad_norm: float
    tokens: int
    dt_s: float
    tok_per_s: float
    elapsed_s: float
    left_s: float
    penalty_nats: float | None = None
    facts: dict[str, Any] | None = None
    blocks: int | None = None


@dataclasses.dataclass(frozen=True)
class Empty(Event):
    """A step in which nothing was to be learned, beginning with micro-batch `position`: it changed nothing.

    why: in words.  facts: as of a step that was done.
    """

    name = "empty"
    position: int
    left_s: float = _for_session(0.0)
    is_first: bool = _for_session(False)
    why: str = _for_session("")
    facts: dict[str, Any] | None = None

    def told(self) -> str:
        if not self.is_first:
            return ""
        return f"warning: nothing to learn in step {self.step}, {self.why}; such steps change nothing"


@dataclasses.dataclass(frozen=True)
class Skipped(Event):
    """A step was skipped because its numbers are not finite."""

    name = "skip"
    loss_nats: float
    grad_norm: float
    position: int

    def told(self) -> str:
        return f"step {self.step} skipped: loss {self.loss_nats}, gradient norm {self.grad_norm}"


@dataclasses.dataclass(frozen=True)
class Spiked(Event):
    """A loss or a gradient far above those before."""

    name = "spike"
    loss_nats: float
    grad_norm: float
    lr: float
    why: str = _for_session("")

    def told(self) -> str:
        return f"warning: a spike at step {self.step}: {self.why}"


@dataclasses.dataclass(frozen=True)
class Evaluated(Event):
    """Held-out text was measured.

    loss_nats: a token.  bpb: bits per byte.  error_nats: standard error of the loss; None where it cannot be
    told.  documents, tokens, bytes: that it was measured on.  dt_s: that it took.  elapsed_s: of training so
    far, over all sessions.
    """

    name = "eval"
    loss_nats: float
    bpb: float
    error_nats: float | None
    documents: int
    tokens: int
    bytes: int
    dt_s: float
    elapsed_s: float


@dataclasses.dataclass(frozen=True)
class EvaluatedBeside(Event):
    """The held-out part of a text beside the corpus was measured.  text: its sources.  loss_nats: a token."""

    name = "eval_beside"
    text: str
    loss_nats: float
    bpb: float

    def told(self) -> str:
        return f"held out of {self.text}: {self.loss_nats:.4f} nats/token, {self.bpb:.4f} bits per byte"


@dataclasses.dataclass(frozen=True)
class Sampled(Event):
    """What the model says now."""

    name = "sample"
    text: str

    def told(self) -> str:
        return f"--- sample after {self.step} steps\n{self.text}\n---"


@dataclasses.dataclass(frozen=True)
class Planned(Event):
    """The run has another number of steps from now on.  step_s: the seconds of a step that led to it.
    shallow_steps: with the first blocks alone."""

    name = "plan"
    max_steps: int
    step_s: float | None = None
    shallow_steps: int | None = None


@dataclasses.dataclass(frozen=True)
class Saved(Event):
    """A checkpoint was written and read back.  seconds: that it took, beside the training or in its way."""

    checkpoint: int
    seconds: float


@dataclasses.dataclass(frozen=True)
class SaveFailed(Event):
    """The checkpoint of a step could not be written; training goes on."""

    name = "save_failed"
    checkpoint: int
    error: str

    def told(self) -> str:
        return f"warning: {self.error}; training goes on, and the next save tries again"


@dataclasses.dataclass(frozen=True)
class RolledBack(Event):
    """Numbers stayed bad, so the run went back to a checkpoint and on with later data.

    to: the step of it.  first, next: micro-batches that are left out, up to `next`.
    """

    name = "rollback"
    to: int
    first: int
    next: int
    why: str


@dataclasses.dataclass(frozen=True)
class Probed(Event):
    """Probes looked at model and data before the first step.  bad: what is wrong, and where to look."""

    name = "probes"
    good: int
    bad: tuple[str, ...] = ()

    def told(self) -> str:
        if not self.bad:
            return f"probes: all {self.good} good"
        return "\n".join([f"probes: {self.good} good, {len(self.bad)} not:", *self.bad])

    def values(self) -> dict[str, Any]:
        """The bad ones as JSON has them."""
        return {"good": self.good, "bad": list(self.bad)}


@dataclasses.dataclass(frozen=True)
class LearnedBigrams(Event):
    """Embedding and head learned what follows each token, before the first step.  loss_nats: of a token of
    the training text, which the last pass found."""

    name = "bigrams"
    passes: int
    loss_nats: float
    dt_s: float

    def told(self) -> str:
        found = f"pass {self.passes}, the last, found {self.loss_nats:.3f} nats a token"
        return f"bigrams: {found} of the training text, after {format_duration(self.dt_s)}"


@dataclasses.dataclass(frozen=True)
class Alarmed(Event):
    """Something in the numbers of the run cannot be right, or is of no use: what, why, where to look."""

    name = "alarm"
    alarm: str
    why: str
    look: str

    def told(self) -> str:
        return f"alarm: {self.alarm}: {self.why}; look at {self.look}"


@dataclasses.dataclass(frozen=True)
class Ended(Event):
    """The session is over.

    why: in a word or two, or the error that ended it.  peak_bytes: most memory that the process held.
    summary: lines about what came out, where its last checkpoint is written.
    """

    name = "end"
    why: str
    peak_bytes: float
    summary: tuple[str, ...] = _for_session(())


class Listeners:
    """Hands each event to all that listen, in turn.

    What a listener raises ends the session, as if it had been killed: the checkpoints before it are good.
    """

    def __init__(self, listeners: Iterable[EventListener] = ()) -> None:
        self._listeners = list(listeners)

    def add(self, listener: EventListener, is_first: bool = False) -> None:
        """Tell one more from now on, after the others or before them."""
        self._listeners.insert(0 if is_first else len(self._listeners), listener)

    def __call__(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)

    def say(self, step: int, text: str) -> None:
        """Tell a person something."""
        self(Told(step, text))

    def tell_failure(self, step: int, error: BaseException) -> None:
        """Tell all that an error ends the session; what a listener makes of that changes nothing."""
        ended = Ended(step, str(error) or type(error).__name__, peak_memory())
        for listener in self._listeners:
            with contextlib.suppress(Exception):
                listener(ended)
