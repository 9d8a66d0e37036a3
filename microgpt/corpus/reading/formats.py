"""Read documents from corpus files, each format known by its content.

Formats: plain text, JSONL, JSON, CSV or TSV records of the kinds in records.py, DailyDialog (`__eou__`), each
also as .gz or .zst; parquet, which is packed inside.  A new format is one function and one row of READERS (or
of records.FORMATS).  Files are streamed: memory holds one document, never a file.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson

from microgpt.corpus.chat import Document

from .detection import TURN_END, detect
from .detokenize import detokenize
from .files import NoTextError, Progress, lines_of
from .folders import find_files
from .json_values import json_values
from .options import Reader, Reading, ReadOptions, Skipped, decoded, documents_of
from .parquet import read_parquet
from .plain_text import read_text
from .records import BadRecordError, alternating
from .tables import read_table


def read_documents(
    paths: str | os.PathLike | Iterable[str | os.PathLike],
    options: ReadOptions | None = None,
    skipped: Skipped | None = None,
    progress: Progress | None = None,
) -> Iterator[Document]:
    """Every document of the named files and folders, in order.

    Args:     skipped: counts the bad lines when the options say to skip them.
              progress: called with numbers of bytes read from the files as they are stored.
    Raises:   DataError: a path is missing, a file is empty or of no known format, a line is bad.
    """
    if isinstance(paths, (str, os.PathLike)):
        paths = [paths]
    reading = Reading(options or ReadOptions(), skipped or Skipped(), progress)
    for path in find_files(paths, reading.bad_file, suffixes=reading.options.suffixes):
        try:
            read = READERS[detect(path, reading.options.key_names)]
        except NoTextError as error:
            reading.bad_file(error)
            continue
        found, skipped_before = False, reading.skipped.lines
        for document in read(path, reading):
            found = True
            yield document
        if not found and reading.skipped.lines == skipped_before:
            reading.bad_file(NoTextError(f"{path}: no text found; this corpus file is empty"))


def _read_jsonl(path: Path, reading: Reading) -> Iterator[Document]:
    """Records, one a line."""
    return documents_of(path, _each_line(path, reading, _json), reading)


def _read_json(path: Path, reading: Reading) -> Iterator[Document]:
    """Records of one JSON array, or pretty-printed objects one after the other."""
    return documents_of(path, json_values(path, reading), reading)


def _read_dailydialog(path: Path, reading: Reading) -> Iterator[Document]:
    """Dialogues, one a line."""
    return (dialogue for _, dialogue in _each_line(path, reading, _dialogue))


def _each_line(path: Path, reading: Reading, convert: Callable[[bytes], Any]) -> Iterator[tuple[object, Any]]:
    """What is in each line, with its number; blank lines are passed over."""
    for number, line in lines_of(path, reading.progress):
        if not line or line.isspace():
            continue
        try:
            value = convert(line)
        except BadRecordError as error:
            reading.bad(path, number, error)
            continue
        yield number, value


def _json(line: bytes) -> Any:
    """The value in a line, with what the standard library alone reads, as in arrays: NaN, 1e999."""
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        refused = error
    try:
        return json.loads(decoded(line))
    except (ValueError, RecursionError) as error:
        if isinstance(error, BadRecordError):
            raise
        raise BadRecordError(f"not usable JSON: {refused.msg} at column {refused.colno}") from None


def _dialogue(line: bytes) -> Document:
    turns = decoded(line).split(TURN_END.decode())
    if len(turns) == 1:
        raise BadRecordError("no __eou__; expected one dialogue a line, each turn ended by __eou__")
    if not turns[-1].strip():
        turns.pop()
    spoken = [detokenize(turn) for turn in turns]
    if not all(spoken):
        raise BadRecordError(f"turn {spoken.index('') + 1} is empty")
    return alternating(spoken)


READERS: dict[str, Reader] = {
    "jsonl": _read_jsonl,
    "json": _read_json,
    "dailydialog": _read_dailydialog,
    "parquet": read_parquet,
    "table": read_table,
    "text": read_text,
}
