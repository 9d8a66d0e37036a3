"""Quality on held-out windows: mean loss, and bits per byte, which compares across tokenizers."""

import dataclasses
import math

import numpy as np

from microgpt.corpus.batches import EvalWindows
from microgpt.model import GPT


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """`loss` in nats per token; `bpb` in bits per byte of text."""

    loss: float
    bpb: float


def evaluate(model: GPT, windows: EvalWindows, batch_size: int, stop: object = None) -> Evaluation | None:
    """Measure the model on a fixed set of windows, a batch at a time.

    bpb = (sum of all token losses, markers such as <|end|> included) / (ln 2 * bytes of text)

    Args:     stop: once true, give up.
    Returns:  None if stopped.
    """
    nats = 0.0
    for start in range(0, len(windows.ids), batch_size):
        if stop:
            return None
        rows = slice(start, start + batch_size)
        losses = model.token_losses(windows.ids[rows], windows.targets[rows])
        nats += float(losses.sum(dtype=np.float64))
    return Evaluation(nats / windows.n_tokens, nats / math.log(2) / max(1, windows.n_bytes))
