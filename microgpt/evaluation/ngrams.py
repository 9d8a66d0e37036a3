"""Baselines: how well one foretells a text by counting what followed what in the training text.

    uniform    every token alike: ln V nats
    unigram    by how often each token comes
    bigram     after the token before it
    5-gram     after the four before it

Bigram and 5-gram are interpolated Kneser-Ney (Kneser, Ney 1995; Chen, Goodman 1998, section 4.1.6): from each
count a discount D is taken, and what that leaves is shared out by the next shorter context; at the bottom one
is added to every token's count.  With c the count of the longest n-grams, of shorter ones the number of
different tokens before them, and h' the context h without its first:

    p(w | h) = max(c(h w) - D, 0) / c(h .) + D N(h .) / c(h .) p(w | h'),  N(h .) the different w after h
    p(w)     = (c(w) + 1) / (c(.) + V)

D is n1 / (n1 + 2 n2) of each order, n1 and n2 how many n-grams have c = 1 and 2 (Ney et al. 1994).  No n-gram
reaches back over the beginning of its document, which is a context of its own.
"""

import math

import numpy as np

from microgpt.batches.batches import EvalWindows
from microgpt.corpus.token_file import TokenFile
from microgpt.model import IGNORED

from .loss import Scored

ORDER = 5
MOST_TOKENS = 1 << 23  # counted for n-grams: about 0.6 GB while they are sorted
_STRETCH = 1 << 16  # tokens of each stretch of a corpus that is longer
_BLOCK = 1 << 22  # tokens looked at at a time
_WINDOWS = 16  # at a time
UNKNOWN_DISCOUNT = 0.75  # where there are too few n-grams to tell
UNIFORM, UNIGRAM = "uniform", "unigram"


def count_tokens(tokens: TokenFile) -> np.ndarray:
    """How often each token of the vocabulary occurs, (V,) int64; in blocks, so in little memory."""
    counts = np.zeros(tokens.vocab_size, np.int64)
    for first in range(0, tokens.n_tokens, _BLOCK):
        counts += np.bincount(tokens.ids[first : first + _BLOCK], minlength=tokens.vocab_size)
    return counts


def sample(tokens: TokenFile, most: int = MOST_TOKENS) -> tuple[np.ndarray, np.ndarray]:
    """Up to `most` tokens of a file: all, or stretches evenly spread; and whether each begins a document, or
    a stretch."""
    n = tokens.n_tokens
    if n <= most:
        stretches = [(0, n)]
    else:
        firsts = np.linspace(0, n - _STRETCH, max(1, most // _STRETCH)).astype(np.int64)
        stretches = [(int(first), int(first) + _STRETCH) for first in firsts]
    ids = np.concatenate([tokens.ids[first:end] for first, end in stretches]).astype(np.int64)
    is_first = np.zeros(len(ids), bool)
    at = 0
    for first, end in stretches:
        low, high = np.searchsorted(tokens.offsets, np.array([first, end], np.uint64))
        is_first[at] = True
        is_first[at + tokens.offsets[low:high].astype(np.int64) - first] = True
        at += end - first
    return ids, is_first


class _Order:
    """All n-grams of one length, numbered in the order of their keys.

    A key is the number of the context, an n-gram one shorter, times V, plus the last token.  The context of
    an n-gram at the beginning of a document has the number behind the last.
    """

    def __init__(self, contexts: np.ndarray, ids: np.ndarray, V: int) -> None:
        keys = contexts * V + ids
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        is_new = np.ones(len(keys), bool)
        is_new[1:] = keys[1:] != keys[:-1]
        firsts = np.flatnonzero(is_new)
        self.keys, self.firsts = keys[firsts], order[firsts]
        self.counts = np.diff(firsts, append=len(keys))
        self.numbers = np.empty(len(keys), np.int64)  # of the n-gram that ends at each token
        self.numbers[order] = np.cumsum(is_new) - 1

    def find(self, contexts: np.ndarray, ids: np.ndarray, V: int) -> np.ndarray:
        """The numbers of n-grams, -1 for those that are none."""
        keys = contexts * V + ids
        places = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where((contexts >= 0) & (self.keys[places] == keys), places, -1)


class _Smoothed:
    """What one length of n-grams says: shares of counts less the discount, the rest left to a shorter one."""

    def __init__(
        self, keys: np.ndarray, counts: np.ndarray, n_contexts: int, V: int, D: float | None
    ) -> None:
        contexts = keys // V
        self.discount = estimated_discount(counts) if D is None else D
        self._counts = counts.astype(np.float32)
        self._totals = np.bincount(contexts, counts, n_contexts)
        self._kinds = np.bincount(contexts, minlength=n_contexts).astype(np.float32)

    def probabilities(self, numbers: np.ndarray, contexts: np.ndarray, shorter: np.ndarray) -> np.ndarray:
        """Of n-grams by number and context, -1 for unknown ones, and the probability by a shorter context."""
        is_known = contexts >= 0
        at = np.where(is_known, contexts, 0)
        total = np.maximum(self._totals[at], 1)
        count = np.where(numbers >= 0, self._counts[np.maximum(numbers, 0)], 0).astype(np.float64)
        share = np.maximum(count - self.discount, 0) / total
        left = self.discount * self._kinds[at].astype(np.float64) / total
        return np.where(is_known & (self._totals[at] > 0), share + left * shorter, shorter)


def estimated_discount(counts: np.ndarray) -> float:
    """n1 / (n1 + 2 n2), where there are such; strictly between 0 and 1."""
    n1, n2 = int((counts == 1).sum()), int((counts == 2).sum())
    return n1 / (n1 + 2 * n2) if n1 and n2 else UNKNOWN_DISCOUNT


class NGrams:
    """Counts of a training text, and by them the probability of any other.

    Args: ids: (n,), each below V.  is_first: (n,), whether a document begins there.
          discount: D of every order; None: estimated, of each its own.
    """

    def __init__(
        self,
        ids: np.ndarray,
        is_first: np.ndarray,
        V: int,
        order: int = ORDER,
        discount: float | None = None,
    ) -> None:
        self.V, self.order = V, order
        ids = ids.astype(np.int64)
        self._counts = np.bincount(ids, minlength=V)
        self._orders: list[_Order] = []
        self._longest: dict[int, _Smoothed] = {}  # by length, with plain counts: of a model that ends there
        self._shorter: dict[int, _Smoothed] = {}  # with the tokens before them counted
        numbers, n_contexts = ids, V
        for length in range(2, order + 1):
            one = _Order(_contexts(numbers, is_first, n_contexts), ids, V)
            shorter = np.bincount(numbers[one.firsts], minlength=n_contexts)  # of n-grams without their first
            if length == 2:
                self._before = shorter
            else:
                keys, contexts = self._orders[-1].keys, self._n_contexts(length - 1)
                self._shorter[length - 1] = _Smoothed(keys, shorter, contexts, V, discount)
            if length in (2, order):
                self._longest[length] = _Smoothed(one.keys, one.counts, n_contexts + 1, V, discount)
            numbers, n_contexts = one.numbers, len(one.keys)
            del one.numbers, one.firsts, one.counts
            self._orders.append(one)

    def _n_contexts(self, length: int) -> int:
        return 1 + (self.V if length == 2 else len(self._orders[length - 3].keys))

    @property
    def names(self) -> list[str]:
        """Of what `nats` gives, the simplest first."""
        return [UNIFORM, UNIGRAM, *(name_of(length) for length in self._longest)]

    def nats(self, ids: np.ndarray, is_first: np.ndarray) -> dict[str, np.ndarray]:
        """-ln p of every token of a text, (n,) each, by name of the baseline."""
        ids = ids.astype(np.int64)
        n = int(self._counts.sum())
        result = {
            UNIFORM: np.full(len(ids), math.log(self.V)),
            UNIGRAM: -np.log((self._counts[ids] + 1) / (n + self.V)),
        }
        shorter = (self._before[ids] + 1) / (self._before.sum() + self.V)
        numbers, n_contexts = ids, self.V
        for length, one in enumerate(self._orders, 2):
            contexts = _contexts(numbers, is_first, n_contexts)
            numbers, n_contexts = one.find(contexts, ids, self.V), len(one.keys)
            if length in self._longest:
                p = self._longest[length].probabilities(numbers, contexts, shorter)
                result[name_of(length)] = -np.log(p)
            if length in self._shorter:
                shorter = self._shorter[length].probabilities(numbers, contexts, shorter)
        return result


def name_of(length: int) -> str:
    """What n-grams of a length are called."""
    return "bigram" if length == 2 else f"{length}-gram"


def _contexts(numbers: np.ndarray, is_first: np.ndarray, beginning: int) -> np.ndarray:
    """The number of the n-gram that ends before each token; `beginning` where a document begins."""
    contexts = np.empty_like(numbers)
    contexts[1:] = numbers[:-1]
    contexts[is_first] = beginning
    return contexts


class Baselines:
    """Sums up, document by document, what the baselines lose at the tokens that a model is measured on.

    An observer of `evaluate`.  nats: by name of the baseline, (n_documents,).
    """

    def __init__(self, ngrams: NGrams, tokens: TokenFile) -> None:
        self._ngrams, self._tokens = ngrams, tokens
        self.nats = {name: np.zeros(tokens.n_documents) for name in ngrams.names}

    def __call__(self, scored: Scored) -> None:
        """Add the tokens of a batch."""
        places = scored.places.astype(np.int64)
        for name, nats in self.at(places).items():
            np.add.at(self.nats[name], scored.owners, nats)

    def at(self, places: np.ndarray) -> dict[str, np.ndarray]:
        """Losses in nats at places of the stream."""
        back = range(self._ngrams.order)
        needed = np.unique(np.concatenate([np.maximum(places - k, 0) for k in back]))
        is_first = np.ones(len(needed), bool)  # where a stretch begins as well: nothing there is asked for
        is_first[1:] = needed[1:] != needed[:-1] + 1
        documents = np.searchsorted(self._tokens.offsets, needed.astype(np.uint64), side="right") - 1
        is_first |= self._tokens.offsets[documents] == needed.astype(np.uint64)
        found = self._ngrams.nats(self._tokens.ids[needed], is_first)
        return {name: nats[np.searchsorted(needed, places)] for name, nats in found.items()}


def held_out_losses(ngrams: NGrams, windows: EvalWindows) -> dict[str, float]:
    """Nats per token of each baseline at the tokens of some windows."""
    baselines = Baselines(ngrams, windows.tokens)
    for batch, places in zip(windows.batches(_WINDOWS), windows.places(_WINDOWS), strict=True):
        where = places[batch.targets != IGNORED]
        nothing = np.zeros(len(where))
        baselines(Scored(nothing, where, windows.owners(where), nothing, nothing))
    return {name: float(nats.sum()) / windows.n_tokens for name, nats in baselines.nats.items()}


def learn(tokens: TokenFile, most: int = MOST_TOKENS) -> tuple[NGrams, int]:
    """The n-grams of a training text, and how many of its tokens were counted for them."""
    ids, is_first = sample(tokens, most)
    return NGrams(ids, is_first, tokens.vocab_size), len(ids)
