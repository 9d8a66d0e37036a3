"""JSON records of the known chat data sets, told apart by their keys, as documents.

To read one more format, write a function from the record to a Document and add a row to FORMATS.
"""

from collections.abc import Callable, Mapping
from typing import Any

from .chat import ROLES, Document, Message
from .detokenize import detokenize

Record = dict[str, Any]

SENDERS = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
_SAME = {role: role for role in ROLES}


class BadRecordError(ValueError):
    """A record that cannot become a document; the message says why."""


def document_from(record: Any, senders: Mapping[str, str] = SENDERS) -> Document:
    """The document in one JSON record.

    Args:     senders: role for each name that ShareGPT's `from` may hold.
    Raises:   BadRecordError: unknown keys, a missing or empty text, an unknown role.
    """
    if not isinstance(record, dict):
        raise BadRecordError(f"expected a JSON object, got {_kind(record)}")
    for keys, convert in FORMATS.items():
        if all(key in record for key in keys):
            return _checked(convert(record, senders))
    known = ", ".join("+".join(keys) for keys in FORMATS)
    found = ascii(sorted(record)[:6])[:80]
    raise BadRecordError(f"keys of no known format: {found}; expected one of {known}")


def _messages(record: Record, senders: Mapping[str, str]) -> Document:
    """Canonical: {"messages": [{"role", "content"}]}; content may be a list of text parts."""
    return [_message(turn, "role", "content", _SAME) for turn in _list(record, "messages")]


def _sharegpt(record: Record, senders: Mapping[str, str]) -> Document:
    """ShareGPT: {"conversations": [{"from", "value"}]}, or the same with role and content."""
    turns = _list(record, "conversations")
    if turns and isinstance(turns[0], dict) and "role" in turns[0]:
        return [_message(turn, "role", "content", senders) for turn in turns]
    return [_message(turn, "from", "value", senders) for turn in turns]


def _ultrachat(record: Record, senders: Mapping[str, str]) -> Document:
    """Original UltraChat: {"data": [question, answer, ...]}."""
    return alternating([_text(turn, "data") for turn in _list(record, "data")])


def _dialog(record: Record, senders: Mapping[str, str]) -> Document:
    """DailyDialog as JSON: {"dialog": [turn, turn, ...]}, still pre-tokenised."""
    return alternating([detokenize(_text(turn, "dialog")) for turn in _list(record, "dialog")])


def _alpaca(record: Record, senders: Mapping[str, str]) -> Document:
    """Alpaca: {"instruction", "input", "output"}; input may be empty or missing."""
    asked = [_text(record.get(key) or "", key) for key in ("instruction", "input")]
    return alternating(["\n\n".join(part for part in asked if part), _text(record["output"], "output")])


def _prompt(record: Record, senders: Mapping[str, str]) -> Document:
    """{"prompt": question, "completion": answer}."""
    return alternating([_text(record[key], key) for key in ("prompt", "completion")])


def _plain(record: Record, senders: Mapping[str, str]) -> Document:
    return _text(record["text"], "text")


FORMATS: dict[tuple[str, ...], Callable[[Record, Mapping[str, str]], Document]] = {
    ("messages",): _messages,
    ("conversations",): _sharegpt,
    ("data",): _ultrachat,
    ("dialog",): _dialog,
    ("instruction", "output"): _alpaca,
    ("prompt", "completion"): _prompt,
    ("text",): _plain,
}


def alternating(turns: list[str]) -> list[Message]:
    """Turns of two speakers as a chat: the first is the user."""
    return [Message(ROLES[i % 2], text) for i, text in enumerate(turns)]


def _message(turn: Any, role_key: str, text_key: str, senders: Mapping[str, str]) -> Message:
    if not isinstance(turn, dict) or role_key not in turn or text_key not in turn:
        raise BadRecordError(f"a message needs the keys {role_key!r} and {text_key!r}")
    sender = turn[role_key]
    role = senders.get(sender) if isinstance(sender, str) else None
    if role is None:
        named = repr(sender[:40]) if isinstance(sender, str) else _kind(sender)
        raise BadRecordError(f"unknown {role_key} {named}; expected one of {', '.join(senders)}")
    return Message(role, _text(turn[text_key], text_key))


def _text(value: Any, key: str) -> str:
    if isinstance(value, list):
        value = _joined(value, key)
    if not isinstance(value, str):
        raise BadRecordError(f"{key!r} must hold text, got {_kind(value)}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise BadRecordError(f"{key!r} holds half of a surrogate pair, which is no character") from None
    return value


def _joined(parts: list[Any], key: str) -> str:
    """The text of a message that is given in parts; one with an image, say, is not only text."""
    for part in parts:
        if not isinstance(part, dict) or not isinstance(part.get("text"), str):
            raise BadRecordError(f"{key!r} must hold text, got a list with a part that has no text")
    return "".join([part["text"] for part in parts])


def _list(record: Record, key: str) -> list[Any]:
    if not isinstance(record[key], list):
        raise BadRecordError(f"{key!r} must hold a list, got {_kind(record[key])}")
    return record[key]


def _checked(document: Document) -> Document:
    """Refuse what has no text; leave out an empty system message, which says nothing."""
    if isinstance(document, str):
        if _is_blank(document):
            raise BadRecordError("the text is empty")
        return document
    kept = [message for message in document if message.role != "system" or not _is_blank(message.content)]
    if not kept:
        raise BadRecordError("the conversation has no messages")
    for number, message in enumerate(kept, 1):
        if _is_blank(message.content):
            raise BadRecordError(f"message {number} ({message.role}) is empty")
    return kept


def _is_blank(text: str) -> bool:
    return not text or text.isspace()


def _kind(value: Any) -> str:
    names = {
        dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null",
        int: "a number", float: "a number",
    }  # fmt: skip
    return names.get(type(value), type(value).__name__)  # others come from parquet
