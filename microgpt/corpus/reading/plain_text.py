"""Plain text: a document is a paragraph between blank lines, or a whole file; a very long one is divided.

`<|endoftext|>` ends a document, too, as in files of stories and dumps for GPT-2.  In a file that begins with
documents of this kind blank lines end none.

A file is read in blocks that end where a document may end, so that one search in C finds all paragraphs of a
block.  Only a block with a byte that is no UTF-8 is gone through line by line.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from microgpt.corpus.chat import Document

from .files import head_of, open_lines, without_bom
from .options import Reading, decoded
from .records import BadRecordError

MAX_TEXT_BYTES = 1 << 20  # a longer document is divided at line ends into several
_BLOCK_BYTES = 1 << 18
_BLANK_LINES = re.compile(rb"\n(?:[ \t\r\v\f]*\n)+")
_NOTHING = re.compile(rb"(?!)")
_MARK = b"<|endoftext|>"
_MARK_ALONE = re.compile(re.escape(_MARK))
_EITHER = re.compile(b"%b|%b" % (_MARK_ALONE.pattern, _BLANK_LINES.pattern))
MARKS = "marks <|endoftext|>, each the end of a document"


def read_text(path: Path, reading: Reading) -> Iterator[Document]:
    """Every document of a text file."""
    has_paragraphs = reading.options.text_documents == "paragraphs" and _MARK not in head_of(path)
    border = _EITHER if has_paragraphs else _MARK_ALONE
    for number, block in _blocks(path, border, reading):
        for part in _parts(_utf8(path, number, block, reading), has_paragraphs, reading):
            text = (part.decode() + "\n").replace("\r\n", "\n").strip("\n")
            if text and not text.isspace():
                yield text


def _parts(block: bytes, has_paragraphs: bool, reading: Reading) -> Iterator[bytes]:
    """What stands between marks and, where they end documents, blank lines."""
    blank = _BLANK_LINES if has_paragraphs else _NOTHING
    for number, part in enumerate(block.split(_MARK)):
        if number:
            reading.skipped.add_part(MARKS)
        yield from blank.split(part)


def _blocks(path: Path, border: re.Pattern[bytes], reading: Reading) -> Iterator[tuple[int, bytes]]:
    """The file in blocks of up to MAX_TEXT_BYTES that no document crosses, each with its first line's number.

    A blank line before and after each block makes the first and the last line like any other.
    """
    with open_lines(path, reading.progress) as stream:
        number, rest, is_first = 1, b"", True
        while True:
            new = stream.read(min(_BLOCK_BYTES, MAX_TEXT_BYTES - len(rest)))
            block = without_bom(new) if is_first else rest + new
            is_first = False
            cut = _last_cut(block, border) if new else len(block)
            if cut:
                yield number, b"\n" + block[:cut] + b"\n"
                number += block.count(b"\n", 0, cut)
            rest = block[cut:]
            if not new:
                return


def _last_cut(block: bytes, border: re.Pattern[bytes]) -> int:
    """The last place where a document ends in a block; 0 if none does and the block may still grow."""
    for span in (1 << 12, len(block)):  # most blocks end near a blank line
        ends = [match.end() for match in border.finditer(block, max(0, len(block) - span))]
        if ends:
            return ends[-1]
    if len(block) < MAX_TEXT_BYTES:
        return 0
    return block.rfind(b"\n") + 1 or _character_end(block)


def _character_end(block: bytes) -> int:
    """The end of the last character that is complete for certain."""
    for back in range(1, 5):
        if block[-back] < 0x80:
            break
        if block[-back] >= 0xC0:
            return len(block) - back
    return len(block)


def _utf8(path: Path, number: int, block: bytes, reading: Reading) -> bytes:
    """The block without its lines that are not UTF-8, each noted as bad."""
    try:
        block.decode()
    except UnicodeDecodeError:
        return b"\n".join(_good_lines(path, number - 1, block, reading))
    return block


def _good_lines(path: Path, number: int, block: bytes, reading: Reading) -> Iterator[bytes]:
    for line in block.split(b"\n"):
        try:
            decoded(line)
        except BadRecordError as error:
            reading.bad(path, number, error)
        else:
            yield line
        number += 1
