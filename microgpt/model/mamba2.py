"""Mamba-2: a state of each head that fades as fast as the token says."""

import math
from dataclasses import replace

import numpy as np

from microgpt.core import random, recurrent

from .config import ModelConfig
from .kinds import MIXERS
from .layer import Call, Cost, Saved
from .linear import Linear
from .parameters import Arena, Parameter
from .recurrence import RecurrentState, advance, bytes_per_token, conv_silu, gradient, run, run_back

CONV = ("conv.weight", "conv.bias")
HEADS = ("dt_bias", "A_log", "D")
TAPS = 4  # positions that the convolution sees
STEPS = (1e-3, 0.1)  # between which the steps of the heads begin, evenly in their logarithms
RATES = (1, 16)  # between which the rates of decay begin, evenly


class Mamba2:
    """y = out(norm(ssd(silu(conv(inner(x))), dt(x)) * silu(gate(x)))).

    Source: Dao & Gu 2024 (arXiv 2405.21060), with one group of keys and queries.
    """

    def __init__(self, at: str, index: int, config: ModelConfig) -> None:
        self.at, C, self.N = f"{at}.mamba2", config.n_embd, config.mamba_state
        self.DI = config.mamba_expand * C
        self.H, self.P = self.DI // config.recurrent_head, config.recurrent_head
        self.width = self.DI + 2 * self.N
        std, into = config.init_std, config.std_into_residual
        self.gate = Linear(f"{self.at}.gate", self.DI, C, std)
        self.inner = Linear(f"{self.at}.inner", self.width, C, std)
        self.dt = Linear(f"{self.at}.dt", self.H, C, std)
        self.out = Linear(f"{self.at}.out", C, self.DI, into)
        self.own = {
            "conv.weight": self._own("conv.weight", (TAPS, self.width)),
            "conv.bias": self._own("conv.bias", (self.width,)),
            "dt_bias": self._own("dt_bias", (self.H,)),
            "A_log": self._own("A_log", (self.H,)),
            "D": self._own("D", (self.H,)),
            "norm.weight": self._own("norm.weight", (self.DI,)),
        }
        begins = {"conv.weight": _conv_begin, "conv.bias": _zeros, "dt_bias": _dt_begin, "A_log": _rate_begin}
        for name, values in begins.items():
            self.own[name] = replace(self.own[name], values=values)

    def _own(self, name: str, shape: tuple[int, ...]) -> Parameter:
        return Parameter(f"{self.at}.{name}", shape, 0, decay=False, kind="gain")

    def parameters(self) -> list[Parameter]:
        """Of the projections, then those of its own."""
        linears = (self.gate, self.inner, self.dt, self.out)
        return [*(w for linear in linears for w in linear.parameters()), *self.own.values()]

    def memory(self) -> dict[str, tuple[int, ...]]:
        """The last rows that the convolution sees, and the states of the heads."""
        conv, heads = (TAPS - 1, self.width), (self.H, self.N, self.P)
        return {f"{self.at}.conv": conv, f"{self.at}.ssd": heads}

    def new_states(self, capacity: int, dtype: np.dtype) -> dict[str, RecurrentState]:
        """Nothing remembered yet."""
        return {self.at: RecurrentState()}

    def forward(self, x: np.ndarray, p: Arena, call: Call) -> tuple[np.ndarray, Saved]:
        """x (N, C) -> y (N, C)."""
        saved = gate, _, _, y = self.rebuild(x, p, call)
        advance(call, self.at)
        normed = recurrent.gated_rmsnorm_forward(y, gate, *self._of(p, "norm.weight"))
        return self.out.forward(normed, p, call), saved

    def rebuild(self, x: np.ndarray, p: Arena, call: Call) -> Saved:
        """Projections, and what is read from the states."""
        gate, inner, dt = (linear.forward(x, p, call) for linear in (self.gate, self.inner, self.dt))
        xbc = run(call, self.at, "conv", conv_silu, [inner], self._of(p, *CONV))
        weights = [*self._of(p, *HEADS), self.N]
        return gate, inner, dt, run(call, self.at, "ssd", recurrent.ssd_forward, [xbc, dt], weights)

    def backward(
        self, dy: np.ndarray, x: np.ndarray, saved: Saved, p: Arena, g: Arena, call: Call
    ) -> np.ndarray:
        """dy (N, C), and x of the forward -> dx (N, C)."""
        gate, inner, dt, y = saved
        (norm,), (d_norm,) = self._of(p, "norm.weight"), self._gradients(p, g, "norm.weight")
        self.out.backward_weight(dy, recurrent.gated_rmsnorm_forward(y, gate, norm), p, g, call)
        d_normed = self.out.backward_input(dy, p, call)
        d_y, d_gate = recurrent.gated_rmsnorm_backward(d_normed, y, gate, norm, d_norm)
        dx = self.gate.backward(d_gate, x, p, g, call)
        d_inner, d_dt = self._recurrence_backward(d_y, inner, dt, p, g, call)
        dx += self.inner.backward(d_inner, x, p, g, call)
        dx += self.dt.backward(d_dt, x, p, g, call)
        return dx

    def cost(self, T: int) -> Cost:
        """Five FLOP an element of the state forward, three times as many both ways in the backward."""
        size = self.H * self.P * self.N
        own = Cost(
            flop=20 * size + 6 * sum(parameter.size for parameter in self.own.values()),
            kept=2 * self.DI + self.width + self.H,
            passing=4 * self.DI + 3 * self.width,
            state_bytes=bytes_per_token(size + (TAPS - 1) * self.width, T),
        )
        return self.gate.cost() + self.inner.cost() + self.dt.cost() + own + self.out.cost()

    def _recurrence_backward(
        self, dy: np.ndarray, inner: np.ndarray, dt: np.ndarray, p: Arena, g: Arena, call: Call
    ) -> tuple[np.ndarray, np.ndarray]:
        """Gradients of what goes into the convolution, and of the steps."""
        conv, heads = self._of(p, *CONV), self._of(p, *HEADS)
        (xbc,) = run_back(call, self.at, "conv", recurrent.conv_silu_forward, [inner], conv)
        weights = [*heads, self.N, *self._gradients(p, g, *HEADS)]
        d_xbc, d_dt = run_back(call, self.at, "ssd", recurrent.ssd_backward, [dy, xbc, dt], weights)
        weights = [*conv, *self._gradients(p, g, *CONV)]
        (d_inner,) = run_back(call, self.at, "conv", recurrent.conv_silu_backward, [d_xbc, inner], weights)
        return d_inner, d_dt

    def _of(self, p: Arena, *names: str) -> list[np.ndarray]:
        return [p[self.own[name].name] for name in names]

    def _gradients(self, p: Arena, g: Arena, *names: str) -> list[np.ndarray]:
        return [gradient(self.own[name].name, p, g) for name in names]


def _zeros(key: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.zeros(shape)


def _conv_begin(key: int, shape: tuple[int, ...]) -> np.ndarray:
    """Even between -1/2 and 1/2: one over the square root of the taps."""
    return (random.uniform(key, math.prod(shape)) - 0.5).reshape(shape) * 2 / math.sqrt(TAPS)


def _dt_begin(key: int, shape: tuple[int, ...]) -> np.ndarray:
    """What softplus makes the first steps of."""
    low, high = np.log(STEPS)
    steps = np.exp(low + (high - low) * random.uniform(key, math.prod(shape)))
    return steps + np.log(-np.expm1(-steps))


def _rate_begin(key: int, shape: tuple[int, ...]) -> np.ndarray:
    low, high = RATES
    return np.log(low + (high - low) * random.uniform(key, math.prod(shape)))


MIXERS["mamba2"] = Mamba2
