"""What every reader that fuzzing tries must keep to: its time, its memory, and one line when it refuses."""

import contextlib
import time
import tracemalloc
from collections.abc import Callable
from typing import TypeVar

LIMIT_BYTES = 64 << 20  # of memory beyond what was read

Result = TypeVar("Result")


def within_bounds(
    read: Callable[[], Result], n_bytes: int, errors: tuple[type[Exception], ...], limit_s: float
) -> Result | None:
    """What `read` makes of n_bytes; None if it refuses them with one of its own errors.

    limit_s is of processor time, sanitizers included.
    """
    tracemalloc.start()
    start = time.process_time()
    result = None
    try:
        result = read()
    except errors as error:
        if "\n" in str(error) or len(str(error)) > 500:
            raise AssertionError(f"not one short line: {str(error)!r:.200}") from None
    finally:
        seconds, (_, peak) = time.process_time() - start, tracemalloc.get_traced_memory()
        tracemalloc.stop()
    if seconds > limit_s:  # tracing makes it five times as slow; so once more without
        seconds = _seconds(read, errors)
    if seconds > limit_s:
        raise AssertionError(f"{seconds:.1f} s to read {n_bytes} bytes")
    if peak > LIMIT_BYTES + n_bytes:
        raise AssertionError(f"{peak >> 20} MiB of memory to read {n_bytes} bytes")
    return result


def _seconds(read: Callable[[], object], errors: tuple[type[Exception], ...]) -> float:
    start = time.process_time()
    with contextlib.suppress(*errors):
        read()
    return time.process_time() - start
