"""Parameters: what is known of each, and the arena that holds them all."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from microgpt.common.errors import ConfigError
from microgpt.core import ops, random

TYPES: dict[str, np.dtype] = {
    "fp32": np.dtype(np.float32),
    "bf16": np.dtype(np.uint16),
}  # and what a number is stored in
PRODUCTS_READ = ("matrix", "embedding", "head")  # kinds that may be stored in fewer bits

Values = Callable[[int, tuple[int, ...]], np.ndarray]  # first values from a key of `random` and a shape


@dataclass(frozen=True)
class Parameter:
    """One named tensor.

    init_std: 0 means: all ones (norm weights).  decay: weight decay applies.
    kind: matrix, embedding, head or gain.  trainable: it has a gradient and a place in the optimizer.
    type: how its numbers are stored, fp32 or bf16, which takes half the memory.
    init: how it begins: normal or uniform, of deviation init_std; or zeros.
    values: what makes the initial values, of a key of `random` and the shape, where they are not normal.
    blocks: rows of each of the matrices that lie in this one, one below the other; none: it is one matrix.

    Raises: ConfigError: another type; fewer bits for what is trained, or is no matrix; blocks of other rows.
    """

    name: str
    shape: tuple[int, ...]
    init_std: float
    decay: bool = True
    kind: str = "matrix"
    trainable: bool = True
    type: str = "fp32"
    init: str = "normal"
    values: Values | None = field(default=None, compare=False, repr=False)
    blocks: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.type not in TYPES:
            raise ConfigError(f"{self.name}: type {self.type!r}; expected {', '.join(TYPES)}")
        if self.type != "fp32" and (self.trainable or self.kind not in PRODUCTS_READ):
            what = "is trained" if self.trainable else f"is a {self.kind}"
            raise ConfigError(
                f"{self.name} is to be stored as {self.type}, but {what}; only frozen matrices may be"
            )
        if sum(self.row_blocks) != self.shape[0]:
            raise ConfigError(f"{self.name}: blocks of {self.blocks} rows; expected {self.shape[0]} in all")

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def row_blocks(self) -> tuple[int, ...]:
        """`blocks`, or all rows."""
        return self.blocks or self.shape[:1]


class Arena(Mapping[str, np.ndarray]):
    """Named tensors in one flat array: `arena["wte.weight"]` is a view of `arena.flat`.

    Parameters, gradients and the slots of an optimizer are arenas, so that an optimizer step, a norm and a
    snapshot are each one call over one array.

    A parameter of another type than fp32 lies outside of `flat`, in an array of its own: bf16 in uint16 (made
    by `ops.bf16_bits`, read by `ops.bf16_floats`).  An arena of float64 has all in `flat`: the reference has
    one type.

    Attributes: parameters: all, in order.  in_flat: those that lie in `flat`, in order.
    """

    def __init__(self, parameters: Iterable[Parameter], dtype: Any = np.float32) -> None:
        self.parameters = list(parameters)
        is_reference = np.dtype(dtype) == np.float64
        self.in_flat = [p for p in self.parameters if is_reference or p.type == "fp32"]
        self.flat = np.zeros(sum(p.size for p in self.in_flat), dtype)
        views: dict[str, np.ndarray] = {}
        offset = 0
        for p in self.in_flat:
            views[p.name] = self.flat[offset : offset + p.size].reshape(p.shape)
            offset += p.size
        self._views = {
            p.name: views[p.name] if p.name in views else np.zeros(p.shape, TYPES[p.type])
            for p in self.parameters
        }

    def __getitem__(self, name: str) -> np.ndarray:
        return self._views[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    def zeros_like(self) -> "Arena":
        """An arena of the same layout, all zeros."""
        return Arena(self.parameters, self.flat.dtype)

    def trained(self) -> "Arena":
        """An arena of the trainable parameters alone, all zeros."""
        return Arena((p for p in self.parameters if p.trainable), self.flat.dtype)

    def put(self, name: str, values: np.ndarray) -> None:
        """Fill a parameter with floats, rounded to its type."""
        target = self[name]
        target[...] = ops.bf16_bits(values) if target.dtype == TYPES["bf16"] else values

    def init(self, seed: int) -> None:
        """Fill with initial values, of each tensor's kind and deviation; a pure function of (seed, name)."""
        for p in self.parameters:
            self.put(p.name, _initial(p, random.key(seed, "init/" + p.name)))


def _initial(p: Parameter, key: int) -> np.ndarray:
    """The values that a tensor begins with."""
    if p.values:
        return p.values(key, p.shape)
    if p.init == "zeros" or not p.init_std:
        return np.full(p.shape, 0.0 if p.init == "zeros" else 1.0)
    if p.init == "uniform":  # between -sqrt(3) and sqrt(3) the deviation is 1
        draws = math.sqrt(3) * (2 * random.uniform(key, p.size) - 1)
    else:
        draws = random.normal(key, p.size)
    return draws.reshape(p.shape) * p.init_std
