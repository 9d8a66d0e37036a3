"""The one door to C: handles that free themselves, checked arrays, statuses turned into exceptions.

A salt spreads the hash tables so that no text can be made to collide; results do not depend on it.
"""

import secrets
from collections.abc import Iterator, Sequence
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microgpt.tokenizer.alphabet import BYTES_BY_RANK
from microgpt.tokenizer.errors import TokenizerError

try:
    from microgpt.tokenizer._bpe import ffi, lib  # type: ignore[import-not-found]
except ImportError as error:  # pragma: no cover - only in a tree that was not built
    raise ImportError(f"{error}: the C part of the tokenizer is not built; run `pip install -e .`") from error

Buffer = bytes | bytearray | memoryview  # or anything else with contiguous bytes, such as mmap

MAX_MERGES = 1 << 17


def _check(status: int) -> int:
    """Raise for a negative status."""
    if status == lib.BPE_NO_MEMORY:
        raise MemoryError("tokenizer: not enough memory")
    if status == lib.BPE_TOO_LARGE:
        raise TokenizerError("too large: a run of 2 GiB without a break, or 4 GiB of distinct chunks")
    if status == lib.BPE_BAD_MERGES:
        raise TokenizerError("merges: a pair uses an id not yet defined, or occurs twice")
    return status


def _handle(pointer: Any, free: Any) -> Any:
    """A pointer that frees itself."""
    if pointer == ffi.NULL:
        raise MemoryError("tokenizer: not enough memory")
    return ffi.gc(pointer, free)


def _bytes_of(data: Buffer) -> Any:
    """Pointer to the bytes of a buffer, which it keeps alive."""
    return ffi.from_buffer("uint8_t[]", data)


def _numbers(array: NDArray[Any], ctype: str) -> Any:
    """Pointer to an array made in this file."""
    return ffi.from_buffer(f"{ctype}[]", array)


def split(text: Buffer) -> list[int]:
    """End of every chunk of a text: the fast twin of `reference.split`."""
    ends = np.empty(len(text), np.int64)
    return ends[: lib.bpe_split(_numbers(ends, "int64_t"), _bytes_of(text), len(text))].tolist()


def safe_cut(text: Buffer, at: int) -> int:
    """Where to cut a text without changing a chunk: near `at`, before if possible; len(text) if nowhere."""
    return int(lib.bpe_safe_cut(_bytes_of(text), len(text), at))


class Counter:
    """How often each distinct chunk occurs.  Counters that are to be merged share one salt."""

    def __init__(self, salt: int) -> None:
        self.handle = _handle(lib.bpe_counter_new(salt), lib.bpe_counter_free)

    def add(self, text: Buffer, lengths: Sequence[int]) -> None:
        """Count texts that lie back to back.  The GIL is released."""
        assert sum(lengths) == len(text)
        _check(lib.bpe_counter_add(self.handle, _bytes_of(text), ffi.new("int64_t[]", lengths), len(lengths)))

    def merge(self, other: "Counter") -> None:
        """Add the counts of another counter."""
        _check(lib.bpe_counter_merge(self.handle, other.handle))

    def __len__(self) -> int:
        return int(lib.bpe_counter_size(self.handle))

    def items(self) -> Iterator[tuple[bytes, int]]:
        """Chunks of two bytes or more with their counts, in no particular order."""
        count = ffi.new("uint64_t *")
        for i in range(lib.bpe_counter_slots(self.handle)):
            if n := lib.bpe_counter_get(self.handle, i, ffi.NULL, 0, count):
                chunk = ffi.new("uint8_t[]", n)
                lib.bpe_counter_get(self.handle, i, chunk, n, count)
                yield bytes(ffi.buffer(chunk)), count[0]


class Trainer:
    """Learns merges from a counter, a few at a time so that the caller can stop and show progress."""

    def __init__(self, counter: Counter, max_merges: int, single_digits: bool = False) -> None:
        out, salt = ffi.new("bpe_trainer **"), secrets.randbits(64)
        _check(lib.bpe_trainer_new(out, counter.handle, BYTES_BY_RANK, salt, max_merges, single_digits))
        self.handle = _handle(out[0], lib.bpe_trainer_free)

    def step(self, n: int) -> list[tuple[int, int]]:
        """Learn up to n more merges; fewer come back when there are no more."""
        merges = np.empty((n, 2), np.int32)
        done = _check(lib.bpe_trainer_step(self.handle, _numbers(merges, "int32_t"), n))
        return [(left, right) for left, right in merges[:done].tolist()]


class Encoder:
    """Encodes texts by a list of merges.  Any number of threads may use it at once."""

    def __init__(self, merges: Sequence[tuple[int, int]]) -> None:
        table = np.array(merges, np.int32).reshape(-1, 2)
        out = ffi.new("bpe_encoder **")
        _check(lib.bpe_encoder_new(out, _numbers(table, "int32_t"), len(table), secrets.randbits(64)))
        self.handle = _handle(out[0], lib.bpe_encoder_free)
        self.workspaces: SimpleQueue[Workspace] = SimpleQueue()  # those that no thread is using now

    def encode(self, text: Buffer, lengths: Sequence[int]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Encode texts that lie back to back: all ids, and how many belong to each.  The GIL is released."""
        assert sum(lengths) == len(text)
        try:
            work = self.workspaces.get_nowait()
        except Empty:
            work = Workspace()
        ids = work.room(len(text) + lib.BPE_SLACK)
        n_ids = np.empty(len(lengths), np.int64)
        n = lib.bpe_encode(
            self.handle,
            work.cache,
            _numbers(ids, "int32_t"),
            _numbers(n_ids, "int64_t"),
            _bytes_of(text),
            ffi.new("int64_t[]", lengths),
            len(lengths),
        )
        found = ids[: max(n, 0)].copy()
        self.workspaces.put(work)
        _check(n)
        return found, n_ids


class Workspace:
    """What one thread encodes with: recently encoded chunks, and room for ids that is used again.

    Fresh room costs the kernel more time to hand out, page by page, than the encoder to fill.
    Memory: 4 MiB of chunks a thread, and 4 bytes for each id of the longest input up to KEPT_IDS, so 8 MiB
    at most; a longer input takes room of its own for the time.
    """

    KEPT_IDS = 1 << 21

    def __init__(self) -> None:
        self.cache = _handle(lib.bpe_cache_new(), lib.bpe_cache_free)
        self._ids = np.empty(0, np.int32)

    def room(self, n: int) -> NDArray[np.int32]:
        """An array of at least n ids with any content."""
        if n > self.KEPT_IDS:
            return np.empty(n, np.int32)
        if n > len(self._ids):
            self._ids = np.empty(n, np.int32)
        return self._ids
