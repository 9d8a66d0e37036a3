"""Quality on held-out windows: mean loss, and bits per byte, which compares across tokenizers."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from microgpt.corpus.batches import EvalWindows
from microgpt.model import GPT


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """`loss` in nats per token; `bpb` in bits per byte of text."""

    loss: float
    bpb: float


def evaluate(
    model: GPT,
    windows: EvalWindows,
    batch_size: int,
    stop: object = None,
    progress: Callable[[int], Any] = lambda n: None,
) -> Evaluation | None:
    """Measure the model on a fixed set of windows, a batch at a time.

    bpb = (sum of all token losses, markers such as <|end|> included) / (ln 2 * bytes of text)

    Args:     stop: once true, give up.  progress: hears of each batch how many windows it had.
    Returns:  None if stopped.
    """
    nats = 0.0
    for ids, targets in windows.batches(batch_size):
        if stop:
            return None
        nats += float(model.token_losses(ids, targets).sum(dtype=np.float64))
        progress(len(ids))
    return Evaluation(nats / windows.n_tokens, nats / math.log(2) / max(1, windows.n_bytes))
