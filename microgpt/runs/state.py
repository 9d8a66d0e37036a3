"""Where a run stands: all that a resume needs beside weights, moments and configs."""

import dataclasses
from typing import Any, TypeVar

from microgpt.common.errors import CheckpointError
from microgpt.common.kinds import is_of_kind

from .guard import Setbacks, SpikeWatch

Kind = TypeVar("Kind")

COUNTS = ("val_step", "best_step", "evals_since_best")  # among the metrics
NO_NUMBERS = ("nan", "inf", "-inf")


@dataclasses.dataclass
class TrainState:
    """Counters of a run.  `metrics` holds the latest measured values, for people and for the next session.

    `step` goes back when the run does; `position`, `tokens` and `elapsed_s` never do.
    """

    step: int = 0  # optimizer steps done, skipped ones included
    updates: int = 0  # those that changed the weights
    position: int = 0  # index of the next micro-batch
    tokens: int = 0  # seen in training
    elapsed_s: float = 0.0  # training time over all sessions
    evaluated_at: int = -1  # step of the last evaluation, so that a resume does not repeat it
    sampled_at: int = -1
    metrics_bytes: int = 0  # length of metrics.jsonl at this moment
    metrics: dict[str, Any] = dataclasses.field(default_factory=dict)
    setbacks: Setbacks = dataclasses.field(default_factory=Setbacks)
    watch: SpikeWatch = dataclasses.field(default_factory=SpikeWatch)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for state.json."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrainState":
        """The state that `to_dict` described; a missing, ill-typed or impossible field is refused by name."""
        state = _from_dict(cls, values)
        _check_metrics(state.metrics)
        return state

    def go_back_to(self, old: "TrainState") -> None:
        """Be an earlier state again, but go on with the data behind all that was read, and remember it."""
        setbacks = self.setbacks.went_back(old.step)
        kept = {"position": self.position, "tokens": self.tokens, "setbacks": setbacks}
        for field in dataclasses.fields(self):
            setattr(self, field.name, kept.get(field.name, getattr(old, field.name)))


def _check_metrics(metrics: dict[str, Any]) -> None:
    """Refuse what is not a number, or as text one that JSON has not (`metrics.plain`); counts are whole."""
    for name, value in metrics.items():
        if name in COUNTS and not is_of_kind(value, int):
            raise CheckpointError(f"state.json: metrics.{name} is {value!r:.80}, expected int")
        if value not in NO_NUMBERS and not is_of_kind(value, float):
            raise CheckpointError(f"state.json: metrics.{name} is {value!r:.80}, expected a number")


def _from_dict(kind: type[Kind], values: dict[str, Any], place: str = "") -> Kind:
    """A dataclass of plain values and of other such dataclasses.

    Those may be missing: a run that was saved before they existed starts with fresh ones.
    """
    chosen: dict[str, Any] = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        name, value = place + field.name, values.get(field.name)
        is_plain = field.default_factory is dataclasses.MISSING
        expected = type(field.default) if is_plain else field.default_factory
        is_nested = dataclasses.is_dataclass(expected)
        if is_nested and field.name not in values:
            continue
        if not is_of_kind(value, dict if is_nested else expected):  # type: ignore[arg-type]
            wanted = "dict" if is_nested else getattr(expected, "__name__", expected)
            raise CheckpointError(f"state.json: {name} is {value!r:.80}, expected {wanted}")
        least: Any = field.default  # counts and variances begin there; a mean may be anything
        if isinstance(value, int | float) and field.name != "mean" and value < least:
            raise CheckpointError(f"state.json: {name} is {value!r:.80}, expected at least {least}")
        chosen[field.name] = _from_dict(expected, value, f"{name}.") if is_nested else value  # type: ignore[arg-type]
    return kind(**chosen)
