"""Where a run stands: all that a resume needs beside weights, moments and configs."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from microgpt.common.errors import CheckpointError
from microgpt.common.plain import is_of_kind, record_from
from microgpt.common.setting import NOT_NEGATIVE, Range, unseen

from .guard import Setbacks, SpikeWatch
from .metrics import plain

COUNTS = ("val_step", "best_step", "evals_since_best")  # among the metrics
SPENT = "spent_"  # how metrics begin that tell what time was spent on
NO_NUMBERS = ("nan", "inf", "-inf")
A_STEP = Range(-1)  # -1: it never was


@dataclasses.dataclass
class TrainState:
    """Counters of a run.  `metrics` holds the latest measured values, for people and for the next session.

    `step` goes back when the run does; `position`, `tokens` and `elapsed_s` never do.
    """

    step: int = unseen(0, NOT_NEGATIVE)  # optimizer steps done, skipped ones included
    updates: int = unseen(0, NOT_NEGATIVE)  # those that changed the weights
    position: int = unseen(0, NOT_NEGATIVE)  # index of the next micro-batch
    tokens: int = unseen(0, NOT_NEGATIVE)  # seen in training
    elapsed_s: float = unseen(0.0, NOT_NEGATIVE)  # training time over all sessions
    evaluated_at: int = unseen(-1, A_STEP)  # step of the last evaluation, so that a resume does not repeat it
    sampled_at: int = unseen(-1, A_STEP)
    metrics_bytes: int = unseen(0, NOT_NEGATIVE)  # length of metrics.jsonl at this moment
    metrics: dict[str, Any] = dataclasses.field(default_factory=dict)
    setbacks: Setbacks = dataclasses.field(default_factory=Setbacks)
    watch: SpikeWatch = dataclasses.field(default_factory=SpikeWatch)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for state.json."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrainState":
        """The state that `to_dict` described; a missing, ill-typed or impossible field is refused by name."""
        state = record_from(cls, values, "state.json", CheckpointError, is_among_others=True)
        _check_metrics(state.metrics)
        return state

    def spent(self, seconds: Mapping[str, float]) -> None:
        """Remember among the metrics what the time of the run was spent on."""
        self.metrics |= {f"{SPENT}{part}_s": plain(s) for part, s in seconds.items()}

    @property
    def spent_s(self) -> dict[str, float]:
        """Seconds of the run by what they were spent on, over all sessions."""
        return {
            name.removeprefix(SPENT).removesuffix("_s"): float(seconds)
            for name, seconds in self.metrics.items()
            if name.startswith(SPENT)
        }

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
