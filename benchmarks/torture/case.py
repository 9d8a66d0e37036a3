"""What the tortures share: a model of a few thousand weights, an old checkpoint and a new one, a verdict."""

import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from microgpt.common.errors import CheckpointError
from microgpt.files.records import read_json
from microgpt.model import GPT, ModelConfig
from microgpt.runs.checkpoint import STATE, Snapshot, find_checkpoint, verify
from microgpt.runs.layout import checkpoint_name, checkpoints
from microgpt.runs.settings import TrainConfig
from microgpt.tokenizer import SPECIALS, Tokenizer
from microgpt.training.adam import Adam

OLD, NEW = 10, 20  # steps
MODEL = ModelConfig(n_layer=1, n_head=1, n_embd=8, seq_len=16, vocab_size=256 + len(SPECIALS))


@dataclass
class Verdict:
    """What a kind of torture came to: how many cases, and which went wrong."""

    kind: str
    cases: Counter[str] = field(default_factory=Counter)  # by what was done
    failures: list[str] = field(default_factory=list)

    def count(self, what: str, problem: str | None) -> None:
        """A case.  problem: what went wrong in it, if anything."""
        self.cases[what.split()[0]] += 1
        if problem:
            self.failures.append(f"{what}: {problem}")

    @property
    def line(self) -> str:
        """The figure."""
        sorts = ", ".join(f"{count:,} {what}" for what, count in self.cases.most_common())
        return f"{self.kind}: {self.cases.total():,} cases ({sorts}), {len(self.failures)} failures"


def make_snapshot(step: int, seed: int) -> Snapshot:
    """A state whose every weight and moment follows from the step."""
    model = GPT(MODEL)
    adam = Adam(model, TrainConfig())
    draw = np.random.default_rng([seed, step])
    for arena in (model.params, *adam.slots.values()):
        arena.flat[:] = draw.standard_normal(arena.flat.size, np.float32)
    config = {"model": MODEL.to_dict(), "train": TrainConfig().to_dict(), "data": {}}
    state = {"step": step, "metrics": {"val_step": step, "val_loss": 1.0 + 1 / step}}
    return Snapshot(model, adam, Tokenizer([], list(SPECIALS))).fill(config, state)


def fresh(run: Path, template: Path) -> Path:
    """The run anew, a copy of what it was."""
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(template, run)
    return run


def newest_step(run: Path, damaged: list[str] | None = None) -> int:
    """Step of the checkpoint that a resume would take, once all of it was read; 0: there is none.

    damaged: hears about each that had to be skipped.
    """
    try:
        found = find_checkpoint(run, say=(damaged if damaged is not None else []).append)
    except CheckpointError:
        return 0
    return read_json(found / STATE)["step"]


def old_or_new(run: Path, must_be_new: bool = False) -> str | None:
    """What is wrong with a run after a save that was hindered; None: it has the old state or the new one."""
    damaged: list[str] = []
    step = newest_step(run, damaged)
    if damaged:
        return f"a checkpoint that cannot be read: {damaged[0]}"
    if step not in ((NEW,) if must_be_new else (OLD, NEW)):
        return f"resumes at {step}, expected {NEW if must_be_new else f'{OLD} or {NEW}'}"
    return None


def is_whole(run: Path, step: int) -> bool:
    """Whether a checkpoint is there and every byte of it is what was written."""
    try:
        verify(run / checkpoint_name(step))
    except CheckpointError:
        return False
    return True


def steps_in(run: Path) -> list[int]:
    """Steps of the checkpoints of a run, newest first."""
    return [step for step, _ in checkpoints(run)]
