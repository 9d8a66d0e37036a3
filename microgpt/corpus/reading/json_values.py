"""The values of a JSON file that is one array, or holds one value after the other: as a stream."""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from microgpt.common.errors import DataError

from .files import MAX_LINE_BYTES, open_source
from .options import Reading

_BLANKS = re.compile(r"\s*")


def json_values(path: Path, reading: Reading) -> Iterator[tuple[object, Any]]:
    """Each value of a JSON array or sequence with its line and number; memory holds one value at a time."""
    scan, number = json.JSONDecoder().raw_decode, 0
    with open_source(path, reading.progress) as stream:
        text = _TextWindow(path, stream)
        in_array = text.next_character() == "["
        text.drop(in_array)
        while (character := text.next_character()) not in ("", "]"):
            if character == ",":
                text.drop(1)
                continue
            try:
                value, end = scan(text.text, text.start)
            except (ValueError, RecursionError) as error:
                if not text.grow():
                    reason = getattr(error, "msg", None) or error
                    raise DataError(
                        f"{path}:{text.line}: not valid JSON from here on, in record {number + 1} ({reason})"
                    ) from None
                continue
            number += 1
            yield f"{text.line}: record {number}", value
            text.drop(end - text.start)
        closed = character == "]"
        text.drop(closed)
        if closed != in_array or text.next_character():
            raise DataError(f"{path}:{text.line}: a JSON array must end where its file ends; is it cut off?")


class _TextWindow:
    """A sliding window over a text file: `text[start:]` is what has not been used yet."""

    def __init__(self, path: Path, stream: Any):
        self._path, self._read = path, io.TextIOWrapper(stream, "utf-8-sig", newline="").read
        self.text, self.start, self.line = "", 0, 1

    def next_character(self) -> str:
        """Pass over blanks; the character found, or "" at the end of the file."""
        while True:
            self.drop(_BLANKS.match(self.text, self.start).end() - self.start)  # type: ignore[union-attr]
            if self.start < len(self.text) or not self.grow():
                return self.text[self.start : self.start + 1]

    def drop(self, n: int) -> None:
        self.line += self.text.count("\n", self.start, self.start + n)
        self.start += n

    def grow(self) -> bool:
        """Read as much again as is waiting; False at the end of the file."""
        kept = self.text[self.start :]
        if len(kept) > MAX_LINE_BYTES:
            raise DataError(f"{self._path}:{self.line}: a record of over 64 MiB, or not valid JSON")
        try:
            more = self._read(max(len(kept), 1 << 18))
        except UnicodeDecodeError:
            raise DataError(f"{self._path}: not UTF-8 after line {self.line}; save it as UTF-8") from None
        self.text, self.start = kept + more, 0
        return bool(more)
