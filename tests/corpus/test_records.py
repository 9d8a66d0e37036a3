import datetime
import json

import pytest

from microgpt.corpus.chat import Message
from microgpt.corpus.records import BadRecordError, document_from

PAIR = [Message("user", "q"), Message("assistant", "a")]
PARTS = [{"type": "text", "text": "q"}]

RECORDS = {
    "messages": {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
    "parts": {"messages": [{"role": "user", "content": PARTS}, {"role": "assistant", "content": "a"}]},
    "ultrachat 200k": {
        "prompt": "q", "prompt_id": "7",
        "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
    },
    "sharegpt": {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
    "sharegpt with roles": {
        "conversations": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    },
    "ultrachat": {"id": "0", "data": ["q", "a"]},
    "dailydialog": {"dialog": [" q ", "a"], "act": [1, 2], "emotion": [0, 0]},
    "alpaca": {"instruction": "q", "input": "", "output": "a"},
    "alpaca without input": {"instruction": "q", "output": "a"},
    "prompt": {"prompt": "q", "completion": "a"},
}  # fmt: skip


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
def test_every_format_gives_the_same_chat(record):
    assert document_from(record) == PAIR


def test_alpaca_input_follows_the_instruction():
    document = document_from({"instruction": "Add.", "input": "1 and 2", "output": "3"})
    assert document == [Message("user", "Add.\n\n1 and 2"), Message("assistant", "3")]


def test_dailydialog_is_detokenised():
    assert document_from({"dialog": ["It ' s me .", "Oh ."]})[0].content == "It's me."


def test_text_is_a_plain_document():
    assert document_from({"text": " as it is\n", "meta": 1}) == " as it is\n"


def test_turns_need_not_alternate():
    turns = [{"role": role, "content": role} for role in ("system", "assistant", "user", "user")]
    assert [m.role for m in document_from({"messages": turns})] == ["system", "assistant", "user", "user"]


def test_an_empty_system_message_is_left_out():
    turns = [{"role": "system", "content": " "}, {"role": "user", "content": "q"}]
    assert document_from({"messages": turns}) == [Message("user", "q")]


def test_unknown_senders_can_be_named():
    record = {"conversations": [{"from": "bing", "value": "hello"}]}
    with pytest.raises(BadRecordError, match="bing"):
        document_from(record)
    assert document_from(record, {"bing": "assistant"}) == [Message("assistant", "hello")]


BAD = {
    "no object": ([1], "a list"),
    "unknown keys": ({"foo": 1, "bar": 2}, "'bar', 'foo'"),
    "no keys": ({}, "no known format"),
    "no messages": ({"messages": []}, "no messages"),
    "messages not a list": ({"messages": "hi"}, "list"),
    "message not an object": ({"messages": ["hi"]}, "role"),
    "no content": ({"messages": [{"role": "user"}]}, "content"),
    "unknown role": ({"messages": [{"role": "wizard", "content": "x"}]}, "wizard"),
    "role of no kind": ({"messages": [{"role": {}, "content": "x"}]}, "unknown role"),
    "null content": ({"messages": [{"role": "user", "content": None}]}, "null"),
    "number": ({"text": 3}, "number"),
    "empty text": ({"text": " \n"}, "empty"),
    "empty answer": ({"prompt": "q", "completion": ""}, "message 2"),
    "deep role": ({"messages": [{"role": json.loads("[" * 900 + "]" * 900), "content": "x"}]}, "a list;"),
    "image beside text": ({"messages": [{"role": "user", "content": [*PARTS, {"type": "image"}]}]}, "part"),
    "part of no text": ({"messages": [{"role": "user", "content": [*PARTS, {"text": None}]}]}, "part"),
    "foreign value": ({"text": datetime.date(2000, 1, 1)}, "got date"),
    "half a character": ({"text": "\ud83d"}, "surrogate"),
}


@pytest.mark.parametrize("record, reason", BAD.values(), ids=BAD)
def test_a_bad_record_says_why(record, reason):
    with pytest.raises(BadRecordError, match=reason):
        document_from(record)
