"""Tables as text: records by the names of their columns."""

import csv
import io
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microgpt.common.errors import DataError
from microgpt.corpus.chat import Message
from microgpt.corpus.reading.formats import read_documents
from microgpt.corpus.reading.options import ReadOptions, Skipped

SKIP = ReadOptions(bad_lines="skip")
PAIR = [Message("user", "q"), Message("assistant", "a")]


def read(path, **how):
    return list(read_documents(path, ReadOptions(**how)))


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_rows_are_records_by_their_columns(write, separator, end):
    lines = ["\ufeffid;question;answer", "1;q;a", "", '2;"q";"a"']
    path = write("x.csv", end.join(lines).replace(";", separator))
    assert read(path) == [PAIR, PAIR]


def test_fields_in_quotes_hold_anything(write):
    path = write("x.tsv", 'text\tn\n"one\ttwo\n\n""three"""\t1\nfour\t2\n')
    assert read(path) == ['one\ttwo\n\n"three"', "four"]


@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz"])
def test_unknown_columns_are_refused_and_can_be_named(write, name):
    import gzip

    data = b"frage,antwort,n\nq,a,1\n"
    path = write(name, gzip.compress(data) if name.endswith("gz") else data)
    with pytest.raises(DataError, match=r"x\.csv.*:1: columns of no known table: 'frage,antwort,n'.*--keys"):
        read(path)
    assert read(path, keys="frage,antwort") == [PAIR]
    assert read(path, keys="antwort") == ["a"]


BAD = {
    "short": ("question,answer\nq\nq,a\n", 2, "1 fields, the first row has 2"),
    "long": ('question,answer\n"q\n",a\nq,a,b\nq,a', 4, "3 fields"),
    "not utf-8": (b"question,answer\nq,a\nq,caf\xe9\n", 3, "0xe9"),
    "empty": ("question,answer\nq,a\nq,\n", 3, "message 2"),
    "open quote": ('\nquestion,answer\nq,a\nq,"a\nq,a\n', 4, "not a row of a table"),
    "after a quote": ('question,answer\nq,"a"b\nq,a\n', 2, "not a row of a table"),
}


@pytest.mark.parametrize("content, line, reason", BAD.values(), ids=BAD)
def test_a_bad_row_is_named_by_its_line(write, content, line, reason):
    path, skipped = write("x.csv", content), Skipped()
    with pytest.raises(DataError, match=rf"x\.csv:{line}: .*{reason}"):
        read(path)
    assert PAIR[1] in [document[1] for document in read_documents(path, SKIP, skipped)]
    assert skipped.lines == 1


def test_a_field_may_be_long_but_not_without_end(write, monkeypatch):
    before = csv.field_size_limit()
    assert read(write("x.csv", "text\n" + "a" * 200_000)) == ["a" * 200_000]
    monkeypatch.setattr("microgpt.corpus.reading.tables.MAX_LINE_BYTES", 1 << 16)
    with pytest.raises(DataError, match=r"x\.csv:2: line of over"):
        read(write("x.csv", "text\n" + "a" * (1 << 16) + "\n"))
    endless = write("x.csv", 'text\n"' + "many lines\n" * 500_000)
    tracemalloc.start()
    with pytest.raises(DataError, match=r"x\.csv:2: .*field larger"):
        read(endless)
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()
    assert csv.field_size_limit() == before, "the limit is one of the whole process"


@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)))
@settings(max_examples=60)
def test_what_csv_writes_is_read(tmp_path, texts):
    texts = [text for text in texts if text.strip()]
    file = io.StringIO(newline="")
    csv.writer(file).writerows([["id", "text"], *([i, text] for i, text in enumerate(["first", *texts]))])
    (tmp_path / "x.csv").write_bytes(file.getvalue().encode())
    assert read(tmp_path / "x.csv") == ["first", *texts]


@pytest.mark.parametrize("first", ["x" * 200_000, '"' + "y" * 200_000])
def test_a_first_row_that_is_none_of_a_table_is_one_line(write, first):
    with pytest.raises(DataError, match=r"x\.csv.*:1: columns of no known table") as error:
        read(write("x.csv", f"{first}\nq,a\n"))
    assert "\n" not in str(error.value) and len(str(error.value)) < 1000
