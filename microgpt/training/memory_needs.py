"""How much memory a training takes, told and checked before it begins."""

import dataclasses

from microgpt.common.errors import ConfigError
from microgpt.common.memory_limit import available_memory
from microgpt.core import ops
from microgpt.model import ModelConfig
from microgpt.model.gpt import HEAD_ROWS

from .config import TrainConfig

# Floats for each token, in units of C.  A layer keeps for its backward: the inputs of both branches, q k v,
# attention's output, and the MLP's wide layer.  What lives no longer than a layer or the head comes on top.
KEPT_BY_LAYER, PASSING = 2 + 3 + 1 + 4, 13
MOST_ROWS = 1 << 40  # of a product of which a kernel is asked what it works in; more rows take no more
PROCESS_BYTES = 60e6  # interpreter, libraries, the pages in use of the packed corpus


def memory_estimate(model: ModelConfig, train: TrainConfig) -> float:
    """Bytes that training takes at its peak.

    Weights, gradients and two moments; copies of all but the gradients, to be saved; and activations.
    """
    return PROCESS_BYTES + (4 + 3) * 4 * model.n_params + activation_bytes(model, train)


def activation_bytes(model: ModelConfig, train: TrainConfig) -> float:
    """Bytes of all arrays that one micro-batch needs beside weights and gradients."""
    n_tokens, C = train.batch_size * model.seq_len, model.n_embd
    layer = KEPT_BY_LAYER * C + model.n_head + 2  # log-sum-exp of attention, two factors of norms
    kept = layer + model.n_layer * C if train.recompute else layer * model.n_layer
    head_rows = min(n_tokens, HEAD_ROWS)
    rows = min(n_tokens, MOST_ROWS)
    products = (rows, 4 * C, C), (rows, C, 4 * C), (head_rows, model.vocab_size, C)
    scratch = max(ops.linear_scratch(*product) for product in products)
    return 4 * (n_tokens * (kept + PASSING * C) + head_rows * (model.vocab_size + C) + scratch)


def refuse_too_large(model: ModelConfig, train: TrainConfig) -> None:
    """Raises: ConfigError: the training takes more memory than there is; it says what would fit."""
    needed, available = memory_estimate(model, train), available_memory()
    if needed <= available:
        return
    plain = largest_batch(model, train, available)
    recomputed = largest_batch(model, dataclasses.replace(train, recompute=True), available)
    fitting = [f"--batch-size {plain}"] if plain else []
    if recomputed > plain:
        fitting.append(f"--recompute --batch-size {recomputed}")
    raise ConfigError(
        f"this training takes about {needed / 1e9:.1f} GB of memory, {available / 1e9:.1f} GB are free; "
        + (f"{' or '.join(fitting)} fits" if fitting else "take a smaller model or --seq-len")
    )


def largest_batch(model: ModelConfig, train: TrainConfig, available: float) -> int:
    """The largest batch, up to the one that is wanted, whose training fits; 0: not even one window's does."""
    fits, too_large = 0, train.batch_size + 1
    while too_large - fits > 1:
        middle = (fits + too_large) // 2
        if memory_estimate(model, dataclasses.replace(train, batch_size=middle)) <= available:
            fits = middle
        else:
            too_large = middle
    return fits
