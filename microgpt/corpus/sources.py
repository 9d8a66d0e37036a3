"""Where corpus bytes come from: files and folders, plain or compressed, read as a stream.

Compression is known by its magic bytes, not by the file's name.  Memory holds one line or block, never a
file.
"""

import gzip
import io
import os
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from microgpt.common.errors import DataError

Progress = Callable[[int], object]  # called with a number of bytes of input that have been read


class NoTextError(DataError):
    """A file has no text at all, so that passing it over loses none; one that is damaged is no such file."""


BadFile = Callable[[NoTextError], object]  # called with what is wrong with a file that is then passed over

TEXT_SUFFIXES = (".txt", ".text", ".json", ".jsonl", ".ndjson", ".parquet")  # what is taken out of a folder
COMPRESSED_SUFFIXES = (".gz", ".zst")
MAX_LINE_BYTES = 64 << 20
HEAD_BYTES = 1 << 16
META, TOKEN_FILES = "meta.json", ("train.tokens", "val.tokens")  # what `prepare` writes, in a folder
PARQUET = b"PAR1"  # how a parquet file begins and ends
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_BOM = b"\xef\xbb\xbf"


def find_files(
    paths: Iterable[str | os.PathLike], bad_file: BadFile, other: Callable[[Path], object] | None = None
) -> list[Path]:
    """The files that `paths` name: files as given, folders opened and sorted.

    Args:     bad_file: hears of each file that is empty or, in a folder, no file at all; it may go on.
              other: hears of each file in a folder whose name is not one of text.
    Raises:   DataError: a path is missing, not a file or folder, or a folder without any text file.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        is_folder = os.path.isdir(path)
        found = _in_folder(path, other) if is_folder else [path]
        if not found:
            wanted = " ".join(TEXT_SUFFIXES)
            raise DataError(f"{path}: no corpus file in this folder; expected names in {wanted} (.gz, .zst)")
        if not is_folder:
            _check_regular(path)
        files += found
    if not files:
        raise DataError("no corpus given; name at least one file or folder")
    return [file for file in files if _is_readable(file, bad_file)]


def each_once(files: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """The files without those that were there before, by this or another name; and those."""
    seen: set[str] = set()
    once: list[Path] = []
    repeated: list[Path] = []
    for file in files:
        place = os.path.realpath(file)
        (repeated if place in seen else once).append(file)
        seen.add(place)
    return once, repeated


def _in_folder(folder: Path, other: Callable[[Path], object] | None) -> list[Path]:
    found = []
    for root, folders, names in os.walk(folder, onerror=_refuse):
        if not set(TOKEN_FILES).isdisjoint(names):
            folders[:] = []  # a prepared corpus holds no text
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if _is_text_name(name):
                found.append(Path(root, name))
            elif other and not name.startswith("."):
                other(Path(root, name))
    return found


def _refuse(error: OSError) -> NoReturn:
    raise DataError(f"{error.filename}: cannot read this folder ({error.strerror}); check its rights")


def _is_text_name(name: str) -> bool:
    return unpacked_name(name).endswith(TEXT_SUFFIXES) and not name.startswith(".")


def unpacked_name(name: str) -> str:
    """The name, in small letters, that a file has when it is unpacked."""
    name = name.lower()
    for suffix in COMPRESSED_SUFFIXES:
        name = name.removesuffix(suffix)
    return name


def _is_readable(path: Path, bad_file: BadFile) -> bool:
    try:
        if _check_regular(path) == 0:
            raise NoTextError(f"{path}: this corpus file is empty; give a file with text")
    except NoTextError as error:
        bad_file(error)
        return False
    return True


def _check_regular(path: Path) -> int:
    """The length of a file.

    Raises:   NoTextError: it is missing, or not a regular file.
    """
    try:
        info = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a path that no file can have
        reason = getattr(error, "strerror", None) or error
        raise NoTextError(f"{path}: cannot read this corpus file ({reason}); check the path") from error
    if not stat.S_ISREG(info.st_mode):
        raise NoTextError(f"{path}: not a regular file; a corpus is read more than once, so save it first")
    return info.st_size


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


def lines_of(path: Path, progress: Progress | None = None) -> Iterator[tuple[int, bytes]]:
    """Every line of a file with its number from 1, line ends removed."""
    with open_source(path, progress) as stream:
        number = 0
        while line := stream.readline(MAX_LINE_BYTES):
            number += 1
            if len(line) == MAX_LINE_BYTES:
                raise DataError(f"{path}:{number}: line of over {MAX_LINE_BYTES >> 20} MiB; split the record")
            if number == 1:
                line = without_bom(line)
            yield number, line.rstrip(b"\r\n")
