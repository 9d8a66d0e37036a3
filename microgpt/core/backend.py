"""The type is the backend: float32 runs the C kernel, float64 runs the function of the same name in
`reference`, so casting a whole model to float64 gradient-checks all of it."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from microgpt.common.errors import ShapeError

from . import reference, reference_recurrent


def op(native_function: Callable) -> Callable:
    """Send a call to C or to the reference by the type of its first argument, of several arrays, one at
    least, that of the first; stored bfloat16 goes to C."""
    name = native_function.__name__
    truth = getattr(reference, name, None) or getattr(reference_recurrent, name)
    backends = {np.dtype(np.float32): native_function, np.dtype(np.float64): truth}
    backends[np.dtype(np.uint16)] = native_function

    @functools.wraps(native_function)
    def dispatch(x: Any, *args: Any, **kwargs: Any) -> Any:
        dtype = (x if isinstance(x, np.ndarray) else x[0]).dtype
        backend = backends.get(dtype)
        if backend is None:
            raise ShapeError(f"{name}: first argument is {dtype}; expected float32 or float64")
        return backend(x, *args, **kwargs)

    return dispatch
