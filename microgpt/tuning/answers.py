"""Answers as rows to be learned from, and the model that a run began with, to compare with."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from microgpt.batches.batches import shifted
from microgpt.common.errors import ConfigError
from microgpt.corpus.prepared.config import DataConfig
from microgpt.model import GPT, IGNORED, Batch
from microgpt.runs import checkpoint as checkpoints
from microgpt.runs.lineage import begin_with
from microgpt.runs.settings import LENGTHS
from microgpt.runs.spec import Spec
from microgpt.training.parts import Parts
from microgpt.tuning.merge import without_adapters


class Answered(NamedTuple):
    """A prompt and what follows it, as ids; the last id of an answer that ended is the end marker."""

    prompt: np.ndarray
    answer: np.ndarray


def rows_of(answered: Sequence[Answered]) -> Batch:
    """A row for each, filled up behind; the answers alone are scored."""
    longest = max(len(one.prompt) + len(one.answer) for one in answered)
    rows = np.zeros((len(answered), longest), np.int32)
    is_answer = np.zeros_like(rows, bool)
    for row, scored, one in zip(rows, is_answer, answered, strict=True):
        begin, end = len(one.prompt), len(one.prompt) + len(one.answer)
        row[:end], scored[begin:end] = np.concatenate(one), True
    ids, targets = map(np.ascontiguousarray, shifted(rows))
    return Batch(ids, np.where(is_answer[:, 1:], targets, IGNORED).astype(np.int32))


def log_probs(model: GPT, batch: Batch) -> np.ndarray:
    """ln of the probability of each answer, (B,), float64."""
    return -model.token_losses(batch).sum(1, dtype=np.float64)


def reference(parts: Parts) -> GPT:
    """The model that a run began with, without adapters.

    Raises: ConfigError: it began with none.  CheckpointError: that is gone.
    """
    plan = parts.plan
    if plan.parent is None:
        raise ConfigError("preferences and rewards change a trained model; name it with --from")
    model = GPT(without_adapters(plan.model), precision=plan.train.precision)
    checkpoints.load_base(checkpoints.base_of(plan), model)
    return model


def refuse_pieces(parts: Parts) -> None:
    """A step is one batch: what a row counts depends on all of them."""
    if parts.plan.train.grad_accum != 1:
        raise ConfigError(
            f"--grad-accum {parts.plan.train.grad_accum}: a step is one batch here; give 1 and a larger "
            "--batch-size"
        )


GENTLER, BATCH_SIZE = 100, 8  # times less than the parent's peak is the rate; rows, or pairs, of a step
EVERY = 50  # steps between evaluations
WARMUP = 10  # steps: such runs are short, and their rate is low


def tuned_spec(
    parent: str,
    settings: dict[str, Any],
    source: str,
    told: dict[str, Any],
    n: int,
    gentler: int = GENTLER,
) -> Spec:
    """The spec of a run whose batches are answers, measured on what is held out of its parent's corpus.

    Args: settings: of the run, over the usual ones.  told: to the source.  n: examples of one pass.
          gentler: how many times less than the parent's peak is the rate.
    """
    old = begin_with(parent).plan
    lr = settings.get("lr", old.train.lr / gentler)
    size = settings.get("batch_size", BATCH_SIZE)
    usual = {
        "recipe": "road",
        "lr": lr,
        "min_lr": lr / 10,
        "warmup_steps": WARMUP,
        "batch_size": size,
        "precision": old.train.precision,
        "eval_every": EVERY,
        "sample_every": 0,
        "log_every": 1,
        "probes": False,
        "dropout": 0.0,
        "packing": old.train.packing,
    }
    if not any(name in settings for name in (*LENGTHS, "max_time")):
        usual["max_steps"] = max(1, n // size)
    corpus = DataConfig().to_dict()
    of_parent = {name: value for name, value in old.data.to_dict().items() if value != corpus[name]}
    for name in ("merges", "mixed", "shares", "replay", "replay_share"):
        of_parent.pop(name, None)
    source_of = {"source": source, "source_settings": told}
    return Spec.of(parent=parent, **(of_parent | usual | settings | source_of))
