"""Probes: short experiments on a model and its data that a broken measurement or lost gradient does not pass.

Each answers with findings that have a name, what was seen, and where to look if that is wrong.  They change
nothing: gradients are zero again afterwards, weights as they were.  All take seconds, on any model and any
checkpoint, for large ones look at fewer tokens: `probe_all` is what `microgpt probe` runs, `probe_data` and
`probe_briefly` what comes before the first step of a run.
"""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from microgpt.batches.batches import Batches
from microgpt.core import random
from microgpt.corpus.token_file import TokenFile
from microgpt.model import GPT, IGNORED, Arena, Batch, flop_per_token
from microgpt.tokenizer import Tokenizer

from .finding import Finding
from .probes_of_data import agreement, probe_data, saved, targets

N_ROWS, N_TOKENS = 4, 128  # of the windows that probes look at: enough, and quick
SLOPE_NATS = 0.5  # a step along the gradient is to change the summed loss by so much,
SLOPE_STEP = 0.02  # but is no longer than this share of the weights, where all is still straight,
SLOPE_SHARE = 0.03  # and by no more than this share of it, for what is learned by heart bends at once;
FLAT_NATS = 5e-3  # a change of less than this is lost in rounding
SLOPE_TOLERANCE = 0.05
SHORTER = 4  # times, where that is exceeded: what comes of a bend is then a sixteenth
EXPERTS = ".experts."  # in the names of their parameters
CLEAR = 0.05  # nats a token: differences of shifted losses below this say nothing
NOTHING_SCORED = "no target is scored in what is looked at"
LEARNED = 0.5  # nats below ln V from which on a model has learned something
SHIFTED_TOKENS = 256  # of a row that are foretold by those before, after and at their place
FEWEST_TOKENS = 8
BRIEF_FLOP, FLOP = 5e9, 5e10  # of a step on the tokens that probes look at, briefly and not
SLOPE_FLOP = 6e10  # of all steps for the slopes of the layers
BRIEF_BYTES = 1 << 25  # of weights that they save


# -------------------------------------------------------------------------------- the model


def gradient(model: GPT, batch: Batch) -> Finding:
    """Whether every parameter has a gradient that is finite and not zero throughout.

    Parameters that begin as zeros can hide others behind them, so those are given small values meanwhile.
    Experts to which none of the tokens go are passed over.
    """
    if not is_scored(batch).any():
        return Finding("gradient", None, NOTHING_SCORED)
    frozen = [p.name for p in model.params.parameters if not p.trainable]
    with _Nudged(model):
        model.grads.flat[:] = 0
        nats, _ = model.loss_and_grad(batch)
        odd = _not_finite("gradient", model, nats)
        still = [name for name, grad in model.grads.items() if not grad.any() and EXPERTS not in name]
        model.grads.flat[:] = 0
    if odd:
        return odd
    if frozen or still:
        why = "is not trained" if frozen else "has a gradient of zeros"
        names = frozen or still
        return Finding("gradient", False, f"{named(names)} {why}", "frozen parameters; that layer's backward")
    return Finding("gradient", True, f"finite and not zero in all {len(model.grads)} parameters")


def _not_finite(probe: str, model: GPT, nats: float) -> Finding | None:
    """What a probe says of a loss, or of gradients as they are now, that are no finite numbers; else None."""
    odd = [name for name, grad in model.grads.items() if not np.isfinite(grad).all()]
    if not odd and math.isfinite(nats):
        return None
    which = ", ".join(odd[:3]) or "the loss"
    return Finding(probe, False, f"not finite: {which}", "learning rate, initial weights, the data")


def named(names: list[str]) -> str:
    """Some names for a person."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


class _Nudged:
    """While the context lasts, parameters that are all zeros have small values."""

    def __init__(self, model: GPT) -> None:
        values = ((name, model.params[name]) for name in model.grads)
        self._zeros = [(name, value) for name, value in values if not value.any()]

    def __enter__(self) -> None:
        for name, value in self._zeros:
            noise = random.normal(random.key(0, "probe/" + name), value.size)
            value[:] = 0.02 * noise.reshape(value.shape)

    def __exit__(self, *_: object) -> None:
        for _name, value in self._zeros:
            value[:] = 0


def slope(model: GPT, batch: Batch) -> Finding:
    """Whether the loss really changes along the gradient of each layer as the gradient says.

    A gradient that is lost on its way, such as that of one branch, is missing in all layers below.  In fp32,
    for bf16 rounds small steps away.  Of a text learned by heart there is next to no loss that could change.
    """
    flop = flop_per_token(model.config) * len(_layers(model))
    batch = telling(batch, min(N_TOKENS, tokens_within(SLOPE_FLOP, flop)), 1)
    with _Nudged(model), in_fp32(model):
        model.grads.flat[:] = 0
        nats, _ = model.loss_and_grad(batch)
        odd = _not_finite("slope", model, nats)
        is_of_loss = "balance_loss" not in model.facts
        found = [] if odd or not is_of_loss else list(_slope_errors(model, batch))
        model.grads.flat[:] = 0
    if odd:
        return odd
    if not is_of_loss:
        return Finding("slope", None, "the gradient is of the loss and of what balances experts")
    if not found:
        return Finding("slope", None, "not applicable: the loss is too small to see it change")
    error, layer = max(found)
    text = f"the loss follows the gradient of every layer to {error:.1%}"
    if error <= SLOPE_TOLERANCE:
        return Finding("slope", True, text)
    text = f"the loss does not follow the gradient of {layer}: {error:.0%} off"
    return Finding("slope", False, text, "the backward of the layers from there on upwards")


@contextlib.contextmanager
def in_fp32(model: GPT) -> Iterator[None]:
    """While the context lasts, products are of that precision."""
    precision, model.precision = model.precision, "fp32"
    yield
    model.precision = precision


def _slope_errors(model: GPT, batch: Batch) -> Iterator[tuple[float, str]]:
    """Of each layer that is not flat by how much of its size the slope differs from the gradient's norm.

    A loss that bends there seems to differ, too, but ever less along shorter steps; a wrong gradient does
    not.
    """
    most = min(SLOPE_NATS, SLOPE_SHARE * float(model.token_losses(batch).sum(dtype=np.float64)))
    for layer, names in _layers(model).items():
        norm, size = (_norm(arena, names) for arena in (model.grads, model.params))
        nats = min(most, 2 * SLOPE_STEP * size * norm)
        if nats < FLAT_NATS:
            continue
        error = _slope_error(model, batch, names, norm, nats)
        while error > SLOPE_TOLERANCE and nats >= FLAT_NATS * SHORTER:
            nats /= SHORTER
            error = _slope_error(model, batch, names, norm, nats)
        yield error, layer


def _slope_error(model: GPT, batch: Batch, names: list[str], norm: float, nats: float) -> float:
    """By how much of itself the change of the loss differs from `nats`, what the gradient of parameters,
    which has this norm, foretells."""
    step = nats / 2 / norm**2
    before = {name: model.params[name].copy() for name in names}
    sums = []
    for sign in (1, -1):
        for name in names:
            model.params[name][:] = before[name] + sign * step * model.grads[name]
        sums.append(float(model.token_losses(batch).sum(dtype=np.float64)))
    for name in names:
        model.params[name][:] = before[name]
    return abs((sums[0] - sums[1]) / nats - 1)


def _layers(model: GPT) -> dict[str, list[str]]:
    """The names of parameters that are trained, by the layer that they are of."""
    layers: dict[str, list[str]] = {}
    for name in model.grads:
        parts = name.split(".")
        layers.setdefault(".".join(parts[:2]) if parts[0] == "h" else parts[0], []).append(name)
    return layers


def _norm(arena: Arena, names: list[str]) -> float:
    """Of all numbers of some parameters together."""
    return math.sqrt(sum(float((arena[name].astype(np.float64) ** 2).sum()) for name in names))


def causality(model: GPT, batch: Batch) -> Finding:
    """Whether changing a token leaves all logits before it as they are, and changes some after it."""
    ids = cut(batch, 1, N_TOKENS).ids
    T = ids.shape[1]
    if T < 2:
        return Finding("causality", None, "the window holds one token")
    places = sorted({1, T // 3, T // 2, T - 1} - {0})
    rows = np.repeat(ids, 1 + len(places), axis=0)
    for row, t in enumerate(places, 1):
        rows[row, t] = (rows[row, t] + 1 + row) % model.config.vocab_size
    logits = model.logits(rows)
    size = 1e-5 * max(float(np.abs(logits).max()), 1e-3)
    for row, t in enumerate(places, 1):
        changed = np.abs(logits[row] - logits[0]).max(-1) > size
        if changed[:t].any():
            first = int(np.flatnonzero(changed)[0])
            text = f"changing token {t} changes the logits at {first}: the model sees what it is to foretell"
            return Finding("causality", False, text, "the attention mask, state that runs backwards")
        if not changed[t]:
            text = f"changing token {t} changes nothing at its own place"
            return Finding("causality", False, text, "the embedding, the mask")
    return Finding("causality", True, "changing a token changes no logit before it")


def loss_at_targets(model: GPT, batch: Batch) -> Finding:
    """Whether the loss is that of the logits at the targets, with no shift of its own."""
    batch = cut(batch, 1, N_TOKENS)
    if batch.starts is not None:  # logits are those of one document
        batch = cut(batch, 1, int(np.argmax(batch.starts[0] > 0)) or N_TOKENS)._replace(starts=None)
    scored = is_scored(batch)[0]
    if not scored.any():
        return Finding("loss", None, NOTHING_SCORED)
    losses = model.token_losses(batch)[0][scored].astype(np.float64)
    logits = model.logits(batch.ids)[0][scored].astype(np.float64)
    wanted = cross_entropy(logits, batch.targets[0][scored])
    model.grads.flat[:] = 0
    trained, n = model.loss_and_grad(batch)
    model.grads.flat[:] = 0
    off = max(float(np.abs(losses - wanted).max()), abs(trained / max(n, 1) - float(wanted.mean())))
    if off > 1e-3 * max(1.0, float(wanted.max())):
        text = f"{off:.3f} nats from the cross-entropy of the logits at the targets"
        return Finding("loss", False, text, "a shift in the model's loss, weights of targets")
    return Finding("loss", True, "is the cross-entropy of the logits at the targets, in training as well")


def cross_entropy(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """-log softmax(logits) at the targets: (n, V), (n,) -> (n,)."""
    return np.logaddexp.reduce(logits, -1) - np.take_along_axis(logits, targets[:, None], -1)[:, 0]


def first_loss_wanted(model: GPT, batch: Batch) -> tuple[float, float]:
    """What the loss of random weights should be, that of targets which their logits do not know, and how far
    from it one batch may be.

    E[-z_y + ln sum exp z] over all y; for normal logits z it is ln V + var / 2.
    """
    batch = cut(batch, 1, N_TOKENS)
    logits = model.logits(batch.ids)[0].astype(np.float64)
    wanted = float((np.logaddexp.reduce(logits, -1) - logits.mean(-1)).mean())
    variance = float(logits.var(-1).mean())
    return wanted, 0.1 + 4 * math.sqrt(variance / len(logits))


def first_loss(model: GPT, batch: Batch, is_random: bool) -> Finding:
    """Whether the loss is what such weights must have before they learn anything, or below it after."""
    scored = is_scored(batch)
    if not scored.any():
        return Finding("first loss", None, NOTHING_SCORED)
    loss = float(model.token_losses(batch)[scored].mean(dtype=np.float64))
    if not is_random:
        bound = math.log(model.config.vocab_size)
        text = f"{loss:.3f}, a uniform guess has {bound:.3f}"
        return Finding("first loss", loss < bound, text, "tokenizer and data of these weights, their file")
    wanted, tolerance = first_loss_wanted(model, batch)
    text = f"{loss:.3f}, random weights with such logits have {wanted:.3f} +- {tolerance:.3f}"
    look = "the shift of targets (a copy is easy), the mask, initial weights"
    return Finding("first loss", abs(loss - wanted) <= tolerance, text, look)


def shift(model: GPT, ids: np.ndarray) -> Finding:
    """Whether a model that has learned foretells the next token, rather than this one or the one after next.

    Args: ids: (B, T) of text as it stands, cut by nobody's idea of a shift.
    """
    B, T = ids.shape
    if T < 3:
        return Finding("shift", None, "the window is too short")
    logits = model.logits(ids)[:, : T - 2].reshape(B * (T - 2), -1).astype(np.float64)
    normalizer = np.logaddexp.reduce(logits, -1)
    shifted = (ids[:, s : T - 2 + s].reshape(-1, 1) for s in range(3))
    losses = [float((normalizer - np.take_along_axis(logits, y, -1)[:, 0]).mean()) for y in shifted]
    told = ", ".join(f"{loss:.3f} by {s}" for s, loss in enumerate(losses))
    best = int(np.argmin(losses))
    if losses[best] > math.log(model.config.vocab_size) - LEARNED or sorted(losses)[1] - losses[best] < CLEAR:
        return Finding("shift", None, f"the model has not learned enough to tell: {told}")
    what = {
        0: "copies the token it stands at",
        1: "foretells the next token",
        2: "foretells the one after next",
    }
    text = f"the model {what[best]} (loss with targets shifted {told})"
    return Finding("shift", best == 1, text, "targets shifted twice or not at all, in batches or in the loss")


def dropout(model: GPT, batch: Batch) -> Finding:
    """Whether dropout does something, and the same for the same keys."""
    if not model.config.dropout:
        return Finding("dropout", None, "none is asked for")
    batch = telling(batch, min(N_TOKENS, tokens_within(BRIEF_FLOP, flop_per_token(model.config))), 1)
    nats = []
    for seed in (1, 1, 2, None):
        keys = None if seed is None else random.keys(seed, "probe", range(len(batch.ids)))
        nats.append(model.loss_and_grad(batch, keys)[0])
        model.grads.flat[:] = 0
    again, other, without = (abs(n - nats[0]) for n in nats[1:])
    if again:
        return Finding("dropout", False, "the same keys drop other elements", "what the masks depend on")
    if not other or not without:
        text = f"a rate of {model.config.dropout:g} is asked for, but nothing is dropped"
        return Finding("dropout", False, text, "whether keys reach the layers")
    return Finding("dropout", True, f"drops at a rate of {model.config.dropout:g}, by its keys alone")


# -------------------------------------------------------------------------------- all of them


def cut(batch: Batch, n_rows: int, n_tokens: int) -> Batch:
    """The first rows and tokens of a batch."""
    part = (slice(n_rows), slice(n_tokens))
    ids, targets, weights, starts = (None if a is None else np.ascontiguousarray(a[part]) for a in batch[:4])
    assert ids is not None and targets is not None
    return Batch(ids, targets, weights, starts)


def is_scored(batch: Batch) -> np.ndarray:
    """Which targets are, (B, T)."""
    return batch.targets != IGNORED


def telling(batch: Batch, n_tokens: int, n_rows: int = N_ROWS) -> Batch:
    """The first tokens of the rows in which most of them are scored; all tokens where none of these is."""
    n_scored = is_scored(cut(batch, len(batch.ids), n_tokens)).sum(1)
    rows = np.argsort(-n_scored, kind="stable")
    ids, targets, weights, starts = (None if a is None else a[rows] for a in batch[:4])
    assert ids is not None and targets is not None
    return cut(Batch(ids, targets, weights, starts), n_rows, n_tokens if n_scored.any() else ids.shape[1])


def raw_rows(tokens: TokenFile, seq_len: int) -> np.ndarray:
    """Up to N_ROWS evenly spread rows of ids as they stand in a token file, (B, T)."""
    T = min(seq_len, tokens.n_tokens)
    starts = np.unique(np.linspace(0, tokens.n_tokens - T, N_ROWS).astype(int))
    return np.stack([tokens.ids[start : start + T] for start in starts]).astype(np.int32)


def probe_all(
    model: GPT,
    tokenizer: Tokenizer,
    train: TokenFile,
    held_out: TokenFile,
    batches: Batches,
    folder: Path,
    is_random: bool,
) -> Iterator[Finding]:
    """Every probe, one after the other.

    Args: batches: of training.  folder: where checkpoints lie.  is_random: the weights have learned nothing.
    """
    whole = batches.batch(0)
    batch = looked_at(model, whole, FLOP)
    yield agreement(model, tokenizer, [train, held_out])
    yield from probe_data(train, held_out)
    yield targets(whole)
    yield causality(model, batch)
    yield loss_at_targets(model, batch)
    yield first_loss(model, batch, is_random)
    yield gradient(model, batch)
    yield slope(model, batch)
    yield dropout(model, batch)
    if is_random:
        yield Finding("shift", None, "the weights have learned nothing yet")
    else:
        yield shift(model, raw_rows(held_out, min(batches.seq_len, SHIFTED_TOKENS)))
    yield saved(model, tokenizer, folder)


def probe_briefly(
    model: GPT, tokenizer: Tokenizer, train: TokenFile, held_out: TokenFile, batches: Batches, folder: Path
) -> Iterator[Finding]:
    """What takes seconds of a model of any size, of random weights: for large ones, on fewer tokens.

    Args: as of `probe_all`.
    """
    whole = batches.batch(0)
    batch = looked_at(model, whole, BRIEF_FLOP)
    yield agreement(model, tokenizer, [train, held_out])
    yield targets(whole)
    yield causality(model, batch)
    yield first_loss(model, batch, is_random=True)
    yield gradient(model, batch)
    yield saved(model, tokenizer, folder, BRIEF_BYTES)


def looked_at(model: GPT, batch: Batch, most_flop: float) -> Batch:
    """The part of a batch that probes look at, a step on which has so many FLOP."""
    n_tokens = tokens_within(most_flop, flop_per_token(model.config))
    return telling(batch, min(n_tokens, N_TOKENS), max(1, n_tokens // N_TOKENS))


def tokens_within(most_flop: float, flop: float) -> int:
    """How many tokens probes look at, each of so many FLOP."""
    return int(min(max(most_flop / flop, FEWEST_TOKENS), N_ROWS * N_TOKENS))
