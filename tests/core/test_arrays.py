"""Arrays whose memory comes back: the same block for the same size, counted, and given back when released."""

import numpy as np
import pytest

from microgpt.core import arrays


@pytest.fixture(autouse=True)
def nothing_held():
    arrays.release()
    yield
    arrays.release()


def test_a_dropped_array_s_memory_is_taken_by_the_next_of_its_size():
    before = arrays.held()
    x = arrays.empty((100, 1000))
    address, view = x.ctypes.data, x[3:]
    assert address % arrays.ALIGN == 0
    del x
    assert arrays.empty((100, 1000)).ctypes.data != address, "a view keeps it"
    del view
    assert arrays.empty((1000, 100)).ctypes.data == address
    assert arrays.held()[0] == before[0] + 2


def test_released_memory_is_no_longer_held():
    before, x = arrays.held(), arrays.empty((3, 100_000), np.float64)
    assert arrays.held()[1] - before[1] >= x.nbytes
    arrays.release()
    x[:] = 1  # what is lent stays
    del x
    arrays.release()
    assert arrays.held() == before


def test_memory_that_is_not_to_be_had_is_a_memory_error():
    with pytest.raises(MemoryError, match="bytes"):
        arrays.empty((1 << 60,))


@pytest.mark.parametrize("rows", [3, 3000])
def test_zeros_and_rows(rows):
    x = np.arange(rows * 40.0).reshape(rows, 40)
    assert not arrays.zeros_like(x).any() and arrays.zeros_like(x).shape == x.shape
    index = np.flatnonzero(np.arange(rows) % 3 != 1)
    assert np.array_equal(arrays.rows_of(x, index), x[index])
