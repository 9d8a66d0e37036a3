"""Records of the known chat data sets, told apart by their keys, as documents.

To read one more format, write a function from the record to a Document and add a row to FORMATS.  A part
that is known but cannot be learned, such as a list of tools, is left out and told.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

from microgpt.corpus.chat import ROLES, Document, Message

from .detokenize import detokenize

Record = dict[str, Any]

SENDERS = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
_SAME = {role: role for role in ROLES}
_SYSTEM = ("system", "system_prompt")  # what stands beside a conversation and belongs before it
_SWITCHES = ("weight", "train", "loss")  # of a message: 0 or false where it is not to be learned
_CALLS = ("tool_calls", "function_call")  # of a message
_TOOLS = ("tools", "functions")  # of a record

LeftOut = Callable[[str], object]  # called with the name, a plural, of what a part is that is left out


class BadRecordError(ValueError):
    """A record that cannot become a document; the message says why."""


def document_from(
    record: Any,
    senders: Mapping[str, str] = SENDERS,
    keys: Sequence[str] = (),
    left_out: LeftOut = lambda what: None,
) -> Document:
    """The document in one record; a key whose value is null is as good as none.

    Args:     senders: role for each name that ShareGPT's `from` may hold.
              keys: those of the question and the answer, or of a plain text, in records of one's own.
              left_out: hears of each part that is known and not learned.
    Raises:   BadRecordError: unknown keys, a missing or empty text, an unknown role.
    """
    record = _with_values(record)
    if keys and all(key in record for key in keys):
        return _checked(_own(record, keys))
    found = _format(record)
    if found is None:
        names = ascii(sorted(map(str, record))[:6])[:80]
        raise BadRecordError(f"keys of no known format: {names}; {expected_keys()}")
    for key in _TOOLS:
        if key in record and record[key] not in ("", "[]", []):
            left_out("lists of tools")
    if found not in CHATS:
        return _checked(FORMATS[found](record, senders))
    chat = {**record, found[0]: _learned(record[found[0]], left_out)}
    return _spoken(CHATS[found](chat, senders), left_out)


def is_known(record: Any, keys: Sequence[str] = ()) -> bool:
    """Whether a record is of a known format or has the keys."""
    if not isinstance(record, dict):
        return False
    record = _with_values(record)
    return _format(record) is not None or (bool(keys) and all(key in record for key in keys))


def expected_keys() -> str:
    """What keys a record may have, for a person."""
    known = ", ".join("+".join(keys) for keys in FORMATS)
    return f"expected one of {known}; other ones are named by --keys QUESTION,ANSWER or --keys TEXT"


def _with_values(record: Any) -> Record:
    """The record without the keys that have no value."""
    if not isinstance(record, dict):
        raise BadRecordError(f"expected a JSON object, got {_kind(record)}")
    if None not in record.values():
        return record
    return {key: value for key, value in record.items() if value is not None}


def _format(record: Record) -> tuple[str, ...] | None:
    """The first format whose keys hold what they should; else the first of all, to say what is amiss."""
    first = None
    for keys in FORMATS:
        if all(map(record.__contains__, keys)):
            if all(_is_fit(record[key], _ITEMS.get(key)) for key in keys):
                return keys
            first = first or keys
    return first


def _is_fit(value: Any, of_list: type | None) -> bool:
    """Whether a value is of the kind that a format has: a column `messages` may mean something else."""
    if of_list is None:
        return isinstance(value, (str, list))
    return isinstance(value, list) and bool(value) and isinstance(value[0], of_list)


def _learned(turns: Any, left_out: LeftOut) -> Any:
    """The turns without those that say that they are not to be learned."""
    if not isinstance(turns, list):
        return turns
    kept = []
    for turn in turns:
        if isinstance(turn, dict) and len(turn) > 2:  # most have a role and a text, nothing else
            if any(key in turn and turn[key] in (0, "0") for key in _SWITCHES):
                left_out("messages of weight 0")
                continue
            if any(turn.get(key) for key in _CALLS):
                left_out("calls of tools")
        kept.append(turn)
    if turns and not kept:
        raise BadRecordError("every message is of weight 0, nothing is to be learned")
    return kept


def _spoken(messages: list[Message], left_out: LeftOut) -> list[Message]:
    """A conversation without messages of no text, such as an answer that ended before it began."""
    kept = [message for message in messages if not _is_blank(message.content)]
    if len(kept) < len(messages):
        for role, content in messages:
            if role != "system" and _is_blank(content):
                left_out("empty messages")
    if not kept:
        raise BadRecordError("every message is empty" if messages else "the conversation has no messages")
    return kept


def _own(record: Record, keys: Sequence[str]) -> Document:
    """The record of one's own keys."""
    found = [_text(record[key], key) for key in keys]
    return found[0] if len(found) == 1 else alternating(found)


def _messages(record: Record, senders: Mapping[str, str]) -> list[Message]:
    """Canonical: {"messages": [{"role", "content"}]}; content may be a list of text parts."""
    turns = [message_of(turn, "role", "content", _SAME) for turn in _list(record, "messages")]
    return _system(record, turns)


def _sharegpt(record: Record, senders: Mapping[str, str]) -> list[Message]:
    """ShareGPT: {"conversations": [{"from", "value"}], "system"}, or the same with role and content."""
    turns = _list(record, "conversations")
    has_roles = turns and isinstance(turns[0], dict) and "role" in turns[0]
    names = ("role", "content") if has_roles else ("from", "value")
    return _system(record, [message_of(turn, *names, senders) for turn in turns])


def _ultrachat(record: Record, senders: Mapping[str, str]) -> Document:
    """Original UltraChat: {"data": [question, answer, ...]}."""
    return alternating([_text(turn, "data") for turn in _list(record, "data")])


def _dialog(record: Record, senders: Mapping[str, str]) -> Document:
    """DailyDialog as JSON: {"dialog": [turn, turn, ...]}, still pre-tokenised."""
    return alternating([detokenize(_text(turn, "dialog")) for turn in _list(record, "dialog")])


def _pair(asked: str, answered: str, *more: str) -> Callable[[Record, Mapping[str, str]], Document]:
    """Records of one question and its answer under two keys; those in `more` go on with the question.

    As in Alpaca, `system` comes first, then `history`, a list of earlier questions with their answers.
    """

    def convert(record: Record, senders: Mapping[str, str]) -> Document:
        parts = [_text(record.get(key) or "", key) for key in (asked, *more)]
        question = "\n\n".join(part for part in parts if part)
        turns = [*_history(record), question, _text(record[answered], answered)]
        return _system(record, alternating(turns))

    return convert


def _history(record: Record) -> list[str]:
    """Earlier questions and answers, one after the other."""
    exchanges = record.get("history") or []
    if not isinstance(exchanges, list) or not all(isinstance(e, list) and len(e) == 2 for e in exchanges):
        raise BadRecordError("'history' must hold a list of pairs, each a question and its answer")
    return [_text(turn, "history") for exchange in exchanges for turn in exchange]


def _system(record: Record, turns: list[Message]) -> list[Message]:
    """The turns with the system's message before them that stands beside them in the record."""
    for key in _SYSTEM:
        if isinstance(record.get(key), str):
            turns = [Message("system", _text(record[key], key)), *turns]
    return turns


def _plain(record: Record, senders: Mapping[str, str]) -> Document:
    return _text(record["text"], "text")


CHATS: dict[tuple[str, ...], Callable[[Record, Mapping[str, str]], list[Message]]] = {
    ("messages",): _messages,
    ("conversations",): _sharegpt,
}
FORMATS: dict[tuple[str, ...], Callable[[Record, Mapping[str, str]], Document]] = {
    **CHATS,
    ("data",): _ultrachat,
    ("dialog",): _dialog,
    ("instruction", "output"): _pair("instruction", "output", "input"),
    ("prompt", "completion"): _pair("prompt", "completion"),
    ("text",): _plain,
    ("instruction", "response"): _pair("instruction", "response", "input", "context"),
    ("prompt", "response"): _pair("prompt", "response"),
    ("question", "answer"): _pair("question", "answer", "context"),
    ("question", "response"): _pair("question", "response"),
    ("query", "response"): _pair("query", "response"),
    ("input", "output"): _pair("input", "output"),
}
_ITEMS = {"messages": dict, "conversations": dict, "data": str, "dialog": str}  # what these lists hold
READ_KEYS = {*chain(*FORMATS), *_SYSTEM, *_TOOLS, "input", "context", "history"}


def alternating(turns: list[str]) -> list[Message]:
    """Turns of two speakers as a chat: the first is the user."""
    return [Message(ROLES[i % 2], text) for i, text in enumerate(turns)]


def message_of(turn: Any, role_key: str, text_key: str, senders: Mapping[str, str]) -> Message:
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
        dict: "an object",
        list: "a list",
        str: "text",
        bool: "true or false",
        type(None): "null",
        int: "a number",
        float: "a number",
    }
    return names.get(type(value), type(value).__name__)  # others come from parquet
