"""Parquet files, one record a row, through pyarrow."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from microgpt.common.errors import DataError

from .chat import Document
from .reading import Reading
from .records import FORMATS, BadRecordError, document_from

_ROWS = 256  # records in memory at a time, beside one compressed page of each column


def read_parquet(path: Path, reading: Reading) -> Iterator[Document]:
    """Every row of a parquet file as a document; bad ones are named by row number from 1."""
    pyarrow = _pyarrow(path)
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            yield from _rows(path, reading, file)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path}: cannot read this parquet file ({reason}); is it damaged?") from error


def _pyarrow(path: Path) -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise DataError(f"{path}: reading parquet needs the pyarrow package; pip install pyarrow") from None
    return pyarrow


def _rows(path: Path, reading: Reading, file: Any) -> Iterator[Document]:
    known = {key for keys in FORMATS for key in keys} | {"input"}
    columns = [name for name in file.schema_arrow.names if name in known]
    stored, done, row = path.stat().st_size, 0, 0
    for batch in file.iter_batches(_ROWS, columns=columns or None):
        for record in batch.to_pylist():
            row += 1
            held = {key: value for key, value in record.items() if value is not None}
            try:
                document = document_from(held, reading.options.senders)
            except BadRecordError as error:
                reading.bad(path, row, error)
                continue
            yield document
        if reading.progress:  # pyarrow reads the file itself: the share of rows stands for bytes
            now = stored * row // file.metadata.num_rows
            reading.progress(now - done)
            done = now
