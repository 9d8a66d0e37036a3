"""Where a model fails: documents, tokens, questions; where another is worse; and what limits it most.

Documents and tokens are told by the loss that lies there.  Of questions it is told why they may be wrong
(`causes`), so that what is missing in the data is kept apart from what the model cannot do.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from microgpt.corpus.token_file import TokenFile
from microgpt.tokenizer import Tokenizer

from .causes import MEANING, MISSING_DATA, Answered, Cause
from .loss import Scored
from .statistics import Paired, Share, paired, share

FEWEST_TOKENS = 16  # of a document whose mean loss is worth telling
EXCERPT = 200  # bytes of a document that are shown
BEFORE = 40  # bytes shown before its worst token


class TokenLosses:
    """Keeps the loss of every token: nats (n_tokens,), NaN where none is scored.  An observer of
    `evaluate`."""

    def __init__(self, tokens: TokenFile) -> None:
        self.tokens = tokens
        self.nats = np.full(tokens.n_tokens, np.nan, np.float32)

    def __call__(self, scored: Scored) -> None:
        """Take the tokens of a batch."""
        self.nats[scored.places.astype(np.int64)] = scored.nats

    def of_documents(self) -> tuple[np.ndarray, np.ndarray]:
        """Sum of nats and number of tokens scored of each document."""
        is_scored = ~np.isnan(self.nats)
        starts = self.tokens.offsets.astype(np.int64)
        sums = np.add.reduceat(np.where(is_scored, self.nats, 0).astype(np.float64), starts)
        return sums, np.add.reduceat(is_scored.astype(np.int64), starts)

    def of_tokens(self, V: int) -> tuple[np.ndarray, np.ndarray]:
        """Sum of nats and number of times scored of each token of the vocabulary."""
        is_scored = ~np.isnan(self.nats)
        ids = np.asarray(self.tokens.ids)[is_scored]
        return np.bincount(ids, self.nats[is_scored], V), np.bincount(ids, minlength=V)


class BadDocument(NamedTuple):
    """A document with much loss.  loss, other: nats per token, of the second model where there is one.
    text: its beginning.  worst: its worst token, what stands before that, and the nats there."""

    number: int
    n_tokens: int
    loss: float
    other: float | None
    text: str
    worst: tuple[str, str, float]


class BadToken(NamedTuple):
    """A token with much loss.  n, n_trained: how often it is held out and in the training text.
    loss, other: nats each.  share_of_loss: of all nats, or of all by which the second is worse."""

    text: str
    n: int
    n_trained: int | None
    loss: float
    other: float | None
    share_of_loss: float


def worst_documents(
    a: TokenLosses, tokenizer: Tokenizer, n: int, b: TokenLosses | None = None
) -> list[BadDocument]:
    """Those of the highest mean loss; of two models, those where the second is worse by most per token."""
    nats, counts = a.of_documents()
    others = b.of_documents()[0] if b else None
    bad = nats if others is None else others - nats
    mean = np.where(counts >= min(FEWEST_TOKENS, counts.max()), bad / np.maximum(counts, 1), -np.inf)
    chosen = [int(i) for i in np.argsort(-mean, kind="stable")[:n] if mean[i] > 0]
    return [
        BadDocument(
            i,
            int(counts[i]),
            float(nats[i] / counts[i]),
            None if others is None else float(others[i] / counts[i]),
            *_shown(a, b, tokenizer, i),
        )
        for i in chosen
    ]


def _shown(
    a: TokenLosses, b: TokenLosses | None, tokenizer: Tokenizer, number: int
) -> tuple[str, tuple[str, str, float]]:
    """The beginning of a document, and its worst place."""
    starts = [*a.tokens.offsets.tolist(), a.tokens.n_tokens]
    first, end = starts[number], starts[number + 1]
    ids, nats = np.asarray(a.tokens.ids[first:end]), (b or a).nats[first:end]
    bad = nats if b is None else nats - a.nats[first:end]
    at = int(np.nanargmax(bad))
    before = tokenizer.decode(ids[:at], show_specials=True)[-BEFORE:]
    token = tokenizer.decode(ids[at : at + 1], show_specials=True)
    text = tokenizer.decode(ids, show_specials=True)[:EXCERPT]
    return _text(text), (_text(token), _text(before), float(nats[at]))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def worst_tokens(
    a: TokenLosses,
    tokenizer: Tokenizer,
    n: int,
    n_trained: np.ndarray | None = None,
    b: TokenLosses | None = None,
) -> list[BadToken]:
    """Those at which most of the loss lies; of two models, most of what the second loses more.

    Args: n_trained: how often each stands in the training text, (V,); None: that is gone.
    """
    nats, counts = a.of_tokens(tokenizer.vocab_size)
    others = b.of_tokens(tokenizer.vocab_size)[0] if b else None
    bad = nats if others is None else others - nats
    total = float(np.maximum(bad, 0).sum()) or 1.0
    return [
        BadToken(
            _text(tokenizer.decode(np.array([i]), show_specials=True)),
            int(counts[i]),
            None if n_trained is None else int(n_trained[i]),
            float(nats[i] / counts[i]),
            None if others is None else float(others[i] / counts[i]),
            float(bad[i] / total),
        )
        for i in np.argsort(-bad, kind="stable")[:n].tolist()
        if bad[i] > 0
    ]


class Limitation(NamedTuple):
    """Questions of one category that are wrong for one kind of reason.

    wrong: how many of all in the category, with its interval.  n_lines: of the training text that say such an
    answer, the middle one of them; None: not looked for.  examples: a few of them, with their cause.
    """

    category: str
    kind: str
    wrong: Share
    n_lines: int | None
    examples: list[tuple[Answered, Cause]]

    @property
    def is_missing_data(self) -> bool:
        """Whether more or other training text is what helps."""
        return self.kind in MISSING_DATA

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "category": self.category,
            "cause": self.kind,
            "meaning": MEANING[self.kind],
            "is_missing_data": self.is_missing_data,
            "wrong": self.wrong.n,
            "asked": self.wrong.of,
            "low": self.wrong.low,
            "high": self.wrong.high,
            "n_lines": self.n_lines,
            "examples": [example_dict(one, cause) for one, cause in self.examples],
        }


def example_dict(one: Answered, cause: Cause) -> dict[str, Any]:
    """A wrong answer for JSON."""
    return {
        "messages": [message._asdict() for message in one.question.messages],
        "answer": one.answer,
        "expected": one.question.expected,
        "n_lines": cause.n,
    }


def limitations(
    answered: Sequence[Answered], causes: Sequence[Cause], n_examples: int = 3
) -> list[Limitation]:
    """What limits a model, by evidence: first where even the lower end of the interval is most wrong answers.

    Args: causes: of each wrong one, in their order.
    """
    asked: dict[str, int] = {}
    found: dict[tuple[str, str], list[tuple[Answered, Cause]]] = {}
    rest = iter(causes)
    for one in answered:
        asked[one.category] = asked.get(one.category, 0) + 1
        if not one.is_right:
            cause = next(rest)
            found.setdefault((one.category, cause.kind), []).append((one, cause))
    made = [
        Limitation(
            category, kind, share(len(wrong), asked[category]), _middle(wrong), _different(wrong, n_examples)
        )
        for (category, kind), wrong in found.items()
    ]
    return sorted(made, key=lambda one: -one.wrong.low)


def _middle(wrong: Sequence[tuple[Answered, Cause]]) -> int | None:
    counts = sorted(cause.n for _, cause in wrong if cause.n is not None)
    return counts[len(counts) // 2] if counts else None


def _different(wrong: Sequence[tuple[Answered, Cause]], n: int) -> list[tuple[Answered, Cause]]:
    """The first few whose right answers differ."""
    return list({one.question.expected: (one, cause) for one, cause in reversed(wrong)}.values())[::-1][:n]


def by_category(first: Sequence[Answered], second: Sequence[Answered]) -> dict[str, Paired]:
    """What two models had right of the same questions, by category."""
    found: dict[str, list[tuple[bool, bool]]] = {}
    for a, b in zip(first, second, strict=True):
        found.setdefault(a.category, []).append((a.is_right, b.is_right))
    return {category: paired(*zip(*marks, strict=True)) for category, marks in found.items()}
