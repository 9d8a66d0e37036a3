"""Whatever bytes a file holds, reading it gives documents or one line of DataError; nothing else escapes."""

import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microgpt.common.errors import DataError
from microgpt.corpus.chat import texts
from microgpt.corpus.prepared.split import place
from microgpt.corpus.reading.formats import read_documents
from microgpt.corpus.reading.options import ReadOptions

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
keys = st.sampled_from(
    [
        "messages",
        "conversations",
        "data",
        "dialog",
        "instruction",
        "input",
        "output",
        "prompt",
        "completion",
        "text",
        "role",
        "content",
        "from",
        "value",
    ]
)
words = st.sampled_from(
    ["__eou__", " ' ", ' " ', " . ", "\n", "\n\n", "\r\n", "{", "[", '"', "\ufeff", "don ' t", "\0"]
)
turns = st.lists(st.dictionaries(keys, values, max_size=2), max_size=2)
records = st.dictionaries(keys | st.text(max_size=3), values | turns, max_size=3)
contents = st.one_of(
    st.binary(max_size=200),
    st.lists(words | st.text(max_size=9), max_size=20).map(lambda parts: "".join(parts).encode()),
    st.lists(records, max_size=4).map(lambda lines: "\n".join(map(json.dumps, lines)).encode()),
    st.lists(records, max_size=4).map(lambda items: json.dumps(items).encode()),
    st.binary(max_size=60).map(gzip.compress),
    st.binary(max_size=60).map(lambda data: gzip.compress(data)[:-9]),
)


@pytest.mark.parametrize("bad_lines", ["error", "skip"])
@given(content=contents)
@settings(max_examples=120, derandomize=True)
def test_only_documents_or_one_clear_line(tmp_path, bad_lines, content):
    path = tmp_path / "hostile"
    path.write_bytes(content)
    try:
        for document in read_documents(path, ReadOptions(bad_lines=bad_lines)):
            assert any(text.strip() for text in texts(document))
            assert 0 <= place(document) < 1 << 64
    except DataError as error:
        assert "hostile" in str(error)
        assert "\n" not in str(error)
