"""Where corpus bytes come from: files, plain or compressed, read as a stream.

Compression is known by its magic bytes, not by the file's name.  Memory holds one line or block, never a
file.
"""

import gzip
import io
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from microgpt.common.errors import DataError

Progress = Callable[[int], object]  # called with a number of bytes of input that have been read


class NoTextError(DataError):
    """A file has no text at all, so that passing it over loses none; one that is damaged is no such file."""


COMPRESSED_SUFFIXES = (".gz", ".zst")
MAX_LINE_BYTES = 64 << 20
HEAD_BYTES = 1 << 16
META, TOKEN_FILES = "meta.json", ("train.tokens", "val.tokens")  # what `prepare` writes, in a folder
PARQUET = b"PAR1"  # how a parquet file begins and ends
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_BOM = b"\xef\xbb\xbf"


def unpacked_name(name: str) -> str:
    """The name, in small letters, that a file has when it is unpacked."""
    name = name.lower()
    for suffix in COMPRESSED_SUFFIXES:
        name = name.removesuffix(suffix)
    return name


@contextmanager
def open_source(path: Path, progress: Progress | None = None) -> Iterator[BinaryIO]:
    """Open a corpus file for reading its decompressed bytes; damage inside is a DataError naming the file."""
    try:
        with open(path, "rb") as file:
            magic = file.read(4)
            file.seek(0)
            raw: BinaryIO = _Counted(file, progress) if progress else file  # type: ignore[assignment]
            if magic.startswith(_GZIP):
                yield gzip.GzipFile(fileobj=raw)  # type: ignore[misc]
            elif magic == _ZSTD:
                yield _open_zstd(raw, path)
            else:
                yield io.BufferedReader(raw, 1 << 18) if progress else raw  # type: ignore
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot read this corpus file ({error}); is it damaged?") from error


class _Counted(io.RawIOBase):
    """A raw file that reports how many bytes each read took."""

    def __init__(self, file: BinaryIO, progress: Progress):
        self._file, self._progress = file, progress

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        n = self._file.readinto(buffer)  # type: ignore[attr-defined]
        self._progress(n)
        return n


def _open_zstd(raw: BinaryIO, path: Path) -> BinaryIO:
    try:
        from compression import zstd  # type: ignore[import-not-found]  # Python >= 3.14
    except ImportError:
        return _open_zstandard(raw, path)
    return zstd.ZstdFile(raw)


def _open_zstandard(raw: BinaryIO, path: Path) -> BinaryIO:
    try:
        import zstandard
    except ImportError:
        raise DataError(f"{path}: reading .zst needs the zstandard package; pip install zstandard") from None
    return io.BufferedReader(_Zstd(raw, zstandard), 1 << 18)  # type: ignore[return-value]


class _Zstd(io.RawIOBase):
    """Decompressed bytes of zstd frames.

    zstandard's own stream_reader takes a file that is cut off for one that ends and loses text in silence.
    A few bytes may stand for 128 KiB, so a small block of input at a time bounds the memory.
    """

    _INPUT_BYTES = 1024

    def __init__(self, raw: BinaryIO, zstandard: Any):
        self._raw, self._zstandard = raw, zstandard
        self._frame: Any = None
        self._input, self._output = b"", memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._output:
            self._input = self._input or self._raw.read(self._INPUT_BYTES)
            if not self._input:
                if self._frame is not None:
                    raise EOFError("the file ends inside a zstd frame")
                return 0
            self._step()
        n = min(len(buffer), len(self._output))
        buffer[:n], self._output = self._output[:n], self._output[n:]
        return n

    def _step(self) -> None:
        """Decompress what was read; a frame may end in it and the next begin."""
        self._frame = self._frame or self._zstandard.ZstdDecompressor().decompressobj()
        try:
            self._output = memoryview(self._frame.decompress(self._input))
        except self._zstandard.ZstdError as error:
            raise OSError(str(error)) from error
        self._input = self._frame.unused_data if self._frame.eof else b""
        if self._frame.eof:
            self._frame = None


def without_bom(start: bytes) -> bytes:
    """The start of a file without the mark that some editors put before UTF-8 text."""
    return start.removeprefix(_BOM)


def head_of(path: Path) -> bytes:
    """The first decompressed bytes of a file, enough to tell its format."""
    with open_source(path) as stream:
        return without_bom(stream.read(HEAD_BYTES))


def is_parquet(path: Path) -> bool:
    """Whether a file, as it is stored, begins and ends like parquet."""
    try:
        with open(path, "rb") as file:
            if file.read(len(PARQUET)) != PARQUET:
                return False
            file.seek(-len(PARQUET), os.SEEK_END)
            return file.read() == PARQUET
    except OSError as error:
        raise DataError(f"{path}: cannot read this corpus file ({error.strerror})") from error


def is_what_it_is_named(path: Path) -> bool:
    """Whether a file with a name in .parquet, .gz or .zst is one; other names promise nothing."""
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return is_parquet(path)
    with open(path, "rb") as file:
        return file.read(len(_ZSTD)).startswith({".gz": _GZIP, ".zst": _ZSTD}.get(suffix, b""))


@contextmanager
def open_lines(path: Path, progress: Progress | None = None) -> Iterator[BinaryIO]:
    """The same as `open_source`, where lines end in \\n although the file ends them in \\r alone."""
    head = head_of(path)
    with open_source(path, progress) as stream:
        is_old = b"\r" in head and b"\n" not in head
        yield io.BufferedReader(_NewLines(stream), 1 << 18) if is_old else stream  # type: ignore[misc]


class _NewLines(io.RawIOBase):
    """A stream of the lines of another one that end in \\r."""

    def __init__(self, stream: BinaryIO):
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data.replace(b"\r", b"\n")
        return len(data)


def lines_of(path: Path, progress: Progress | None = None) -> Iterator[tuple[int, bytes]]:
    """Every line of a file with its number from 1, line ends removed."""
    with open_lines(path, progress) as stream:
        number = 0
        while line := stream.readline(MAX_LINE_BYTES):
            number += 1
            if len(line) == MAX_LINE_BYTES:
                raise DataError(f"{path}:{number}: line of over {MAX_LINE_BYTES >> 20} MiB; split the record")
            if number == 1:
                line = without_bom(line)
            yield number, line.rstrip(b"\r\n")
