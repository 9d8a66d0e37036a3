"""Parameters: what is known of each, and the arena that holds them all."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from microgpt.core import random


@dataclass(frozen=True)
class Parameter:
    """One named tensor.

    init_std: 0 means: all ones (norm weights).  decay: weight decay applies.
    kind: matrix, embedding or gain.  trainable: it has a gradient and a place in the optimizer.
    """

    name: str
    shape: tuple[int, ...]
    init_std: float
    decay: bool = True
    kind: str = "matrix"
    trainable: bool = True

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


class Arena(Mapping[str, np.ndarray]):
    """Named tensors in one flat array: `arena["wte.weight"]` is a view of `arena.flat`.

    Parameters, gradients and the slots of an optimizer are arenas, so that an optimizer step, a norm and a
    snapshot are each one call over one array.
    """

    def __init__(self, parameters: Iterable[Parameter], dtype: Any = np.float32) -> None:
        self.parameters = list(parameters)
        self.flat = np.zeros(sum(p.size for p in self.parameters), dtype)
        self._views: dict[str, np.ndarray] = {}
        offset = 0
        for p in self.parameters:
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

    def trained(self) -> "Arena":
        """An arena of the trainable parameters alone, all zeros."""
        return Arena((p for p in self.parameters if p.trainable), self.flat.dtype)

    def init(self, seed: int) -> None:
        """Fill with initial values: normal, of each tensor's deviation; a pure function of (seed, name)."""
        for p in self.parameters:
            key = random.key(seed, "init/" + p.name)
            self[p.name][:] = random.normal(key, p.size).reshape(p.shape) * p.init_std if p.init_std else 1
