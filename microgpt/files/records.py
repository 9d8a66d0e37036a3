"""The small JSON files: written one way, read strictly and in bounded memory."""

import json
import math
from pathlib import Path
from typing import Any, NoReturn

from microgpt.common.errors import CheckpointError

from . import durable

LARGEST_JSON = 1 << 20  # bytes; ours are a few thousand, and parsed JSON takes up to 30 times its length


def json_bytes(document: dict[str, Any]) -> bytes:
    """A document as a file for people and programs, in ASCII: a path in it need not be UTF-8."""
    return (json.dumps(document, indent=2, allow_nan=False) + "\n").encode()


def read_json(path: Path, most_bytes: int = LARGEST_JSON, most_parts: int | None = None) -> dict[str, Any]:
    """A small JSON file that holds an object; of no more lists and objects than most_parts, if that is given.

    Raises:   CheckpointError: it is missing, larger, or not JSON to the letter.
    """
    try:
        with durable.open_regular(path) as file:
            data = file.read(most_bytes + 1)
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error
    if most_parts is not None and data.count(b"[") + data.count(b"{") > most_parts:
        raise CheckpointError(f"{path}: more than {most_parts} lists and objects; not one of our files")
    return parse_json(data, path, most_bytes)


def parse_json(data: bytes, path: Path, most_bytes: int = LARGEST_JSON) -> dict[str, Any]:
    """The object that a file's bytes hold.  JSON to the letter: UTF-8, no NaN, no key twice; and
    no number so large that it would be read as infinite."""
    if len(data) > most_bytes:
        raise CheckpointError(f"{path}: more than {most_bytes >> 20} MB of JSON; not one of our files")
    try:
        document = json.loads(
            data.decode(), object_pairs_hook=_distinct, parse_constant=_no_number, parse_float=_finite
        )
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(document, dict):
        raise CheckpointError(f"{path}: expected a JSON object, got {type(document).__name__}")
    return document


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        raise ValueError("a key stands there twice")
    return document


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text:.80} is too large a number")
    return number
