"""Folders that appear complete or not at all: built beside their place under another name, then renamed."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from microgpt.common.errors import DataError

_PREFIX, _LOCK = ".building-", ".lock"


@contextmanager
def building(directory: Path) -> Iterator[Path]:
    """A fresh folder that takes the place of `directory` when the block ends without an error.

    All files in it are on the disk before the rename; a crash at any moment leaves the old folder, the new
    one, or none, never a mix.  Folders left by processes that died are removed.
    """
    parent = directory.parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(parent)
        temporary = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        with open(temporary / _LOCK, "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                yield temporary
                _settle(temporary)
                _put_in_place(temporary, directory)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        _sync(parent)
    except OSError as error:
        raise DataError(
            f"{directory}: cannot write the prepared corpus ({error.strerror}); "
            "free some space, or choose another place with MICROGPT_DATA_DIR"
        ) from error


def _settle(folder: Path) -> None:
    """Wait until the files of a folder are on the disk, and the folder itself."""
    (folder / _LOCK).unlink()
    folder.chmod(0o755)
    for file in folder.iterdir():
        _sync(file)
    _sync(folder)


def _put_in_place(temporary: Path, directory: Path) -> None:
    if directory.exists():
        old = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=directory.parent))
        os.replace(directory, old)
        os.replace(temporary, directory)
        shutil.rmtree(old, ignore_errors=True)
    else:
        os.replace(temporary, directory)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_stale(parent: Path) -> None:
    """Remove what dead processes left: a folder being built holds a lock as long as its process lives."""
    for folder in parent.glob(_PREFIX + "*"):
        with contextlib.suppress(OSError), open(folder / _LOCK, "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
