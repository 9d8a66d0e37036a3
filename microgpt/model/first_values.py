"""What tensors of recurrent layers begin as: made by depth and channel, or drawn by their name."""

import math
from dataclasses import replace

import numpy as np

from microgpt.core import ops, random

from .linear import Linear
from .parameters import Parameter, Values

BLOCK = 64  # rows that are made orthogonal one by one


def vector(name: str, begin: np.ndarray) -> Parameter:
    """A tensor in whose first values chance has no part, and which does not decay."""
    return Parameter(name, begin.shape, 0, decay=False, kind="gain", values=lambda key, shape: begin)


def matrix(name: str, n_out: int, n_in: int, values: Values) -> Linear:
    """A product whose matrix begins with such values."""
    linear = Linear(name, n_out, n_in, 1.0)
    linear.weight = replace(linear.weight, values=values)
    return linear


def zeros(key: int, shape: tuple[int, ...]) -> np.ndarray:
    """First values."""
    return np.zeros(shape)


def even(half: float) -> Values:
    """First values even between -half and half."""

    def values(key: int, shape: tuple[int, ...]) -> np.ndarray:
        return (2 * random.uniform(key, math.prod(shape)) - 1).reshape(shape) * half

    return values


def orthogonal(gain: float) -> Values:
    """First values of a matrix whose rows, or columns if there are fewer, are orthogonal, of length `gain`.

    Any such matrix is as likely as another (Saxe et al. 2014, arXiv 1312.6120).
    """

    def values(key: int, shape: tuple[int, ...]) -> np.ndarray:
        rows = orthonormal(random.normal(key, math.prod(shape)).reshape(min(shape), max(shape)))
        return gain * (rows if shape[0] == len(rows) else rows.T)

    return values


def orthonormal(rows: np.ndarray) -> np.ndarray:
    """Rows (n, m), n <= m, each without its part along those before it, and of length 1, (n, m) float32.

    Gram-Schmidt, twice for accuracy (Giraud et al. 2005, Numerische Mathematik 101), in blocks.  With our own
    products: threads of NumPy's, also in LAPACK's QR, wait for each other for seconds beside other work.
    """
    rows = rows.astype(np.float32)
    for first in range(0, len(rows), BLOCK):
        done, block = rows[:first], rows[first : first + BLOCK]
        for _ in range(2):
            if first:
                block -= ops.linear_backward_input(ops.linear_forward(block, done), done)
            for n, row in enumerate(block):
                along = np.einsum("nm,m->n", block[:n], row)
                row -= np.einsum("n,nm->m", along, block[:n])
                row /= math.sqrt(np.einsum("m,m->", row, row))
    return rows
