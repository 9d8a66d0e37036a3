"""A corpus as the commands name it: files and folders, the embedded `smalltalk`, or both together."""

import hashlib
import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

from microgpt.common.errors import DataError
from microgpt.corpus import smalltalk
from microgpt.corpus.chat import Document, Message, n_characters, texts
from microgpt.corpus.reading.detection import name_decides
from microgpt.corpus.reading.files import Progress
from microgpt.corpus.reading.folders import each_once, find_files
from microgpt.corpus.reading.formats import read_documents
from microgpt.corpus.reading.options import Reading, ReadOptions, Skipped
from microgpt.files import durable

from .split import DEFAULT, EVERYTHING, NOTHING, PLACES, HeldOutWanted, Split, Survey, place

SMALLTALK, OF_FILES = "smalltalk", "the files"  # parts of a corpus, for people
SMALLTALK_BYTES = 20_000_000
_HELD_OUT_SHARE = 0.01

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

    apart: the corpus that is the whole held-out part instead; its files and copies of its documents are left
    out of training, so its places are kept in memory.
    """

    def __init__(
        self,
        sources: Sources,
        options: ReadOptions | None = None,
        smalltalk_bytes: int = SMALLTALK_BYTES,
        wanted: HeldOutWanted | None = None,
    ):
        names = source_names(sources)
        paths = [name for name in names if str(name) != SMALLTALK]
        self._paths = paths
        self.options = options or ReadOptions()
        self._share = wanted.held_out_share if wanted else 0.0
        is_apart = bool(wanted and wanted.held_out)
        self.apart = Corpus(wanted.held_out, options, smalltalk_bytes) if wanted and is_apart else None
        self._places_apart: set[int] = set()
        self.n_copies = 0  # documents beside `apart` that the last pass found in it
        self._sizes: Counter[tuple[str, bool]] = Counter()  # characters of each part and side in that pass
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
        if self.apart:
            self._set_apart(self.apart)
        self._stamps = self._stamp()
        self._made: TextIO | None = None
        self._open_files = ExitStack()

    def __enter__(self) -> "Corpus":
        return self

    def __exit__(self, *_: object) -> None:
        self._open_files.close()

    def _leave_out(self, why: str, path: Path) -> None:
        self.left_out.setdefault(why, []).append(path)

    def _set_apart(self, apart: "Corpus") -> None:
        """Leave the files of the held-out part out of the rest."""
        taken = set(map(os.path.realpath, apart.files))
        self.files = [file for file in self.files if os.path.realpath(file) not in taken]
        if not self.files and not self.smalltalk_bytes:
            raise DataError(f"--held-out {apart.names[0]}: that leaves nothing to train on; name more text")

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
        n_apart = len(self.apart.files) + self.apart._unreadable.files if self.apart else 0
        return n_apart + len(self.files) + self._unreadable.files - skipped.files

    @property
    def size(self) -> int:
        """Bytes as stored, what `progress` adds up to in one pass."""
        own = self.smalltalk_bytes + sum(size for size, _ in self._stamps)
        return own + (sum(size for size, _ in self.apart._stamps) if self.apart else 0)

    @property
    def first_split(self) -> Split:
        """The split to try first; `choose` knows whether it suits."""
        if self.apart:
            return NOTHING
        return Split(0, int(self._share * PLACES)) if self._share else DEFAULT

    def survey(self) -> Survey:
        """An empty survey for one pass."""
        return Survey(self._share)

    def choose(self, survey: Survey) -> Split:
        """The split that suits the corpus, once every document is in the survey."""
        return survey.choose() if self.files and not self.apart else self.first_split

    def held_out_shares(self) -> dict[str, float]:
        """Where the embedded corpus stands beside files: the share of each that the last pass held out."""
        if not self.files or not self.smalltalk_bytes or self.apart:
            return {}
        return {
            part: self._sizes[part, True] / (self._sizes[part, True] + self._sizes[part, False])
            for part in (SMALLTALK, OF_FILES)
        }

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
        if self._share:
            total.update(f"held out {self._share!r}".encode())
        if self.apart:
            total.update(f"held out {self.apart.digest(progress)}".encode())
        return total.hexdigest()

    def check_unchanged(self) -> None:
        """Refuse a corpus whose files changed since it was opened: passes over it would not agree."""
        if self.apart:
            self.apart.check_unchanged()
        if self._stamp() != self._stamps:
            raise DataError("a corpus file changed while it was read; run again when it is complete")

    def _stamp(self) -> list[tuple[int, int]]:
        try:
            return [(info.st_size, info.st_mtime_ns) for info in map(os.stat, self.files)]
        except OSError as error:
            raise DataError(f"{error.filename}: cannot read this corpus file ({error.strerror})") from error

    def training_texts(self, split: Split, survey: Survey, progress: Progress | None = None) -> Iterator[str]:
        """The texts of the training side, while every document from files is added to the survey."""
        for held_out, document in self.sides(split, survey, Skipped(), progress):
            if not held_out:
                yield from texts(document)

    def sides(
        self, split: Split, survey: Survey, skipped: Skipped, progress: Progress | None = None
    ) -> Iterator[tuple[bool, Document]]:
        """Every document as (held out?, document), those from files added to the survey.

        With EVERYTHING, of smalltalk only the held-out part.
        """
        self.n_copies = 0
        self._sizes.clear()
        if self.apart:
            yield from self._read_apart(self.apart, skipped, progress)
        if split != EVERYTHING:
            for document in self._smalltalk(progress, held_out=False):
                if not self.apart or not self._is_copy(place(document)):
                    yield self._counted(SMALLTALK, False, document)
        if not self.apart:
            for document in self._smalltalk(None, held_out=True):
                yield self._counted(SMALLTALK, True, document)
        for document in self._documents(skipped, progress):
            where = survey.add(document)
            if not self._is_copy(where):
                for held_out, part in split.sides(document, where):
                    yield self._counted(OF_FILES, held_out, part)

    def _counted(self, part: str, held_out: bool, document: Document) -> tuple[bool, Document]:
        """A document and its side, its characters added to those of its part."""
        self._sizes[part, held_out] += n_characters(document)
        return held_out, document

    def _read_apart(
        self, apart: "Corpus", skipped: Skipped, progress: Progress | None
    ) -> Iterator[tuple[bool, Document]]:
        """The documents of the part that is held out whole; their places are remembered."""
        for _, document in apart.sides(EVERYTHING, Survey(), skipped, progress):
            self._places_apart.add(place(document))
            yield True, document

    def _is_copy(self, where: int) -> bool:
        """Whether a document of this place is held out by being in `apart`; counted."""
        is_copy = where in self._places_apart
        self.n_copies += is_copy
        return is_copy

    def _documents(self, skipped: Skipped, progress: Progress | None) -> Iterator[Document]:
        skipped.include(self._unreadable)
        if self.files:
            yield from read_documents(self.files, self.options, skipped, progress)

    def _smalltalk(self, progress: Progress | None, held_out: bool) -> Iterator[Document]:
        if not self.smalltalk_bytes:
            return
        share = self._share or _HELD_OUT_SHARE
        n_bytes = max(1, int(self.smalltalk_bytes * share)) if held_out else self.smalltalk_bytes
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
    try:
        return bytes.fromhex(durable.sha256_of(path, progress or (lambda n: None)))
    except OSError as error:
        raise DataError(f"{path}: cannot read this corpus file ({error.strerror})") from error
