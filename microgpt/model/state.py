"""What a model remembers of a sequence while it decodes, so that each new token costs one row of work."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from microgpt.common.errors import ShapeError


class State(Protocol):
    """The memory of one mixer for one sequence."""

    length: int  # positions that it has seen

    def rewind(self, n: int) -> int:
        """Forget what came after the first n positions.  Returns where it is now: at n, or as near before it
        as this memory can go."""

    def copy(self) -> "State":
        """The same memory once more: one prompt, several answers."""


class TokensState:
    """The ids seen, (length,)."""

    def __init__(self, capacity: int) -> None:
        self.ids = np.empty(capacity, np.int32)
        self.length = 0

    def extend(self, ids: np.ndarray) -> None:
        """Write ids (T,) behind those that are there."""
        end = self.length + len(ids)
        if end > len(self.ids):
            raise ShapeError(f"{end} positions; this state holds {len(self.ids)}")
        self.ids[self.length : end] = ids
        self.length = end

    def last(self, n: int) -> np.ndarray:
        """The last n ids, or all where there are fewer."""
        return self.ids[max(0, self.length - n) : self.length]

    def rewind(self, n: int) -> int:
        """Forget all but the first n ids."""
        if not 0 <= n <= self.length:
            raise ShapeError(f"cannot go back to {n} positions; there are {self.length}")
        self.length = n
        return n

    def copy(self) -> "TokensState":
        """The same ids in an array of their own."""
        twin = TokensState(len(self.ids))
        twin.extend(self.ids[: self.length])
        return twin


class KVState:
    """Keys and values of the positions seen, (length, C_kv) each.

    Keys are kept rotated by their position, so rows may be cut off at the end but never moved.
    """

    def __init__(self, capacity: int, C_kv: int, dtype: Any = np.float32) -> None:
        self.keys, self.values = np.empty((capacity, C_kv), dtype), np.empty((capacity, C_kv), dtype)
        self.length = 0

    @property
    def capacity(self) -> int:
        """Positions there is room for."""
        return len(self.keys)

    def extend(self, keys: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Write rows (T, C_kv) behind those that are there; return all of them."""
        end = self.length + len(keys)
        if end > self.capacity:
            raise ShapeError(f"{end} positions; this state holds {self.capacity}")
        self.keys[self.length : end] = keys
        self.values[self.length : end] = values
        self.length = end
        return self.keys[:end], self.values[:end]

    def rewind(self, n: int) -> int:
        """Forget all but the first n positions."""
        if not 0 <= n <= self.length:
            raise ShapeError(f"cannot go back to {n} positions; there are {self.length}")
        self.length = n
        return n

    def copy(self) -> "KVState":
        """The same keys and values in arrays of their own."""
        twin = KVState(self.capacity, self.keys.shape[1], self.keys.dtype)
        twin.extend(self.keys[: self.length], self.values[: self.length])
        return twin


class ModelState:
    """The memory of a whole model for one sequence: a state for every layer that has one, by its place.

    All are at the same position."""

    def __init__(self, states: Mapping[str, State]) -> None:
        self.states = dict(states)

    @property
    def length(self) -> int:
        """Positions that the model has seen."""
        return next(iter(self.states.values())).length

    def rewind(self, n: int) -> int:
        """Go back to n positions, or as near before it as every layer can; returns where that is."""
        states = self.states.values()
        while any(state.rewind(n) < n for state in states):
            n = min(state.length for state in states)
        return n

    def copy(self) -> "ModelState":
        """The same memory once more."""
        return ModelState({at: state.copy() for at, state in self.states.items()})
