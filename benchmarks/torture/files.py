"""Files that changed on the disk: every one is refused by name, and the older checkpoint taken instead."""

import random
from collections.abc import Iterator
from pathlib import Path

from microgpt.common.errors import CheckpointError
from microgpt.files.tensors import LENGTH_BYTES
from microgpt.runs.checkpoint import ALL_FILES, MANIFEST, MOMENTS, WEIGHTS, persist, verify
from microgpt.runs.layout import checkpoint_name

from .case import NEW, OLD, make_snapshot, newest_step

PAYLOAD_BITS, TRUNCATIONS = 20_000, 2_000
ALL_BITS, ONE_BIT = tuple(1 << bit for bit in range(8)), (1,)


def damage_everywhere(folder: Path, seed: int, short: bool = False) -> Iterator[tuple[str | None, str]]:
    """Flip every bit of manifest and headers, some of everything else, and cut files.

    Yields (problem, what was done).
    """
    run = folder / "run"
    run.mkdir()
    for step in (OLD, NEW):
        persist(make_snapshot(step, seed), run, keep=2)
    newest, draw = run / checkpoint_name(NEW), random.Random(seed)
    share = 40 if short else 1
    yield from _heads(newest, ONE_BIT if short else ALL_BITS)
    yield from _payload(newest, draw, PAYLOAD_BITS // share)
    yield from _cuts(newest, draw, TRUNCATIONS // share)


def _heads(newest: Path, bits: tuple[int, ...]) -> Iterator[tuple[str | None, str]]:
    """Every byte of the manifest and of both headers."""
    for name, n_bytes in _head_bytes(newest).items():
        for at in range(n_bytes):
            yield from (_flipped(newest / name, at, bit) for bit in bits)


def _head_bytes(newest: Path) -> dict[str, int]:
    manifest = {MANIFEST: (newest / MANIFEST).stat().st_size}
    lengths = {name: (newest / name).read_bytes()[:LENGTH_BYTES] for name in (WEIGHTS, MOMENTS)}
    return manifest | {name: LENGTH_BYTES + int.from_bytes(text, "little") for name, text in lengths.items()}


def _payload(newest: Path, draw: random.Random, count: int) -> Iterator[tuple[str | None, str]]:
    """Bits anywhere in the files that the manifest lists, each byte as likely as any other."""
    sizes = [(newest / name).stat().st_size for name in ALL_FILES]
    for name in draw.choices(ALL_FILES, sizes, k=count):
        path = newest / name
        yield _flipped(path, draw.randrange(path.stat().st_size), draw.choice(ALL_BITS))


def _cuts(newest: Path, draw: random.Random, count: int) -> Iterator[tuple[str | None, str]]:
    for _ in range(count):
        path = newest / draw.choice([*ALL_FILES, MANIFEST])
        good = path.read_bytes()
        size = draw.randrange(len(good))
        yield _judged(path, good, good[:size], f"cut of {path.name} to {size} bytes")


def _flipped(path: Path, at: int, bit: int) -> tuple[str | None, str]:
    good = path.read_bytes()
    bad = bytearray(good)
    bad[at] ^= bit
    return _judged(path, good, bytes(bad), f"flip of {bit} in byte {at} of {path.name}")


def _judged(path: Path, good: bytes, bad: bytes, what: str) -> tuple[str | None, str]:
    """Put bad bytes into a file, look, and put the good ones back."""
    path.write_bytes(bad)
    try:
        return _problem(path), what
    finally:
        path.write_bytes(good)


def _problem(path: Path) -> str | None:
    try:
        verify(path.parent)
    except CheckpointError as error:
        if not any(name in str(error) for name in (*ALL_FILES, MANIFEST, "checkpoint format")):
            return f"refused without naming a file: {error}"
    else:
        return "accepted"
    said: list[str] = []
    step = newest_step(path.parents[1], said)
    if step != OLD or len(said) != 1:
        return f"resumes at {step} after {len(said)} words, expected {OLD} after one"
    return None
