"""Plain text in blocks gives the documents that going through it line by line gives."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microgpt.corpus import plain_text
from microgpt.corpus.plain_text import read_text
from microgpt.corpus.reading import Reading, ReadOptions, Skipped

LINES = st.sampled_from(
    [b"", b" ", b"\t \r", b"a", b" b ", b"word" * 5, b"\xc3\xa9", b"bad\xff", b"c\r", b"\x0b"]
)


def paragraphs(data):
    """Documents and the numbers of bad lines, the slow way."""
    documents, bad, lines = [], [], []
    for number, line in enumerate([*data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), b""], 1):
        if not line.strip():
            documents.append(b"".join(part + b"\n" for part in lines).decode().replace("\r\n", "\n"))
            lines = []
            continue
        try:
            line.decode()
            lines.append(line)
        except UnicodeDecodeError:
            bad.append(number)
    return [text.strip("\n") for text in documents if text.strip()], bad


@pytest.mark.parametrize("block", [3, 7, 64, 1 << 18])
@given(lines=st.lists(LINES, max_size=30), mark=st.booleans())
@settings(max_examples=60, deadline=None)
def test_blocks_do_not_show(tmp_path_factory, block, lines, mark):
    data = b"\xef\xbb\xbf" * mark + b"\n".join(lines)
    path = tmp_path_factory.mktemp("text") / "x.txt"
    path.write_bytes(data)
    reading = Reading(ReadOptions(bad_lines="skip"), Skipped(), None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plain_text, "_BLOCK_BYTES", block)
        patch.setattr("microgpt.corpus.reading._EXAMPLES", 99)
        found = list(read_text(path, reading))
    documents, bad = paragraphs(data)
    assert found == documents
    assert [int(re.search(r":(\d+): ", line)[1]) for line in reading.skipped.examples] == bad
