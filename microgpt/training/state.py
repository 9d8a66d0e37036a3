"""Where a run stands: all that a resume needs beside weights, moments and configs."""

import dataclasses
from typing import Any

from microgpt.common.errors import CheckpointError


@dataclasses.dataclass
class TrainState:
    """Counters of a run.  `metrics` holds the latest measured values, for people and for the next session."""

    step: int = 0  # optimizer steps done, skipped ones included
    updates: int = 0  # those that changed the weights
    position: int = 0  # index of the next micro-batch
    tokens: int = 0  # seen in training
    bad_steps: int = 0  # skipped in a row, up to now
    elapsed_s: float = 0.0  # training time over all sessions
    evaluated_at: int = -1  # step of the last evaluation, so that a resume does not repeat it
    sampled_at: int = -1
    metrics_bytes: int = 0  # length of metrics.jsonl at this moment
    metrics: dict[str, Any] = dataclasses.field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for state.json."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrainState":
        """The state that `to_dict` described; a missing or ill-typed field is refused by name."""
        chosen: dict[str, Any] = {}
        for field in dataclasses.fields(cls):
            kind: type = dict if field.name == "metrics" else type(field.default)
            value = values.get(field.name)
            if type(value) is not kind:
                raise CheckpointError(f"state.json: {field.name} is {value!r}, expected {kind.__name__}")
            chosen[field.name] = value
        return cls(**chosen)
