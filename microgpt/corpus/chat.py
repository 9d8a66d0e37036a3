"""The one chat format: how a document becomes token ids.

A conversation is rendered as `<|bos|><|user|>...<|end|><|assistant|>...<|end|>`, plain text as
`<|bos|>...<|end|>`.  The markers are ids put in here by name; text goes through `tokenizer.encode`, which
never makes one, so nothing that a user types or a corpus holds can open or close a turn.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from microgpt.common.errors import DataError
from microgpt.tokenizer import Tokenizer

ROLES = ("user", "assistant", "system")
BOS, END = "<|bos|>", "<|end|>"
NO_ROLE = -1


class Message(NamedTuple):
    """One turn of a conversation; `role` is one of ROLES."""

    role: str
    content: str


Document: TypeAlias = str | list[Message]


def texts(document: Document) -> list[str]:
    """The pieces of text in a document, in order, without any markers."""
    return [document] if isinstance(document, str) else [message.content for message in document]


def n_characters(document: Document) -> int:
    """The length of a document's text, without markers."""
    return len(document) if isinstance(document, str) else sum([len(content) for _, content in document])


def role_marker(role: str) -> str:
    """The special token that opens a turn of `role`."""
    if role not in ROLES:
        raise DataError(f"unknown role {role!r}; expected one of {', '.join(ROLES)}")
    return f"<|{role}|>"


class Packed(NamedTuple):
    """Rendered documents back to back: ids (n,) int32, and lengths (n_documents,), the tokens of each."""

    ids: np.ndarray
    lengths: np.ndarray


def render(document: Document, tokenizer: Tokenizer) -> np.ndarray:
    """The ids of one document, markers included, (n,) int32; of a conversation not yet begun, `<|bos|>`."""
    if document == []:
        return np.array([tokenizer.special_id(BOS)], np.int32)
    return render_packed([document], tokenizer).ids


def render_packed(documents: Sequence[Document], tokenizer: Tokenizer) -> Packed:
    """The ids of at least one document, none an empty list: one call of the tokenizer, the rest is NumPy.

    Every text is followed by `<|end|>` and preceded by its role's marker, if it has a role; the first text of
    a document is preceded by `<|bos|>` before that.
    """
    contents: list[str] = []
    roles: list[str | None] = []
    starts: list[int] = []  # where each document's texts begin in these lists
    for document in documents:
        starts.append(len(contents))
        contents += texts(document)
        roles += [None] if isinstance(document, str) else [message.role for message in document]
    markers = {role: tokenizer.special_id(role_marker(role)) if role else NO_ROLE for role in set(roles)}
    opening = np.array([markers[role] for role in roles])
    encoded, n_ids = tokenizer.encode_packed(contents)
    return _with_markers(encoded, n_ids, opening, np.array(starts), tokenizer)


def _with_markers(
    encoded: np.ndarray, n_ids: np.ndarray, opening: np.ndarray, starts: np.ndarray, tokenizer: Tokenizer
) -> Packed:
    """Put the markers between texts.

    opening: the id that precedes each text, NO_ROLE for none.  starts: the texts that begin a document.
    """
    has_role = opening != NO_ROLE
    begins = np.zeros(len(n_ids), bool)
    begins[starts] = True
    sizes = n_ids + begins + has_role + 1
    ends = np.cumsum(sizes)
    at_role = (ends - n_ids - 2)[has_role]
    ids = np.empty(ends[-1], np.int32)
    is_text = np.ones(ends[-1], bool)
    for places, values in (
        ((ends - sizes)[begins], tokenizer.special_id(BOS)),
        (at_role, opening[has_role]),
        (ends - 1, tokenizer.special_id(END)),
    ):
        ids[places] = values
        is_text[places] = False
    ids[is_text] = encoded
    return Packed(ids, np.add.reduceat(sizes, starts))


def prompt_ids(messages: Sequence[Message], tokenizer: Tokenizer) -> np.ndarray:
    """The ids that ask for an answer: the conversation so far, ending at the assistant's marker."""
    answer = np.array([tokenizer.special_id(role_marker("assistant"))], np.int32)
    return np.concatenate([render(list(messages), tokenizer), answer])
