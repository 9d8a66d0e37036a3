"""Arrays whose memory comes back: the same block for the same size, counted, and given back when released."""

import numpy as np
import pytest

from microgpt.core import memory


@pytest.fixture(autouse=True)
def nothing_held():
    memory.release()
    yield
    memory.release()


def test_a_dropped_array_s_memory_is_taken_by_the_next_of_its_size():
    before = memory.held()
    x = memory.empty((100, 1000))
    address, view = x.ctypes.data, x[3:]
    assert address % memory.ALIGN == 0
    del x
    assert memory.empty((100, 1000)).ctypes.data != address, "a view keeps it"
    del view
    assert memory.empty((1000, 100)).ctypes.data == address
    assert memory.held()[0] == before[0] + 2


def test_released_memory_is_no_longer_held():
    before, x = memory.held(), memory.empty((3, 100_000), np.float64)
    assert memory.held()[1] - before[1] >= x.nbytes
    memory.release()
    x[:] = 1  # what is lent stays
    del x
    memory.release()
    assert memory.held() == before


def test_memory_that_is_not_to_be_had_is_a_memory_error():
    with pytest.raises(MemoryError, match="bytes"):
        memory.empty((1 << 60,))


@pytest.mark.parametrize("rows", [3, 3000])
def test_zeros_and_rows(rows):
    x = np.arange(rows * 40.0).reshape(rows, 40)
    assert not memory.zeros_like(x).any() and memory.zeros_like(x).shape == x.shape
    index = np.flatnonzero(np.arange(rows) % 3 != 1)
    assert np.array_equal(memory.rows_of(x, index), x[index])
