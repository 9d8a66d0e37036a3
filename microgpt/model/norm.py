"""Norms of rows.

Rows are those of an array (N, C), or heads in some columns of a wider one, as a view (N, H, C); y and dx,
where a result goes if it has a place, lie as x does.
"""

from functools import lru_cache
from typing import Any

import numpy as np

from microgpt.core import ops

from .config import ModelConfig
from .kinds import NORMS
from .layer import Cost
from .parameters import Arena, Parameter


class RMSNorm:
    """y = x / rms(x) * weight (Zhang & Sennrich 2019, arXiv 1910.07467).

    Args: eps: added to the mean square.  gain: False leaves the weight out.
    """

    def __init__(
        self, name: str, C: int, eps: float = ops.NORM_EPS, gain: bool = True, bias: bool = False
    ) -> None:
        self.C, self.eps = C, eps
        self.weight = Parameter(f"{name}.weight", (C,), 0, decay=False, kind="gain")
        self.name = self.weight.name
        self._own = [self.weight] if gain else []

    def parameters(self) -> list[Parameter]:
        """The gain of each channel, if there is one."""
        return self._own

    def forward(self, x: np.ndarray, p: Arena, y: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """x (N, C) -> y (N, C), and the factor of each row (N,), which the backward needs beside x."""
        return ops.rmsnorm_forward(x, self._gain(x, p), self.eps, y)

    def rebuild(self, x: np.ndarray, rstd: np.ndarray, p: Arena, y: np.ndarray | None = None) -> np.ndarray:
        """y once more, to the bit."""
        return ops.rmsnorm_again(x, self._gain(x, p), rstd, y)

    def backward(
        self,
        dy: np.ndarray,
        x: np.ndarray,
        rstd: np.ndarray,
        p: Arena,
        g: Arena,
        by_pass: np.ndarray | None = None,
        dx: np.ndarray | None = None,
    ) -> np.ndarray:
        """dx plus by_pass (N, C), the gradient that went around the norm."""
        dweight = gradient(g, self.name, x, self.C)
        return ops.rmsnorm_backward(dy, x, self._gain(x, p), rstd, dweight, by_pass, dx)

    def cost(self) -> Cost:
        """Six FLOP a weight by convention, as for matrices."""
        return Cost(flop=6 * sum(parameter.size for parameter in self._own), kept=1)

    def _gain(self, x: np.ndarray, p: Arena) -> np.ndarray:
        return p[self.name] if self._own else filled(1.0, self.C, x.dtype)


class LayerNorm:
    """y = (x - mean) / deviation * weight + bias (Ba et al. 2016, arXiv 1607.06450).

    Args: eps: added to the variance.  gain, bias: False leaves the weight, or the bias, out.
    """

    def __init__(
        self, name: str, C: int, eps: float = ops.NORM_EPS, gain: bool = True, bias: bool = False
    ) -> None:
        self.C, self.eps = C, eps
        self.weight = Parameter(f"{name}.weight", (C,), 0, decay=False, kind="gain")
        self.bias = Parameter(f"{name}.bias", (C,), 0, decay=False, kind="gain", init="zeros")
        self._own = [self.weight] * gain + [self.bias] * bias

    def parameters(self) -> list[Parameter]:
        """Gain and bias of each channel, those that there are."""
        return self._own

    def forward(self, x: np.ndarray, p: Arena, y: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """x (N, C) -> y (N, C), and mean and factor of each row (N, 2), which the backward needs beside x."""
        return ops.layernorm_forward(x, *self._affine(x, p), self.eps, y)

    def rebuild(self, x: np.ndarray, stats: np.ndarray, p: Arena, y: np.ndarray | None = None) -> np.ndarray:
        """y once more, to the bit."""
        return ops.layernorm_again(x, *self._affine(x, p), stats, y)

    def backward(
        self,
        dy: np.ndarray,
        x: np.ndarray,
        stats: np.ndarray,
        p: Arena,
        g: Arena,
        by_pass: np.ndarray | None = None,
        dx: np.ndarray | None = None,
    ) -> np.ndarray:
        """dx plus by_pass (N, C), the gradient that went around the norm."""
        weight, _ = self._affine(x, p)
        grads = (gradient(g, parameter.name, x, self.C) for parameter in (self.weight, self.bias))
        return ops.layernorm_backward(dy, x, weight, stats, *grads, by_pass, dx)

    def cost(self) -> Cost:
        """Six FLOP a weight by convention, as for matrices."""
        return Cost(flop=6 * sum(parameter.size for parameter in self._own), kept=2)

    def _affine(self, x: np.ndarray, p: Arena) -> tuple[np.ndarray, np.ndarray]:
        weight = p[self.weight.name] if self.weight in self._own else filled(1.0, self.C, x.dtype)
        bias = p[self.bias.name] if self.bias in self._own else filled(0.0, self.C, x.dtype)
        return weight, bias


@lru_cache(maxsize=64)
def filled(value: float, C: int, dtype: Any) -> np.ndarray:
    """A vector (C,) of one value, for a gain or bias that is left out; not to be written."""
    vector = np.full(C, value, dtype)
    vector.flags.writeable = False
    return vector


def gradient(g: Arena, name: str, x: np.ndarray, C: int) -> np.ndarray:
    """Where the gradient of a vector goes: into the arena, or nowhere if it is not trained."""
    return g[name] if name in g else np.zeros(C, x.dtype)


def new_norm(name: str, C: int, config: ModelConfig) -> Any:
    """The norm of C channels that a configuration asks for."""
    return NORMS[config.norm](name, C, config.norm_eps, config.norm_gain, config.has_bias("norm"))


NORMS["rmsnorm"] = RMSNorm
NORMS["layernorm"] = LayerNorm
