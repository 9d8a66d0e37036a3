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
from typing import NamedTuple

import numpy as np

from microgpt.core import arrays, ops
from microgpt.corpus.token_file import TokenFile
from microgpt.evaluation.ngrams import sample
from microgpt.model import GPT
from microgpt.model.layer import Call
from microgpt.runs.events import Counted

RATE = 0.016  # of Adam, at first; it falls to nothing in a line
ADAM = {"beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "weight_decay": 0.0}
LOGITS = 1 << 22  # that exist at once
TOLD_S = 10.0


class Pairs(NamedTuple):
    """How often each token follows each.

    ends: (V + 1,) int64; what follows token a lies from ends[a] to ends[a + 1].  nexts: tokens, (n,) int64,
    each once in its stretch.  counts: (n,) float32.
    """

    ends: np.ndarray
    nexts: np.ndarray
    counts: np.ndarray


def count_pairs(tokens: TokenFile) -> Pairs:
    """Of a text as a stream; of a very long one stretches evenly spread."""
    V, (ids, _) = tokens.vocab_size, sample(tokens)
    keys, counts = np.unique(ids[:-1] * V + ids[1:], return_counts=True)
    return Pairs(np.searchsorted(keys, V * np.arange(V + 1)), keys % V, counts.astype(np.float32))


def learn_bigrams(
    model: GPT,
    text: TokenFile,
    passes: int,
    now: Callable[[], float] = lambda: 0.0,
    say: Callable[[str], object] = lambda text: None,
) -> Counted:
    """Give a new model the bigrams of a text; says every ten seconds how far it is."""
    begun = told = now()
    say(f"embedding and head learn what follows each of {text.vocab_size:,} tokens ...")
    nats = math.nan
    for done, nats in enumerate(descend(model, count_pairs(text), passes), 1):
        if (moment := now()) - told > TOLD_S:
            told = moment
            say(f"pass {done} of {passes}: {nats:.3f} nats a token")
    return Counted(0, passes, nats, now() - begun)


def descend(model: GPT, pairs: Pairs, passes: int) -> Iterator[float]:
    """Train embedding and head alone on all pairs at once, so many times, with Adam; yields the nats a pair
    that each pass found."""
    params, grads = model.params, model.grads
    names = [model.embedding.weight.name, model.head.weight.name]
    moments = {name: np.zeros((2, params[name].size), model.dtype) for name in names}
    n_pairs = float(pairs.counts.sum(dtype=np.float64))
    for done in range(passes):
        nats = loss_and_grad(model, pairs)
        rate = RATE * (1 - done / passes)
        for name in names:
            flat = params[name].reshape(-1), grads[name].reshape(-1), *moments[name]
            ops.adam_step(*flat, lr=rate, **ADAM, step=done, grad_scale=1.0)
        grads.flat[:] = 0  # of the norms, which stay as they are
        yield nats / n_pairs


def loss_and_grad(model: GPT, pairs: Pairs) -> float:
    """Nats of all pairs, summed; adds the gradient of the sum into the model's."""
    V = len(pairs.ends) - 1
    n_rows = max(1, LOGITS // V)
    return sum(_of_tokens(model, pairs, first, min(first + n_rows, V)) for first in range(0, V, n_rows))


def _of_tokens(model: GPT, pairs: Pairs, first: int, end: int) -> float:
    """The same for the pairs that begin with the tokens from `first` up to `end`."""
    params, grads, cap = model.params, model.grads, model.config.logit_cap
    ids = np.arange(first, end, dtype=np.int32)[:, None]  # windows of one token
    call = Call(*ids.shape)
    x = model.embedding.forward(ids, params, call)
    normed, factors = model.norm.forward(x, params)
    made = model.head.forward(normed, params, call)
    nats, dlogits = _score(ops.soft_cap_forward(made, cap) if cap else made, pairs, first, end)
    if cap:
        dlogits = ops.soft_cap_backward(dlogits, made, cap)
    d_normed = model.head.backward(dlogits, normed, params, grads, call)
    dx = model.norm.backward(d_normed, x, factors, params, grads, arrays.zeros_like(x))
    model.embedding.backward(dx, ids, params, grads, call)
    return nats


def _score(logits: np.ndarray, pairs: Pairs, first: int, end: int) -> tuple[float, np.ndarray]:
    """Nats of those pairs, summed, and its gradient, which takes the place of the logits (end - first, V)."""
    here, n = slice(pairs.ends[first], pairs.ends[end]), end - first
    nexts, counts = pairs.nexts[here], pairs.counts[here]
    rows = np.repeat(np.arange(n), np.diff(pairs.ends[first : end + 1]))
    _, lse = ops.cross_entropy_forward(logits, np.zeros(n, np.int32))
    logits -= lse[:, None]
    nats = -float(np.sum(counts * logits[rows, nexts], dtype=np.float64))
    np.exp(logits, out=logits)
    logits *= np.bincount(rows, counts, n).astype(logits.dtype)[:, None]
    logits[rows, nexts] -= counts
    return nats, logits
