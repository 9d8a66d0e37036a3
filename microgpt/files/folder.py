"""Folders that appear complete or not at all: filled under another name beside their place, then renamed."""

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from microgpt.common.errors import DataError
from microgpt.common.output import tell

from . import durable

Found = TypeVar("Found")

_BUILDING = ".microgpt-building-"


def make_folder(
    directory: Path, find: Callable[[], Found], fill: Callable[[Path], None], elsewhere: str
) -> Found:
    """What `find` finds in `directory`, where `fill` makes it unless it is there already.

    The files are on the disk before the folder gets its name; a crash at any moment leaves the old folder,
    the new one or none, never a mix.  Of several processes one works and the others wait and find it done.

    Args:     find: opens what is wanted; a DataError says why it is not there.
              fill: writes the files into the folder it is given.
              elsewhere: what chooses another place, for a person.
    Raises:   DataError: nothing can be written there, or what was written cannot be read.
    """
    with suppress(DataError):
        return find()
    parent = directory.parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        lock = durable.lock_directory(
            parent, lambda: tell(f"waiting for another process that works in {parent}")
        )
        try:
            try:
                return find()
            except DataError as reason:
                _tell_replaced(directory, reason)
            _build(directory, fill)
        finally:
            durable.unlock_directory(lock)
    except OSError as error:
        raise DataError(
            f"{directory}: cannot write the prepared corpus ({error.strerror or error}); "
            f"free some space, or choose another place with {elsewhere}"
        ) from error
    except MemoryError as error:
        raise DataError(
            "out of memory while a corpus was prepared; take fewer --threads or less text, or train a "
            "tokenizer on a part of it first (microgpt prepare PART, then --tokenizer)"
        ) from error
    try:
        return find()
    except DataError as error:
        raise DataError(f"{error}, although just written; is the disk damaged?") from error


def _tell_replaced(directory: Path, reason: DataError) -> None:
    if directory.is_dir() and any(directory.iterdir()):
        tell(f"{reason}; it is replaced")


def _build(directory: Path, fill: Callable[[Path], None]) -> None:
    for stale in directory.parent.glob(_BUILDING + "*"):  # of killed processes: we hold the lock
        shutil.rmtree(stale, ignore_errors=True)
    temporary = directory.parent / (_BUILDING + directory.name)
    temporary.mkdir()
    try:
        fill(temporary)
        for path in [*temporary.iterdir(), temporary]:
            durable.sync_path(path)
        if directory.exists():
            shutil.rmtree(directory)
        durable.rename(temporary, directory)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
