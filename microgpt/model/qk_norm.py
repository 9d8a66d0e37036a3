"""Norms of queries and keys, which bound the scores of attention."""

import numpy as np

from microgpt.core import arrays
from microgpt.core.heads import Heads

from .config import ModelConfig
from .layer import Cost
from .norm import new_norm
from .parameters import Arena, Parameter


class QKNorm:
    """Queries and keys through a norm of their own each: every head for itself, or all heads as one row.

    Source: Dehghani et al. 2023 (arXiv 2302.05442); per head as in Qwen3, over the whole row as in OLMo 2.
    """

    def __init__(self, at: str, heads: Heads, config: ModelConfig) -> None:
        is_whole = config.qk_norm == "whole"
        widths = (heads.C, heads.C_kv) if is_whole else (heads.hs, heads.hs)
        self.norms = [
            new_norm(f"{at}.attn.{name}_norm", width, config)
            for name, width in zip("qk", widths, strict=True)
        ]
        self.places = [slice(0, heads.C), slice(heads.C, heads.C + heads.C_kv)]
        self.turned = heads.C + heads.C_kv
        self.n_factors = 2 if is_whole else heads.H + heads.H_kv

    def parameters(self) -> list[Parameter]:
        """Of the queries' norm, then of the keys'."""
        return [parameter for norm in self.norms for parameter in norm.parameters()]

    def forward(self, qkv: np.ndarray, p: Arena) -> tuple[np.ndarray, list[np.ndarray]]:
        """qkv (N, W), packed projections -> the same with queries and keys normed, and the norms' factors."""
        normed, factors = self._with_values(qkv), []
        for norm, place in zip(self.norms, self.places, strict=True):
            x, y = (_rows(those, place, norm.C) for those in (qkv, normed))
            factors.append(norm.forward(x, p, y)[1])
        return normed, factors

    def rebuild(self, qkv: np.ndarray, factors: list[np.ndarray], p: Arena) -> np.ndarray:
        """The normed (N, W) once more, to the bit."""
        normed = self._with_values(qkv)
        for norm, place, of_rows in zip(self.norms, self.places, factors, strict=True):
            x, y = (_rows(those, place, norm.C) for those in (qkv, normed))
            norm.rebuild(x, of_rows, p, y)
        return normed

    def backward(
        self, dy: np.ndarray, qkv: np.ndarray, factors: list[np.ndarray], p: Arena, g: Arena
    ) -> np.ndarray:
        """dy (N, W) -> dqkv (N, W), in the memory of dy."""
        for norm, place, of_rows in zip(self.norms, self.places, factors, strict=True):
            d, x = (_rows(those, place, norm.C) for those in (dy, qkv))
            norm.backward(d, x, of_rows, p, g, dx=d)
        return dy

    def cost(self) -> Cost:
        """The normed rows are made again in the backward."""
        flop = 6 * sum(parameter.size for parameter in self.parameters())
        kept = self.n_factors * self.norms[0].cost().kept
        return Cost(flop=flop, kept=kept, passing=self.turned)

    def _with_values(self, qkv: np.ndarray) -> np.ndarray:
        """A new (N, W) that has only the values yet."""
        new = arrays.empty_like(qkv)
        new[:, self.turned :] = qkv[:, self.turned :]
        return new


def _rows(qkv: np.ndarray, place: slice, width: int) -> np.ndarray:
    """Some channels of qkv as rows of a width (N, H, width), where they lie."""
    return qkv[:, place].reshape(len(qkv), -1, width)
