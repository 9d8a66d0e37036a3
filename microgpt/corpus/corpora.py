"""A corpus as the commands name it: files and folders, the embedded `smalltalk`, or both together."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

from microgpt.common.errors import DataError

from . import smalltalk
from .chat import Document, Message, texts
from .detection import name_decides
from .folders import each_once, find_files
from .readers import read_documents
from .reading import Reading, ReadOptions, Skipped
from .sources import Progress
from .split import EVERYTHING, Split, Survey

SMALLTALK = "smalltalk"
SMALLTALK_BYTES = 20_000_000
_HELD_OUT_SHARE = 0.01
_BLOCK_BYTES = 1 << 22

Sources = str | os.PathLike | Iterable[str | os.PathLike]


def source_names(sources: Sources) -> list[str | os.PathLike]:
    """The sources one by one; an iterator is used up by this.

    Raises:   DataError: one of them is the empty text, which would mean the current folder.
    """
    names = [sources] if isinstance(sources, (str, os.PathLike)) else list(sources)
    if "" in names:
        raise DataError("'': an empty path names no corpus; write . for the current folder")
    return names


class Corpus:
    """Documents that can be read any number of times, always the same and in the same order.

    Files are divided into training and validation by `Split`; smalltalk brings a held-out part of its own,
    made of names, numbers and combinations that its training part never has.
    """

    def __init__(
        self, sources: Sources, options: ReadOptions | None = None, smalltalk_bytes: int = SMALLTALK_BYTES
    ):
        names = source_names(sources)
        paths = [name for name in names if str(name) != SMALLTALK]
        self._paths = paths
        self.options = options or ReadOptions()
        self._unreadable = Skipped()
        reading = Reading(self.options, self._unreadable, None)
        self.left_out: dict[str, list[Path]] = {}  # what is no text in the folders, by why
        found = []
        if paths or not names:
            found = find_files(paths, reading.bad_file, self._leave_out, self.options.suffixes)
        self.files, self.repeated = each_once(found)
        if paths and not self.files:
            raise DataError(f"every file was passed over; the first: {self._unreadable.examples[0]}")
        self.smalltalk_bytes = smalltalk_bytes if len(paths) < len(names) else 0
        self._stamps = self._stamp()
        self._made: TextIO | None = None
        self._open_files = ExitStack()

    def __enter__(self) -> "Corpus":
        return self

    def __exit__(self, *_: object) -> None:
        self._open_files.close()

    def _leave_out(self, why: str, path: Path) -> None:
        self.left_out.setdefault(why, []).append(path)

    @property
    def names(self) -> list[str]:
        """What the corpus was said to be made of: absolute paths, and the name of the embedded corpus."""
        return [SMALLTALK] * bool(self.smalltalk_bytes) + [os.path.abspath(path) for path in self._paths]

    @property
    def n_left_out(self) -> dict[str, int]:
        """How many files and folders are no text in the folders, by why."""
        return {why: len(paths) for why, paths in self.left_out.items()}

    def n_read(self, skipped: Skipped) -> int:
        """The number of files that were read in a pass that skipped so much."""
        return len(self.files) + self._unreadable.files - skipped.files

    @property
    def size(self) -> int:
        """Bytes as stored, what `progress` adds up to in one pass."""
        return self.smalltalk_bytes + sum(size for size, _ in self._stamps)

    def digest(self, progress: Progress | None = None) -> str:
        """SHA-256 of all that decides the documents: the bytes of files, not their names, and the options."""
        total = hashlib.sha256(repr((self.options, self.smalltalk_bytes)).encode())
        if self.smalltalk_bytes:
            for source in sorted(Path(smalltalk.__file__).parent.glob("*.py")):
                total.update(hashlib.sha256(source.read_bytes()).digest())
        for file in self.files:
            total.update(_file_digest(file, progress))
            if name_decides(file, self.options.key_names):
                total.update(b"read as its name says")
        if self._unreadable.files:
            total.update(b"passed over %d" % self._unreadable.files)
        return total.hexdigest()

    def check_unchanged(self) -> None:
        """Refuse a corpus whose files changed since it was opened: passes over it would not agree."""
        if self._stamp() != self._stamps:
            raise DataError("a corpus file changed while it was read; run again when it is complete")

    def _stamp(self) -> list[tuple[int, int]]:
        try:
            return [(info.st_size, info.st_mtime_ns) for info in map(os.stat, self.files)]
        except OSError as error:
            raise DataError(f"{error.filename}: cannot read this corpus file ({error.strerror})") from error

    def training_texts(self, split: Split, survey: Survey, progress: Progress | None = None) -> Iterator[str]:
        """The texts of the training side, while every document from files is added to the survey."""
        for document in self._smalltalk(progress, held_out=False):
            yield from texts(document)
        for document in self._documents(Skipped(), progress):
            held_out, part = split.sides(document, survey.add(document))[0]
            if not held_out:
                yield from texts(part)

    def sides(
        self, split: Split, survey: Survey, skipped: Skipped, progress: Progress | None = None
    ) -> Iterator[tuple[bool, Document]]:
        """Every document as (held out?, document), those from files added to the survey.

        With EVERYTHING, of smalltalk only the held-out part.
        """
        if split != EVERYTHING:
            for document in self._smalltalk(progress, held_out=False):
                yield False, document
        for document in self._smalltalk(None, held_out=True):
            yield True, document
        for document in self._documents(skipped, progress):
            yield from split.sides(document, survey.add(document))

    def _documents(self, skipped: Skipped, progress: Progress | None) -> Iterator[Document]:
        skipped.include(self._unreadable)
        if self.files:
            yield from read_documents(self.files, self.options, skipped, progress)

    def _smalltalk(self, progress: Progress | None, held_out: bool) -> Iterator[Document]:
        if not self.smalltalk_bytes:
            return
        n_bytes = max(1, int(self.smalltalk_bytes * _HELD_OUT_SHARE)) if held_out else self.smalltalk_bytes
        source = smalltalk.generate(n_bytes, held_out=held_out)
        for document in source if held_out else self._made_once(source):
            if progress:
                progress(sum(map(len, texts(document))))
            yield document

    def _made_once(self, documents: Iterable[list[Message]]) -> Iterator[list[Message]]:
        """The documents, made in the first pass and read back from a nameless file in later ones."""
        if self._made is None:
            file = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115
            made = self._open_files.enter_context(file)
            for document in documents:
                made.write(json.dumps(document) + "\n")
                yield document
            self._made = made
            return
        self._made.seek(0)
        for line in self._made:
            yield [Message(*pair) for pair in json.loads(line)]


def _file_digest(path: Path, progress: Progress | None) -> bytes:
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
                if progress:
                    progress(len(block))
    except OSError as error:
        raise DataError(f"{path}: cannot read this corpus file ({error.strerror})") from error
    return digest.digest()
