"""Token shift: mixes of a row and the one before it, which RWKV's products read."""

import numpy as np

from microgpt.core import recurrent

from .first_values import vector
from .layer import Call
from .parameters import Arena
from .recurrence import gradient, run, run_back, shift_mix, shift_mix_back


class TokenShift:
    """y_c = x + (before - x) o mix_c for each of n mixes; before is the row before x, zeros at a begin.

    Args: begin: what `mix` (n, C) begins as.
    """

    def __init__(self, at: str, begin: np.ndarray, name: str = "mix") -> None:
        self.at = at
        self.mix = vector(f"{at}.{name}", begin)

    def memory(self) -> dict[str, tuple[int, ...]]:
        """The last row."""
        return {f"{self.at}.shift": self.mix.shape[1:]}

    def forward(self, x: np.ndarray, p: Arena, call: Call) -> np.ndarray:
        """x (N, C) -> y (n, N, C)."""
        return run(call, self.at, "shift", shift_mix, [x], [p[self.mix.name]])

    def again(self, x: np.ndarray, p: Arena, call: Call) -> np.ndarray:
        """The same y, in a backward."""
        weights = [p[self.mix.name], None]
        return run_back(call, self.at, "shift", recurrent.shift_mix_forward, [x], weights)[0]

    def backward(self, dy: np.ndarray, x: np.ndarray, p: Arena, g: Arena, call: Call) -> np.ndarray:
        """dy (n, N, C) -> dx (N, C)."""
        weights = [p[self.mix.name], gradient(self.mix.name, p, g)]
        return run_back(call, self.at, "shift", shift_mix_back, [dy, x], weights)[0]
