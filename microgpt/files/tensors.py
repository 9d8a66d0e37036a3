"""safetensors files: 8 bytes of length, a JSON header of names, shapes and places, then the tensors.

Written straight from the arrays and read straight into them, so that neither takes memory of its own; the
hash of a file is made of the same bytes on their way out.  A header is compared with itself, with the length
of the file and with what is wanted before anything is read.
"""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from microgpt.common.errors import CheckpointError

from . import durable
from .records import LARGEST_JSON, parse_json

FLOAT = "F32"  # the one type that a checkpoint holds
LENGTH_BYTES = 8
MOST_DIMENSIONS = 8
METADATA = "__metadata__"
FINITE_CHUNK_BYTES = 1 << 20

NOTHING: Mapping[str, str] = MappingProxyType({})
Shapes = Mapping[str, tuple[int, ...]]


class Place(NamedTuple):
    """Shape of a tensor, and where its bytes lie in the file."""

    shape: tuple[int, ...]
    start: int
    stop: int


def write_tensors(
    path: Path, tensors: Mapping[str, np.ndarray], about: Mapping[str, str] = NOTHING
) -> durable.Written:
    """Write a new file of float32 tensors, durably.  Equal tensors give equal bytes.

    about: texts by name that go with them.
    """
    return durable.write_file(path, [header(tensors, about), *map(_raw, tensors.values())])


def header(tensors: Mapping[str, np.ndarray], about: Mapping[str, str] = NOTHING) -> bytes:
    """The length and the header, filled up so that the tensors start at a multiple of 8 bytes.

    Raises: CheckpointError: so many tensors that no reader would take it; or one of another type.
    """
    entries: dict[str, Any] = {METADATA: dict(about)} if about else {}
    start = 0
    for name, tensor in tensors.items():
        if tensor.dtype != np.dtype("<f4"):
            raise CheckpointError(
                f"tensor {name:.80} is {tensor.dtype}; a file of tensors holds float32, so save it as that"
            )
        stop = start + tensor.nbytes
        entries[name] = {"dtype": FLOAT, "shape": list(tensor.shape), "data_offsets": [start, stop]}
        start = stop
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % LENGTH_BYTES)
    if len(text) > LARGEST_JSON:
        raise CheckpointError(
            f"{len(tensors):,} tensors make a header of {len(text):,} bytes; no more than {LARGEST_JSON:,} "
            "are read again: take a model of fewer layers"
        )
    return len(text).to_bytes(LENGTH_BYTES, "little") + text


def _raw(tensor: np.ndarray) -> memoryview:
    """The bytes of an array, without a copy."""
    assert tensor.dtype == np.dtype("<f4") and tensor.flags.c_contiguous
    return tensor.reshape(-1).view(np.uint8).data


def shapes_in(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors in a file."""
    with _reading(path) as file:
        return {name: place.shape for name, place in _places(file, path).items()}


def about(path: Path) -> dict[str, str]:
    """The texts by name that go with the tensors of a file; {}: there are none."""
    with _reading(path) as file:
        found = _entries(file, path)[0].get(METADATA, {})
    is_right = isinstance(found, dict) and all(isinstance(text, str) for text in found.values())
    if not is_right:
        raise CheckpointError(f"{path}: {METADATA} is {found!r:.80}, expected texts by name")
    return dict(found)


def check_shapes(path: Path, found: Shapes, wanted: Shapes) -> None:
    """Refuse a file whose tensors are not exactly the wanted ones."""
    for name in sorted(set(wanted) ^ set(found)):
        problem = "missing" if name in wanted else "not part of this model"
        raise CheckpointError(f"{path}: tensor {name:.80} is {problem}")
    for name, shape in wanted.items():
        if found[name] != shape:
            raise CheckpointError(f"{path}: {name} is {found[name]}, this model needs {shape}")


def read_into(path: Path, wanted: Mapping[str, np.ndarray]) -> None:
    """Fill arrays from a file that holds exactly them; nothing is changed when it does not."""
    with _reading(path) as file:
        places = _places(file, path)
        found = {name: place.shape for name, place in places.items()}
        check_shapes(path, found, {name: tensor.shape for name, tensor in wanted.items()})
        for name, tensor in wanted.items():
            _read_at(file, places[name].start, _raw(tensor), path)


def not_finite(path: Path) -> str | None:
    """The first tensor of a file with a value that is not finite; None: there is no such value."""
    buffer = np.empty(FINITE_CHUNK_BYTES // 4, np.dtype("<f4"))
    with _reading(path) as file:
        for name, (_, start, stop) in _places(file, path).items():
            for at in range(start, stop, FINITE_CHUNK_BYTES):
                part = buffer[: (min(stop, at + FINITE_CHUNK_BYTES) - at) // 4]
                _read_at(file, at, _raw(part), path)
                if not np.isfinite(part).all():
                    return name
    return None


# -------------------------------------------------------------------------------- reading


def _reading(path: Path) -> BinaryIO:
    try:
        return durable.open_regular(path)
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error


def _read_at(file: BinaryIO, offset: int, target: memoryview, path: Path) -> None:
    try:
        file.seek(offset)
        while target:
            n_bytes = file.readinto(target)  # type: ignore[attr-defined]
            if not n_bytes:
                raise CheckpointError(f"{path}: became shorter while it was read")
            target = target[n_bytes:]
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error


def _entries(file: BinaryIO, path: Path) -> tuple[dict[str, Any], int, int]:
    """The header as it stands there, where what it describes begins, and the length of the file."""
    head = bytearray(LENGTH_BYTES)
    size = durable.size_of(file)
    if size < LENGTH_BYTES:
        raise CheckpointError(f"{path}: {size} bytes are no safetensors file")
    _read_at(file, 0, memoryview(head), path)
    length = int.from_bytes(head, "little")
    if length > min(LARGEST_JSON, size - LENGTH_BYTES):
        raise CheckpointError(f"{path}: a header of {length} bytes in a file of {size}: no safetensors file")
    text = bytearray(length)
    _read_at(file, LENGTH_BYTES, memoryview(text), path)
    return parse_json(bytes(text), path), LENGTH_BYTES + length, size


def _places(file: BinaryIO, path: Path) -> dict[str, Place]:
    """The header, by name, in the order of the file."""
    entries, first, size = _entries(file, path)
    entries.pop(METADATA, None)
    places = sorted(_parsed(entries, first, path), key=lambda item: (item[1].start, item[1].stop))
    _refuse_gaps(places, first, size, path)
    return dict(places)


def _parsed(entries: dict[str, Any], first: int, path: Path) -> Iterator[tuple[str, Place]]:
    """Each entry of a header, once its fields agree with one another."""
    for name, entry in entries.items():
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise CheckpointError(f"{path}: the header does not describe {name:.80}")
        if entry["dtype"] != FLOAT:
            raise CheckpointError(f"{path}: {name:.80} is {entry['dtype']!s:.20}, expected {FLOAT}")
        shape, offsets = entry["shape"], entry["data_offsets"]
        if not _are_counts(shape) or not _are_counts(offsets) or len(offsets) != 2:
            raise CheckpointError(f"{path}: {name:.80} has an impossible shape or place")
        if 4 * math.prod(shape) != offsets[1] - offsets[0]:
            raise CheckpointError(f"{path}: the shape of {name:.80} does not fit its place")
        yield name, Place(tuple(shape), first + offsets[0], first + offsets[1])


def _are_counts(values: Any) -> bool:
    if not isinstance(values, list) or len(values) > MOST_DIMENSIONS:
        return False
    return all(type(value) is int and 0 <= value < 1 << 63 for value in values)


def _refuse_gaps(places: list[tuple[str, Place]], first: int, size: int, path: Path) -> None:
    """Every byte after the header belongs to one tensor."""
    end = first
    for name, place in places:
        if place.start != end:
            raise CheckpointError(f"{path}: {name:.80} does not begin where the tensor before it ends")
        end = place.stop
    if end != size:
        raise CheckpointError(f"{path}: {size} bytes long, its tensors end at {end}")
