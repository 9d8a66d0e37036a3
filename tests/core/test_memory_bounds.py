"""Kernels stay inside their arrays and let nothing into a result that was in memory before.

While a kernel runs, every array that it was given lies against a page that cannot be touched; what operations
make for outputs and scratch is filled with something.
"""

import ctypes
import functools
import mmap
import sys

import numpy as np
import pytest

from microgpt.core import arrays, native
from microgpt.core.cases import CASES
from tests.core.homes import HOMES

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mprotect through ctypes")

PAGE = mmap.PAGESIZE
system = functools.cache(lambda: ctypes.CDLL(None))


class Guarded:
    """Stands in for the kernels: their arrays end, or begin, at a page that cannot be touched."""

    def __init__(self, kernels, at_end):
        self._kernels, self._at_end, self.n_arrays = kernels, at_end, 0

    def __getattr__(self, name):
        value = getattr(self._kernels, name)
        return functools.partial(self._call, value) if callable(value) else value

    def _call(self, kernel, *args):
        moved = {}  # by address, for an array may be two arguments
        result = kernel(*(self._guarded(arg, moved) for arg in args))
        for (array, n_bytes), (_, address) in moved.items():
            ctypes.memmove(array, address, n_bytes)
        return result

    def _guarded(self, arg, moved):
        is_array = isinstance(arg, native.ffi.CData) and native.ffi.typeof(arg).kind == "array"
        if not is_array:
            return arg
        self.n_arrays += 1
        key = int(native.ffi.cast("intptr_t", arg)), native.ffi.sizeof(arg)
        if key not in moved:
            moved[key] = self._room(*key)
        return native.ffi.cast(f"{native.ffi.typeof(arg).item.cname} *", moved[key][1])

    def _room(self, array, n_bytes):
        """A copy of an array between two guards: what keeps its memory, and its address."""
        pages = -(-n_bytes // PAGE)
        area = mmap.mmap(-1, (pages + 2) * PAGE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(area))
        for guard in (start, start + (pages + 1) * PAGE):
            assert system().mprotect(ctypes.c_void_p(guard), PAGE, 0) == 0
        address = start + PAGE + (pages * PAGE - n_bytes) * self._at_end
        ctypes.memmove(address, array, n_bytes)
        return area, address


@pytest.fixture(params=native.supported_levels())
def level(request):
    threads = native.threads()
    yield request.param
    native.use_level()
    native.set_threads(threads)


def fill_memory(monkeypatch, fill):
    """What operations make for outputs and scratch is full of this."""

    def filled(make):
        def made(*args):
            array = make(*args)
            array[...] = fill
            return array

        return made

    for make in (arrays.empty, arrays.empty_like, arrays.workspace):
        for module in (module for module in HOMES if hasattr(module, make.__name__)):
            monkeypatch.setattr(module, make.__name__, filled(make))


@pytest.mark.parametrize("name", CASES)
def test_nothing_outside_is_read_or_written(name, level, monkeypatch):
    case = CASES[name]
    native.use_level(level)
    native.use_gemm("native")
    for shape in case.shapes:
        inputs, found = case.inputs(shape, np.float32), set()
        for threads, fill, at_end in ((1, 0.0, True), (3, np.nan, False), (2, 1e30, True)):
            native.set_threads(threads)
            with monkeypatch.context() as patch:
                fill_memory(patch, fill)
                guarded = Guarded(native.lib, at_end)
                patch.setattr(native, "lib", guarded)
                for precision, found_there in native.products.items():
                    patch.setitem(native.products, precision, found_there._replace(lib=guarded))
                results = case.run(inputs)
            assert guarded.n_arrays and all(np.isfinite(array).all() for array in results.values())
            found.add(b"".join(array.tobytes() for array in results.values()))
        assert len(found) == 1, shape
