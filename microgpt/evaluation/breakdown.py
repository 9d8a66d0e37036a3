"""Where the loss lies: by place in the document, by whose words they are, by how often a token was seen."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from microgpt.corpus.chat import BOS, END, ROLES, role_marker
from microgpt.corpus.token_file import TokenFile
from microgpt.tokenizer import Tokenizer

from .loss import Ratio, Scored, ratio

N_CLUSTERS = (
    4096  # documents are told apart up to so many, then go together: the spread of sums says the same
)
_BLOCK = 1 << 22  # tokens looked at at a time
TEXT, MARKERS = "plain text", "markers"
NEAREST, N_POSITIONS = 8, 11  # places in the document: up to 8 together, then up to twice as many, ...
N_FREQUENCIES = 7  # times seen: never, below 10, below 100, ...


class Grouping(NamedTuple):
    """A way to sort tokens: what the groups are called, and which one each token belongs to."""

    labels: list[str]
    group_of: Callable[[Scored], np.ndarray]


class Breakdown:
    """Sums up the loss of every group of tokens.  An observer of `evaluate`."""

    def __init__(self, groupings: dict[str, Grouping]) -> None:
        self._groupings = groupings
        self._sums = {name: np.zeros((3, len(g.labels), N_CLUSTERS)) for name, g in groupings.items()}

    def __call__(self, scored: Scored) -> None:
        """Add the tokens of a batch."""
        clusters = scored.owners % N_CLUSTERS
        for name, grouping in self._groupings.items():
            groups = grouping.group_of(scored)
            values = (scored.nats, np.ones(len(groups)), scored.is_right)
            for sums, of_tokens in zip(self._sums[name], values, strict=True):
                np.add.at(sums, (groups, clusters), of_tokens)

    def rows(self, name: str) -> list["Row"]:
        """The groups of one way that have any tokens."""
        nats, tokens, right = self._sums[name]
        labels = self._groupings[name].labels
        rows = [Row(label, *sums) for label, *sums in zip(labels, nats, tokens, right, strict=True)]
        return [row for row in rows if row.tokens.any()]

    def to_dict(self) -> dict[str, Any]:
        """All groups, for JSON."""
        return {name: {row.label: row.to_dict() for row in self.rows(name)} for name in self._groupings}


class Row(NamedTuple):
    """One group: sums by cluster of documents, (N_CLUSTERS,) each."""

    label: str
    nats: np.ndarray
    tokens: np.ndarray
    right: np.ndarray

    @property
    def n_tokens(self) -> int:
        """Tokens scored."""
        return int(self.tokens.sum())

    @property
    def loss(self) -> Ratio:
        """Nats per token."""
        return ratio(self.nats, self.tokens)

    @property
    def accuracy(self) -> Ratio:
        """Share of tokens that the model held most likely."""
        return ratio(self.right, self.tokens)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        loss = self.loss
        return {
            "n_tokens": self.n_tokens,
            "loss": loss.value,
            "loss_standard_error": loss.error,
            "accuracy": self.accuracy.value,
        }


def groupings(tokens: TokenFile, tokenizer: Tokenizer, counts: np.ndarray | None) -> dict[str, Grouping]:
    """All ways to sort the tokens of a text.  counts: how often each was trained on, (V,), if known."""
    found = {"position": by_position(tokens), "role": by_role(tokens, tokenizer)}
    return found if counts is None else found | {"frequency": by_frequency(counts)}


def by_position(tokens: TokenFile) -> Grouping:
    """How many tokens of the document stand before: 0 to 7, 8 to 15, 16 to 31, ..."""
    edges = [0, *(NEAREST << i for i in range(N_POSITIONS - 1))]
    labels = [f"{low:,} to {high - 1:,}" for low, high in pairwise(edges)]

    def group_of(scored: Scored) -> np.ndarray:
        before = scored.places - tokens.offsets[scored.owners]
        return np.searchsorted(edges, before.astype(np.int64), side="right") - 1

    return Grouping([*labels, f"{edges[-1]:,} or more"], group_of)


def by_role(tokens: TokenFile, tokenizer: Tokenizer) -> Grouping:
    """Who speaks, by the last marker before; markers themselves are nobody's words.

    Memory: 9 bytes for every message of the text.
    """
    labels = [*ROLES, TEXT, MARKERS]
    kinds = np.full(tokenizer.vocab_size, -1, np.int8)
    kinds[tokenizer.special_id(BOS)] = labels.index(TEXT)
    for role in ROLES:
        kinds[tokenizer.special_id(role_marker(role))] = labels.index(role)
    is_marker = kinds >= 0
    is_marker[tokenizer.special_id(END)] = True
    blocks = [
        (first, kinds[tokens.ids[first : first + _BLOCK]]) for first in range(0, tokens.n_tokens, _BLOCK)
    ]
    at = np.concatenate([first + np.flatnonzero(block >= 0) for first, block in blocks])
    opened = np.concatenate([block[block >= 0] for _, block in blocks])

    def group_of(scored: Scored) -> np.ndarray:
        last = np.searchsorted(at, scored.places.astype(np.int64), side="right") - 1
        return np.where(is_marker[scored.targets], labels.index(MARKERS), opened[last])

    return Grouping(labels, group_of)


def by_frequency(counts: np.ndarray) -> Grouping:
    """How often the training text has the token: never, 1 to 9, 10 to 99, ..."""
    edges = [0, *(10**i for i in range(N_FREQUENCIES - 1))]
    labels = [f"{low:,} to {10 * low - 1:,}" for low in edges[1:-1]]
    groups = np.searchsorted(edges, counts, side="right") - 1
    return Grouping(["never", *labels, f"{edges[-1]:,} or more"], lambda scored: groups[scored.targets])
