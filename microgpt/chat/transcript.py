"""Conversations kept in a JSONL file, one a line, as `microgpt prepare` reads them."""

import json
from collections.abc import Sequence
from pathlib import Path

from microgpt.common.errors import DataError
from microgpt.common.words import counted
from microgpt.corpus.chat import Message

ENDING = ".jsonl"  # by which readers know the format


def add_conversation(history: Sequence[Message], name: str) -> str:
    """Add a conversation to the file of this name, which is made if there is none; return what to tell.

    Raises: DataError: nothing to keep; a file of something else; a file that cannot be written.
    """
    messages = answered(history)
    if not any(message.role == "assistant" for message in messages):
        raise DataError("nothing was answered yet, so there is nothing to save")
    record = {"messages": [message._asdict() for message in messages]}
    path = _file_named(name)
    try:
        was_there = _add_line(path, json.dumps(record, ensure_ascii=False))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    what, left_out = counted(len(messages), "message"), len(history) - len(messages)
    place = f"added {what} to {path}, which holds others" if was_there else f"saved {what} in a new {path}"
    return place + (f"; left out {left_out}, of questions without an answer" if left_out else "")


def answered(history: Sequence[Message]) -> list[Message]:
    """A history without questions whose answer is empty or missing: no corpus may hold an empty message."""
    kept: list[Message] = []
    for message in history:
        if message.role != "assistant" or message.content.strip():
            kept.append(message)
        else:
            del kept[-1:]  # the question
    return kept[:-1] if kept and kept[-1].role == "user" else kept


def _file_named(name: str) -> Path:
    """The file that a name stands for: `~` is the home folder, and the ending is added where it lacks."""
    try:
        path = Path(name).expanduser()
    except RuntimeError:
        raise DataError(f"{name}: nobody knows the home folder; give a whole path") from None
    if path.is_dir():
        raise DataError(f"{path} is a folder; name a file in it")
    if path.suffix != ENDING:
        path = path.with_name(path.name + ENDING)
    if path.exists() and not path.is_file():
        raise DataError(f"{path} is no regular file; choose another name")
    return path


def _add_line(path: Path, line: str) -> bool:
    """Append a line to a file of such lines; return whether there were others before."""
    with open(path, "a+b") as file:
        file.seek(0)
        first = file.readline()
        if first.strip() and not _is_record(first):
            raise DataError(f"{path} holds something else than JSONL; choose another name")
        file.seek(-1 if first else 0, 2)
        gap = "" if file.read() in (b"\n", b"") else "\n"
        file.write((gap + line + "\n").encode())
    return bool(first)


def _is_record(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
