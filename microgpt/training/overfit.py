"""Whether a model can learn a few windows by heart: what any model, loss and optimizer that work can do."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from microgpt.batches.batches import Batches
from microgpt.model import GPT, IGNORED, Batch
from microgpt.runs.settings import TrainConfig

from .adam import Adam
from .clock import Clock

MOST_STEPS = 2000
LEARNING_RATE = 3e-3
RATES: dict[str, Any] = {"lr": LEARNING_RATE, "min_lr": 0.0, "embedding_rate": 1.0, "weight_decay": 0.0}
LOOK_EVERY = 10  # steps


class Overfit(NamedTuple):
    """How far it came: share of tokens foretold right, after so many steps and seconds."""

    accuracy: float
    n_windows: int
    steps: int
    seconds: float

    @property
    def is_whole(self) -> bool:
        """Whether every token was learned."""
        return self.accuracy == 1


def overfit(
    model: GPT, batches: Batches, config: TrainConfig, clock: Clock, n_windows: int, n_tokens: int = 64
) -> Overfit:
    """Train a model from new weights, without dropout, on the first tokens of a few windows until it
    foretells all of them, or for MOST_STEPS."""
    batch = first_windows(batches, n_windows, n_tokens)
    model.init(config.seed)
    optimizer = Adam(model, dataclasses.replace(config, **RATES))
    start, accuracy, step = clock.now(), 0.0, 0
    while step < MOST_STEPS and accuracy < 1:
        for _ in range(LOOK_EVERY):
            step += 1
            _, n = model.loss_and_grad(batch)
            optimizer.update(LEARNING_RATE * min(1.0, step / 20), optimizer.grad_norm(n), n)
        accuracy = accuracy_on(model, batch)
    return Overfit(accuracy, len(batch.ids), step, clock.now() - start)


def first_windows(batches: Batches, n_windows: int, n_tokens: int) -> Batch:
    """Different windows, cut short, in which each target is what its beginning leads to."""
    found: list[Batch] = []
    n_batches = -(-batches.n_windows // batches.batch_size)
    for index in range(n_batches):
        if sum(len(batch.ids) for batch in found) >= n_windows:
            break
        found.append(batches.batch(index))
    ids = np.concatenate([batch.ids[:, :n_tokens] for batch in found])[:n_windows]
    targets = np.concatenate([batch.targets[:, :n_tokens] for batch in found])[:n_windows].copy()
    known: dict[bytes, int] = {}
    for b, t in np.ndindex(
        targets.shape
    ):  # of equal beginnings only what the first one leads to can be learned
        first = known.setdefault(ids[b, : t + 1].tobytes(), int(targets[b, t]))
        if first != targets[b, t]:
            targets[b, t] = IGNORED
    return Batch(np.ascontiguousarray(ids), targets)


def accuracy_on(model: GPT, batch: Batch) -> float:
    """Share of the scored targets that the model holds most likely."""
    _, is_right = model.token_results(batch)
    return float(is_right[batch.targets != IGNORED].mean())
