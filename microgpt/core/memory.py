"""Arrays whose memory comes back.

A training step makes and drops the same large arrays every time.  Given back to the system and asked for
again, each costs a page fault per 4 KiB, which is as slow as computing on it.  So the memory of a dropped
array goes to a free list and the next array of that size takes it; a steady step allocates nothing.
"""

import math
from typing import Any

import numpy as np

SMALL = 1 << 16  # bytes; below, malloc has free lists of its own
ALIGN = 64  # one cache line, one AVX-512 register

_free: dict[int, list[np.ndarray]] = {}


class _Lease:
    """Memory lent to one array and its views; it returns to the free list with the last of them."""

    __slots__ = ("__array_interface__", "block", "size")

    def __init__(self, size: int, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.size = size
        blocks = _free.get(size)
        self.block = blocks.pop() if blocks else np.empty(size + ALIGN, np.uint8)
        start = self.block.__array_interface__["data"][0]
        address = (start + ALIGN - 1) // ALIGN * ALIGN
        self.__array_interface__: dict[str, Any] = {
            "version": 3,
            "shape": shape,
            "typestr": dtype.str,
            "data": (address, False),
        }

    def __del__(self) -> None:
        _free.setdefault(self.size, []).append(self.block)


def _size_class(n_bytes: int) -> int:
    """Round up to an eighth of a power of two, so that arrays of nearly equal size share memory."""
    step = max(ALIGN, 1 << (n_bytes.bit_length() - 4))
    return (n_bytes + step - 1) // step * step


def release() -> None:
    """Give the memory of dropped arrays back to the system."""
    _free.clear()


def empty(shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    """An uninitialised C-contiguous array, like `numpy.empty`."""
    dtype = np.dtype(dtype)
    n_bytes = math.prod(shape) * dtype.itemsize
    if n_bytes < SMALL:
        return np.empty(shape, dtype)
    return np.asarray(_Lease(_size_class(n_bytes), shape, dtype))


def empty_like(x: np.ndarray) -> np.ndarray:
    """An uninitialised array of x's shape and type."""
    return empty(x.shape, x.dtype)
