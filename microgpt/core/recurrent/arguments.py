"""What the operations of recurrent layers hand to C: arrays that may be missing, rows that are alike."""

from typing import Any

import numpy as np

from microgpt.common.errors import ShapeError
from microgpt.core import native
from microgpt.core.arrays import empty
from microgpt.core.native import arg, out

Maybe = np.ndarray | None


def maybe(name: str, array: Maybe, shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
    """A pointer to an array, or to none."""
    return native.ffi.NULL if array is None else arg(name, array, shape, dtype)


def starts_of(starts: Maybe, B: int, T: int) -> Any:
    """A pointer to where the document of each row begins, or to none."""
    return maybe("starts", starts, (B, T), np.int32)


def partials(n: int) -> Any:
    """Pointer to what n sums over rows are added up in."""
    return out(empty((native.lib.MG_PARTIALS * n,)))


def channels_of_heads(C: int, H: int) -> int:
    """Channels of each of H equal heads."""
    if C % H:
        raise ShapeError(f"rows of {C} channels; expected a multiple of {H} heads")
    return C // H


def same_shape(**arrays: np.ndarray) -> list[Any]:
    """Pointers to arrays that all have the shape of the first."""
    shape = next(iter(arrays.values())).shape
    return [arg(name, array, shape) for name, array in arrays.items()]
