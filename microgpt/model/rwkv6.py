"""RWKV-6: a state that fades by channels, as fast as the token says."""

import numpy as np

from microgpt.core import arrays, ops, recurrent

from .config import ModelConfig
from .first_values import even, matrix, orthogonal, vector, zeros
from .kinds import MIXERS, MLPS
from .layer import Call, Cost, Saved
from .linear import Linear
from .low_rank import LowRank
from .parameters import Arena, Parameter, Values
from .recurrence import (
    RecurrentState,
    advance,
    bytes_per_token,
    gradient,
    run,
    run_back,
    shift_mix_more,
    shift_mix_more_back,
)
from .token_shift import TokenShift

NORM_EPS = 64e-5  # of the norm of each head, whatever its width
MIXES = "wkvrg"  # what rows are mixed for: decay, key, value, receptance, gate


class RWKV6:
    """y = out(output(wkv6(r, k, v, w), silu(g))), each from its own mix of a row and the one before, whose
    shares hang on another such mix.

    Source: Peng et al. 2024 (arXiv 2404.05892).
    """

    def __init__(self, at: str, index: int, config: ModelConfig) -> None:
        self.at, C, layer = f"{at}.rwkv6", config.n_embd, index - 1
        self.H, self.C = C // config.recurrent_head, C
        depth, rest = layer / max(1, config.n_layer - 1), 1 - layer / config.n_layer
        rise, line = np.arange(C) / C, np.arange(C) / max(1, C - 1)
        late = 1 - rise**rest
        begins = {"w": late, "k": late, "v": late - 0.3 * depth, "r": 1 - rise ** (rest / 2)}
        begins["g"] = begins["r"]
        self.shift = TokenShift(self.at, late[None], "first_mix")
        self.mix = self._vector("mix", np.stack([begins[name] for name in MIXES]))
        self.mixes = [self._low_rank(f"mix_{name}", config.low_rank(1.7)) for name in MIXES]
        decay = -6 + 5 * line ** (0.7 + 1.3 * depth)
        self.decay = self._low_rank("decay", config.low_rank(2.5), decay)
        self.receptance = self._matrix("receptance", orthogonal(1))
        self.key = self._matrix("key", orthogonal(0.1))
        self.value = self._matrix("value", orthogonal(1))
        self.gate = self._matrix("gate", orthogonal(0.1))
        self.out = self._matrix("out", zeros)
        zigzag = (np.arange(1, C + 1) % 3 - 1) * 0.1
        self.bonus = self._vector("bonus", depth * (1 - line) + zigzag)
        self.gain = self._vector("norm.weight", np.full(C, ((1 + layer) / config.n_layer) ** 0.7))
        self.offset = self._vector("norm.bias", np.zeros(C))

    def _vector(self, name: str, begin: np.ndarray) -> Parameter:
        return vector(f"{self.at}.{name}", begin)

    def _matrix(self, name: str, values: Values) -> Linear:
        return matrix(f"{self.at}.{name}", self.C, self.C, values)

    def _low_rank(self, name: str, rank: int, bias: np.ndarray | None = None) -> LowRank:
        return LowRank(f"{self.at}.{name}", self.C, self.C, rank, even(0.01), "tanh", bias)

    def _vectors(self) -> list[Parameter]:
        return [self.shift.mix, self.mix, self.bonus, self.gain, self.offset]

    def _projections(self) -> list[Linear | LowRank]:
        linears = [self.receptance, self.key, self.value, self.gate, self.out]
        return [*linears, *self.mixes, self.decay]

    def parameters(self) -> list[Parameter]:
        """Of all projections, then those of its own."""
        return [*(w for part in self._projections() for w in part.parameters()), *self._vectors()]

    def memory(self) -> dict[str, tuple[int, ...]]:
        """The last row, for both shifts, and the states of the heads."""
        heads = self.H, self.C // self.H, self.C // self.H
        return {**self.shift.memory(), f"{self.at}.shift_more": (self.C,), f"{self.at}.wkv": heads}

    def new_states(self, capacity: int, dtype: np.dtype) -> dict[str, RecurrentState]:
        """Nothing remembered yet."""
        return {self.at: RecurrentState()}

    def forward(self, x: np.ndarray, p: Arena, call: Call) -> tuple[np.ndarray, Saved]:
        """x (N, C) -> y (N, C)."""
        saved = self.rebuild(x, p, call)
        advance(call, self.at)
        gate, y = saved[0][-1], saved[-1]
        made = recurrent.rwkv_output_forward(y, recurrent.gate_forward(gate, gate), *self._norm(p))
        return self.out.forward(made, p, call), saved

    def rebuild(self, x: np.ndarray, p: Arena, call: Call) -> Saved:
        """Projections, shares and channels between those of low rank, and what is read from the states."""
        first = self.shift.forward(x, p, call)[0]
        more, betweens = arrays.empty((5, *x.shape), x.dtype), []
        for i, part in enumerate(self.mixes):
            more[i], between = part.forward(first, p, call)
            betweens.append(between)
        mixed = run(call, self.at, "shift_more", shift_mix_more, [x, more], [p[self.mix.name]])
        x_w, x_k, x_v, x_r, x_g = mixed
        decay, in_decay = self.decay.forward(x_w, p, call)
        r, k, v, gate = (
            linear.forward(rows, p, call)
            for linear, rows in (
                (self.receptance, x_r),
                (self.key, x_k),
                (self.value, x_v),
                (self.gate, x_g),
            )
        )
        weights = [p[self.bonus.name], self.H]
        y = run(call, self.at, "wkv", recurrent.wkv6_forward, [r, k, v, decay], weights)
        return (r, k, v, decay, gate), more, betweens, in_decay, y

    def backward(
        self, dy: np.ndarray, x: np.ndarray, saved: Saved, p: Arena, g: Arena, call: Call
    ) -> np.ndarray:
        """dy (N, C), and x of the forward -> dx (N, C)."""
        (r, k, v, decay, gate), more, betweens, in_decay, y = saved
        silu, norm = recurrent.gate_forward(gate, gate), self._norm(p)
        self.out.backward_weight(dy, recurrent.rwkv_output_forward(y, silu, *norm), p, g, call)
        d_made = self.out.backward_input(dy, p, call)
        sums = [gradient(vector.name, p, g) for vector in (self.gain, self.offset)]
        d_y, d_silu = recurrent.rwkv_output_backward(d_made, y, silu, *norm, *sums)
        d_gate = sum(recurrent.gate_backward(d_silu, gate, gate))
        weights = [p[self.bonus.name], self.H, gradient(self.bonus.name, p, g)]
        rows = [d_y, r, k, v, decay]
        dr, dk, dv, d_decay = run_back(call, self.at, "wkv", recurrent.wkv6_backward, rows, weights)
        grads = {"r": dr, "k": dk, "v": dv, "g": d_gate}
        return self._mixes_backward(grads, d_decay, x, (more, betweens, in_decay), p, g, call)

    def cost(self, T: int) -> Cost:
        """Five FLOP an element of the state forward, three times as many in the backward."""
        size = self.C * self.C // self.H
        own = Cost(
            flop=20 * size + 6 * sum(parameter.size for parameter in self._vectors()),
            kept=11 * self.C,
            passing=20 * self.C,
            state_bytes=bytes_per_token(size + 2 * self.C, T),
        )
        return sum((part.cost() for part in self._projections()), own)

    def _norm(self, p: Arena) -> tuple[np.ndarray, np.ndarray, int, float]:
        return p[self.gain.name], p[self.offset.name], self.H, NORM_EPS

    def _mixes_backward(
        self,
        grads: dict[str, np.ndarray],
        d_decay: np.ndarray,
        x: np.ndarray,
        kept: tuple,
        p: Arena,
        g: Arena,
        call: Call,
    ) -> np.ndarray:
        """dx (N, C) from the gradients of all projections."""
        (more, betweens, in_decay), mix = kept, p[self.mix.name]
        mixed = run_back(call, self.at, "shift_more", shift_mix_more_again, [x, more], [mix])[0]
        linears = {"k": self.key, "v": self.value, "r": self.receptance, "g": self.gate}
        d_mixed = arrays.empty_like(more)
        d_mixed[0] = self.decay.backward(d_decay, mixed[0], in_decay, p, g, call)
        for i, name in enumerate(MIXES[1:], 1):
            d_mixed[i] = linears[name].backward(grads[name], mixed[i], p, g, call)
        weights = [mix, gradient(self.mix.name, p, g)]
        dx, d_more = run_back(call, self.at, "shift_more", shift_mix_more_back, [d_mixed, x, more], weights)
        first = self.shift.again(x, p, call)[0]
        d_first = arrays.zeros_like(x)
        for part, d_shares, between in zip(self.mixes, d_more, betweens, strict=True):
            d_first += part.backward(d_shares, first, between, p, g, call)
        dx += self.shift.backward(d_first[None], x, p, g, call)
        return dx


def shift_mix_more_again(
    x: np.ndarray, more: np.ndarray, mix: np.ndarray, *memory: np.ndarray | None
) -> np.ndarray:
    """The mixes of the forward once more."""
    return shift_mix_more(x, more, mix, *memory)[0]


class ChannelMix6:
    """y = sigmoid(receptance(x_r)) * proj(relu(fc(x_k))^2), of two mixes of a row and the one before."""

    def __init__(self, at: str, config: ModelConfig) -> None:
        self.at, C, layer = at, config.n_embd, int(at.split(".")[1])
        F = 7 * C // 2 // 32 * 32 or 7 * C // 2
        begin = np.tile(1 - (np.arange(C) / C) ** (1 - layer / config.n_layer), (2, 1))
        self.shift = TokenShift(at, begin)
        self.fc = matrix(f"{at}.fc", F, C, orthogonal(1))
        self.receptance = matrix(f"{at}.receptance", C, C, zeros)
        self.proj = matrix(f"{at}.proj", C, F, zeros)

    def parameters(self) -> list[Parameter]:
        """Of the projections, and the mixes."""
        linears = (self.fc, self.receptance, self.proj)
        return [*(w for linear in linears for w in linear.parameters()), self.shift.mix]

    def memory(self) -> dict[str, tuple[int, ...]]:
        """The last row."""
        return self.shift.memory()

    def new_states(self, capacity: int, dtype: np.dtype) -> dict[str, RecurrentState]:
        """No row before."""
        return {self.at: RecurrentState()}

    def forward(self, x: np.ndarray, p: Arena, call: Call) -> tuple[np.ndarray, Saved]:
        """x (N, C) -> y (N, C)."""
        saved = wide, z = self.rebuild(x, p, call)
        advance(call, self.at)
        return recurrent.gate_forward(self.proj.forward(ops.relu2_forward(wide), p, call), z), saved

    def rebuild(self, x: np.ndarray, p: Arena, call: Call) -> Saved:
        """The wide rows before they are squared, and the gates before their sigmoid."""
        x_k, x_r = self.shift.forward(x, p, call)
        return self.fc.forward(x_k, p, call), self.receptance.forward(x_r, p, call)

    def backward(
        self, dy: np.ndarray, x: np.ndarray, saved: Saved, p: Arena, g: Arena, call: Call
    ) -> np.ndarray:
        """dy (N, C), and x of the forward -> dx (N, C).  The wide rows are overwritten."""
        wide, z = saved
        made = self.proj.forward(ops.relu2_forward(wide), p, call)
        d_made, d_z = recurrent.gate_backward(dy, made, z)
        d_wide, active = ops.relu2_backward(self.proj.backward_input(d_made, p, call), wide)
        self.proj.backward_weight(d_made, active, p, g, call)
        x_k, x_r = self.shift.again(x, p, call)
        d_mixed = arrays.empty((2, *x.shape), x.dtype)
        d_mixed[0] = self.fc.backward(d_wide, x_k, p, g, call)
        d_mixed[1] = self.receptance.backward(d_z, x_r, p, g, call)
        return self.shift.backward(d_mixed, x, p, g, call)

    def cost(self, T: int) -> Cost:
        """One product more than forward and backward have, for what is gated is made again."""
        C, F = self.fc.n_in, self.fc.n_out
        own = Cost(
            flop=12 * C + 2 * C * F,
            kept=F + C,
            passing=2 * F + 6 * C,
            state_bytes=bytes_per_token(C, T),
        )
        return sum((linear.cost() for linear in (self.fc, self.receptance, self.proj)), own)


MIXERS["rwkv6"] = RWKV6
MLPS["rwkv6"] = ChannelMix6
