"""A way from the embedding to every layer."""

import numpy as np

from microgpt.core import arrays

from .layer import Call, Cost
from .parameters import Arena, Parameter

MADE, GRADIENT = "embedding", "gradient of embedding"  # in `Call.shared`


class EmbeddingMix:
    """y = stream * x + embedding * x0, of a layer's input x and that of the first, with two learned numbers.

    x0 comes with the call, and its gradient goes back the same way.  Begins as y = x.

    Source: modded-nanogpt (Jordan et al. 2024).
    """

    def __init__(self, at: str, C: int) -> None:
        self.C = C
        self.stream = Parameter(f"{at}.mix.stream", (1,), 0, decay=False, kind="gain")
        self.embedding = Parameter(f"{at}.mix.embedding", (1,), 0, decay=False, kind="gain", init="zeros")

    def parameters(self) -> list[Parameter]:
        """The two numbers."""
        return [self.stream, self.embedding]

    def forward(self, x: np.ndarray, p: Arena, call: Call) -> np.ndarray:
        """x (N, C) -> y (N, C)."""
        y = _times(x, p[self.stream.name])
        y += _times(call.shared[MADE], p[self.embedding.name])
        return y

    def backward(self, dy: np.ndarray, x: np.ndarray, p: Arena, g: Arena, call: Call) -> np.ndarray:
        """dy (N, C), and x of the forward -> dx (N, C)."""
        for parameter, seen in ((self.stream, x), (self.embedding, call.shared[MADE])):
            if parameter.name in g:
                g[parameter.name][...] += _times(dy, seen).sum(dtype=np.float64)
        d_first = _times(dy, p[self.embedding.name])
        if GRADIENT in call.shared:
            call.shared[GRADIENT] += d_first
        else:
            call.shared[GRADIENT] = d_first
        return _times(dy, p[self.stream.name])

    def cost(self) -> Cost:
        """The layer keeps its input, too."""
        return Cost(flop=6 * 2, kept=self.C, passing=3 * self.C)


def _times(x: np.ndarray, factor: np.ndarray) -> np.ndarray:
    return np.multiply(x, factor, out=arrays.empty_like(x))
