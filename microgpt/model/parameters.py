"""The table of parameters, and the arena that holds them.

The table is the one description from which shapes, counts, initial values, decay groups and checkpoint keys
follow.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from microgpt.core import random

from .config import ModelConfig


@dataclass(frozen=True)
class Parameter:
    """One named tensor.  init_std 0 means: all ones (norm weights).  decay: weight decay applies."""

    name: str
    shape: tuple[int, ...]
    init_std: float
    decay: bool = True

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


def table(config: ModelConfig) -> list[Parameter]:
    """All parameters in the order in which they lie in memory.

    Projections into the residual stream start smaller by 1/sqrt(2L), for 2L of them add up (Radford et al.
    2019, section 2.3).
    """
    first, last = _outside(config)
    layers = (row for i in range(config.n_layer) for row in _layer(config, i))
    return [first, *layers, last]


def count(config: ModelConfig) -> int:
    """Elements of all parameters, at once for any number of layers: each has as many."""
    return _size(_outside(config)) + config.n_layer * _size(_layer(config, 0))


def _size(rows: list[Parameter]) -> int:
    return sum(row.size for row in rows)


def _outside(config: ModelConfig) -> list[Parameter]:
    """What stands before and after the layers."""
    C = config.n_embd
    return [
        Parameter("wte.weight", (config.vocab_size, C), config.init_std),
        Parameter("ln_f.weight", (C,), 0, decay=False),
    ]


def _layer(config: ModelConfig, i: int) -> list[Parameter]:
    """The parameters of one layer."""
    C, std = config.n_embd, config.init_std
    into_residual = std / math.sqrt(2 * config.n_layer)
    return [
        Parameter(f"h.{i}.ln_1.weight", (C,), 0, decay=False),
        Parameter(f"h.{i}.attn.qkv.weight", (3 * C, C), std),
        Parameter(f"h.{i}.attn.proj.weight", (C, C), into_residual),
        Parameter(f"h.{i}.ln_2.weight", (C,), 0, decay=False),
        Parameter(f"h.{i}.mlp.fc.weight", (4 * C, C), std),
        Parameter(f"h.{i}.mlp.proj.weight", (C, 4 * C), into_residual),
    ]


class Arena(Mapping[str, np.ndarray]):
    """Named tensors in one flat array: `arena["wte.weight"]` is a view of `arena.flat`.

    Parameters, gradients and both Adam moments are arenas of the same layout, so that an optimizer step, a
    norm and a snapshot are each one call over one array.
    """

    def __init__(self, parameters: list[Parameter], dtype: Any = np.float32) -> None:
        self.parameters = parameters
        self.flat = np.zeros(sum(p.size for p in parameters), dtype)
        self._views: dict[str, np.ndarray] = {}
        offset = 0
        for p in parameters:
            self._views[p.name] = self.flat[offset : offset + p.size].reshape(p.shape)
            offset += p.size

    def __getitem__(self, name: str) -> np.ndarray:
        return self._views[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    def zeros_like(self) -> "Arena":
        """An arena of the same layout, all zeros."""
        return Arena(self.parameters, self.flat.dtype)

    def init(self, seed: int) -> None:
        """Fill with initial values: normal, of each tensor's deviation; a pure function of (seed, name)."""
        for p in self.parameters:
            key = random.key(seed, "init/" + p.name)
            self[p.name][:] = random.normal(key, p.size).reshape(p.shape) * p.init_std if p.init_std else 1
