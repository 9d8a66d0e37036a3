"""Plain text in blocks gives the documents that going through it line by line gives."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microgpt.corpus.reading import plain_text
from microgpt.corpus.reading.options import Reading, ReadOptions, Skipped
from microgpt.corpus.reading.plain_text import read_text

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
@settings(max_examples=60)
def test_blocks_do_not_show(tmp_path_factory, block, lines, mark):
    data = b"\xef\xbb\xbf" * mark + b"\n".join(lines)
    path = tmp_path_factory.mktemp("text") / "x.txt"
    path.write_bytes(data)
    reading = Reading(ReadOptions(bad_lines="skip"), Skipped(), None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plain_text, "_BLOCK_BYTES", block)
        patch.setattr("microgpt.corpus.reading.options._EXAMPLES", 99)
        found = list(read_text(path, reading))
    documents, bad = paragraphs(data)
    assert found == documents
    assert [int(re.search(r":(\d+): ", line)[1]) for line in reading.skipped.examples] == bad


def read(path, **how):
    reading = Reading(ReadOptions(**how), Skipped(), None)
    return list(read_text(path, reading)), reading.skipped.parts.get(plain_text.MARKS, 0)


@pytest.mark.parametrize(
    "text",
    [
        "One.\n\nOn it goes.\n<|endoftext|>\nTwo.\n\nThe end.\n<|endoftext|>\n",
        "One.\n\nOn it goes.<|endoftext|>Two.\n\nThe end.",
        "<|endoftext|>One.\r\n\r\nOn it goes.\r\n<|endoftext|>\r\n<|endoftext|>Two.\r\n\r\nThe end.",
    ],
)
@pytest.mark.parametrize("how", ["paragraphs", "file"])
def test_stories_end_at_their_marks_alone(write, text, how):
    stories, n_marks = read(write("x.txt", text), text_documents=how)
    assert stories == ["One.\n\nOn it goes.", "Two.\n\nThe end."]
    assert n_marks == text.count("<|endoftext|>")


def test_a_mark_after_the_start_ends_documents_as_blank_lines_do(write):
    lines = [f"line {i}" for i in range(20_000)]
    found, n_marks = read(write("x.txt", "\n\n".join(lines) + "<|endoftext|>last\n\none"))
    assert found == [*lines, "last", "one"]
    assert n_marks == 1


@given(st.lists(st.sampled_from(["a", "b\n\nc", "d\ne", "é" * 9]), min_size=1, max_size=20))
@settings(max_examples=60)
def test_marks_are_found_across_blocks(tmp_path_factory, stories):
    path = tmp_path_factory.mktemp("stories") / "x.txt"
    path.write_text("<|endoftext|>" + "<|endoftext|>".join(stories))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plain_text, "_BLOCK_BYTES", 7)
        assert read(path)[0] == stories


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
def test_lines_may_end_in_any_way(write, end):
    text = "a\nb\n\nc\n\n\nd".replace("\n", end)
    assert read(write("x.txt", text))[0] == ["a\nb", "c", "d"]
    if end != "\n":
        assert read(write("x.txt", "a\rb\n\nc"))[0] == ["a\rb", "c"], "a carriage return in a line stays"
