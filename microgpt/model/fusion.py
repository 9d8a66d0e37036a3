"""Two mixers beside each other on the same rows, and what is made of both results."""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from microgpt.core import arrays, ops, recurrent

from .config import ModelConfig
from .kinds import MIXERS
from .layer import Call, Cost, Mixer, Saved, memory_of
from .linear import Linear
from .parameters import Arena, Parameter
from .recurrence import gradient


class Fusion:
    """y = (1 - s) first(x) + s second(x), with a share s = sigmoid(z); or y = proj(first(x), second(x)).

    Where z is the same for all (scalar) or of each channel (channel), it is a parameter; where it is of each
    position (position), or of position and channel (gate), z = x W^T + b.  All begin with the share that
    the configuration says, the projection too (concat).

    Args: kind: of the two mixers, such as rwkv7+mamba2.
    """

    def __init__(self, at: str, index: int, config: ModelConfig, kind: str) -> None:
        C, share = config.n_embd, config.fusion_share
        self.mixers: list[Mixer] = [MIXERS[name](at, index, config) for name in kind.split("+")]
        self.fusion, self.C = config.fusion, C
        logit = math.log(share / (1 - share))
        width = {"scalar": 1, "channel": C, "position": 1, "gate": C, "concat": 0}[self.fusion]
        self.share = Parameter(
            f"{at}.fusion.share",
            (width,),
            0,
            decay=False,
            kind="gain",
            values=lambda key, shape: np.full(shape, logit),
        )
        self.gate = self.proj = None
        if self.fusion in ("position", "gate"):
            self.gate = Linear(f"{at}.fusion.gate", width, C, 1.0)
            self.gate.weight = replace(self.gate.weight, values=lambda key, shape: np.zeros(shape))
        if self.fusion == "concat":
            self.proj = Linear(f"{at}.fusion.proj", C, 2 * C, 1.0)
            begin = np.concatenate([(1 - share) * np.eye(C), share * np.eye(C)], 1)
            self.proj.weight = replace(self.proj.weight, values=lambda key, shape: begin)

    def parameters(self) -> list[Parameter]:
        """Of both mixers, then its own."""
        of_mixers = [parameter for mixer in self.mixers for parameter in mixer.parameters()]
        if self.proj:
            return [*of_mixers, *self.proj.parameters()]
        return [*of_mixers, *(self.gate.parameters() if self.gate else []), self.share]

    def new_states(self, capacity: int, dtype: Any) -> dict[str, Any]:
        """Those of both mixers."""
        return {at: state for mixer in self.mixers for at, state in mixer.new_states(capacity, dtype).items()}

    def memory(self) -> dict[str, tuple[int, ...]]:
        """What both mixers remember of a row's text."""
        return {name: shape for mixer in self.mixers for name, shape in memory_of(mixer).items()}

    def forward(self, x: np.ndarray, p: Arena, call: Call) -> tuple[np.ndarray, Saved]:
        """x (N, C) -> y (N, C)."""
        saved = a, b, z, _ = self.rebuild(x, p, call)
        if self.proj:
            return self.proj.forward(np.concatenate([a, b], 1), p, call), saved
        return a + recurrent.gate_forward(b - a, z), saved

    def rebuild(self, x: np.ndarray, p: Arena, call: Call) -> Saved:
        """Both results, the shares, and what the mixers keep."""
        (a, of_a), (b, of_b) = (mixer.forward(x, p, call) for mixer in self.mixers)
        return a, b, None if self.proj else self._shares(x, p, call), (of_a, of_b)

    def parts(self, saved: Saved, p: Arena, call: Call) -> tuple[np.ndarray, np.ndarray]:
        """What each of the two brings to the result, (N, C) each, of what the forward saved: they add up to
        it, but for rounding."""
        a, b, z, _ = saved
        if self.proj:
            none = arrays.zeros_like(a)
            halves = (np.concatenate([a, none], 1), np.concatenate([none, b], 1))
            return self.proj.forward(halves[0], p, call), self.proj.forward(halves[1], p, call)
        return a - recurrent.gate_forward(a, z), recurrent.gate_forward(b, z)

    def backward(
        self, dy: np.ndarray, x: np.ndarray, saved: Saved, p: Arena, g: Arena, call: Call
    ) -> np.ndarray:
        """dy (N, C), and x of the forward -> dx (N, C)."""
        a, b, z, kept = saved
        if self.proj:
            d_both = self.proj.backward(dy, np.concatenate([a, b], 1), p, g, call)
            grads, dx = [np.ascontiguousarray(half) for half in np.split(d_both, 2, 1)], arrays.zeros_like(x)
        else:
            db, dz = recurrent.gate_backward(dy, b - a, z)
            grads, dx = [dy - db, db], self._shares_backward(dz, x, p, g, call)
        # The later mixer first: what one shares with the other, and its gradient, go as in a row of layers.
        for mixer, grad, of_mixer in reversed(list(zip(self.mixers, grads, kept, strict=True))):
            dx += mixer.backward(grad, x, of_mixer, p, g, call)
        return dx

    def cost(self, T: int) -> Cost:
        """Of both mixers, and of what is made of their results."""
        own = Cost(flop=12 * self.C, kept=3 * self.C, passing=5 * self.C)
        linears = [linear.cost() for linear in (self.gate, self.proj) if linear]
        return sum([mixer.cost(T) for mixer in self.mixers] + linears, own)

    def _shares(self, x: np.ndarray, p: Arena, call: Call) -> np.ndarray:
        """z (N, C)."""
        z = p[self.share.name]
        if self.gate:
            z = ops.bias_forward(self.gate.forward(x, p, call), z)
        shares = arrays.empty_like(x)
        shares[:] = z
        return shares

    def _shares_backward(self, dz: np.ndarray, x: np.ndarray, p: Arena, g: Arena, call: Call) -> np.ndarray:
        """What x gets through the shares, (N, C)."""
        if self.fusion in ("scalar", "position"):
            dz = dz.sum(1, keepdims=True)
        ops.bias_backward(dz, gradient(self.share.name, p, g))
        return self.gate.backward(dz, x, p, g, call) if self.gate else arrays.zeros_like(x)


def new_mixer(kind: str, at: str, index: int, config: ModelConfig) -> Any:
    """A mixer by its word in the pattern: a kind, or two of them beside each other."""
    return Fusion(at, index, config, kind) if "+" in kind else MIXERS[kind](at, index, config)
