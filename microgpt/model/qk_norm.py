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
        normed, factors = arrays.copy_of(qkv), []
        for norm, place in zip(self.norms, self.places, strict=True):
            rows, of_rows = norm.forward(_rows(qkv, place, norm.C), p)
            normed[:, place] = rows.reshape(len(qkv), -1)
            factors.append(of_rows)
        return normed, factors

    def backward(
        self, dy: np.ndarray, qkv: np.ndarray, factors: list[np.ndarray], p: Arena, g: Arena
    ) -> np.ndarray:
        """dy (N, W) -> dqkv (N, W), in the memory of dy."""
        for norm, place, of_rows in zip(self.norms, self.places, factors, strict=True):
            d_rows, rows = _rows(dy, place, norm.C), _rows(qkv, place, norm.C)
            dx = norm.backward(d_rows, rows, of_rows, p, g, arrays.zeros_like(rows))
            dy[:, place] = dx.reshape(len(qkv), -1)
        return dy

    def cost(self) -> Cost:
        """The normed rows are made again in the backward."""
        flop = 6 * sum(parameter.size for parameter in self.parameters())
        kept = self.n_factors * self.norms[0].cost().kept
        return Cost(flop=flop, kept=kept, passing=3 * self.turned)


def _rows(qkv: np.ndarray, place: slice, width: int) -> np.ndarray:
    """Some channels of qkv as rows of a width."""
    return arrays.copy_of(qkv[:, place]).reshape(-1, width)
