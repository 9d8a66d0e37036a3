"""What format a file has, where its first bytes, its name or both say it."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microgpt.common.errors import DataError
from microgpt.corpus.reading.detection import detect, name_decides
from microgpt.corpus.reading.formats import read_documents
from microgpt.corpus.reading.options import ReadOptions
from microgpt.corpus.reading.records import is_known
from tests.corpus.lines import chat_line

PROSE = [
    "[ ] Buy milk\n[ ] Walk the dog\n\n[x] Sleep\n",
    "[] is an empty list in many languages.\n",
    "{\n  color: red;\n}\n\nAnd words.\n",
    "{} stands for a value\n",
    '{"a": 1}\n\nis JSON, as is\n\n["b"]\n',
    '[{"a": 1}, {"b": 2}]\n\nis an array of two objects.\n',
    '{"text": "a record"} is what a line of JSONL looks like.\n',
    '{"text": \nbroken\n',
    "[1] A note.\n\n[2] Another.\n",
]


@pytest.mark.parametrize("name", ["x.txt", "X.TEXT", "x.md", "x.txt.gz"])
@pytest.mark.parametrize("text", PROSE)
def test_prose_that_begins_like_json_is_text_by_its_name(write, name, text):
    import gzip

    data = gzip.compress(text.encode()) if name.endswith("gz") else text
    path = write(name, data)
    assert detect(path) == "text"
    whole = list(read_documents(path, ReadOptions(text_documents="file")))
    assert whole == [text.strip("\n")]


@pytest.mark.parametrize("text", PROSE[:4] + PROSE[-1:])
def test_prose_whose_first_value_is_no_json_is_text_by_any_name(write, text):
    assert detect(write("x", text)) == "text"


RECORDS = {
    "lines": ('{"text": "a"}\n{"text": "b"}\n', "jsonl"),
    "one line": ('{"text": "a"}', "jsonl"),
    "lines ended by CR": ('{"text": "a"}\r{"text": "b"}\r', "json"),
    "objects in one line": ('{"text": "a"} {"text": "b"}', "json"),
    "array": ('[{"text": "a"}, {"text": "b"}]', "json"),
    "pretty": ('{\n "text": "a"\n}\n{\n "text": "b"\n}\n', "json"),
    "opened in the first line": ('{ "text":\n "a"\n}\n{ "text": "b" }\n', "json"),
    "messages opened in the first line": (
        '{ "messages": [\n {"role": "user", "content": "a"}\n ]\n}\n{"text": "b"}',
        "json",
    ),
    "long": (json.dumps({"text": "word " * 20_000}) + '\n{"text": "b"}\n', "jsonl"),
    "long and pretty": (json.dumps({"text": "word\n" * 20_000}, indent=1) + '\n{"text": "b"}\n', "json"),
    "cut in an escape": ('{"text": "' + "\\ud83d\\ude00" * 20_000 + '"}\n', "jsonl"),
    "long array": (json.dumps([{"text": "word " * 20_000}]), "json"),
}


@pytest.mark.parametrize("name", ["x", "x.txt", "x.json", "x.jsonl", "x.csv"])
@pytest.mark.parametrize("content, wanted", RECORDS.values(), ids=RECORDS)
def test_whole_records_are_records_by_any_name(write, name, content, wanted):
    path = write(name, content)
    assert detect(path) == wanted
    assert not name_decides(path)
    assert list(read_documents(path)) != [content.strip()]


def test_records_of_ones_own_keys_are_known_then(write):
    path = write("x.txt", '{"foo": "a", "bar": "b"}\n')
    assert (detect(path), detect(path, ["foo"]), detect(path, ["baz"])) == ("text", "jsonl", "text")


@pytest.mark.parametrize("name", ["x", "data.bin", "x.jsonl", "x.json"])
@pytest.mark.parametrize("first", ['{"messages": [', '{"text": "a" "b"}', '{"text": "a"} x', '[{"text": '])
def test_a_broken_record_is_not_read_as_prose(write, name, first):
    path = write(name, first + "\n" + chat_line("a", "b"))
    with pytest.raises(DataError, match=r":[12]: "):
        list(read_documents(path))


@pytest.mark.parametrize(
    "name, mark",
    [
        ("utf-16", "UTF-16"),
        ("utf-32", "UTF-32"),
        ("utf-16-be", "UTF-16"),
        ("utf-32-be", "UTF-32"),
    ],
)
def test_wide_text_is_called_what_it_is(write, name, mark):
    path = write("x.txt", ("\ufeff" * name.endswith("be") + "hello").encode(name))
    with pytest.raises(DataError, match=rf"x\.txt: this is {mark} text; save it as UTF-8"):
        detect(path)


@pytest.mark.parametrize(
    "name, content",
    [
        ("x.csv", "question,answer\nq,a"),
        ("x.jsonl", "{broken"),
        ("x.txt", '{"a": 1}'),
    ],
)
def test_a_name_that_decides_is_known(write, name, content):
    assert name_decides(write(name, content))
    assert not name_decides(write("x", content))


LETTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
STARTS = st.sampled_from(["", "[", "{", '{"', '[{"', "[]", "{}", '{"text": "a"}', "\ufeff", "\r", "# "])


@given(start=STARTS, text=st.text(LETTERS | st.sampled_from('\n\r[]{}",: '), min_size=1))
@settings(max_examples=200)
def test_any_text_in_a_txt_is_read_as_that_text(tmp_path, start, text):
    text = start + text
    path = tmp_path / "x.txt"
    path.write_bytes(text.encode())
    plain = text.removeprefix("\ufeff")
    if not plain.strip() or _is_record(plain) or "__eou__" in plain:
        return
    plain = plain.replace("\r\n", "\n") if "\n" in plain else plain.replace("\r", "\n")
    assert list(read_documents(path, ReadOptions(text_documents="file"))) == [plain.strip("\n")]


def _is_record(text):
    try:
        value, end = json.JSONDecoder().raw_decode(text.lstrip())
    except ValueError:
        return text.lstrip().startswith("[")  # perhaps of records; those of PROSE are none
    return isinstance(value, list) or (is_known(value) and text.lstrip()[end:].strip()[:1] in ("", *"{,]"))
