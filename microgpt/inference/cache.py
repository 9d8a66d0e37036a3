"""Keys and values of the positions a model has seen, so that each new token costs one row of work."""

from typing import Any

import numpy as np

from microgpt.common.errors import ShapeError
from microgpt.model import ModelConfig


class KVCache:
    """Room for one sequence of up to `seq_len` positions; `length` of them are filled.

    Keys are kept rotated by their position, so rows may be cut off at the end but never moved.
    """

    def __init__(self, config: ModelConfig, dtype: Any = np.float32) -> None:
        shape = (config.n_layer, config.seq_len, config.n_embd)
        self.keys, self.values = np.empty(shape, dtype), np.empty(shape, dtype)  # (L, seq_len, C)
        self.ids = np.empty(config.seq_len, np.int32)
        self.length = 0

    @property
    def capacity(self) -> int:
        """Positions there is room for."""
        return self.keys.shape[1]

    def before(self, ids: np.ndarray, n: int) -> np.ndarray:
        """Note the ids (T,) behind those held; return the last n of these, or as many as there are."""
        self.ids[self.length : self.length + len(ids)] = ids
        return self.ids[max(0, self.length - n) : self.length]

    def extend(self, layer: int, keys: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Write rows (T, C) behind the filled ones; return all rows of the layer, (length + T, C) each.

        `length` grows only when the model is through with all layers.
        """
        end = self.length + len(keys)
        if end > self.capacity:
            raise ShapeError(f"{end} positions; this cache holds {self.capacity}")
        self.keys[layer, self.length : end] = keys
        self.values[layer, self.length : end] = values
        return self.keys[layer, :end], self.values[layer, :end]

    def truncate(self, n: int) -> None:
        """Forget all but the first n positions."""
        if not 0 <= n <= self.length:
            raise ShapeError(f"cannot cut a cache of {self.length} positions to {n}")
        self.length = n
