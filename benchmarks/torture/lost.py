"""Power cuts: what a save asked for is replayed up to each call, without what was not forced to the disk.

The disk is modelled as the worst that a file system may do: data is safe once its file was fsynced, a name
once its directory was; until then each name may or may not be there, in any combination, and the data of a
file may be missing, cut or zeros.  A rename is one change: it is never half done.
"""

import itertools
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from microgpt.common.errors import MicrogptError

from .case import old_or_new
from .saves import SAVED, Saves, save
from .shim import Action, Evil

ALL_COMBINATIONS = 6  # of at most so many unsafe names; of more: none, all, only one, all but one


class Call(NamedTuple):
    """One recorded call."""

    name: str
    path: str
    other: str
    data: bytes


def read_trace(path: Path) -> list[Call]:
    """The calls that the shim recorded."""
    text, calls, at = path.read_bytes(), [], 0
    while at < len(text):
        end = text.index(b"\n", at)
        name, first, second, size = text[at:end].decode().split("\t")
        at = end + 1 + int(size)
        calls.append(Call(name, first, second, text[end + 1 : at]))
    return calls


@dataclass(eq=False)
class File:
    """A file on the modelled disk: what was written, and how much of it is safe."""

    data: bytes = b""
    safe: bytes = b""


@dataclass(eq=False)
class Directory:
    """A directory on the modelled disk: the names that are safe."""

    safe: dict[str, "File | Directory"] = field(default_factory=dict)


class Change(NamedTuple):
    """Names that change together, not yet safe: (directory, name, what it means from now on or None)."""

    names: list[tuple[Directory, str, "File | Directory | None"]]


class Disk:
    """A run's directory as the calls change it, the safe part of it kept apart."""

    def __init__(self, run: Path) -> None:
        self.run, self.root = str(run), Directory()
        self.changes: list[Change] = []

    def load(self, folder: Path, directory: Directory | None = None) -> "Disk":
        """Take a folder as it is for safe."""
        directory = directory or self.root
        for entry in folder.iterdir():
            if entry.is_dir():
                directory.safe[entry.name] = inside = Directory()
                self.load(entry, inside)
            else:
                data = entry.read_bytes()
                directory.safe[entry.name] = File(data, data)
        return self

    def apply(self, call: Call) -> None:
        """What the system does at a call."""
        if call.name == "close":
            return
        if call.name == "write":
            self._file(call.path).data += call.data
        elif call.name == "fsync":
            self._sync(self._find(call.path))
        elif call.name in ("open", "mkdir"):
            self._change((call.path, File() if call.name == "open" else Directory()))
        elif call.name == "unlink":
            self._change((call.path, None))
        elif call.name == "rename":
            self._change((call.path, None), (call.other, self._find(call.path)))
        else:
            raise MicrogptError(f"lost: the model of a disk does not know {call.name}")

    def _change(self, *names: tuple[str, File | Directory | None]) -> None:
        self.changes.append(Change([(*self._place(path), meaning) for path, meaning in names]))

    def _sync(self, what: "File | Directory") -> None:
        """fsync: data of a file, or the names of a directory with all that changed together with them."""
        if isinstance(what, File):
            what.safe = what.data
            return
        mine = [change for change in self.changes if any(place is what for place, _, _ in change.names)]
        for change in mine:
            _enter(change)
        self.changes = [change for change in self.changes if change not in mine]

    def _place(self, path: str) -> tuple[Directory, str]:
        parent, _, name = path.rpartition("/")
        directory = self._find(parent)
        assert isinstance(directory, Directory)
        return directory, name

    def _file(self, path: str) -> File:
        file = self._find(path)
        assert isinstance(file, File)
        return file

    def _find(self, path: str) -> "File | Directory":
        """What a path means to the running process, for which every change counts."""
        here: File | Directory = self.root
        for name in filter(None, path.removeprefix(self.run).split("/")):
            assert isinstance(here, Directory)
            meaning = names_of(here, self.changes)[name]
            assert meaning is not None
            here = meaning
        return here


def _enter(change: Change) -> None:
    for directory, name, meaning in change.names:
        if meaning is None:
            directory.safe.pop(name, None)
        else:
            directory.safe[name] = meaning


def names_of(directory: Directory, changes: list[Change]) -> dict[str, "File | Directory"]:
    """The names in a directory when these changes came through."""
    names = dict(directory.safe)
    for change in changes:
        for place, name, meaning in change.names:
            if place is directory:
                names.pop(name, None)
                if meaning is not None:
                    names[name] = meaning
    return names


# -------------------------------------------------------------------------------- what a power cut leaves

DATA: dict[str, Callable[[File], bytes]] = {
    "all written": lambda file: file.data,
    "dropped": lambda file: file.safe,
    "cut": lambda file: file.safe + file.data[len(file.safe) :][: (len(file.data) - len(file.safe)) // 2],
    "zeros": lambda file: file.safe + bytes(len(file.data) - len(file.safe)),
}


def survivors(changes: list[Change]) -> Iterator[list[Change]]:
    """Which of the changes that are not safe came through."""
    if len(changes) <= ALL_COMBINATIONS:
        for length in range(len(changes) + 1):
            yield from map(list, itertools.combinations(changes, length))
        return
    yield []
    yield changes
    for one in changes:
        yield [one]
        yield [change for change in changes if change is not one]


def states(disk: Disk) -> Iterator[tuple[list[Change], str]]:
    """Every state in which a power cut now may leave the disk."""
    for survived in survivors(disk.changes):
        for how in DATA:
            yield survived, how


def write_out(directory: Directory, survived: list[Change], how: str, target: Path) -> None:
    """Make a state real."""
    target.mkdir()
    for name, meaning in names_of(directory, survived).items():
        if isinstance(meaning, Directory):
            write_out(meaning, survived, how, target / name)
        else:
            (target / name).write_bytes(DATA[how](meaning))


def lose_everywhere(folder: Path, seed: int) -> Iterator[tuple[str | None, str]]:
    """Cut the power after each call of a save, and after the save returned.  Yields (problem, when)."""
    saves = Saves(folder, seed)
    trace = folder / "trace"
    evil = Evil(saves.run, Action.RECORD, trace=trace)
    if saves.attempt(lambda: save(saves.new, saves.run, saves.keep), evil) != SAVED:
        raise MicrogptError("lost: the save that was to be recorded failed")
    disk, found = Disk(saves.run).load(saves.template), folder / "found"
    calls = read_trace(trace)
    for number in range(len(calls) + 1):
        for survived, how in states(disk):
            shutil.rmtree(found, ignore_errors=True)
            write_out(disk.root, survived, how, found)
            problem = old_or_new(found, must_be_new=number == len(calls))
            yield problem, f"loss after call {number}, {len(survived)} unsafe names, data {how}"
        if number < len(calls):
            disk.apply(calls[number])
