"""Writing that must outlast a crash, in one place to inject faults.

Durable means: a file is fsynced before it gets its name, and the directory with that name is fsynced after.
A failed fsync is never retried on the same file (the kernel may have dropped its pages): write a new file.
"""

import contextlib
import errno
import hashlib
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from io import FileIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

try:
    import fcntl
except ImportError as error:  # pragma: no cover
    raise ImportError("microgpt needs a POSIX system (Linux, macOS, or WSL on Windows)") from error

CHUNK_BYTES = 1 << 20
LOOK_S = 0.05  # within which `is_locked` has looked
_locked: dict[int, tuple[int, int]] = {}  # descriptors of locks that this process holds, and of what


class Written(NamedTuple):
    """What a written file must be found to be."""

    size: int
    sha256: str


def write_file(path: Path, parts: Iterable[bytes | memoryview]) -> Written:
    """Write a new file of these parts and force it to disk.

    No copy is made, and neither the calls nor the hash hold the interpreter's lock while they work.
    """
    digest, size = hashlib.sha256(), 0
    with open(path, "xb", buffering=0) as file:
        for part in parts:
            for piece in _pieces(memoryview(part)):
                digest.update(piece)
                _write_all(file, piece)
                size += len(piece)
        sync(file.fileno())
    return Written(size, digest.hexdigest())


def replace_file(path: Path, parts: Iterable[bytes | memoryview]) -> Written:
    """Write a file in the place of one that may be there: whoever looks sees the old one or the new one."""
    temporary = path.with_name(f".tmp_{path.name}_{os.getpid()}")
    try:
        temporary.unlink(missing_ok=True)  # of a process of this number that was killed
        written = write_file(temporary, parts)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)
    return written


def _pieces(part: memoryview) -> Iterator[memoryview]:
    return (part[start : start + CHUNK_BYTES] for start in range(0, len(part), CHUNK_BYTES))


def _write_all(file: FileIO, piece: memoryview) -> None:
    """Write all of it, though the system may take less at a time."""
    while piece:
        piece = piece[file.write(piece) :]


def describe(path: Path) -> Written:
    """A file that somebody else wrote, forced to disk."""
    sync_path(path)
    return Written(path.stat().st_size, sha256_of(path))


def sync_directory(path: Path) -> None:
    """Force the names in a directory to disk."""
    sync_path(path, os.O_DIRECTORY)


def make_directory(path: Path) -> bool:
    """Make a directory and those above it that are missing, durably; one that exists must be writable.

    Returns: whether this call made it.
    """
    if path.is_dir():
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return False
    make_directory(path.parent)
    try:
        path.mkdir()
    except FileExistsError:
        if not path.is_dir():
            raise
        return False  # by somebody else, a moment ago
    sync_directory(path.parent)
    return True


def is_unused(path: Path) -> bool:
    """Whether there is nothing, or a directory with nothing in it but what a killed `replace_file` left."""
    if not path.is_dir():
        return not path.exists()
    return all(one.name.startswith(".tmp_") for one in path.iterdir())


def rename(source: Path, target: Path) -> None:
    """Give a finished file or directory its name, durably; it has its old one again when that fails."""
    os.rename(source, target)
    try:
        sync_directory(target.parent)
    except OSError:
        with contextlib.suppress(OSError):
            os.rename(target, source)
        raise


def remove_directory(path: Path) -> None:
    """Remove a directory so that no half of it is ever seen under its name."""
    doomed = path.with_name(f".tmp_removed_{path.name}_{os.getpid()}")
    os.rename(path, doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading; a pipe or device, which might never answer, is refused as an OSError."""
    file = open(path, "rb", buffering=0, opener=_without_waiting)  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return file


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def size_of(file: BinaryIO) -> int:
    """Length of an open file."""
    return os.fstat(file.fileno()).st_size


def sha256_of(path: Path, progress: Callable[[int], object] = lambda n: None) -> str:
    """Hex SHA-256 of a file's content; `progress` hears of each part how many bytes it had."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            progress(len(chunk))
    return digest.hexdigest()


def lock_directory(path: Path, tell_waiting: Callable[[], object] | None = None) -> int:
    """Take the exclusive lock of a directory.

    Args:    tell_waiting: called before it waits for another process; None: it does not wait.
    Returns: a descriptor for `unlock_directory`; the lock ends with the process, too, however that ends.
    Raises:  BlockingIOError: another process holds it.  OSError: this one does, and would wait for ever.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        status = os.fstat(descriptor)
        which = status.st_dev, status.st_ino
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if tell_waiting is None:
                time.sleep(LOOK_S)  # somebody may only be looking
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            elif which in _locked.values():
                raise OSError(errno.EDEADLK, "it is in use by this very command", str(path)) from None
            else:
                tell_waiting()
                fcntl.flock(descriptor, fcntl.LOCK_EX)
    except BaseException:
        os.close(descriptor)
        raise
    _locked[descriptor] = which
    return descriptor


def is_locked(path: Path) -> bool:
    """Whether a process holds the exclusive lock of a directory."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)  # which gives back what was taken to look
    return False


def unlock_directory(descriptor: int) -> None:
    """Give up a lock."""
    del _locked[descriptor]
    os.close(descriptor)


def sync_path(path: Path, flags: int = 0) -> None:
    """Force a file's content, or a directory's names, to disk."""
    descriptor = os.open(path, os.O_RDONLY | flags)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def sync(descriptor: int) -> None:
    """The same for what is open."""
    os.fsync(descriptor)
    # macOS: fsync stops at the drive's cache; not every file system has more.
    if hasattr(fcntl, "F_FULLFSYNC"):
        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
