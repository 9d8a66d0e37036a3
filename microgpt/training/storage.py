"""Every call that writes to disk on behalf of a run: durable, and in one place to inject faults.

Durable means: a file is fsynced before it gets its name, and the directory with that name is fsynced after.
A failed fsync is never retried on the same file (the kernel may have dropped its pages): write a new file.
"""

import contextlib
import errno
import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import safetensors.numpy

try:
    import fcntl
except ImportError as error:  # pragma: no cover
    raise ImportError("microgpt needs a POSIX system (Linux, macOS, or WSL on Windows)") from error

CHUNK_BYTES = 1 << 20


def write_bytes(path: Path, data: bytes) -> None:
    """Write a new file and force it to disk."""
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        _sync(file.fileno())


def write_tensors(path: Path, tensors: dict[str, np.ndarray]) -> None:
    """Write a new safetensors file and force it to disk.  No metadata: equal tensors give equal bytes."""
    safetensors.numpy.save_file(tensors, path)
    sync_file(path)


def sync_file(path: Path) -> None:
    """Force a written file to disk."""
    _sync_path(path, os.O_RDONLY)


def sync_directory(path: Path) -> None:
    """Force the names in a directory to disk."""
    _sync_path(path, os.O_RDONLY | os.O_DIRECTORY)


def make_directory(path: Path) -> None:
    """Make a directory and those above it that are missing, durably; one that exists must be writable."""
    if path.is_dir():
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return
    make_directory(path.parent)
    path.mkdir(exist_ok=True)
    sync_directory(path.parent)


def rename(source: Path, target: Path) -> None:
    """Give a finished file or directory its name, durably."""
    os.rename(source, target)
    sync_directory(target.parent)


def remove_directory(path: Path) -> None:
    """Remove a directory so that no half of it is ever seen under its name."""
    doomed = path.with_name(f".tmp_removed_{path.name}_{os.getpid()}")
    os.rename(path, doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def lock_directory(path: Path) -> int:
    """Take the exclusive lock of a directory, without waiting.

    Returns: a descriptor; the lock lasts until it is closed or the process ends.
    Raises:  BlockingIOError: another process holds it.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _sync_path(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


def _sync(descriptor: int) -> None:
    os.fsync(descriptor)
    if hasattr(
        fcntl, "F_FULLFSYNC"
    ):  # macOS: fsync stops at the drive's cache; not every file system has more
        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
