"""What all readers of corpus files share: how files become documents, and what was left out."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TypeAlias

from microgpt.common.errors import ConfigError, DataError
from microgpt.common.flags import flag_name, setting
from microgpt.common.words import counted

from .chat import Document
from .records import SENDERS, BadRecordError
from .sources import NoTextError, Progress

_EXAMPLES = 5


@dataclass(frozen=True)
class ReadOptions:
    """How files become documents.  `senders` is the role for each ShareGPT sender."""

    bad_lines: str = setting(
        "error", "stop at a line that cannot be read or a file without text, or skip and count such ones",
        choices=("error", "skip"), group="data",
    )  # fmt: skip
    text_documents: str = setting(
        "paragraphs", "a document of plain text: between blank lines, or a whole file; what is longer than "
        "1 MiB is divided at line ends",
        choices=("paragraphs", "file"), group="data",
    )  # fmt: skip
    senders: Mapping[str, str] = field(default_factory=lambda: dict(SENDERS))

    def __post_init__(self) -> None:
        for known in fields(self):
            value, allowed = getattr(self, known.name), known.metadata.get("choices")
            if allowed and value not in allowed:
                raise ConfigError(f"{flag_name(known.name)}: got {value!r}; expected {' or '.join(allowed)}")


@dataclass
class Skipped:
    """The lines and whole files that were left out, counted, with the first few spelled out."""

    lines: int = 0
    examples: list[str] = field(default_factory=list)
    files: int = 0

    def add(self, message: str) -> None:
        """Count a line."""
        self.lines += 1
        self._keep(message)

    def add_file(self, message: str) -> None:
        """Count a file."""
        self.files += 1
        self._keep(message)

    def include(self, other: "Skipped") -> None:
        """Count what another one counted as well."""
        self.lines += other.lines
        self.files += other.files
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

    def bad(self, path: Path, line: int, reason: object) -> None:
        """Note a line that cannot be read: stop here, or count it and go on."""
        message = f"{path}:{line}: {reason}"
        if self.options.bad_lines == "error":
            raise DataError(f"{message}; mend the line, or leave such lines out with --bad-lines skip")
        self.skipped.add(message)

    def bad_file(self, error: NoTextError) -> None:
        """Note a file without text: stop here, or count it and go on."""
        if self.options.bad_lines == "error":
            raise NoTextError(f"{error}; --bad-lines skip passes over such files") from error
        self.skipped.add_file(str(error))


Reader: TypeAlias = Callable[[Path, Reading], Iterator[Document]]


def decoded(line: bytes) -> str:
    """The text of a line, or what is wrong with it."""
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        byte = line[error.start]
        raise BadRecordError(f"not UTF-8 (byte 0x{byte:02x} at column {error.start + 1})") from None
