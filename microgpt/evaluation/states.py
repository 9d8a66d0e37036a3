"""Tests of what a trained model remembers, on the arrays that its layers carry from token to token.

`state_tests` runs them all.  The states are those that the model decodes with: keys and values of attention,
states, last rows and convolutions of recurrent layers.  Each test is one that a plausible fault does not
pass: a state that stands still, a branch that brings nothing, a state that leaks into another row, weights
that have learned nothing.  Bounds are wide: a test that fails means a fault, not a weak model, but for D4,
which a model fails that never had to remember far.
"""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from microgpt.batches.batches import EvalWindows
from microgpt.common.errors import DataError
from microgpt.corpus.chat import BOS
from microgpt.corpus.token_file import TokenFile
from microgpt.model import GPT, IGNORED, Batch
from microgpt.model.architecture import memory_shapes
from microgpt.model.recurrence import RecurrentState
from microgpt.model.state import KVState, ModelState
from microgpt.tokenizer import Tokenizer

from .branches import Branches, branches, kinds_of
from .probes import LEARNED, in_fp32

PASS, WARN, FAIL, NONE = "pass", "warn", "fail", "-"
N_TEXTS, N_READ, SHORT, LONG = 10, 256, 64, 512  # texts, and tokens of them that are read
SIZES = 1e-3, 10.0  # between which the root mean square of a state passes; up to ten times as far it warns
CHANGE = 0.01  # of a state's size: two texts leave states that differ by more
SPREAD = 1e-6  # of its mean square: ten texts leave states of more variance
BALANCED, BEARABLE = (0.3, 3.0), (0.1, 10.0)  # first branch by second: passes, does not fail
GROWTH = 2.0, 10.0  # from SHORT to LONG: up to the first passes, up to the second does not fail
REACH = 0.01, 0.001  # change of the last logits by the first token: from the first on passes, ...
PIECES = 1, 7, 64, 65, 130  # where a text is cut that is read in pieces
CLOSE = 1e-3  # of the largest logit: pieces and one pass differ by less

Arrays = dict[str, np.ndarray]


class Check(NamedTuple):
    """What a test found: its number and name, the verdict, what was seen, and the numbers behind it."""

    test: str
    verdict: str
    text: str
    numbers: dict[str, Any]

    def told(self) -> str:
        """A line for a person."""
        return f"{self.verdict:4}  {self.test}: {self.text}"


# ------------------------------------------------------------------------ reading texts and states


def texts(tokens: TokenFile, tokenizer: Tokenizer, n: int = N_TEXTS, T: int = LONG) -> np.ndarray:
    """n texts of T ids, evenly spread over a token file, (n, T) int32: as it stands there, but without the
    markers at which documents begin, so that each is one long document.

    Raises: DataError: the file is too short for texts that begin SHORT tokens apart; they would be nearly
            the same.
    """
    bos, width = tokenizer.special_id(BOS), 2 * T
    needed = width + (n - 1) * SHORT
    if tokens.n_tokens < needed:
        raise _too_little(tokens, n, T, needed)
    starts = np.linspace(0, tokens.n_tokens - width, n).astype(int)
    rows = [np.asarray(tokens.ids[start : start + width], np.int32) for start in starts]
    rows = [row[row != bos][:T] for row in rows]
    if min(map(len, rows)) < T:
        raise _too_little(tokens, n, T, 2 * needed)
    return np.stack(rows)


def _too_little(tokens: TokenFile, n: int, T: int, needed: int) -> DataError:
    return DataError(
        f"too little held-out text: {tokens.n_tokens:,} tokens; {n} different texts of {T} tokens are read, "
        f"which takes {needed:,}: name more with --data"
    )


def arrays_of(state: ModelState) -> Arrays:
    """What a model remembers of one sequence, by layer and name, but for ids that the embedding looks back
    to."""
    found: Arrays = {}
    for at, layer in state.states.items():
        if isinstance(layer, KVState):
            found |= {f"{at}.keys": layer.keys[: layer.length], f"{at}.values": layer.values[: layer.length]}
        elif isinstance(layer, RecurrentState):
            found |= {f"{at}.{name}": array[0] for name, array in layer.memory.items()}
    return found


def read(model: GPT, rows: np.ndarray, states: list[ModelState] | None = None) -> tuple[Arrays, np.ndarray]:
    """Read texts (R, T) beside each other as a decoder does: states (R, ...) and logits (R, V) behind them.

    Args: states: to go on from; None: from nothing.
    """
    states = states or [model.new_state() for _ in rows]
    logits = model.next_logits(list(zip(states, rows, strict=True)))
    each = [arrays_of(state) for state in states]
    return {name: np.stack([arrays[name] for arrays in each]) for name in each[0]}, logits


def carried(model: GPT, rows: np.ndarray) -> Arrays:
    """What recurrent layers remember behind texts (R, T) of any length, read window by window."""
    memory: Arrays = {}
    for first in range(0, rows.shape[1], model.config.seq_len):
        window = np.ascontiguousarray(rows[:, first : first + model.config.seq_len])
        model.token_losses(Batch(window, window, memory=memory))
    return {name: array for name, array in memory.items() if np.issubdtype(array.dtype, np.floating)}


def rms(array: np.ndarray) -> float:
    """Root mean square of all entries."""
    return float(np.sqrt(np.square(array, dtype=np.float64).mean())) if array.size else 0.0


def is_same(a: Arrays, b: Arrays) -> bool:
    """Whether both hold the same, to the bit."""
    return a.keys() == b.keys() and all(a[name].tobytes() == b[name].tobytes() for name in a)


def changed(a: Arrays, b: Arrays) -> str:
    """The first array that is another in the two."""
    return next(name for name in a if a[name].tobytes() != b[name].tobytes())


# ------------------------------------------------------------------------ the tests


def learned(model: GPT, loss: float) -> Check:
    """Whether the weights are trained at all, without which the other tests say little."""
    bound = math.log(model.config.vocab_size)
    text = f"held-out loss {loss:.3f}, a uniform guess has {bound:.3f}"
    verdict = PASS if loss < bound - LEARNED else FAIL
    return Check("learned", verdict, text, {"loss": loss, "uniform": bound})


def exist(model: GPT, states: Arrays, T: int) -> Check:
    """S0: whether every mixer has states, of the shapes that it should have, of finite numbers."""
    wanted = {f"h.{i}.{_place(kind)}." for i, kinds in enumerate(kinds_of(model)) for kind in kinds}
    missing = sorted(at for at in wanted if not any(name.startswith(at) for name in states))
    shapes: dict[str, tuple[int, ...]] = {
        name: shape for name, shape in memory_shapes(model.config).items() if name.startswith("h.")
    }
    for name in states:
        if name.endswith((".keys", ".values")):
            shapes[name] = (T, states[name].shape[-1])
    wrong = [name for name, shape in shapes.items() if name not in states or states[name].shape[1:] != shape]
    odd = [name for name, array in states.items() if not np.isfinite(array).all()]
    numbers = {"shapes": {name: list(array.shape[1:]) for name, array in states.items()}}
    for names, what in ((missing, "have none"), (wrong, "of another shape"), (odd, "not finite")):
        if names:
            return Check("S0 states", FAIL, f"{what}: {', '.join(names[:3])}", numbers)
    size = sum(math.prod(array.shape[1:]) for array in states.values())
    text = f"{len(states)} arrays of {size:,} numbers behind {T} tokens, in every layer"
    return Check("S0 states", PASS, text, numbers)


def _place(kind: str) -> str:
    """Where a mixer of a kind keeps its state, behind its layer's name."""
    return "attn" if kind in ("attention", "differential") else kind


def size(states: Arrays) -> Check:
    """S1: whether entries are neither vanishing nor huge."""
    found = {name: rms(array) for name, array in states.items()}
    (low, least), (high, most) = _ends(found)
    far = max(SIZES[0] / max(low, 1e-30), high / SIZES[1])
    verdict = PASS if far <= 1 else WARN if far <= 10 else FAIL
    text = f"root mean squares {low:.2g} ({least}) to {high:.2g} ({most}); {SIZES[0]:g} to {SIZES[1]:g} pass"
    return Check("S1 size", verdict, text, {"rms": found})


def _ends(found: dict[str, float]) -> tuple[tuple[float, str], tuple[float, str]]:
    """The least and the largest number, each with its name."""
    pairs = [(value, name) for name, value in found.items()]
    return min(pairs), max(pairs)


def change(states: Arrays) -> Check:
    """S2: whether another text leaves another state, in every array."""
    found = {name: rms(array[1:] - array[:-1]) / max(rms(array), 1e-30) for name, array in states.items()}
    (low, least), _ = _ends(found)
    text = f"two texts leave states that differ by {low:.2g} of their size at least ({least})"
    return Check("S2 change", PASS if low > CHANGE else FAIL, text, {"difference": found})


def spread(states: Arrays) -> Check:
    """D2: whether states vary over many texts."""
    found = {
        name: float(array.var(0, dtype=np.float64).mean()) / max(rms(array) ** 2, 1e-30)
        for name, array in states.items()
    }
    (low, least), _ = _ends(found)
    count = len(next(iter(states.values())))
    text = f"over {count} texts the variance is {low:.2g} of the mean square at least ({least})"
    return Check("D2 spread", PASS if low > SPREAD else FAIL, text, {"variance": found})


def determined(model: GPT, rows: np.ndarray) -> Check:
    """S3: whether the same text leaves the same state, to the bit."""
    (one, logits), (again, more_logits) = read(model, rows), read(model, rows)
    one, again = one | {"logits": logits}, again | {"logits": more_logits}
    if is_same(one, again):
        return Check("S3 determined", PASS, "the same text leaves the same states and logits, to the bit", {})
    return Check("S3 determined", FAIL, f"the same text leaves another {changed(one, again)}", {})


def shares(found: Branches) -> list[Check]:
    """S4: whether both branches of a fusion bring something, and are trained."""
    if not found.sizes:
        return [Check("S4 branches", NONE, "no layer has two mixers beside each other", {})]
    over, layers = found.overall, {layer: one.ratio for layer, one in found.sizes.items()}
    (low, least), (high, most) = _ends({str(layer): ratio for layer, ratio in layers.items()})
    verdict = _balance(over.ratio)
    if verdict == PASS and FAIL in (_balance(low), _balance(high)):
        verdict = WARN
    name = " and ".join(found.names)
    text = (
        f"{name} bring {over.first:.3g} and {over.second:.3g} (rms), ratio {over.ratio:.3g}; layers "
        f"{low:.3g} ({least}) to {high:.3g} ({most})"
    )
    numbers = {
        "ratio": over.ratio,
        "overall": list(over),
        "layers": {layer: [*one, one.ratio] for layer, one in found.sizes.items()},
    }
    slope = found.gradient
    told = f"norms of {name}: {slope.first:.3g} and {slope.second:.3g}, ratio {slope.ratio:.3g}"
    of_gradient = {"ratio": slope.ratio, "norms": list(slope)}
    return [
        Check("S4 branches", verdict, text, numbers),
        Check("S4 gradients", _balance(slope.ratio), told, of_gradient),
    ]


def _balance(ratio: float) -> str:
    if BALANCED[0] <= ratio <= BALANCED[1]:
        return PASS
    return WARN if BEARABLE[0] <= ratio <= BEARABLE[1] else FAIL


def needed(found: Branches) -> list[Check]:
    """D3: whether held-out loss rises when all mixers of a kind are silenced."""
    checks = []
    for kind, rise in found.without.items():
        text = (
            f"without {kind} the loss is {found.loss + rise.value:.3f} instead of {found.loss:.3f}, "
            f"{rise.value:+.3f} ({rise.low:+.3f} to {rise.high:+.3f})"
        )
        numbers = {"kind": kind, "loss": found.loss} | rise._asdict()
        checks.append(Check("D3 needed", PASS if rise.low > 0 else FAIL, text, numbers))
    return checks


def growth(model: GPT, rows: np.ndarray) -> Check:
    """D1: whether states keep their size from SHORT to LONG tokens; of attention, that its entries do."""
    window = min(LONG, model.config.seq_len)
    short, long = carried(model, rows[:, :SHORT]), carried(model, rows[:, :LONG])
    told = f"{SHORT} to {LONG} tokens"
    if window > SHORT:
        of_short, of_long = (read(model, rows[:, :T])[0] for T in (SHORT, window))
        new = [name for name in of_short if name not in short]
        short |= {name: of_short[name] for name in new}
        long |= {name: of_long[name] for name in new}
        told += f", attention to {window}, its window" if new and window < LONG else ""
    found = {name: rms(long[name]) / max(rms(short[name]), 1e-30) for name in short}
    if not found:
        return Check("D1 growth", NONE, f"its window of {model.config.seq_len} holds no {SHORT} tokens", {})
    _, (high, most) = _ends(found)
    verdict = PASS if high <= GROWTH[0] else WARN if high <= GROWTH[1] else FAIL
    return Check(
        "D1 growth", verdict, f"from {told} by a factor of {high:.3g} at most ({most})", {"growth": found}
    )


def reach(model: GPT, rows: np.ndarray) -> Check:
    """D4: whether the first token still changes what is foretold behind the last."""
    others = rows.copy()
    others[:, 0] = (others[:, 0] + 1 + model.config.vocab_size // 2) % model.config.vocab_size
    (_, logits), (_, moved) = read(model, rows), read(model, others)
    distances = [rms(b - a) / max(rms(a), 1e-30) for a, b in zip(logits, moved, strict=True)]
    found, T = float(np.median(distances)), rows.shape[1]
    verdict = PASS if found >= REACH[0] else WARN if found >= REACH[1] else FAIL
    text = f"another first token moves the logits behind {T} tokens by {found:.2g} of their size"
    return Check("D4 reach", verdict, text, {"change": found, "tokens": T})


def pieces(model: GPT, rows: np.ndarray) -> Check:
    """Whether a text read in pieces, the states carried on, comes to what one pass does."""
    T = rows.shape[1]
    cuts = [0, *(cut for cut in PIECES if cut < T), T]
    whole, states = model.logits(rows), [model.new_state() for _ in rows]
    worst = 0.0
    for first, last in pairwise(cuts):
        _, logits = read(model, np.ascontiguousarray(rows[:, first:last]), states)
        worst = max(worst, float(np.abs(logits - whole[:, last - 1]).max()))
    worst /= max(float(np.abs(whole).max()), 1e-30)
    text = f"{len(cuts) - 1} pieces of a text and one pass differ by {worst:.1g} of the largest logit"
    return Check("pieces", PASS if worst < CLOSE else FAIL, text, {"difference": worst})


def reset(model: GPT, rows: np.ndarray) -> Check:
    """Whether a state that went back to nothing is as new."""
    used = [model.new_state()]
    read(model, rows[:1], used)
    at = used[0].rewind(0)
    again, logits = read(model, rows[1:2], used)
    fresh, wanted = read(model, rows[1:2])
    same = at == 0 and is_same(again | {"logits": logits}, fresh | {"logits": wanted})
    text = "is as new, to the bit" if same else "still holds of the text before"
    return Check("reset", PASS if same else FAIL, f"a state that went back to its begin {text}", {})


def apart(model: GPT, rows: np.ndarray) -> Check:
    """Whether texts that are read at once stay apart: decoding, in rows of a batch, as documents of a row."""
    a, b, c = rows[:3]
    seen = [
        (_row(model, (a, b), 0), _row(model, (a, c), 0), "decoding"),
        (_row(model, (b, a), 1), _row(model, (c, a), 1), "decoding"),
    ]
    seen += [
        (_losses(model, (a, b), 0), _losses(model, (a, c), 0), "rows of a batch"),
        (_losses(model, (b, a), 1), _losses(model, (c, a), 1), "rows of a batch"),
        (_second(model, b, a), _second(model, c, a), "documents of a row"),
    ]
    leaks = [(where, changed(one, other)) for one, other, where in seen if not is_same(one, other)]
    if leaks:
        return Check("rows apart", FAIL, f"another text beside it changes {leaks[0][1]} ({leaks[0][0]})", {})
    text = "another text beside it, in its batch or its row, changes nothing, to the bit"
    return Check("rows apart", PASS, text, {})


def _row(model: GPT, texts: tuple[np.ndarray, np.ndarray], which: int) -> Arrays:
    """State and logits of one of two texts that are read at once."""
    states, logits = read(model, np.stack(texts))
    return {name: array[which] for name, array in states.items()} | {"logits": logits[which]}


def _losses(model: GPT, texts: tuple[np.ndarray, np.ndarray], which: int) -> Arrays:
    """Losses of one of two rows of a batch, and what is remembered of it."""
    rows, memory = np.stack(texts), dict[str, np.ndarray]()
    losses = model.token_losses(Batch(rows[:, :-1].copy(), rows[:, 1:].copy(), memory=memory))
    return {name: array[which] for name, array in memory.items()} | {"losses": losses[which]}


def _second(model: GPT, first: np.ndarray, second: np.ndarray) -> Arrays:
    """Losses of the second document of a row."""
    half = len(first) // 2
    row = np.concatenate([first[:half], second[: len(second) - half]])[None]
    starts = np.zeros(row.shape, np.int32)
    starts[:, half:] = half
    targets = np.roll(row, -1, 1)
    targets[:, -1] = IGNORED
    return {"losses": model.token_losses(Batch(row, targets, starts=starts))[0, half:]}


def state_tests(model: GPT, tokenizer: Tokenizer, tokens: TokenFile, windows: EvalWindows) -> Iterator[Check]:
    """Every test, one after the other, in fp32.

    Args: tokens: held-out text.  windows: the same, or part of it, as it is scored.
    """
    with in_fp32(model):
        rows = texts(tokens, tokenizer)
        found = branches(model, windows)
        yield learned(model, found.loss)
        fitting = np.ascontiguousarray(rows[:, : min(N_READ, model.config.seq_len)])
        states, _ = read(model, fitting)
        yield exist(model, states, fitting.shape[1])
        if states:
            yield size(states)
            yield change(states)
        yield determined(model, fitting[:2])
        yield from shares(found)
        yield growth(model, rows[:4])
        if states:
            yield spread(states)
        yield from needed(found)
        yield reach(model, fitting)
        yield pieces(model, fitting[:2])
        yield reset(model, fitting)
        yield apart(model, fitting)
