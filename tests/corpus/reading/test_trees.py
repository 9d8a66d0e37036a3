"""Conversations out of rows that each hold one message."""

import json

import pytest
from pyarrow import Table, parquet

from microgpt.common.errors import DataError
from microgpt.corpus.chat import Message
from microgpt.corpus.reading.formats import read_documents
from microgpt.corpus.reading.options import ReadOptions, Skipped


def row(name, parent, role="prompter", rank=None, text=None):
    text = text or f"says {name}"
    return {"message_id": name, "parent_id": parent, "role": role, "rank": rank, "text": text}


ROWS = [
    row("1", None),
    row("2", "1", "assistant", rank=1.0),
    row("3", "1", "assistant", rank=0.0),
    row("4", "3"),
    row("5", "4", "assistant"),
    row("6", "4", "assistant"),
    row("7", None),
    row("8", "7", "assistant"),
]
WANTED = [
    [
        Message("user", "says 1"),
        Message("assistant", "says 3"),
        Message("user", "says 4"),
        Message("assistant", "says 5"),
    ],
    [Message("user", "says 7"), Message("assistant", "says 8")],
]


@pytest.fixture(params=["jsonl", "json", "parquet", "csv"])
def written(request, tmp_path):
    """Write rows as a file of one format; its path."""

    def write(rows):
        path = tmp_path / f"rows.{request.param}"
        if request.param == "parquet":
            parquet.write_table(Table.from_pylist(rows), path)
        elif request.param == "csv":
            lines = [["" if cell is None else str(cell) for cell in row.values()] for row in rows]
            path.write_text("\n".join(map(",".join, [list(rows[0]), *lines])))
        else:
            path.write_text(json.dumps(rows) if request.param == "json" else "\n".join(map(json.dumps, rows)))
        return path

    return write


def test_a_tree_is_the_conversation_of_the_answers_ranked_first(written):
    skipped = Skipped()
    assert list(read_documents(written(ROWS), skipped=skipped)) == WANTED
    assert skipped.parts == {"other answers in trees of messages": 2}


BAD = {
    "before its parent": [row("1", None), row("3", "2")],
    "of another tree": [row("1", None), row("2", None), row("3", "1")],
    "twice": [row("1", None), row("2", "1"), row("2", "1")],
    "of nobody": [row("1", None), row("2", "1", "wizard")],
    "of no text": [row("1", None), row("2", "1", text=" ")],
}


@pytest.mark.parametrize("rows", BAD.values(), ids=BAD)
def test_a_row_out_of_place_is_told(tmp_path, rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(DataError, match=rf"rows\.jsonl:{len(rows)}: "):
        list(read_documents(path))
    first = next(read_documents(path, ReadOptions(bad_lines="skip")))
    assert first[0] == Message("user", "says 1")


def test_a_tree_does_not_grow_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr("microgpt.corpus.reading.trees.MAX_LINE_BYTES", 100)
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row(str(i), str(i - 1) if i else None)) for i in range(99)))
    with pytest.raises(DataError, match=r"rows\.jsonl:\d+: a tree of messages of over"):
        list(read_documents(path))
