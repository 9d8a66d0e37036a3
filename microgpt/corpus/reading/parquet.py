"""Parquet files, one record a row, through pyarrow."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from microgpt.common.errors import DataError
from microgpt.corpus.chat import Document

from .files import MAX_LINE_BYTES
from .options import Reading, documents_of
from .records import READ_KEYS, BadRecordError, Record
from .trees import TREE_KEYS

_ROWS = 256  # rows in memory at a time, packed as Arrow does; one of them as a record
_BUFFER_BYTES = 1 << 20  # of each column, rather than its part of a whole row group


def read_parquet(path: Path, reading: Reading) -> Iterator[Document]:
    """Every row of a parquet file as a document; bad ones are named by row number from 1."""
    pyarrow = _pyarrow(path)
    try:
        with pyarrow.parquet.ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False) as file:
            yield from documents_of(path, _rows(path, reading, file), reading)
    except (pyarrow.ArrowException, OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path}: cannot read this parquet file ({reason}); is it damaged?") from error


def _pyarrow(path: Path) -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise DataError(f"{path}: reading parquet needs the pyarrow package; pip install pyarrow") from None
    return pyarrow


def _rows(path: Path, reading: Reading, file: Any) -> Iterator[tuple[object, Record]]:
    known = {*READ_KEYS, *TREE_KEYS, *reading.options.key_names}
    columns = [name for name in file.schema_arrow.names if name in known]
    stored, done, row = path.stat().st_size, 0, 0
    for batch in file.iter_batches(_ROWS, columns=columns or None):
        is_large = batch.nbytes > MAX_LINE_BYTES
        for place in range(batch.num_rows):
            row += 1
            if is_large and batch.slice(place, 1).nbytes > MAX_LINE_BYTES:
                raise DataError(f"{path}:{row}: row of over {MAX_LINE_BYTES >> 20} MiB; split the record")
            try:
                record = _record(batch, place)
            except BadRecordError as error:
                reading.bad(path, row, error)
                continue
            yield row, record
        if reading.progress:  # pyarrow reads the file itself: the share of rows stands for bytes
            now = stored * row // file.metadata.num_rows
            reading.progress(now - done)
            done = now


def _record(batch: Any, place: int) -> Record:
    """One row as JSON would write it: inside its columns without the keys that have no value."""
    columns = zip(batch.schema.names, batch.columns, strict=True)
    try:
        return {name: _without_nulls(column[place].as_py()) for name, column in columns}
    except UnicodeDecodeError as error:
        raise BadRecordError(f"not UTF-8 (byte 0x{error.object[error.start]:02x})") from None


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value
