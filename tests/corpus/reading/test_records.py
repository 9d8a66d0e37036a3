import datetime
import json

import pytest

from microgpt.corpus.chat import Message
from microgpt.corpus.reading.records import BadRecordError, document_from

PAIR = [Message("user", "q"), Message("assistant", "a")]
PARTS = [{"type": "text", "text": "q"}]

RECORDS = {
    "messages": {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
    "parts": {"messages": [{"role": "user", "content": PARTS}, {"role": "assistant", "content": "a"}]},
    "ultrachat 200k": {
        "prompt": "q",
        "prompt_id": "7",
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
    "prompt and response": {"prompt": "q", "response": "a"},
    "question": {"question": "q", "answer": "a"},
    "question and response": {"id": "cot.1", "system_prompt": "", "question": "q", "response": "a"},
    "query": {"query": "q", "response": "a"},
    "input": {"input": "q", "output": "a"},
    "dolly": {"instruction": "q", "context": "", "response": "a", "category": "open_qa"},
    "nulls": {"messages": None, "text": None, "prompt": "q", "completion": "a", "history": None},
    "empty columns": {"messages": [], "prompt": "q", "completion": "a"},
    "foreign columns": {"messages": 3, "data": "2020-01-01", "dialog": [1], "prompt": "q", "completion": "a"},
    "foreign system": {"prompt": "q", "completion": "a", "system": 3},
}


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


SYSTEM = Message("system", "be brief")
BEFORE = {
    "alpaca": {"instruction": "q", "input": "", "output": "a", "system": "be brief"},
    "orca": {"system_prompt": "be brief", "question": "q", "response": "a"},
    "sharegpt": {"conversations": RECORDS["sharegpt"]["conversations"], "system": "be brief"},
    "messages": {"messages": RECORDS["messages"]["messages"], "system": "be brief"},
}


@pytest.mark.parametrize("record", BEFORE.values(), ids=BEFORE)
def test_a_system_message_beside_the_conversation_comes_before_it(record):
    assert document_from(record) == [SYSTEM, *PAIR]
    assert document_from(record | {"system": " ", "system_prompt": None}) == PAIR


def test_an_alpaca_history_comes_before_the_question():
    history = [["q1", "a1"], ["q2", "a2"]]
    record = {"instruction": "q", "output": "a", "system": "be brief", "history": history}
    earlier = [Message(*turn) for n in "12" for turn in (("user", f"q{n}"), ("assistant", f"a{n}"))]
    assert document_from(record) == [SYSTEM, *earlier, *PAIR]
    assert document_from(record | {"history": []}) == [SYSTEM, *PAIR]


def test_context_follows_the_question():
    for keys in ("question", "answer"), ("instruction", "response"):
        record = dict(zip(keys, "qa", strict=True)) | {"context": "c"}
        assert document_from(record)[0] == Message("user", "q\n\nc")


def test_a_plain_text_goes_before_a_question_and_an_answer():
    assert document_from({"text": "t", "question": "q", "answer": "a"}) == "t"


def left_out_of(record):
    parts = []
    return document_from(record, left_out=parts.append), parts


def test_empty_messages_are_left_out_and_told():
    turns = [*RECORDS["messages"]["messages"], {"role": "user", "content": "more"}]
    empty = {"role": "assistant", "content": ""}
    assert left_out_of({"messages": turns}) == ([*PAIR, Message("user", "more")], [])
    found = left_out_of({"messages": [*turns, empty, {"role": "user", "content": " \n"}]})
    assert found == ([*PAIR, Message("user", "more")], ["empty messages"] * 2)


@pytest.mark.parametrize("switch", [{"weight": 0}, {"weight": 0.0}, {"train": False}, {"loss": False}])
@pytest.mark.parametrize("kind", ["messages", "sharegpt"])
def test_messages_of_no_weight_are_left_out_and_told(kind, switch):
    (key, (first, second)) = next(iter(RECORDS[kind].items()))
    found = left_out_of({key: [first, second | switch, first, second | {"weight": 1, "train": True}]})
    assert found == ([PAIR[0], *PAIR], ["messages of weight 0"])


def test_tools_are_left_out_and_told():
    messages = [*RECORDS["messages"]["messages"]]
    messages[1] = messages[1] | {"tool_calls": [{"id": "1"}]}
    record = {"messages": messages, "tools": '[{"name": "f"}]', "functions": []}
    assert left_out_of(record) == (PAIR, ["lists of tools", "calls of tools"])
    assert left_out_of(RECORDS["alpaca"] | {"tools": "[]"}) == (PAIR, [])


def test_keys_of_ones_own():
    record = {"frage": "q", "antwort": "a", "text": "t"}
    assert document_from(record, keys=["frage", "antwort"]) == PAIR
    assert document_from(record, keys=["antwort"]) == "a"
    assert document_from({"text": "t", "frage": None}, keys=["frage"]) == "t", "as without them"
    with pytest.raises(BadRecordError, match="message 2"):
        document_from(record | {"antwort": " "}, keys=["frage", "antwort"])


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
    "nothing of weight": ({"messages": [{"role": "user", "content": "x", "weight": 0}]}, "of weight 0"),
    "nothing said": ({"messages": [{"role": "user", "content": " "}]}, "every message is empty"),
    "history of no pairs": ({"instruction": "q", "output": "a", "history": [["q"]]}, "list of pairs"),
    "all null": ({"messages": None, "text": None}, "no known format"),
    "half a character": ({"text": "\ud83d"}, "surrogate"),
}


@pytest.mark.parametrize("record, reason", BAD.values(), ids=BAD)
def test_a_bad_record_says_why(record, reason):
    with pytest.raises(BadRecordError, match=reason):
        document_from(record)
