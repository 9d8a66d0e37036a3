"""What a layer is: it owns its parameters, both directions of its arithmetic, and what they cost.

A layer holds names and sizes, never activations, so one layer can serve any number of calls.  Weights come
in as an arena `p`; gradients are added into an arena `g`, which lacks the parameters that are not trained.
x is (N, C) with N = B*T rows.

What a backward needs is kept by its forward or made again, whichever costs less.  The backward uses it up and
may overwrite it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from microgpt.core import random

from .parameters import Arena, Parameter
from .state import ModelState

Saved = Any
NO_KEYS = np.zeros(1, np.uint64)  # where nothing is dropped


@dataclass(frozen=True)
class Cost:
    """What a layer costs for each token.

    flop:        of forward and backward, a multiply-add counted as 2.
    kept:        floats that stay from the forward to the backward.
    passing:     floats that live at once while the layer runs, beside those that are kept.
    state_bytes: of what a decoder remembers of the token.
    products:    (M, K) of every matrix product (N, K) -> (N, M).
    idle:        parameters that the token has nothing to do with.
    """

    flop: float = 0.0
    kept: float = 0.0
    passing: float = 0.0
    state_bytes: int = 0
    products: tuple[tuple[int, int], ...] = ()
    idle: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        """Of two layers, one after the other."""
        return Cost(
            self.flop + other.flop,
            self.kept + other.kept,
            max(self.passing, other.passing),
            self.state_bytes + other.state_bytes,
            self.products + other.products,
            self.idle + other.idle,
        )


@dataclass
class Call:
    """What one pass through the model needs besides weights.

    B, T:    rows are B sequences of T.
    dropout: probability that an element is dropped; 0 in evaluation.
    keys:    of each sequence's dropout, (B,) uint64, if any.
    starts:  (B, T) int32, where the document of each position begins; None: at 0.
    states:  of each sequence, while decoding, and how many of the rows are its; None in training.
    shared:  arrays that one layer makes and later ones read, by name; their gradients return the same way.
    before:  what recurrent layers remember of each row's text before this call, (B, ...) by layer and name.
    after:   the same behind the last position, which they tell.
    facts:   what layers tell about the call, such as an auxiliary loss or the load of experts, by name.
    n_targets: that the loss is the sum of, so that what layers add to its gradient counts as often.
    precision: of matrix products, large ones and those in attention: fp32 or bf16.
    """

    B: int
    T: int
    dropout: float = 0.0
    keys: np.ndarray | None = None
    starts: np.ndarray | None = None
    states: Sequence[tuple[ModelState, int]] | None = None
    shared: dict[str, np.ndarray] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    n_targets: int = 0
    precision: str = "fp32"
    before: dict[str, np.ndarray] = field(default_factory=dict)
    after: dict[str, np.ndarray] = field(default_factory=dict)

    def keys_at(self, branch: str) -> np.ndarray:
        """The sequences' keys for the place where a branch drops elements.  They go by its name: no layer
        moves another's."""
        if not self.dropout or self.keys is None:
            return NO_KEYS
        return np.array([random.key(int(key), "dropout/" + branch) for key in self.keys], np.uint64)

    def sequences(self, at: str) -> list[tuple[Any, int]]:
        """The state that the layer `at` has of each sequence, and how many of the rows are its."""
        return [(state.states[at], n) for state, n in self.states or ()]


class Layer(Protocol):
    """A part of the model that x flows through."""

    def parameters(self) -> list[Parameter]:
        """Those that the layer owns, in the order in which they lie in memory."""

    def forward(self, x: np.ndarray, p: Arena, call: Call) -> tuple[np.ndarray, Saved]:
        """x (N, C) -> y (N, C), and what the backward needs."""

    def rebuild(self, x: np.ndarray, p: Arena, call: Call) -> Saved:
        """What the backward needs, without the result."""

    def backward(
        self, dy: np.ndarray, x: np.ndarray, saved: Saved, p: Arena, g: Arena, call: Call
    ) -> np.ndarray:
        """dy (N, C), and x of the forward -> dx (N, C); gradients of parameters are added to g."""

    def cost(self, T: int) -> Cost:
        """For each token of sequences of T."""


def memory_of(layer: object) -> dict[str, tuple[int, ...]]:
    """What a layer remembers of the text of one row beyond a call: shapes, by the names of `Call.before`.

    Those that look back within the call alone have no `memory`.
    """
    return layer.memory() if hasattr(layer, "memory") else {}


class Mixer(Layer, Protocol):
    """A layer in which positions see each other, so it remembers what it has seen while decoding.

    An MLP that looks at the row before is one, too."""

    def new_states(self, capacity: int, dtype: Any) -> dict[str, Any]:
        """The memory of one sequence that has not begun, with room for so many positions, by the places of
        the layers that have it."""
