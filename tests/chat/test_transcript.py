"""What /save writes is what prepare reads, and no file loses anything by it."""

import os
import pathlib

import pytest

from microgpt.chat.transcript import add_conversation, answered
from microgpt.common.errors import DataError
from microgpt.corpus.chat import Message
from microgpt.corpus.reading.formats import read_documents

SYSTEM, USER, ASSISTANT = (Message(role, f"{role} says") for role in ("system", "user", "assistant"))
EMPTY = Message("assistant", " \n")
TALK = [USER, ASSISTANT]


@pytest.mark.parametrize(
    "history, kept",
    [
        ([], []),
        ([SYSTEM], [SYSTEM]),
        ([SYSTEM, *TALK], [SYSTEM, *TALK]),
        ([USER, EMPTY], []),
        ([SYSTEM, USER, EMPTY, *TALK, USER, EMPTY], [SYSTEM, *TALK]),
        ([*TALK, USER], TALK),
    ],
)
def test_questions_without_an_answer_are_left_out(history, kept):
    assert answered(history) == kept


def test_what_is_saved_can_be_read_as_a_corpus(tmp_path):
    path = tmp_path / "chat.jsonl"
    odd = [Message("user", '/a "b"\n\u2028\x85\x1b\t\U0001f600'), Message("assistant", "\ufffd\r\n.")]
    add_conversation([SYSTEM, *TALK, USER, EMPTY], str(path))
    add_conversation([USER, EMPTY, *odd], str(path))
    add_conversation(TALK, str(path))
    assert list(read_documents([path])) == [[SYSTEM, *TALK], odd, TALK]


@pytest.mark.parametrize("history", [[], [SYSTEM], [USER, EMPTY], [USER]])
def test_nothing_answered_makes_no_file(tmp_path, history):
    with pytest.raises(DataError, match="nothing was answered yet"):
        add_conversation(history, str(tmp_path / "x.jsonl"))
    assert list(tmp_path.iterdir()) == []


def test_it_tells_whether_the_file_is_new_and_what_is_left_out(tmp_path):
    path = tmp_path / "x.jsonl"
    assert add_conversation([*TALK, USER, EMPTY], str(path)) == (
        f"saved 2 messages in a new {path}; left out 2, of questions without an answer"
    )
    assert add_conversation(TALK, str(path)) == f"added 2 messages to {path}, which holds others"


def test_home_and_the_ending_are_understood(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert str(tmp_path / "x.jsonl") in add_conversation(TALK, "~/x")
    assert str(tmp_path / "y.txt.jsonl") in add_conversation(TALK, "~/y.txt")
    assert {path.name for path in tmp_path.iterdir()} == {"x.jsonl", "y.txt.jsonl"}


@pytest.mark.parametrize("before", [b"My notes.\n", b"[1]\n", b"\xff\xfe\n"])
def test_a_file_of_something_else_stays_what_it_is(tmp_path, before):
    path = tmp_path / "notes.jsonl"
    path.write_bytes(before)
    with pytest.raises(DataError, match="holds something else than JSONL"):
        add_conversation(TALK, str(path))
    assert path.read_bytes() == before


def test_a_last_line_without_its_end_is_not_run_into(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"text": "before"}')
    add_conversation(TALK, str(path))
    assert list(read_documents([path])) == ["before", TALK]


def test_places_where_nothing_can_be_written_are_named(tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    for name, message in [("", "is a folder"), ("no/x", "No such file"), ("pipe", "is no regular file")]:
        with pytest.raises(DataError, match=message):
            add_conversation(TALK, str(tmp_path / name))


def test_an_unknown_home_is_one_line(monkeypatch):
    def nobody(_path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(pathlib.Path, "expanduser", nobody)
    with pytest.raises(DataError, match="~x/y: nobody knows the home folder"):
        add_conversation(TALK, "~x/y")
