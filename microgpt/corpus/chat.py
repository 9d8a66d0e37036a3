"""The one chat format: how a document becomes token ids.

A conversation is rendered as `<|bos|><|user|>...<|end|><|assistant|>...<|end|>`, plain text as
`<|bos|>...<|end|>`.  The markers are ids put in here by name; text goes through `tokenizer.encode`, which
never makes one, so nothing that a user types or a corpus holds can open or close a turn.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from microgpt.common.errors import DataError
from tokenizer import Tokenizer

ROLES = ("user", "assistant", "system")
BOS, END = "<|bos|>", "<|end|>"


class Message(NamedTuple):
    """One turn of a conversation; `role` is one of ROLES."""

    role: str
    content: str


Document: TypeAlias = str | list[Message]


def texts(document: Document) -> list[str]:
    """The pieces of text in a document, in order, without any markers."""
    return [document] if isinstance(document, str) else [message.content for message in document]


def role_marker(role: str) -> str:
    """The special token that opens a turn of `role`."""
    if role not in ROLES:
        raise DataError(f"unknown role {role!r}; expected one of {', '.join(ROLES)}")
    return f"<|{role}|>"


def render(document: Document, tokenizer: Tokenizer) -> np.ndarray:
    """The ids of one document, markers included, (n,) int32."""
    return render_batch([document], tokenizer)[0]


def render_batch(documents: Sequence[Document], tokenizer: Tokenizer, threads: int = 1) -> list[np.ndarray]:
    """The ids of many documents: `render` for each, with one call of the tokenizer for all their texts."""
    pieces = iter(tokenizer.encode_batch([text for doc in documents for text in texts(doc)], threads=threads))
    markers = {name: np.array([tokenizer.special_id(name)], np.int32) for name in _marker_names()}
    return [np.concatenate(list(_parts(doc, pieces, markers))) for doc in documents]


def prompt_ids(messages: Sequence[Message], tokenizer: Tokenizer) -> np.ndarray:
    """The ids that ask for an answer: the conversation so far, ending at the assistant's marker."""
    answer = np.array([tokenizer.special_id(role_marker("assistant"))], np.int32)
    return np.concatenate([render(list(messages), tokenizer), answer])


def _marker_names() -> list[str]:
    return [BOS, END, *map(role_marker, ROLES)]


def _parts(
    document: Document, pieces: Iterator[np.ndarray], markers: dict[str, np.ndarray]
) -> Iterator[np.ndarray]:
    """The id arrays of one document in order, taking its texts' ids from `pieces`."""
    yield markers[BOS]
    if isinstance(document, str):
        yield next(pieces)
        yield markers[END]
        return
    for message in document:
        yield markers[role_marker(message.role)]
        yield next(pieces)
        yield markers[END]
