"""A start from counts: before the first step, embedding and head learn what follows each token.

While the branches of its layers say nothing yet, a model foretells a token by the one before it alone: it is
a table of bigrams of low rank (Elhage et al. 2021, A Mathematical Framework for Transformer Circuits).
Training finds that table batch by batch, which takes a small model its first hundred steps.  But how often
what follows what is counted at once, and the loss of a whole text is then a function of V rows,

    nats = - sum over a, b of counts[a, b] log softmax(head(norm(wte[a])))[b],

whose gradient costs as much as that of V tokens of a model without layers.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np

from microgpt.common.errors import ConfigError
from microgpt.common.words import format_duration
from microgpt.core import arrays, ops
from microgpt.corpus.token_file import TokenFile
from microgpt.evaluation.ngrams import sample
from microgpt.model import GPT
from microgpt.model.architecture import TABLES
from microgpt.runs.events import LearnedBigrams

RATE = 0.016  # of Adam, at first; it falls to nothing in a line
ADAM = {"beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "weight_decay": 0.0}
LOGITS = 1 << 22  # that exist at once
BLOCK = 1 << 20  # tokens whose pairs are counted at a time
TOLD_S = 10.0


class Pairs(NamedTuple):
    """How often each token follows each.

    ends: (V + 1,) int64; what follows token a lies from ends[a] to ends[a + 1].  nexts: tokens, (n,) int64,
    each once in its stretch.  counts: (n,) float32.
    """

    ends: np.ndarray
    nexts: np.ndarray
    counts: np.ndarray


def count_pairs(tokens: TokenFile, across: bool = True) -> Pairs:
    """Of a text, or of stretches evenly spread where it is very long.

    Args: across: whether the first token of a document counts as one that follows the document before.
    """
    V, (ids, is_first) = tokens.vocab_size, sample(tokens)
    keys, counts = np.empty(0, np.int64), np.empty(0, np.int64)
    for begin in range(0, len(ids) - 1, BLOCK):
        those = ids[begin : begin + BLOCK + 1]
        found = those[:-1] * V + those[1:]
        if not across:
            found = found[~is_first[begin + 1 : begin + len(those)]]
        of_block = np.unique(found, return_counts=True)
        keys, where = np.unique(np.concatenate([keys, of_block[0]]), return_inverse=True)
        counts = np.bincount(where, np.concatenate([counts, of_block[1]]), len(keys)).astype(np.int64)
    return Pairs(np.searchsorted(keys, V * np.arange(V + 1)), keys % V, counts.astype(np.float32))


def learn_bigrams(
    model: GPT,
    pairs: Pairs,
    passes: int,
    now: Callable[[], float] = lambda: 0.0,
    say: Callable[[str], object] = lambda text: None,
    left_s: float = math.inf,
) -> LearnedBigrams:
    """Give a new model the bigrams of a text; says every ten seconds how far it is.

    Raises: ConfigError: so many passes would not end in the time that is left, by the first of them.
    """
    begun = told = now()
    say(f"embedding and head learn what follows each of {len(pairs.ends) - 1:,} tokens ...")
    nats = math.nan
    for done, nats in enumerate(descend(model, pairs, passes), 1):
        moment = now()
        if done == 1:
            _refuse(passes, moment - begun, left_s)
        if moment - told > TOLD_S:
            told = moment
            say(f"pass {done} of {passes}: {nats:.3f} nats a token")
    arrays.release()  # what the passes needed is not what steps need
    return LearnedBigrams(0, passes, nats, now() - begun)


def refuse_too_long(
    model: GPT, tokens: TokenFile, passes: int, now: Callable[[], float], left_s: float
) -> None:
    """Refuse passes that would not end in the time that is left, by a few rows of one, which change nothing.

    Raises: ConfigError: they would not.
    """
    V = tokens.vocab_size
    n = min(V, max(1, LOGITS // V))
    no_pairs = Pairs(np.zeros(V + 1, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
    for _ in range(2):  # the first time is longer than those that follow
        begun = now()
        model.bigrams_loss_and_grad(np.arange(n, dtype=np.int32), partial(_score, no_pairs, 0, n))
        pass_s = (now() - begun) * V / n
    model.grads.flat[:] = 0
    _refuse(passes, pass_s, left_s)


def _refuse(passes: int, pass_s: float, left_s: float) -> None:
    if passes * pass_s > left_s:
        raise ConfigError(
            f"--bigram-passes {passes} would take {format_duration(passes * pass_s)}, and "
            f"{format_duration(max(0.0, left_s))} are left; give more time, or fewer passes"
        )


def descend(model: GPT, pairs: Pairs, passes: int) -> Iterator[float]:
    """Train embedding and head alone on all pairs at once, so many times, with Adam; yields the nats a pair
    that each pass found before it changed anything."""
    params, grads = model.params, model.grads
    moments = {name: np.zeros((2, params[name].size), model.dtype) for name in TABLES}
    n_pairs = max(1.0, float(pairs.counts.sum(dtype=np.float64)))
    for done in range(passes):
        nats = loss_and_grad(model, pairs)
        rate = RATE * (1 - done / passes)
        for name in TABLES:
            flat = params[name].reshape(-1), grads[name].reshape(-1), *moments[name]
            ops.adam_step(*flat, lr=rate, **ADAM, step=done, grad_scale=1.0)
        grads.flat[:] = 0  # of the norms, which stay as they are
        yield nats / n_pairs


def loss_and_grad(model: GPT, pairs: Pairs) -> float:
    """Nats of all pairs, summed; adds the gradient of the sum into the model's."""
    V = len(pairs.ends) - 1
    n_rows = max(1, LOGITS // V)
    stretches = [(first, min(first + n_rows, V)) for first in range(0, V, n_rows)]
    return sum(
        model.bigrams_loss_and_grad(np.arange(*those, dtype=np.int32), partial(_score, pairs, *those))
        for those in stretches
    )


def _score(pairs: Pairs, first: int, end: int, logits: np.ndarray) -> tuple[float, np.ndarray]:
    """Nats of the pairs that begin with the tokens from `first` up to `end`, by the logits after them
    (end - first, V), and the gradient: for each token so many softmaxes as follow it, less their counts."""
    here, n = slice(pairs.ends[first], pairs.ends[end]), end - first
    nexts, counts = pairs.nexts[here], pairs.counts[here]
    rows = np.repeat(np.arange(n), np.diff(pairs.ends[first : end + 1]))
    anything = np.zeros(n, np.int32)
    _, lse = ops.cross_entropy_forward(logits, anything)
    nats = float(np.sum(counts * (lse[rows] - logits[rows, nexts]), dtype=np.float64))
    dlogits = ops.cross_entropy_backward(logits, lse, anything, scale=1.0)
    dlogits[:, 0] += 1  # which makes it the softmax
    dlogits *= np.bincount(rows, counts, n).astype(dlogits.dtype)[:, None]
    dlogits[rows, nexts] -= counts
    return nats, dlogits
