"""Tables as text, .csv and .tsv: one record a row, with the keys that the first row names.

Fields in quotes may hold separators, quotes and line ends (RFC 4180, Python's `csv`).  Separators are those
that make known columns of the first row.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from microgpt.common.errors import DataError
from microgpt.corpus.chat import Document

from .files import MAX_LINE_BYTES, NoTextError, open_source
from .options import Reading, documents_of
from .records import BadRecordError, Record, expected_keys, is_known

_SEPARATORS = ",;\t|"
_NO_UTF8 = re.compile("[\udc80-\udcff]")  # how a byte that is none is read


def read_table(path: Path, reading: Reading) -> Iterator[Document]:
    """Every row as a document; bad ones are named by the number of the line on which they begin."""
    with open_source(path, reading.progress) as stream:
        yield from documents_of(path, _records(path, stream, reading), reading)


def _records(path: Path, stream: BinaryIO, reading: Reading) -> Iterator[tuple[object, Any]]:
    lines = _lines(path, stream)
    before, first = next(((n, line) for n, line in enumerate(lines, 1) if line.strip()), (0, ""))
    separator, names = _columns(path, first, reading.options.key_names)
    table = csv.reader(lines, delimiter=separator, strict=True)
    while True:
        number = before + table.line_num + 1
        try:
            with _long_fields():
                cells = next(table)
            if cells:
                yield number, _record(names, cells)
        except StopIteration:
            return
        except csv.Error as error:
            reading.bad(path, number, f"not a row of a table ({error})")
        except BadRecordError as error:
            reading.bad(path, number, error)


def _lines(path: Path, stream: BinaryIO) -> Iterator[str]:
    number = 0
    with io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline="") as text:
        while line := text.readline(MAX_LINE_BYTES):
            number += 1
            if len(line) == MAX_LINE_BYTES:
                raise DataError(f"{path}:{number}: line of over {MAX_LINE_BYTES >> 20} MiB; split the record")
            yield line


def _columns(path: Path, first: str, keys: Sequence[str]) -> tuple[str, list[str]]:
    """The separator and the names of columns that the first row of a table tells.

    Raises:   NoTextError: they are not known, so that none of the numbers and words is taken for prose.
    """
    for separator in _SEPARATORS:
        names = [name.strip() for name in _fields(first, separator)]
        if is_known(dict.fromkeys(names, ""), keys):
            return separator, names
    columns = ascii(first.strip())[:80]
    raise NoTextError(f"{path}:1: columns of no known table: {columns}; {expected_keys()}")


def _fields(row: str, separator: str) -> list[str]:
    """The fields of one row; none if it is no row of a table."""
    with _long_fields(), suppress(csv.Error):
        return next(csv.reader([row], delimiter=separator), [])
    return []


@contextmanager
def _long_fields() -> Iterator[None]:
    """Let fields be as long as records elsewhere; the limit is one of the process, so it is put back."""
    before = csv.field_size_limit(MAX_LINE_BYTES)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _record(names: list[str], cells: list[str]) -> Record:
    if len(cells) != len(names):
        raise BadRecordError(f"{len(cells)} fields, the first row has {len(names)}")
    for cell in cells:
        if not cell.isascii() and (found := _NO_UTF8.search(cell)):
            raise BadRecordError(f"not UTF-8 (byte 0x{ord(found[0]) - 0xDC00:02x})")
    return dict(zip(names, cells, strict=True))
