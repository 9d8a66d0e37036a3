"""All that `eval` tells of a model on a text: loss with intervals, baselines, where the loss lies."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from microgpt.batches.batches import EvalWindows
from microgpt.batches.packing import DOCUMENTS
from microgpt.model import GPT
from microgpt.tokenizer import Tokenizer

from .breakdown import Breakdown, groupings
from .held_out import HeldOut, score
from .loss import Documents, Evaluation, Ratio, ratio
from .ngrams import Baselines, count_tokens, learn

FEW_DOCUMENTS = 30  # with fewer an interval is itself a guess
WIDE = 0.02  # of the loss: an interval of more than that each way tells few models apart


class Quality(NamedTuple):
    """What is told of a model, or of a baseline, on a text."""

    loss: Ratio  # nats per token
    bpb: Ratio  # bits per byte of text

    @property
    def perplexity(self) -> float:
        """e to the loss."""
        return math.exp(min(self.loss.value, 700.0))

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        error = self.loss.error
        return {
            "loss": self.loss.value,
            "loss_standard_error": error,
            "loss_half_width": self.loss.half_width,
            "perplexity": self.perplexity,
            "perplexity_standard_error": None if error is None else self.perplexity * error,
            "bpb": self.bpb.value,
            "bpb_standard_error": self.bpb.error,
            "bpb_half_width": self.bpb.half_width,
        }


def quality(nats: np.ndarray, documents: Documents) -> Quality:
    """Of nats lost in each of the documents."""
    return Quality(ratio(nats, documents.tokens), ratio(nats / math.log(2), documents.bytes))


class Measured(NamedTuple):
    """A model on a text.  baselines: by name, the simplest first; none where the training text is gone.
    n_counted: tokens, of n_training, that the n-grams were counted in."""

    result: Evaluation
    quality: Quality
    accuracy: Ratio
    breakdown: Breakdown
    baselines: dict[str, Quality]
    n_counted: int
    n_training: int

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return self.quality.to_dict() | {
            "loss": self.result.loss,
            "bpb": self.result.bpb,
            "accuracy": self.accuracy.value,
            "accuracy_standard_error": self.accuracy.error,
            "baselines": {name: one.to_dict() for name, one in self.baselines.items()},
            "n_counted_tokens": self.n_counted,
            "n_training_tokens": self.n_training,
            "by": self.breakdown.to_dict(),
        }


def measure(
    model: GPT,
    tokenizer: Tokenizer,
    held_out: HeldOut,
    windows: EvalWindows,
    progress: Callable[[int], Any] = lambda n: None,
) -> Measured:
    """Measure a model, and by the text that it was trained on what counting alone would give."""
    training, tokens = held_out.training, held_out.tokens
    counts = None if training is None else count_tokens(training)
    breakdown = Breakdown(groupings(tokens, tokenizer, counts))
    baselines, n_counted = None, 0
    if training is not None:
        ngrams, n_counted = learn(training)
        baselines = Baselines(ngrams, tokens)
    result = score(model, windows, progress, [breakdown] if baselines is None else [breakdown, baselines])
    documents = result.documents
    assert documents is not None
    return Measured(
        result,
        quality(documents.nats, documents),
        ratio(documents.right, documents.tokens),
        breakdown,
        {} if baselines is None else {name: quality(n, documents) for name, n in baselines.nats.items()},
        n_counted,
        0 if training is None else training.n_tokens,
    )


def context_policy(packing: str, seq_len: int, stride: int | None, n_stretches: int = 0) -> str:
    """What stands before a token when it is scored, for people.

    Args: n_stretches: in which recurrent layers carry on what they remember; 0: they do not.
    """
    what = "its document" if packing == DOCUMENTS else "the text"
    if n_stretches:
        return (
            f"windows of {seq_len} in order: each token is scored once; recurrent layers remember {what} "
            f"through {n_stretches} long stretches, attention what lies in the window"
        )
    if stride is not None and stride < seq_len:
        return (
            f"windows of {seq_len} slide by {stride}: each token is scored once, after {seq_len - stride} "
            f"tokens at least or all that {what} has before it"
        )
    how = "made of whole documents" if packing == DOCUMENTS else "cut from the stream"
    return (
        f"windows of {seq_len} {how}, as in training: each token is scored once, after 1 to {seq_len} tokens"
    )


def too_little(loss: Ratio) -> str | None:
    """What to tell of a text that is too small for its numbers; None: it is not."""
    if loss.n_documents < FEW_DOCUMENTS:
        are = "document is" if loss.n_documents == 1 else "documents are"
        return f"{loss.n_documents} {are} too few to say how far chance moves these numbers"
    half = loss.half_width or 0.0
    if half > WIDE * loss.value:
        share = half / loss.value
        return f"too little text to tell models apart by it that differ by less than {share:.0%} of the loss"
    return None
