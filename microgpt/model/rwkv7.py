"""RWKV-7: a state that is corrected: it forgets what it holds for a key and takes in a value for another."""

import numpy as np

from microgpt.core import arrays, ops, recurrent

from .config import ModelConfig
from .first_values import matrix, orthogonal, vector, zeros
from .kinds import MIXERS, MLPS
from .layer import Call, Cost, Saved
from .linear import Linear
from .low_rank import LowRank
from .parameters import Arena, Parameter, Values
from .recurrence import RecurrentState, advance, bytes_per_token, gradient, run, run_back
from .token_shift import TokenShift

NORM_EPS = 64e-5  # of the norm of each head, whatever its width
FIRST = "rwkv7.first_value"  # of the call's shared arrays, and its gradient
MIXES = "rwkvag"  # what rows are mixed for: receptance, decay, key, value, rate, gate
STEP = 32  # low ranks are multiples of it


class RWKV7:
    """y = out(output(wkv7(inputs(r, w, k, v, a)), g)), each from its own mix of a row and the one before.

    Layers behind the first add to their values what the first layer's were, by channels and positions.

    Source: Peng et al. 2025 (arXiv 2503.14456).
    """

    arithmetic = 2  # raised when the same run comes out with other bits; 2: the scan by chunks

    def __init__(self, at: str, index: int, config: ModelConfig) -> None:
        self.at, C, layer = f"{at}.rwkv7", config.n_embd, index - 1
        self.H, self.C = C // config.recurrent_head, C
        self.is_first = layer == config.first_with("rwkv7")
        begin = _Begin(layer, config)
        self.shift = TokenShift(self.at, begin.mixes())
        self.receptance = self._matrix("receptance", orthogonal(1))
        self.key = self._matrix("key", orthogonal(0.1))
        self.value = self._matrix("value", orthogonal(1))
        self.out = self._matrix("out", zeros)
        rank = config.low_rank
        self.decay = self._low_rank("decay", rank(2.5), "tanh", begin.decay())
        self.rate = self._low_rank("rate", rank(2.5), "", begin.rate())
        self.gate = self._low_rank("gate", rank(5.0), "sigmoid")
        self.lerp = None if self.is_first else self._low_rank("lerp", rank(1.7), "", begin.lerp())
        self.k_k = self._vector("k_k", 0.71 - 0.1 * begin.line)
        self.k_a = self._vector("k_a", np.full(C, 1.02))
        self.r_k = self._vector("r_k", np.full(C, -0.04))
        self.gain = self._vector("norm.weight", np.full(C, ((1 + layer) / config.n_layer) ** 0.7))
        self.offset = self._vector("norm.bias", np.zeros(C))

    def _vector(self, name: str, begin: np.ndarray) -> Parameter:
        return vector(f"{self.at}.{name}", begin)

    def _matrix(self, name: str, values: Values) -> Linear:
        return matrix(f"{self.at}.{name}", self.C, self.C, values)

    def _low_rank(self, name: str, rank: int, act: str, bias: np.ndarray | None = None) -> LowRank:
        return LowRank(f"{self.at}.{name}", self.C, self.C, rank, orthogonal(0.1), act, bias)

    def _projections(self) -> list[Linear | LowRank]:
        lerp = [self.lerp] if self.lerp else []
        return [self.receptance, self.key, self.value, self.out, self.decay, self.rate, self.gate, *lerp]

    def _vectors(self) -> list[Parameter]:
        return [self.shift.mix, self.k_k, self.k_a, self.r_k, self.gain, self.offset]

    def parameters(self) -> list[Parameter]:
        """Of all projections, then those of its own."""
        return [*(w for part in self._projections() for w in part.parameters()), *self._vectors()]

    def memory(self) -> dict[str, tuple[int, ...]]:
        """The last row, and the states of the heads."""
        heads = self.H, self.C // self.H, self.C // self.H
        return {**self.shift.memory(), f"{self.at}.wkv": heads}

    def new_states(self, capacity: int, dtype: np.dtype) -> dict[str, RecurrentState]:
        """Nothing remembered yet."""
        return {self.at: RecurrentState()}

    def forward(self, x: np.ndarray, p: Arena, call: Call) -> tuple[np.ndarray, Saved]:
        """x (N, C) -> y (N, C)."""
        saved, k2 = self._read(x, p, call)
        advance(call, self.at)
        (r, _, _, _, _, gate), _, v, y = saved
        made = recurrent.rwkv_output_forward(y, gate, *self._norm(p), (r, k2, v, p[self.r_k.name]))
        return self.out.forward(made, p, call), saved

    def rebuild(self, x: np.ndarray, p: Arena, call: Call) -> Saved:
        """Projections, channels between those of low rank, values, and what is read from the states."""
        return self._read(x, p, call)[0]

    def _read(self, x: np.ndarray, p: Arena, call: Call) -> tuple[Saved, np.ndarray]:
        """The same, and the keys as they are written."""
        x_r, x_w, x_k, x_v, x_a, x_g = self.shift.forward(x, p, call)
        r, k, own = (
            linear.forward(rows, p, call)
            for linear, rows in ((self.receptance, x_r), (self.key, x_k), (self.value, x_v))
        )
        (decay, in_decay), (rate, in_rate), (gate, in_gate) = (
            part.forward(rows, p, call)
            for part, rows in ((self.decay, x_w), (self.rate, x_a), (self.gate, x_g))
        )
        share, in_lerp = self.lerp.forward(x_v, p, call) if self.lerp else (None, None)
        v = self._value(own, share, call)
        w, k2, kk, b = self._inputs(k, decay, rate, p)
        y = run(call, self.at, "wkv", recurrent.wkv7_forward, [r, w, k2, v, kk, b], [self.H])
        projected = r, k, (own, share) if self.lerp else None, decay, rate, gate
        return (projected, (in_decay, in_rate, in_gate, in_lerp), v, y), k2

    def backward(
        self, dy: np.ndarray, x: np.ndarray, saved: Saved, p: Arena, g: Arena, call: Call
    ) -> np.ndarray:
        """dy (N, C), and x of the forward -> dx (N, C)."""
        (r, k, lerped, decay, rate, gate), betweens, v, y = saved
        inputs = w, k2, kk, b = self._inputs(k, decay, rate, p)
        bonus, norm = (r, k2, v, p[self.r_k.name]), self._norm(p)
        self.out.backward_weight(dy, recurrent.rwkv_output_forward(y, gate, *norm, bonus), p, g, call)
        d_made = self.out.backward_input(dy, p, call)
        sums = [gradient(vector.name, p, g) for vector in (self.gain, self.offset)]
        dr_k = gradient(self.r_k.name, p, g)
        d_y, d_gate, *of_bonus = recurrent.rwkv_output_backward(d_made, y, gate, *norm, *sums, bonus, dr_k)
        rows = [d_y, r, w, k2, v, kk, b]
        dr, dw, dk2, dv, dkk, db = run_back(call, self.at, "wkv", recurrent.wkv7_backward, rows, [self.H])
        del inputs, rows, w, k2, kk, b
        for total, more in zip((dr, dk2, dv), of_bonus, strict=True):
            total += more
        weights = [p[vector.name] for vector in (self.k_k, self.k_a)]
        own = [gradient(vector.name, p, g) for vector in (self.k_k, self.k_a)]
        dk, d_decay, d_rate = recurrent.rwkv7_inputs_backward(
            dw, dk2, dkk, db, k, decay, rate, *weights, self.H, *own
        )
        d_own, d_share = self._value_backward(dv, lerped, call)
        return self._mixes_backward(
            (dr, dk, d_own, d_decay, d_rate, d_gate, d_share), x, betweens, p, g, call
        )

    def cost(self, T: int) -> Cost:
        """Twelve FLOP an element of the state forward, 32 in the backward, with what is made again."""
        size = self.C * self.C // self.H
        own = Cost(
            flop=44 * size + 6 * sum(parameter.size for parameter in self._vectors()),
            kept=(9 if self.lerp else 7) * self.C,
            passing=20 * self.C,
            state_bytes=bytes_per_token(size + self.C, T),
        )
        return sum((part.cost() for part in self._projections()), own)

    def _norm(self, p: Arena) -> tuple[np.ndarray, np.ndarray, int, float]:
        return p[self.gain.name], p[self.offset.name], self.H, NORM_EPS

    def _inputs(
        self, k: np.ndarray, decay: np.ndarray, rate: np.ndarray, p: Arena
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        return recurrent.rwkv7_inputs_forward(k, decay, rate, p[self.k_k.name], p[self.k_a.name], self.H)

    def _value(self, own: np.ndarray, share: np.ndarray | None, call: Call) -> np.ndarray:
        """own + (first - own) sigmoid(share); the first layer's are the first."""
        if share is None:
            call.shared[FIRST] = own
            return own
        return own + recurrent.gate_forward(call.shared[FIRST] - own, share)

    def _value_backward(
        self, dv: np.ndarray, lerped: tuple[np.ndarray, np.ndarray] | None, call: Call
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Gradients of the layer's own values, and of their share; that of the first layer's goes to it."""
        if lerped is None:
            of_later = call.shared.pop(f"d {FIRST}", None)
            return dv if of_later is None else dv + of_later, None
        own, share = lerped
        d_change, d_share = recurrent.gate_backward(dv, call.shared[FIRST] - own, share)
        call.shared[f"d {FIRST}"] = call.shared.get(f"d {FIRST}", 0) + d_change
        return dv - d_change, d_share

    def _mixes_backward(
        self, grads: tuple, x: np.ndarray, betweens: tuple, p: Arena, g: Arena, call: Call
    ) -> np.ndarray:
        """dx (N, C) from the gradients of all projections."""
        dr, dk, dv, d_decay, d_rate, d_gate, d_share = grads
        in_decay, in_rate, in_gate, in_lerp = betweens
        x_r, x_w, x_k, x_v, x_a, x_g = self.shift.again(x, p, call)
        d_mixed = arrays.empty((6, *x.shape), x.dtype)
        d_mixed[0] = self.receptance.backward(dr, x_r, p, g, call)
        d_mixed[1] = self.decay.backward(d_decay, x_w, in_decay, p, g, call)
        d_mixed[2] = self.key.backward(dk, x_k, p, g, call)
        d_mixed[3] = self.value.backward(dv, x_v, p, g, call)
        d_mixed[4] = self.rate.backward(d_rate, x_a, in_rate, p, g, call)
        d_mixed[5] = self.gate.backward(d_gate, x_g, in_gate, p, g, call)
        if self.lerp:
            d_mixed[3] += self.lerp.backward(d_share, x_v, in_lerp, p, g, call)
        return self.shift.backward(d_mixed, x, p, g, call)


class ChannelMix7:
    """y = proj(relu(fc(mixed))^2), mixed being a row and a share of the change to it from the row before."""

    def __init__(self, at: str, config: ModelConfig) -> None:
        self.at, C, layer = at, config.n_embd, int(at.split(".")[1])
        self.shift = TokenShift(at, _Begin(layer, config).falling(1.0, 4)[None])
        self.fc = matrix(f"{at}.fc", 4 * C, C, orthogonal(1))
        self.proj = matrix(f"{at}.proj", C, 4 * C, zeros)

    def parameters(self) -> list[Parameter]:
        """Of both projections, and the mix."""
        return [*self.fc.parameters(), *self.proj.parameters(), self.shift.mix]

    def memory(self) -> dict[str, tuple[int, ...]]:
        """The last row."""
        return self.shift.memory()

    def new_states(self, capacity: int, dtype: np.dtype) -> dict[str, RecurrentState]:
        """No row before."""
        return {self.at: RecurrentState()}

    def forward(self, x: np.ndarray, p: Arena, call: Call) -> tuple[np.ndarray, Saved]:
        """x (N, C) -> y (N, C)."""
        wide = self.rebuild(x, p, call)
        advance(call, self.at)
        return self.proj.forward(ops.relu2_forward(wide), p, call), wide

    def rebuild(self, x: np.ndarray, p: Arena, call: Call) -> Saved:
        """The wide rows before they are squared."""
        return self.fc.forward(self.shift.forward(x, p, call)[0], p, call)

    def backward(
        self, dy: np.ndarray, x: np.ndarray, wide: Saved, p: Arena, g: Arena, call: Call
    ) -> np.ndarray:
        """dy (N, C), and x of the forward -> dx (N, C).  `wide` is overwritten."""
        d_wide, active = ops.relu2_backward(self.proj.backward_input(dy, p, call), wide)
        self.proj.backward_weight(dy, active, p, g, call)
        d_mixed = self.fc.backward(d_wide, self.shift.again(x, p, call)[0], p, g, call)
        return self.shift.backward(d_mixed[None], x, p, g, call)

    def cost(self, T: int) -> Cost:
        """As of a plain MLP, and the last row of a state."""
        C = self.fc.n_in
        own = Cost(
            flop=6 * C,
            kept=self.fc.n_out,
            passing=2 * self.fc.n_out + 6 * C,
            state_bytes=bytes_per_token(C, T),
        )
        return self.fc.cost() + own + self.proj.cost()


class _Begin:
    """First values, by the layer's depth and the channel, as the authors' code has them."""

    def __init__(self, layer: int, config: ModelConfig) -> None:
        C, N, last = config.n_embd, config.recurrent_head, max(1, config.n_layer - 1)
        self.depth, self.rest, self.C = layer / last, 1 - layer / config.n_layer, C
        self.line = np.arange(C) / max(1, C - 1) - 0.5
        in_head = (np.arange(C) % N - (N - 1) / 2) / max(0.5, (N - 1) / 2)
        self.bend = in_head * np.abs(in_head)

    def falling(self, by_depth: float, power: float = 1) -> np.ndarray:
        """1 at the first channel, 0 at the last, the later the deeper."""
        return 1 - (np.arange(self.C) / self.C) ** (by_depth * self.rest**power)

    def mixes(self) -> np.ndarray:
        """(6, C), in the order of MIXES."""
        of = {"r": 0.2, "g": 0.2, "w": 0.9, "a": 0.9, "k": 0.7, "v": 0.7}
        return np.stack([self.falling(of[name]) for name in MIXES])

    def decay(self) -> np.ndarray:
        rise = (self.line + 0.5) ** (1 + self.depth**0.3)
        return -6 + 6 * rise + 0.5 + 2.5 * self.bend

    def rate(self) -> np.ndarray:
        return -0.19 + 0.3 * self.bend + 0.4 * self.line

    def lerp(self) -> np.ndarray:
        return 0.73 - 0.4 * self.line


MIXERS["rwkv7"] = RWKV7
MLPS["rwkv7"] = ChannelMix7
