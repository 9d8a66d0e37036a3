"""Differential attention: the difference of two attentions, in which what both see by chance cancels."""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from microgpt.common.errors import ConfigError
from microgpt.core import arrays, ops

from .attention import Attention
from .config import ModelConfig
from .kinds import MIXERS
from .layer import Cost
from .parameters import Arena, Parameter

LAMBDA_STD = 0.1  # of the vectors whose products make lambda


class Differential(Attention):
    """Heads go in pairs, one of the first half and one of the second, and share values of 2 hs channels:

    y = proj((1 - l0) norm((softmax(q1 k1^T / sqrt(hs)) - l softmax(q2 k2^T / sqrt(hs))) [v1, v2]))
    l = exp(lambda_q1 . lambda_k1) - exp(lambda_q2 . lambda_k2) + l0,  l0 = 0.8 - 0.6 exp(-0.3 layer)

    norm divides each head's 2 hs channels by their root mean square.  It is attention of twice as many heads:
    every query and key head meets a value head of the first half, and once more one of the second.

    Raises: ConfigError: the number of heads, or of key and value heads, is odd.
    Source: Ye et al. 2024 (arXiv 2410.05258), in the form of transformers' DiffLlama.
    """

    def __init__(self, at: str, index: int, config: ModelConfig) -> None:
        super().__init__(at, index, config)
        heads = self.heads
        if heads.H_kv % 2:
            raise ConfigError(
                f"mixer differential: {heads.H_kv} key and value heads; expected an even number, for pairs"
            )
        self.seeing = replace(heads, H=2 * heads.H, H_kv=2 * heads.H_kv)
        self.first_lambda = 0.8 - 0.6 * math.exp(-0.3 * (index - 1))
        self.lambdas = [
            Parameter(f"{at}.attn.lambda_{name}", (heads.hs,), LAMBDA_STD, decay=False, kind="gain")
            for name in ("q1", "k1", "q2", "k2")
        ]

    def parameters(self) -> list[Parameter]:
        """Of attention, and the vectors that make lambda."""
        return super().parameters() + self.lambdas

    def _cost_of_seeing(self, T: int) -> Cost:
        """Scores once and values twice: 18 FLOP both ways for each channel and each pair that is seen."""
        heads = self.heads
        return Cost(
            flop=18 * heads.C * heads.pairs(T) / T,
            kept=heads.width + 2 * heads.C + 2 * heads.H,
            passing=4 * heads.width + 4 * heads.C,
            state_bytes=4 * 2 * self.seeing.C_kv,
        )

    # ---- the doubled heads -----------------------------------------------------------------------

    def _spread(self, qkv: np.ndarray) -> np.ndarray:
        """qkv (N, W) -> (N, 2 W): q, q, k, k, the first half of the values twice and the second twice."""
        C, C_kv = self.heads.C, self.heads.C_kv
        q, k, first, second = np.split(qkv, [C, C + C_kv, C + C_kv + C_kv // 2], -1)
        return np.concatenate([q, q, k, k, first, first, second, second], -1)

    def _gathered(self, dqkv: np.ndarray) -> np.ndarray:
        """Gradients (N, 2 W) -> (N, W): what was used twice has two."""
        heads, half = self.heads, self.heads.C_kv // 2
        sizes = [heads.C, heads.C, heads.C_kv, heads.C_kv, half, half, half]
        parts = np.split(dqkv, np.cumsum(sizes), -1)
        return np.concatenate([a + b for a, b in zip(parts[::2], parts[1::2], strict=True)], -1)

    # ---- the difference --------------------------------------------------------------------------

    def _result(self, y: np.ndarray, p: Arena) -> np.ndarray:
        """The normed difference (N, C)."""
        return self._difference(y, p)[0]

    def _lambda(self, p: Arena) -> tuple[Any, Any, Any]:
        """lambda, and the two exponentials in it."""
        q1, k1, q2, k2 = (p[each.name] for each in self.lambdas)
        first, second = np.exp((q1 * k1).sum()), np.exp((q2 * k2).sum())
        return first - second + q1.dtype.type(self.first_lambda), first, second

    def _halves(self, y: np.ndarray) -> np.ndarray:
        """Results of the doubled heads -> a view (N, 2 values, 2 halves of the heads, H/2, hs)."""
        return y.reshape(-1, 2, 2, self.heads.H // 2, self.heads.hs)

    def _difference(self, y: np.ndarray, p: Arena) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The normed difference (N, C), the difference (N H/2, 2 hs) and the factors of its norm (N H/2,)."""
        by_half = self._halves(y)
        difference = (by_half[:, :, 0] - self._lambda(p)[0] * by_half[:, :, 1]).swapaxes(1, 2)
        difference = np.ascontiguousarray(difference).reshape(-1, 2 * self.heads.hs)
        out, rstd = ops.rmsnorm_forward(difference, self._gain(y.dtype))
        return out.reshape(-1, self.heads.C), difference, rstd

    def _result_backward(self, d_result: np.ndarray, y: np.ndarray, p: Arena, g: Arena) -> np.ndarray:
        """Gradient (N, C) -> that of y; that of lambda is added to its vectors."""
        heads, gain = self.heads, self._gain(y.dtype)
        _, difference, rstd = self._difference(y, p)
        unused = arrays.zeros_like(gain)
        d = ops.rmsnorm_backward(d_result.reshape(difference.shape), difference, gain, rstd, unused)
        d = d.reshape(-1, heads.H // 2, 2, heads.hs).swapaxes(1, 2)  # (N, 2 values, H/2, hs)
        mix, first, second = self._lambda(p)
        d_lambda = -(d * self._halves(y)[:, :, 1]).sum(dtype=np.float64)
        q1, k1, q2, k2 = (each.name for each in self.lambdas)
        for a, b, slope in ((q1, k1, first), (k1, q1, first), (q2, k2, -second), (k2, q2, -second)):
            if a in g:
                g[a][:] += d_lambda * slope * p[b]
        return np.stack([d, -mix * d], 2).reshape(y.shape)

    def _gain(self, dtype: Any) -> np.ndarray:
        return np.full(2 * self.heads.hs, 1 - self.first_lambda, dtype)


MIXERS["differential"] = Differential
