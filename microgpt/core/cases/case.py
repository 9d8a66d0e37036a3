"""What a case is: inputs of an operation, shapes, and how to differentiate it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from microgpt.core import random

Inputs = dict[str, Any]
Zeros = Callable[[str], np.ndarray]


def normal(name: str, *shape: int) -> np.ndarray:
    """Standard normal numbers, the same for the same name and shape."""
    return random.normal(random.key(0, name, *shape), int(np.prod(shape))).reshape(shape)


def below(name: str, n: int, *shape: int) -> np.ndarray:
    """Integers in [0, n), int32."""
    draws = random.uniform(random.key(0, name, *shape), int(np.prod(shape)))
    return (draws * n).astype(np.int32).reshape(shape)


@dataclass(frozen=True, kw_only=True)
class Case:
    """How to run one operation, and how near it comes to the truth.

    make:     shape -> inputs, float64 and int32; `inputs` casts them.
    forward:  inputs -> (y, whatever backward needs).  Inputs stay as they are.
    backward: (dy, inputs, saved, zeros) -> gradient of every differentiable input; zeros(name) is a fresh
              accumulator for a parameter gradient.  None: there is no gradient.
    shapes:   odd sizes, tails, one row.   bench: a shape of real size.
    flop, bytes: work and memory traffic of forward and backward together at a shape.
    y_error, grad_error: how far float32 may be from the truth, as shares of the largest entry: small sums
              carry the error of their large terms.
    """

    make: Callable[..., Inputs]
    forward: Callable[[Inputs], tuple[np.ndarray, Any]]
    backward: Callable[[np.ndarray, Inputs, Any, Zeros], dict[str, np.ndarray]] | None = None
    shapes: Sequence[tuple[int, ...]]
    bench: tuple[int, ...]
    flop: Callable[..., float]
    bytes: Callable[..., float]
    y_error: float = 2e-6
    grad_error: float = 8e-6

    def inputs(self, shape: tuple[int, ...], dtype: type) -> Inputs:
        """Inputs of a shape with their floats in one type, as float32 has them: the same numbers in both."""
        made = self.make(*shape)
        return {
            name: x.astype(np.float32).astype(dtype) if x.dtype.kind == "f" else x for name, x in made.items()
        }

    def run(self, inputs: Inputs, dy: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """The output as y; gradients of differentiable inputs as dNAME.  dy: `cotangent`, if not another."""
        y, saved = self.forward(inputs)
        found = {"y": y.copy()}
        if self.backward is not None:
            dy = cotangent(y) if dy is None else dy
            grads = self.backward(dy, inputs, saved, lambda name: np.zeros_like(inputs[name]))
            found |= {f"d{name}": grad for name, grad in grads.items()}
        return found

    def mistakes(self, found: dict[str, np.ndarray], truth: dict[str, np.ndarray]) -> list[str]:
        """What is farther from the truth than it may be, as "y is wrong by 1.2e-03 of its largest entry"."""
        wrong = []
        for name, true in truth.items():
            limit = self.y_error if name == "y" else self.grad_error
            error = np.abs(found[name].astype(np.float64) - true).max() / max(np.abs(true).max(), 1e-30)
            if not error <= limit:  # NaN is none
                wrong.append(f"{name} is wrong by {error:.1e} of its largest entry; expected {limit:.0e}")
        return wrong


def cotangent(y: np.ndarray) -> np.ndarray:
    """A gradient of y to start a backward from: the same numbers for the same shape, in its type."""
    return normal("dy", *y.shape).astype(np.float32).astype(y.dtype)


def starts_of(B: int, T: int, documents: int) -> np.ndarray:
    """Where the document of each position begins, (B, T): about so many in a row, at places of chance."""
    begins = np.where(below("starts", T, B, T) < documents, np.arange(T), 0)
    return np.maximum.accumulate(begins, axis=1).astype(np.int32)


ROWS = [(1, 1), (3, 7), (8, 64), (5, 769), (67, 33)]
