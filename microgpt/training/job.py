"""What a run is made of.  Where it stands is kept apart, in TrainState."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from microgpt.batches.batches import Batches, EvalWindows
from microgpt.model import GPT
from microgpt.runs.checkpoint import Snapshot
from microgpt.runs.metrics import MetricsLog
from microgpt.runs.saver import Saver
from microgpt.runs.settings import TrainConfig

from .adam import Adam
from .progress import Progress

Sample = Callable[[int, object], str | None]  # step, what is true once it should end -> what the model says


@dataclasses.dataclass
class Job:
    """A model, its optimizer and data, and where a run is recorded."""

    model: GPT
    adam: Adam
    batches: Batches
    held_out: EvalWindows
    config: TrainConfig
    run: Path
    document: dict[str, Any]  # config.json
    identity: dict[str, Any]  # what state.json records of machine, corpus and versions
    log: MetricsLog
    progress: Progress
    snapshot: Snapshot
    saver: Saver
    origin: Path | None = None  # the checkpoint that this session began with
    sample: Sample | None = None
    is_empty_told: bool = False  # that a step had nothing to learn
    is_timed: bool = False  # the number of steps follows from the time limit

    @property
    def tokens_per_step(self) -> int:
        """Tokens that one optimizer step sees."""
        return self.config.batch_size * self.config.grad_accum * self.model.config.seq_len
