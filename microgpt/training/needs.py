"""How much memory a training takes, told and checked before it begins."""

import dataclasses
import math
from collections.abc import Iterable
from typing import NamedTuple

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
MOST_WINDOWS = 1 << 16  # of a micro-batch that is tried
PROCESS_BYTES = 86e6  # interpreter, libraries, tokenizer, the pages in use of the packed corpus


class Needs(NamedTuple):
    """Bytes that training takes at its peak, by what they are for.

    state:  what recurrent layers carry from window to window.
    copies: of weights and slots, for a checkpoint to be written while training goes on.
    """

    process: float
    weights: float
    gradients: float
    slots: float
    state: float
    copies: float
    activations: float

    @property
    def total(self) -> float:
        """All together."""
        return sum(self)


def needs_of(model: ModelConfig, train: TrainConfig) -> Needs:
    """What training takes."""
    groups = parameter_groups(model)
    saved, state = checkpoint_bytes(model, train), 4 * carried_floats(model, train)
    slots = 4 * slot_floats(model, train.optimizer)
    frozen = sum(n * _frozen_bytes(those) for those, n in groups) if model.lora_rank else 0
    return Needs(
        process=PROCESS_BYTES,
        weights=saved - slots - state + frozen,
        gradients=4 * sum(n * size_of(p for p in those if p.trainable) for those, n in groups),
        slots=slots,
        state=2 * state,
        copies=saved - state,
        activations=activation_bytes(model, train),
    )


def memory_estimate(model: ModelConfig, train: TrainConfig) -> float:
    """Bytes that training takes at its peak."""
    return needs_of(model, train).total


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
    n_rows = train.windows_per_step if train.carry_state else 0
    return n_rows and n_rows * sum(math.prod(shape) for shape in memory_shapes(model).values())


def slot_floats(model: ModelConfig, optimizer: str) -> int:
    """Floats of what an optimizer keeps beside the weights of a whole model."""
    return sum(
        n * sum(parameter.size for parameter in slot)
        for parameters, n in parameter_groups(model)
        for slot in OPTIMIZERS[optimizer].parameters_of_slots(parameters).values()
    )


def activation_bytes(model: ModelConfig, train: TrainConfig) -> float:
    """Bytes of all arrays that a step needs beside weights, gradients and slots."""
    n_tokens = train.batch_size * model.seq_len
    shapes = products(model, min(n_tokens, MOST_ROWS))
    scratch = max(ops.linear_scratch(*product, train.precision) for product in shapes)
    optimizer = OPTIMIZERS[train.optimizer]
    for parameters, _n in parameter_groups(model):
        scratch = max(scratch, optimizer.scratch_floats(parameters, train.precision))
    return 4 * (activation_floats(model, n_tokens, train.recompute) + scratch)


def refuse_too_large(model: ModelConfig, train: TrainConfig) -> None:
    """Raises: ConfigError: the training takes more memory than there is; it says what would fit."""
    needed, available = memory_estimate(model, train), available_memory()
    if needed > available:
        raise ConfigError(
            f"this training takes about {needed / 1e9:.1f} GB of memory, {available / 1e9:.1f} GB are free; "
            + what_fits(model, train, available)
        )


def what_fits(model: ModelConfig, train: TrainConfig, available: float) -> str:
    """The flags with which a training that is too large takes its steps of as many tokens in the memory there
    is; or that there are none."""
    recomputing = dataclasses.replace(train, recompute=True)
    plain, recomputed = (largest_batch(model, config, available) for config in (train, recomputing))
    fitting = [_batch_flags(train, plain)] if plain else []
    if recomputed > plain:
        fitting.append(f"--recompute {_batch_flags(train, recomputed)}".rstrip())
    return f"{' or '.join(fitting)} fits" if fitting else "take a smaller model or --seq-len"


def _batch_flags(train: TrainConfig, size: int) -> str:
    """The flags of a smaller micro-batch and more of them."""
    if size == train.batch_size:
        return ""
    return f"--batch-size {size} --grad-accum {train.windows_per_step // size}"


def largest_batch(model: ModelConfig, train: TrainConfig, available: float) -> int:
    """The largest micro-batch, up to the one that is wanted, which divides the windows of a step and whose
    training fits; 0: not even one window's does."""
    windows = train.windows_per_step
    sizes = (n for n in range(min(train.batch_size, MOST_WINDOWS), 0, -1) if windows % n == 0)
    return next((n for n in sizes if memory_estimate(model, smaller(train, n)) <= available), 0)


def smaller(train: TrainConfig, size: int) -> TrainConfig:
    """The same steps in micro-batches of another size that divides them."""
    accum = train.windows_per_step // size
    return dataclasses.replace(train, batch_size=size, grad_accum=accum)
