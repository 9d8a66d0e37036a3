"""What recurrent layers share: their state while decoding, and how one text of a layer serves whole windows
and sequences that go on."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from microgpt.common.errors import ShapeError
from microgpt.core import arrays, recurrent

from .layer import Call
from .parameters import Arena

KEPT_EVERY = 128  # positions at which a state is kept to go back to; a decoder reads prompts in such pieces

Op = Callable[..., tuple[np.ndarray, np.ndarray]]
Maybe = np.ndarray | None


class RecurrentState:
    """What a layer carries from position to position, by name, (1, ...) each.

    It can go back to 0, and to multiples of KEPT_EVERY at which a piece of text ended.
    """

    def __init__(self) -> None:
        self.length = 0
        self.memory: dict[str, np.ndarray] = {}
        self._kept: dict[int, dict[str, np.ndarray]] = {0: {}}

    def advance(self, n: int) -> None:
        """n more positions have been seen."""
        self.length += n
        if self.length % KEPT_EVERY == 0:
            self._kept[self.length] = dict(self.memory)  # arrays are replaced, never changed

    def rewind(self, n: int) -> int:
        """Go back to n positions, or to the nearest before that are kept; returns where that is."""
        if not 0 <= n <= self.length:
            raise ShapeError(f"cannot go back to {n} positions; there are {self.length}")
        if n < self.length:
            self.length = max(kept for kept in self._kept if kept <= n)
            self.memory = dict(self._kept[self.length])
            self._kept = {at: memory for at, memory in self._kept.items() if at <= self.length}
        return self.length

    def copy(self) -> "RecurrentState":
        """The same memory once more."""
        twin = RecurrentState()
        twin.length, twin.memory, twin._kept = self.length, dict(self.memory), dict(self._kept)
        return twin


def run(
    call: Call, at: str, name: str, op: Op, rows: Sequence[np.ndarray], weights: Sequence[Any] = ()
) -> np.ndarray:
    """y (..., N, C) of a recurrent operation, whose memory is that of layer `at`, under `name`.

    Args: op: (rows (B, T, C) each, weights, starts, before) -> (y (..., B, T, C), after), where `before` is
              None at the begin.
          rows: (..., N, C) each.
    """
    if call.states is None:
        key = f"{at}.{name}"
        memory = call.starts, call.before.get(key)
        y, call.after[key] = op(*(_windows(x, call.B, call.T) for x in rows), *weights, *memory)
        return _flat(y)
    parts, begin = [], 0
    for state, n in call.sequences(at):
        of_state = (_windows(x[..., begin : begin + n, :], 1, n) for x in rows)
        y, state.memory[name] = op(*of_state, *weights, None, state.memory.get(name))
        parts.append(_flat(y))
        begin += n
    return parts[0] if len(parts) == 1 else np.concatenate(parts, -2)


def run_back(
    call: Call, at: str, name: str, op: Callable[..., Any], rows: Sequence[np.ndarray], weights: Sequence[Any]
) -> list[np.ndarray]:
    """Gradients (..., N, C) of the operation that `run` ran under that name, one or more."""
    memory = call.starts, call.before.get(f"{at}.{name}")
    found = op(*(_windows(x, call.B, call.T) for x in rows), *weights, *memory)
    return [_flat(grad) for grad in (found if isinstance(found, tuple) else (found,))]


def advance(call: Call, at: str) -> None:
    """The states of layer `at` have seen the rows of this call."""
    for state, n in call.sequences(at):
        state.advance(n)


def gradient(name: str, p: Arena, g: Arena) -> np.ndarray:
    """Where the gradient of a parameter is added up; nowhere that lasts if it is not trained."""
    return g[name] if name in g else arrays.zeros_like(p[name])


def _windows(x: np.ndarray, B: int, T: int) -> np.ndarray:
    """(..., B T, C) -> (..., B, T, C), contiguous."""
    return np.ascontiguousarray(x).reshape(*x.shape[:-2], B, T, x.shape[-1])


def _flat(y: np.ndarray) -> np.ndarray:
    """(..., B, T, C) -> (..., N, C)."""
    return y.reshape(*y.shape[:-3], -1, y.shape[-1])


def bytes_per_token(memory: int, T: int) -> int:
    """Of a state of so many floats, and of what it keeps to go back to, shared out over a window of T."""
    return -(-4 * memory * (1 + T // KEPT_EVERY) // T)


# ---- operations with what they remember: (y, after) -------------------------------------------------


def conv_silu(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, starts: Maybe, before: Maybe
) -> tuple[np.ndarray, np.ndarray]:
    """`recurrent.conv_silu_forward`, and the rows that the next positions see."""
    y = recurrent.conv_silu_forward(x, weight, bias, starts, before)
    return y, last_rows(x, len(weight) - 1, starts, before)


def shift_mix(x: np.ndarray, mix: np.ndarray, starts: Maybe, before: Maybe) -> tuple[np.ndarray, np.ndarray]:
    """`recurrent.shift_mix_forward` without shares of each position, and the last row."""
    return recurrent.shift_mix_forward(x, mix, None, starts, before), x[:, -1].copy()


def shift_mix_back(
    dy: np.ndarray, x: np.ndarray, mix: np.ndarray, dmix: np.ndarray, starts: Maybe, before: Maybe
) -> np.ndarray:
    """Its gradient dx."""
    return recurrent.shift_mix_backward(dy, x, mix, dmix, None, starts, before)


def shift_mix_more(
    x: np.ndarray, more: np.ndarray, mix: np.ndarray, starts: Maybe, before: Maybe
) -> tuple[np.ndarray, np.ndarray]:
    """`recurrent.shift_mix_forward` with shares of each position, and the last row."""
    return recurrent.shift_mix_forward(x, mix, more, starts, before), x[:, -1].copy()


def shift_mix_more_back(
    dy: np.ndarray,
    x: np.ndarray,
    more: np.ndarray,
    mix: np.ndarray,
    dmix: np.ndarray,
    starts: Maybe,
    before: Maybe,
) -> tuple[np.ndarray, np.ndarray]:
    """Its gradients (dx, dmore)."""
    return recurrent.shift_mix_backward(dy, x, mix, dmix, more, starts, before)


def last_rows(x: np.ndarray, n: int, starts: np.ndarray | None, before: np.ndarray | None) -> np.ndarray:
    """The last n of the rows that end with x (B, T, C), zeros where the last document is shorter, (B, n, C).

    Args: before: (B, n, C), rows before x that go with it, if any.
    """
    B, T, C = x.shape
    ahead = np.zeros((B, n, C), x.dtype) if before is None else before
    rows = np.concatenate([ahead, x[:, max(0, T - n) :]], 1)[:, -n:]
    if starts is None:
        return np.ascontiguousarray(rows)
    first = starts[:, -1:]
    return rows * ((np.arange(T - n, T) >= first) | (first == 0))[:, :, None].astype(x.dtype)
