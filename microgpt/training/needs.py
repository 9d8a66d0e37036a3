"""How much memory a training takes, told and checked before it begins."""

import dataclasses
import math
from collections.abc import Iterable

from microgpt.common.errors import ConfigError
from microgpt.core import ops
from microgpt.machine.memory import available_memory
from microgpt.model import ModelConfig
from microgpt.model.architecture import activation_floats, memory_shapes, parameter_groups, products
from microgpt.model.lora import is_adapter
from microgpt.model.parameters import TYPES, Parameter
from microgpt.runs.kinds import OPTIMIZERS
from microgpt.runs.settings import TrainConfig

MOST_ROWS = 1 << 40  # of a product of which a kernel is asked what it works in; more rows take no more
PROCESS_BYTES = 60e6  # interpreter, libraries, the pages in use of the packed corpus


def memory_estimate(model: ModelConfig, train: TrainConfig) -> float:
    """Bytes that training takes at its peak.

    Weights, gradients and the optimizer's slots; copies of all but the gradients, to be saved; and
    activations.
    """
    gradients = 4 * sum(n * size_of(p for p in those if p.trainable) for those, n in parameter_groups(model))
    frozen = sum(n * _frozen_bytes(those) for those, n in parameter_groups(model)) if model.lora_rank else 0
    saved = 2 * checkpoint_bytes(model, train)
    return PROCESS_BYTES + saved + gradients + frozen + activation_bytes(model, train)


def checkpoint_bytes(model: ModelConfig, train: TrainConfig) -> int:
    """Bytes of the weights, of the optimizer's slots, and of what is carried on."""
    weights = sum(
        n * size_of(p for p in those if not model.lora_rank or is_adapter(p))
        for those, n in parameter_groups(model)
    )
    return 4 * (weights + slot_floats(model, train.optimizer) + carried_floats(model, train))


def size_of(parameters: Iterable[Parameter]) -> int:
    """Numbers in all."""
    return sum(parameter.size for parameter in parameters)


def _frozen_bytes(parameters: Iterable[Parameter]) -> int:
    return sum(p.size * TYPES[p.type].itemsize for p in parameters if not p.trainable)


def carried_floats(model: ModelConfig, train: TrainConfig) -> int:
    """Floats of what recurrent layers carry on from window to window."""
    n_rows = train.batch_size * train.grad_accum if train.carry_state else 0
    return n_rows and n_rows * sum(math.prod(shape) for shape in memory_shapes(model).values())


def slot_floats(model: ModelConfig, optimizer: str) -> int:
    """Floats of what an optimizer keeps beside the weights of a whole model."""
    return sum(
        n * sum(parameter.size for parameter in slot)
        for parameters, n in parameter_groups(model)
        for slot in OPTIMIZERS[optimizer].parameters_of_slots(parameters).values()
    )


def activation_bytes(model: ModelConfig, train: TrainConfig) -> float:
    """Bytes of all arrays that one micro-batch needs beside weights and gradients."""
    n_tokens = train.batch_size * model.seq_len
    shapes = products(model, min(n_tokens, MOST_ROWS))
    scratch = max(ops.linear_scratch(*product, train.precision) for product in shapes)
    return 4 * (activation_floats(model, n_tokens, train.recompute) + scratch)


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
