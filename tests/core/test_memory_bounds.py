"""Kernels stay inside their arrays and let nothing into a result that was in memory before.

Every array lies against a page that cannot be touched; outputs and scratch are filled with something.
"""

import ctypes
import mmap
import sys

import numpy as np
import pytest

from microgpt.core import native, ops

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mprotect through ctypes")

PAGE = mmap.PAGESIZE
# B, T, H, hs: odd lengths, heads of less than a vector, of no whole word vectors, of several chunks.
ATTENTIONS = [(1, 1, 1, 2), (2, 131, 2, 10), (1, 33, 2, 40), (1, 401, 1, 16), (2, 47, 1, 66), (1, 511, 1, 24)]
# N, M, K: at least 48 rows, so that our own kernel is used; edges on all sides; several rounds of terms.
LAYERS = [(48, 1, 1), (61, 67, 5), (121, 131, 33), (53, 3300, 49), (3203, 51, 50)]


class Guarded:
    """Arrays that end, or begin, at a page that cannot be touched; what is not given is full of `fill`."""

    def __init__(self, fill, at_end):
        self.fill, self.at_end, self.maps = fill, at_end, []
        self.generator = np.random.default_rng(0)

    def array(self, content):
        pages = -(-content.nbytes // PAGE)
        area = mmap.mmap(-1, (pages + 2) * PAGE)
        self.maps.append(area)
        start = ctypes.addressof(ctypes.c_char.from_buffer(area))
        for guard in (start, start + (pages + 1) * PAGE):
            assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(guard), PAGE, 0) == 0
        offset = PAGE + (pages * PAGE - content.nbytes) * self.at_end
        array = np.frombuffer(area, np.float32, content.size, offset).reshape(content.shape)
        array[...] = content
        return array

    def random(self, *shape):
        return self.array(self.generator.standard_normal(shape, np.float32))

    def empty(self, *shape):
        return self.array(np.full(shape, self.fill, np.float32))


def pointers(*arrays):
    return [native.ffi.cast("float *", array.ctypes.data) for array in arrays]


def attention(room, B, T, H, hs, shared=1, starts=None):
    heads, lib = (shared * H, H, hs), native.lib
    C, width = shared * H * hs, (shared + 2) * H * hs
    qkv, dy = room.random(B, T, width), room.random(B, T, C)
    tables = [room.array(table) for table in ops.rope_tables(T, hs, dtype=np.float32)]
    y, lse, dqkv = room.empty(B, T, C), room.empty(B, shared * H, T), room.empty(B, T, width)
    starts = native.ffi.NULL if starts is None else starts
    scratch = [room.empty(lib.mg_attention_scratch(B, T, *heads)) for _ in range(2)]
    lib.mg_attention_forward(*pointers(y, lse, scratch[0], qkv, *tables), starts, B, T, *heads)
    lib.mg_attention_backward(*pointers(dqkv, scratch[1], dy, qkv, *tables, y, lse), starts, B, T, *heads)
    return y, lse, dqkv


def attention_of_documents(room, B, T, H, hs):
    """Two query heads share keys; documents begin at a third of each row and five positions later."""
    begins = np.zeros((B, T), np.float32)
    begins[:, T // 3 :], begins[:, T // 3 + 5 :] = T // 3, T // 3 + 5
    starts = room.array(begins)  # floats and int32 are as wide
    starts.view(np.int32)[...] = begins
    return attention(room, B, T, H, hs, 2, native.ffi.cast("int32_t *", starts.ctypes.data))


def linear(room, N, M, K):
    def scratch(*product):
        return room.empty(max(1, native.lib.mg_gemm_scratch(*product)))

    x, weight, dy, dweight = room.random(N, K), room.random(M, K), room.random(N, M), room.random(M, K)
    y, dx, lib = room.empty(N, M), room.empty(N, K), native.lib
    lib.mg_linear_forward(*pointers(y, scratch(N, M, K), x, weight), N, M, K)
    lib.mg_linear_backward_input(*pointers(dx, scratch(N, K, M), dy, weight), N, M, K)
    lib.mg_linear_backward_weight(*pointers(dweight, scratch(M, K, N), dy, x), N, M, K)
    return y, dx, dweight


@pytest.fixture(params=native.supported_levels())
def level(request):
    threads = native.threads()
    yield request.param
    native.use_precision("fp32")
    native.set_threads(threads)


@pytest.mark.parametrize(
    "kernel, shapes", [(attention, ATTENTIONS), (attention_of_documents, ATTENTIONS), (linear, LAYERS)]
)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_nothing_outside_is_read_or_written(kernel, shapes, precision, level):
    native.use_precision(precision)
    native.use_level(level)
    native.use_gemm("native")
    for shape in shapes:
        found = set()
        for threads, fill, at_end in ((1, 0.0, True), (3, np.nan, False), (2, 1e30, True)):
            native.set_threads(threads)
            results = kernel(Guarded(fill, at_end), *shape)
            assert all(np.isfinite(array).all() for array in results)
            found.add(b"".join(array.tobytes() for array in results))
        assert len(found) == 1, shape
