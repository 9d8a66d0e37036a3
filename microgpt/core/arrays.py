"""Arrays whose memory comes back.

A training step makes and drops the same large arrays every time.  Given back to the system and asked for
again, each costs a page fault per 4 KiB, which is as slow as computing on it.  So the memory of a dropped
array goes to a free list and the next array of that size takes it; a steady step allocates nothing.
"""

import contextlib
import math
import mmap
from typing import Any

import numpy as np

SMALL = 1 << 16  # bytes; below, malloc has free lists of its own
ALIGN = 64  # sizes are multiples of a cache line; addresses, of a page
HUGE = 1 << 22  # bytes from which memory comes in huge pages, where the system has them

_free: dict[int, list[np.ndarray]] = {}  # blocks by size
_scratch: list[np.ndarray] = []  # those of `workspace`, whatever their size
_held = {"blocks": 0, "bytes": 0}


class _Lease:
    """Memory lent to one array and its views; it returns to its free list with the last of them."""

    __slots__ = ("__array_interface__", "block", "home")

    def __init__(
        self, block: np.ndarray, shape: tuple[int, ...], dtype: np.dtype, home: list[np.ndarray]
    ) -> None:
        self.block, self.home = block, home
        self.__array_interface__: dict[str, Any] = {
            "version": 3,
            "shape": shape,
            "typestr": dtype.str,
            "data": block.__array_interface__["data"],
        }

    def __del__(self) -> None:
        self.home.append(self.block)


def _new_block(size: int) -> np.ndarray:
    """Memory from the system itself: page-aligned, and given back at once when it is released."""
    try:
        pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"{size:,} bytes: {error.strerror}") from None
    if size >= HUGE and hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):
            pages.madvise(mmap.MADV_HUGEPAGE)
    _held["blocks"] += 1
    _held["bytes"] += size
    return np.frombuffer(pages, np.uint8)


def _size_class(n_bytes: int) -> int:
    """Round up to an eighth of a power of two, so that arrays of nearly equal size share memory."""
    step = max(ALIGN, 1 << (n_bytes.bit_length() - 4))
    return (n_bytes + step - 1) // step * step


def release() -> None:
    """Give the memory of dropped arrays back to the system."""
    for blocks in [*_free.values(), _scratch]:
        while blocks:
            _drop(blocks.pop())


def _drop(block: np.ndarray) -> None:
    """Count a block as given back, which it is when nobody knows it any more."""
    _held["blocks"] -= 1
    _held["bytes"] -= block.size


def held() -> tuple[int, int]:
    """Blocks and their bytes that were taken from the system and not given back, lent or free."""
    return _held["blocks"], _held["bytes"]


def _taken(blocks: list[np.ndarray]) -> np.ndarray | None:
    """A block off a free list; None if there is none, for another thread may be quicker."""
    try:
        return blocks.pop()
    except IndexError:
        return None


def empty(shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    """An uninitialised C-contiguous array, like `numpy.empty`."""
    dtype = np.dtype(dtype)
    n_bytes = math.prod(shape) * dtype.itemsize
    if n_bytes < SMALL:
        return np.empty(shape, dtype)
    size = _size_class(n_bytes)
    home = _free.setdefault(size, [])
    block = _taken(home)
    if block is None:
        block = _new_block(size)
    return np.asarray(_Lease(block, shape, dtype, home))


def workspace(n: int) -> np.ndarray:
    """Room for n floats that a call works in: one block for all calls, grown to what the largest asks."""
    block = _taken(_scratch)
    if block is not None and block.size < 4 * n:
        _drop(block)
        block = None
    if block is None:
        block = _new_block(_size_class(max(4 * n, SMALL)))
    return np.asarray(_Lease(block, (n,), np.dtype(np.float32), _scratch))


def empty_like(x: np.ndarray) -> np.ndarray:
    """An uninitialised array of x's shape and type."""
    return empty(x.shape, x.dtype)


def copy_of(x: np.ndarray) -> np.ndarray:
    """x once more, C-contiguous."""
    copy = empty_like(x)
    copy[...] = x
    return copy


def zeros_like(x: np.ndarray) -> np.ndarray:
    """An array of zeros of x's shape and type."""
    zeros = empty_like(x)
    zeros[:] = 0
    return zeros


def rows_of(x: np.ndarray, index: np.ndarray) -> np.ndarray:
    """x[index], whose memory comes back."""
    rows = empty((len(index), *x.shape[1:]), x.dtype)
    return np.take(x, index, axis=0, out=rows, mode="clip")  # any other mode makes a copy on the way
