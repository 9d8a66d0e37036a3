"""Read documents from corpus files, each format known by its content.

Formats: plain text, JSONL or JSON records of the kinds in records.py, DailyDialog (`__eou__`), each also as
.gz or .zst; parquet, which is packed inside.  A new format is one function and one row of READERS (or of
records.FORMATS).  Files are streamed: memory holds one document, never a file.
"""

import io
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson

from microgpt.common.errors import DataError

from .chat import Document
from .detokenize import detokenize
from .parquet import read_parquet
from .plain_text import read_text
from .reading import Reader, Reading, ReadOptions, Skipped, decoded
from .records import BadRecordError, alternating, document_from
from .sources import (
    MAX_LINE_BYTES,
    PARQUET,
    NoTextError,
    Progress,
    find_files,
    head_of,
    is_parquet,
    is_what_it_is_named,
    lines_of,
    open_source,
    unpacked_name,
)

_TURN_END = b"__eou__"
_BLANKS = re.compile(r"\s*")


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
    for path in find_files(paths, reading.bad_file):
        try:
            read = READERS[detect(path)]
        except NoTextError as error:
            reading.bad_file(error)
            continue
        found, skipped_before = False, reading.skipped.lines
        for document in read(path, reading):
            found = True
            yield document
        if not found and reading.skipped.lines == skipped_before:
            reading.bad_file(NoTextError(f"{path}: no text found; this corpus file is empty"))


def detect(path: Path) -> str:
    """The format of a file, a key of READERS, judged by its first bytes.

    Where these are of no JSON its name may say that they should be: a broken first line must not make chats
    be read as plain text.
    """
    found = _by_content(path)
    return found if found in ("jsonl", "json", "parquet") else _by_name(path) or found


def name_decides(path: Path) -> bool:
    """Whether this very content is read in another way than under another name."""
    try:
        return detect(path) != _by_content(path)
    except DataError:  # passed over, or an error, under every name
        return False


def _by_name(path: Path) -> str | None:
    suffix = unpacked_name(path.name).rpartition(".")[2]
    return {"jsonl": "jsonl", "ndjson": "jsonl", "json": "json"}.get(suffix)


def _by_content(path: Path) -> str:
    if is_parquet(path):
        return "parquet"
    head = head_of(path)
    stripped = head.lstrip()
    if not stripped:
        raise NoTextError(f"{path}: this corpus file holds nothing but blanks; give a file with text")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise NoTextError(f"{path}: this is UTF-16 text; save it as UTF-8")
    if b"\0" in head:
        if head.startswith(PARQUET):
            raise DataError(f"{path}: a parquet file that is damaged, or packed: unpack it first")
        raise NoTextError(f"{path}: this is a binary file; expected UTF-8 text, JSON or JSONL")
    if re.match(rb'\[\s*(\{\s*"|\])|\{\s*\n', stripped):
        return "json"
    if re.match(rb'\{\s*["}]', stripped):
        return "jsonl"
    if not is_what_it_is_named(path):
        raise DataError(f"{path}: named {path.suffix}, but it is none; is it damaged, or misnamed?")
    return "dailydialog" if _TURN_END in stripped.split(b"\n", 1)[0] else "text"


def _by_line(convert: Callable[[bytes, ReadOptions], Document]) -> Reader:
    """A reader for formats with one document a line; blank lines are passed over."""

    def read(path: Path, reading: Reading) -> Iterator[Document]:
        for number, line in lines_of(path, reading.progress):
            if not line or line.isspace():
                continue
            try:
                document = convert(line, reading.options)
            except BadRecordError as error:
                reading.bad(path, number, error)
                continue
            yield document

    return read


def _from_json_line(line: bytes, options: ReadOptions) -> Document:
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        record = _from_lenient_json(decoded(line), error)
    return document_from(record, options.senders)


def _from_lenient_json(line: str, refused: orjson.JSONDecodeError) -> Any:
    """The record in a line with what the standard library alone reads, as in arrays: NaN, 1e999."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        raise BadRecordError(f"not usable JSON: {refused.msg} at column {refused.colno}") from None


def _from_dailydialog(line: bytes, options: ReadOptions) -> Document:
    turns = decoded(line).split(_TURN_END.decode())
    if len(turns) == 1:
        raise BadRecordError("no __eou__; expected one dialogue a line, each turn ended by __eou__")
    if not turns[-1].strip():
        turns.pop()
    spoken = [detokenize(turn) for turn in turns]
    if not all(spoken):
        raise BadRecordError(f"turn {spoken.index('') + 1} is empty")
    return alternating(spoken)


def _read_json(path: Path, reading: Reading) -> Iterator[Document]:
    """Records of one JSON array, or pretty-printed objects one after the other."""
    for number, value in _json_values(path, reading):
        try:
            document = document_from(value, reading.options.senders)
        except BadRecordError as error:
            reading.bad(path, number, error)
            continue
        yield document


def _json_values(path: Path, reading: Reading) -> Iterator[tuple[int, Any]]:
    """Each value of a JSON array or sequence with its line number; memory holds one value at a time."""
    scan = json.JSONDecoder().raw_decode
    with open_source(path, reading.progress) as stream:
        text = _TextWindow(path, stream)
        in_array = text.next_character() == "["
        text.drop(in_array)
        while (character := text.next_character()) not in ("", "]"):
            if character == ",":
                text.drop(1)
                continue
            try:
                value, end = scan(text.text, text.start)
            except (ValueError, RecursionError) as error:
                if not text.grow():
                    raise DataError(f"{path}:{text.line}: not valid JSON from here on ({error})") from None
                continue
            yield text.line, value
            text.drop(end - text.start)
        closed = character == "]"
        text.drop(closed)
        if closed != in_array or text.next_character():
            raise DataError(f"{path}:{text.line}: a JSON array must end where its file ends; is it cut off?")


class _TextWindow:
    """A sliding window over a text file: `text[start:]` is what has not been used yet."""

    def __init__(self, path: Path, stream: Any):
        self._path, self._read = path, io.TextIOWrapper(stream, "utf-8-sig", newline="").read
        self.text, self.start, self.line = "", 0, 1

    def next_character(self) -> str:
        """Pass over blanks; the character found, or "" at the end of the file."""
        while True:
            self.drop(_BLANKS.match(self.text, self.start).end() - self.start)  # type: ignore[union-attr]
            if self.start < len(self.text) or not self.grow():
                return self.text[self.start : self.start + 1]

    def drop(self, n: int) -> None:
        self.line += self.text.count("\n", self.start, self.start + n)
        self.start += n

    def grow(self) -> bool:
        """Read as much again as is waiting; False at the end of the file."""
        kept = self.text[self.start :]
        if len(kept) > MAX_LINE_BYTES:
            raise DataError(f"{self._path}:{self.line}: a record of over 64 MiB, or not valid JSON")
        try:
            more = self._read(max(len(kept), 1 << 18))
        except UnicodeDecodeError:
            raise DataError(f"{self._path}: not UTF-8 after line {self.line}; save it as UTF-8") from None
        self.text, self.start = kept + more, 0
        return bool(more)


READERS: dict[str, Reader] = {
    "jsonl": _by_line(_from_json_line),
    "json": _read_json,
    "dailydialog": _by_line(_from_dailydialog),
    "parquet": read_parquet,
    "text": read_text,
}
