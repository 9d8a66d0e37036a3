"""What all readers of corpus files share: how files become documents, and what was left out."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from microgpt.common.errors import ConfigError, DataError
from microgpt.common.flags import flag_name
from microgpt.common.setting import refused, setting
from microgpt.common.words import counted
from microgpt.corpus.chat import Document

from .files import NoTextError, Progress
from .records import SENDERS, BadRecordError, document_from
from .trees import Tree, is_tree_row

_EXAMPLES = 5


@dataclass(frozen=True)
class ReadOptions:
    """How files become documents.  `senders` is the role for each ShareGPT sender."""

    bad_lines: str = setting(
        "error",
        "stop at a line that cannot be read or a file without text, or skip and count such ones",
        choices=("error", "skip"),
        group="data",
    )
    text_documents: str = setting(
        "paragraphs",
        "a document of plain text: between blank lines, or a whole file; what is longer than "
        "1 MiB is divided at line ends; <|endoftext|> always ends one",
        choices=("paragraphs", "file"),
        group="data",
    )
    suffix: str | None = setting(
        None, "ends of file names that are text in folders, too, such as .md,.csv", "ends", group="data"
    )
    keys: str | None = setting(
        None,
        "keys, or columns, of question and answer in records of your own, such as query,reply; or of "
        "plain text, one",
        "keys",
        group="data",
    )
    senders: Mapping[str, str] = field(default_factory=lambda: dict(SENDERS))

    def __post_init__(self) -> None:
        if bad := refused(self):
            name, value, expected = bad
            raise ConfigError(f"{flag_name(name)}: got {value!r}; expected {expected}")
        if len(self.key_names) > 2:
            raise ConfigError(f"--keys: got {self.keys!r}; expected two, QUESTION,ANSWER, or one, TEXT")

    def __repr__(self) -> str:
        """What decides how a file is read; what is not set adds nothing, as this is hashed."""
        names = ["bad_lines", "text_documents", "senders", *(["keys"] if self.keys else [])]
        return f"ReadOptions({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    @property
    def suffixes(self) -> tuple[str, ...]:
        """`suffix` as ends of names in small letters, each with its dot."""
        return tuple("." + name.lower().removeprefix(".") for name in _parts(self.suffix))

    @property
    def key_names(self) -> tuple[str, ...]:
        """`keys` one by one."""
        return _parts(self.keys)


def _parts(text: str | None) -> tuple[str, ...]:
    """What stands between commas or blanks."""
    return tuple((text or "").replace(",", " ").split())


@dataclass
class Skipped:
    """The lines and whole files that were left out, counted, with the first few spelled out.

    `parts`: how often a part of a record was left out that is known but not learned, by its name.
    """

    lines: int = 0
    examples: list[str] = field(default_factory=list)
    files: int = 0
    parts: dict[str, int] = field(default_factory=dict)

    def add(self, message: str) -> None:
        """Count a line."""
        self.lines += 1
        self._keep(message)

    def add_file(self, message: str) -> None:
        """Count a file."""
        self.files += 1
        self._keep(message)

    def add_part(self, what: str) -> None:
        """Count a part of a record."""
        self.parts[what] = self.parts.get(what, 0) + 1

    def include(self, other: "Skipped") -> None:
        """Count what another one counted as well."""
        self.lines += other.lines
        self.files += other.files
        for what, n in other.parts.items():
            self.parts[what] = self.parts.get(what, 0) + n
        self.examples = [*self.examples, *other.examples][:_EXAMPLES]

    def __str__(self) -> str:
        parts = [(self.lines, "bad line"), (self.files, "file")]
        return " and ".join(counted(n, what) for n, what in parts if n) or "nothing"

    def _keep(self, message: str) -> None:
        if len(self.examples) < _EXAMPLES:
            self.examples.append(message)


@dataclass
class Reading:
    """What the readers share during one pass."""

    options: ReadOptions
    skipped: Skipped
    progress: Progress | None

    def bad(self, path: Path, place: object, reason: object) -> None:
        """Note a line that cannot be read: stop here, or count it and go on."""
        message = f"{path}:{place}: {reason}"
        if self.options.bad_lines == "error":
            raise DataError(f"{message}; mend the line, or leave such lines out with --bad-lines skip")
        self.skipped.add(message)

    def bad_file(self, error: NoTextError) -> None:
        """Note a file without text: stop here, or count it and go on."""
        if self.options.bad_lines == "error":
            raise NoTextError(f"{error}; --bad-lines skip passes over such files") from error
        self.skipped.add_file(str(error))


Records: TypeAlias = Iterable[tuple[object, Any]]  # each with its place in the file


def documents_of(path: Path, records: Records, reading: Reading) -> Iterator[Document]:
    """The documents in the records of a file; bad ones are named by their places."""
    options, left_out = reading.options, reading.skipped.add_part
    keys, tree = options.key_names, Tree(options.senders, left_out)
    for place, record in records:
        document: Document | None
        try:
            if is_tree_row(record):
                document = tree.add(record)
            else:
                document = document_from(record, options.senders, keys, left_out)
        except BadRecordError as error:
            reading.bad(path, place, error)
            continue
        if document:
            yield document
    if last := tree.conversation():
        yield last


Reader: TypeAlias = Callable[[Path, Reading], Iterator[Document]]


def decoded(line: bytes) -> str:
    """The text of a line, or what is wrong with it."""
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        byte = line[error.start]
        raise BadRecordError(f"not UTF-8 (byte 0x{byte:02x} at column {error.start + 1})") from None
