"""How a model does on text unlike what it was trained on: noise in its own held-out text, and other domains.

Noise changes documents that the model also reads clean: typos (letters that are swapped, left out, doubled
or taken for a neighbour on the keyboard), everything in lower case, everything in capitals.  Other domains
are prose written for this, programs (microgpt's own), and any text that is named.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import microgpt
from microgpt.batches.batches import eval_windows
from microgpt.corpus.chat import ROLES, Document, Message, render, role_marker
from microgpt.corpus.smalltalk.draw import Draw
from microgpt.corpus.token_file import TokenFile, write_token_file
from microgpt.model import GPT
from microgpt.tokenizer import Tokenizer

from .held_out import HeldOut, score
from .measure import Quality, quality
from .prose import PROSE

MOST_DOCUMENTS = 200  # of the held-out text, evenly spread
MOST_CHARACTERS = 2000  # of a program
TYPO_PERCENT = 5  # of letters
KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
CLEAN = "held-out text as it is"


class Unusual(NamedTuple):
    """Some text and how well it is foretold.  times: its bits per byte in those of the clean text."""

    name: str
    n_documents: int
    quality: Quality
    times: float

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "text": self.name,
            "n_documents": self.n_documents,
            "times": self.times,
        } | self.quality.to_dict()


def document_of(ids: np.ndarray, tokenizer: Tokenizer) -> Document:
    """The document that was rendered as these ids."""
    roles = {tokenizer.special_id(role_marker(role)): role for role in ROLES}
    opened = [at for at, i in enumerate(ids.tolist()) if i in roles]
    starts = opened or [0]
    ends = [*starts[1:], len(ids)]
    data = [tokenizer.decode(ids[at:end]) for at, end in zip(starts, ends, strict=True)]
    texts = [text.decode("utf-8", "replace") for text in data]
    if not opened:
        return texts[0]
    return [Message(roles[int(ids[at])], text) for at, text in zip(opened, texts, strict=True)]


def documents_of(held_out: HeldOut, tokenizer: Tokenizer, most: int = MOST_DOCUMENTS) -> list[Document]:
    """Up to so many documents that the model never saw, evenly spread."""
    tokens = held_out.tokens
    scored = (
        np.arange(tokens.n_documents) if held_out.is_scored is None else np.flatnonzero(held_out.is_scored)
    )
    chosen = scored[np.unique(np.linspace(0, len(scored) - 1, min(most, len(scored))).astype(int))]
    starts = [*tokens.offsets.tolist(), tokens.n_tokens]
    return [document_of(np.asarray(tokens.ids[starts[i] : starts[i + 1]]), tokenizer) for i in chosen]


def changed(document: Document, change: Callable[[str], str]) -> Document:
    """The document with its text changed, roles as they are."""
    if isinstance(document, str):
        return change(document)
    return [Message(role, change(text)) for role, text in document]


def with_typos(seed: int, percent: int = TYPO_PERCENT) -> Callable[[str], str]:
    """Mistypes letters: a function that gives other typos for each text it is given."""
    draw = Draw(f"typos {seed}")

    def change(text: str) -> str:
        letters, at = list(text), 0
        while at < len(letters):
            if letters[at].isalpha() and draw.chance(percent):
                letters[at : at + 2] = _mistyped(draw, letters[at : at + 2])
            at += 1
        return "".join(letters)

    return change


def _mistyped(draw: Draw, two: list[str]) -> list[str]:
    """A letter and what follows, mistyped."""
    kind = draw.below(4)
    if kind == 0:
        return two[::-1]
    if kind == 1:
        return two[1:]
    return [two[0], *two] if kind == 2 else [_neighbour(draw, two[0]), *two[1:]]


def _neighbour(draw: Draw, letter: str) -> str:
    """A key beside this one; of letters that have no key here, the letter."""
    row = next((row for row in KEYS if letter.lower() in row), None)
    if row is None:
        return letter
    at = row.index(letter.lower())
    found = draw.pick([row[i] for i in (at - 1, at + 1) if 0 <= i < len(row)])
    return found.upper() if letter.isupper() else found


def programs() -> list[str]:
    """How the files of microgpt's models begin."""
    folder = Path(microgpt.__file__).parent / "model"
    return [path.read_text(encoding="utf-8")[:MOST_CHARACTERS] for path in sorted(folder.glob("*.py"))]


def unusual(
    model: GPT,
    tokenizer: Tokenizer,
    held_out: HeldOut,
    packing: str,
    other: HeldOut | None = None,
    progress: Callable[[int], Any] = lambda n: None,
) -> list[Unusual]:
    """Measure all of them, clean text first; `progress` hears 1 of each.

    Args: packing: how windows are made, as in training.  other: text that somebody named.
    """
    own = documents_of(held_out, tokenizer)
    texts: dict[str, Sequence[Document]] = {
        CLEAN: own,
        f"{TYPO_PERCENT} % of letters mistyped": [changed(d, with_typos(i)) for i, d in enumerate(own)],
        "in lower case": [changed(document, str.lower) for document in own],
        "in capitals": [changed(document, str.upper) for document in own],
        "prose": PROSE,
        "programs": programs(),
    }
    if other is not None:
        texts[" ".join(other.names)] = documents_of(other, tokenizer)
    found: list[Unusual] = []
    for name, documents in texts.items():
        one = _measured(model, tokenizer, documents, packing)
        clean = found[0].quality.bpb.value if found else one.bpb.value
        found.append(Unusual(name, len(documents), one, one.bpb.value / clean))
        progress(1)
    return found


N_UNUSUAL = 6  # texts that are always measured


def _measured(model: GPT, tokenizer: Tokenizer, documents: Sequence[Document], packing: str) -> Quality:
    with tempfile.TemporaryDirectory(prefix="microgpt-eval-") as folder:
        path = Path(folder, "tokens")
        write_token_file(path, [render(document, tokenizer) for document in documents], tokenizer)
        tokens = TokenFile.open(path)  # stays open when the folder goes
    windows = eval_windows(tokens, model.config.seq_len, tokenizer.byte_lengths, packing=packing)
    sums = score(model, windows).documents
    assert sums is not None
    return quality(sums.nats, sums)
