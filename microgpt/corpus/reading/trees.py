"""Conversations out of rows that each hold one message and name the one before it, as OpenAssistant's do.

    {"message_id", "parent_id": null in a first message, "text", "role": "prompter" or "assistant", "rank"}

A message may have several answers.  One conversation is made of a tree, along the answers that people ranked
first (without ranks the ones that come first): all ways through it would put the same words on both sides of
what is held out.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from microgpt.corpus.chat import Message

from .files import MAX_LINE_BYTES
from .records import BadRecordError, LeftOut, Record, message_of

_NEEDED = {"message_id", "parent_id", "text", "role"}
TREE_KEYS = {*_NEEDED, "rank"}


class _Row(NamedTuple):
    message: Message
    parent: str | None
    rank: float


def is_tree_row(record: Any) -> bool:
    """Whether a record is one message of a tree."""
    return isinstance(record, dict) and record.keys() >= _NEEDED


class Tree:
    """The tree whose rows are being read.  A first message begins the next one."""

    def __init__(self, senders: Mapping[str, str], left_out: LeftOut) -> None:
        self._senders = {"prompter": "user", **senders}
        self._left_out = left_out
        self._rows: dict[str, _Row] = {}
        self._size = 0

    def add(self, record: Record) -> list[Message] | None:
        """Take one row; the conversation of the tree before, if the row begins another.

        Raises:   BadRecordError: it has no text or role, or what it answers is not in this tree.
        """
        message = message_of(record, "role", "text", self._senders)
        name, parent = str(record["message_id"]), record["parent_id"] or None
        if not message.content.strip():
            raise BadRecordError("the text is empty")
        if parent is not None and name in self._rows:
            raise BadRecordError(f"message_id {ascii(name)[:40]} was there before")
        if parent is not None and str(parent) not in self._rows:
            raise BadRecordError(
                f"parent_id {ascii(parent)[:40]} is no message since the last first one (parent_id null); "
                "put the rows of a tree together, each after the one it answers"
            )
        finished = self.conversation() if parent is None else None
        self._size += len(message.content)
        if self._size > MAX_LINE_BYTES:
            raise BadRecordError(f"a tree of messages of over {MAX_LINE_BYTES >> 20} MiB; split it")
        self._rows[name] = _Row(message, parent if parent is None else str(parent), _rank(record))
        return finished

    def conversation(self) -> list[Message]:
        """The conversation of the tree, which is then forgotten; [] if there is none."""
        answers: dict[str | None, list[str]] = {}
        for name, row in self._rows.items():
            answers.setdefault(row.parent, []).append(name)
        messages: list[Message] = []
        at: str | None = None
        while found := answers.get(at):
            at = min(found, key=lambda name: self._rows[name].rank)  # of equals the first
            messages.append(self._rows[at].message)
        for _ in range(len(self._rows) - len(messages)):
            self._left_out("other answers in trees of messages")
        self._rows, self._size = {}, 0
        return messages


def _rank(record: Record) -> float:
    """The place of an answer among those to the same message, the first one the least."""
    try:
        return float(record["rank"])
    except (KeyError, TypeError, ValueError):
        return float("inf")
