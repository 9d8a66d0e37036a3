"""What format a corpus file has: its first bytes say it, and where these leave it open its name."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from microgpt.common.errors import DataError

from .files import HEAD_BYTES, PARQUET, NoTextError, head_of, is_parquet, is_what_it_is_named, unpacked_name
from .records import is_known

TURN_END = b"__eou__"
_TABLES = ("csv", "tsv")
_PROSE = ("txt", "text", "md", "rst", "html", "htm", "tex", "py", *_TABLES)
_BY_NAME = {"jsonl": "jsonl", "ndjson": "jsonl", "json": "json", **dict.fromkeys(_TABLES, "table")}
_WIDE = {  # marks of text with several bytes for each letter, the longer ones first
    b"\xff\xfe\0\0": "UTF-32",
    b"\0\0\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
_OBJECT = re.compile(r'(\[\s*)?\{\s*"')
_BLANKS = re.compile(r"\s*")
_LONGEST_TOKEN = 12  # characters of JSON that mean nothing before the last of them: \ud83d\ude00


def detect(path: Path, keys: Sequence[str] = ()) -> str:
    """The format of a file, a key of READERS.

    A file that begins like a JSON object is one: a broken first line must not make chats be read as plain
    text.  Under a name of prose it must begin with a whole record of a known format, as prose may begin with
    any bracket.

    Args:     keys: those of records of one's own, which are known, too.
    """
    return _format(path, unpacked_name(path.name).rpartition(".")[2], keys)


def name_decides(path: Path, keys: Sequence[str] = ()) -> bool:
    """Whether this very content is read in another way than under another name."""
    try:
        return detect(path, keys) != _format(path, "", keys)
    except DataError:  # passed over, or an error, under every name
        return False


def _format(path: Path, suffix: str, keys: Sequence[str]) -> str:
    """The format of a file under a name with this end."""
    if is_parquet(path):
        return "parquet"
    head = head_of(path)
    _refuse_other_than_text(path, head)
    start = _start_of_json(head)
    if start and (start.is_whole(keys) if suffix in _PROSE else start.is_likely()):
        return start.format
    if not is_what_it_is_named(path):
        raise DataError(f"{path}: named {path.suffix}, but it is none; is it damaged, or misnamed?")
    if suffix in _BY_NAME:
        return _BY_NAME[suffix]
    return "dailydialog" if TURN_END in head.lstrip().split(b"\n", 1)[0] else "text"


def _refuse_other_than_text(path: Path, head: bytes) -> None:
    for mark, name in _WIDE.items():
        if head.startswith(mark):
            raise NoTextError(f"{path}: this is {name} text; save it as UTF-8")
    if not head.strip():
        raise NoTextError(f"{path}: this corpus file holds nothing but blanks; give a file with text")
    if b"\0" in head:
        if head.startswith(PARQUET):
            raise DataError(f"{path}: a parquet file that is damaged, or packed: unpack it first")
        raise NoTextError(f"{path}: this is a binary file; expected UTF-8 text, JSON or JSONL")


class _Start(NamedTuple):
    """The start of a file whose first bracket may be JSON's.

    record: its first value, None if that is broken or ends after the start.  rest: what follows it.
    """

    format: str
    text: str
    record: Any
    rest: str
    is_cut: bool  # the first value ends after the start, good so far

    def is_likely(self) -> bool:
        """Whether it can be told as JSON, broken or not."""
        is_object = self.record is not None and self.rest[:1] in ("", "{", "[", ",", "]")
        return is_object or bool(_OBJECT.match(self.text))

    def is_whole(self, keys: Sequence[str]) -> bool:
        """Whether it begins with a record that is known, and goes on like JSON."""
        if self.is_cut:
            return bool(_OBJECT.match(self.text))
        is_empty = self.record == [] and not self.rest
        return is_empty or (is_known(self.record, keys) and self.rest[:1] in ("", "{", ",", "]"))


def _start_of_json(head: bytes) -> _Start | None:
    """The first value where the start of a file has an object, in an array or not, or an empty array."""
    text = head.decode(errors="replace").lstrip()
    in_array = text.startswith("[")
    at = _end_of_blanks(text, int(in_array))
    if in_array and text[at : at + 1] == "]":
        return _Start("json", text, [], text[at + 1 :].strip(), False)
    if text[at : at + 1] != "{":
        return None
    try:
        record, end = json.JSONDecoder().raw_decode(text, at)
    except (ValueError, RecursionError) as error:
        is_cut = len(head) == HEAD_BYTES and _ends_early(text, error)
        is_json = in_array or (is_cut and "\n" in text)
        return _Start("json" if is_json else "jsonl", text, None, text[at:], is_cut)
    rest = text[_end_of_blanks(text, end) :]
    shares_its_line = "\n" in text[at:end] or (rest[:1] == "{" and "\n" not in text[end : -len(rest)])
    return _Start("json" if in_array or shares_its_line else "jsonl", text, record, rest, False)


def _end_of_blanks(text: str, start: int) -> int:
    return _BLANKS.match(text, start).end()  # type: ignore[union-attr]


def _ends_early(text: str, error: Exception) -> bool:
    """Whether JSON is refused for nothing but that it ends."""
    is_text_open = str(error).startswith("Unterminated string")
    return is_text_open or getattr(error, "pos", 0) >= len(text) - _LONGEST_TOKEN
