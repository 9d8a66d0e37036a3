"""What a run is made of.  Where it stands is kept apart, in TrainState."""

import dataclasses
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from microgpt.batches.batches import EvalWindows
from microgpt.model import GPT
from microgpt.runs.checkpoint import Snapshot
from microgpt.runs.events import Listeners
from microgpt.runs.metrics import MetricsLog
from microgpt.runs.saver import Saver
from microgpt.runs.settings import TrainConfig

from .optimizer import Optimizer
from .parts import Penalty, Source

Sample = Callable[[int, object], str | None]  # step, what is true once it should end -> what the model says


@dataclasses.dataclass
class Job:
    """A model, its optimizer and data, and where a run is recorded.  tell: who hears what happens."""

    model: GPT
    optimizer: Optimizer
    source: Source
    held_out: EvalWindows
    config: TrainConfig
    run: Path
    document: dict[str, Any]  # config.json
    identity: dict[str, Any]  # what state.json records of machine, corpus and versions
    log: MetricsLog
    tell: Listeners
    snapshot: Snapshot
    fill: Callable[[], object]  # gives the model the weights that the run begins with
    saver: Saver
    penalty: Penalty | None = None
    beside: Mapping[str, EvalWindows] = dataclasses.field(
        default_factory=dict
    )  # measured, too, by its sources
    origin: Path | None = None  # the checkpoint that this session began with
    sample: Sample | None = None
    news: deque[str] = dataclasses.field(default_factory=deque)  # of the thread that saves
    is_empty_told: bool = False  # that a step had nothing to learn
    is_timed: bool = False  # the number of steps follows from the time limit

    @property
    def tokens_per_step(self) -> int:
        """Tokens that one optimizer step sees."""
        return self.config.windows_per_step * self.model.config.seq_len

    def say(self, step: int, text: str) -> None:
        """Tell a person something."""
        self.tell.say(step, text)

    def pass_on_news(self, step: int) -> None:
        """Tell what the thread that saves had to say, in this thread."""
        while self.news:
            self.say(step, self.news.popleft())

    def parts_state(self) -> dict[str, Any]:
        """What state.json records of source and penalty, if they have anything to remember."""
        parts = {"source": self.source, "penalty": self.penalty}
        states = {name: dict(part.state()) for name, part in parts.items() if part is not None}
        return {name: state for name, state in states.items() if state}

    def facts_of_parts(self) -> dict[str, Any]:
        """What source and penalty tell of the last step."""
        told = {} if self.penalty is None else self.penalty.facts()
        return {**self.source.facts(), **told}

    def restore_parts(self, document: Mapping[str, Any], memory: Mapping[str, np.ndarray]) -> None:
        """Put source and penalty where a state.json and a memory left them; {}: at the beginning."""
        self.restore_states(document)
        self.source.recall(memory)

    def restore_states(self, document: Mapping[str, Any]) -> None:
        """Put the states of source and penalty back to what `parts_state` told."""
        self.source.restore(document.get("source", {}))
        if self.penalty is not None:
            self.penalty.restore(document.get("penalty", {}))
