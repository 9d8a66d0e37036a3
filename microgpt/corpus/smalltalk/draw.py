"""Seeded choices, and the line between training and held-out content.

Every choice is a pure function of the key and of its position in the dialogue, by integer arithmetic alone:
the same bytes come out on every Python.  A `Draw` also knows on which side of the line it stands; `content`
and `wording` only ever return what belongs to that side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TypeVar

T = TypeVar("T")

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15  # 2^64 / golden ratio: the SplitMix64 increment
HELD_OUT_ONE_IN = 8  # share of open content (names, pairs, combinations) kept away from training


def listed(text: str, separator: str | None = None) -> tuple[str, ...]:
    """The items of a text, by default its words: tables are easier to read and to extend as plain text."""
    return tuple(text.split(separator))


def digest(text: str) -> int:
    """64 bits that depend on the text alone."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


@lru_cache(maxsize=1 << 16)
def is_held_out(key: str) -> bool:
    """Whether the content with this key belongs to the held-out side."""
    return digest("held out " + key) % HELD_OUT_ONE_IN == 0


@lru_cache(maxsize=1 << 14)
def held_out_wording(item: str, n_wordings: int) -> int:
    """The one wording of the item, of `n_wordings`, that training never sees."""
    return digest("wording " + item) % n_wordings


class Draw:
    """A stream of seeded choices (SplitMix64) on one side of the held-out line."""

    __slots__ = ("_state", "held_out")

    def __init__(self, key: str, held_out: bool = False) -> None:
        self._state = digest(key)
        self.held_out = held_out

    def below(self, n: int) -> int:
        """An integer in [0, n)."""
        self._state = state = (self._state + GOLDEN) & MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
        return ((state ^ (state >> 31)) * n) >> 64

    def chance(self, percent: int) -> bool:
        """True in `percent` of a hundred cases."""
        return self.below(100) < percent

    def between(self, low: int, high: int) -> int:
        """An integer in [low, high]."""
        return low + self.below(high - low + 1)

    def pick(self, items: Sequence[T]) -> T:
        """One of the items."""
        return items[self.below(len(items))]

    def sample(self, items: Sequence[T], n: int) -> list[T]:
        """`n` different items in random order."""
        pool = list(items)
        for i in range(n):
            j = i + self.below(len(pool) - i)
            pool[i], pool[j] = pool[j], pool[i]
        return pool[:n]

    def weighted(self, table: Sequence[tuple[T, int]]) -> T:
        """One entry of a table of (item, weight)."""
        at = self.below(sum(weight for _, weight in table))
        for item, weight in table:
            at -= weight
            if at < 0:
                return item
        raise AssertionError("weights are positive")

    def content(self, make: Callable[[], T], key: Callable[[T], str]) -> T:
        """Make content until its key lies on this side of the line."""
        for _ in range(10_000):
            made = make()
            if is_held_out(key(made)) == self.held_out:
                return made
        raise AssertionError(f"no content on side held_out={self.held_out}; last key: {key(made)}")

    def wording(self, item: str, wordings: Sequence[str]) -> tuple[str, str]:
        """A wording for the item, and the key of the two together.

        Training takes any wording but one, held-out takes that one: a known item, asked in a new way.
        """
        held = held_out_wording(item, len(wordings))
        at = held if self.held_out else (held + 1 + self.below(len(wordings) - 1)) % len(wordings)
        return wordings[at], f"{item}|{at}"
