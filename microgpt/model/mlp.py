"""Layers that work on each position alone."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from microgpt.core import ops

from .config import ModelConfig
from .kinds import MLPS
from .layer import Call, Cost, Saved
from .linear import Linear
from .parameters import Arena, Parameter

GATED_MULTIPLE = 64  # of channels inside a gated MLP: whole vectors, whatever the width of the model


class Activation(NamedTuple):
    """What happens inside an MLP.  is_gated: half of its inputs are gates of the other half.

    backward: (dy, x) -> (dx, y), in the memory of its arguments.
    """

    forward: Callable[[np.ndarray], np.ndarray]
    backward: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
    is_gated: bool = False


ACTIVATIONS = {
    "gelu": Activation(ops.gelu_forward, ops.gelu_backward),
    "gelu_exact": Activation(ops.gelu_exact_forward, ops.gelu_exact_backward),
    "relu2": Activation(ops.relu2_forward, ops.relu2_backward),
    "swiglu": Activation(ops.swiglu_forward, ops.swiglu_backward, is_gated=True),
    "geglu": Activation(ops.geglu_forward, ops.geglu_backward, is_gated=True),
}


def inner_width(config: ModelConfig, is_gated: bool) -> int:
    """Channels inside: what the configuration says, or 4 C; gated ones have three matrices instead of two and
    so 8/3 C, rounded up, for as many weights."""
    if config.n_inner or not is_gated:
        return config.n_inner or 4 * config.n_embd
    return -(-8 * config.n_embd // (3 * GATED_MULTIPLE)) * GATED_MULTIPLE


class MLP:
    """y = proj(act(fc(x))), by kind of act.

    gelu: Hendrycks & Gimpel 2016 (arXiv 1606.08415), its tanh form; gelu_exact: as it is defined there;
    relu2: So et al. 2021 (arXiv 2109.08668); swiglu, geglu: Shazeer 2020 (arXiv 2002.05202), where fc makes
    gates and values side by side, in one product.
    """

    def __init__(self, name: str, config: ModelConfig, kind: str) -> None:
        C, self.act = config.n_embd, ACTIVATIONS[kind]
        F, has_bias = inner_width(config, self.act.is_gated), config.has_bias("mlp")
        apart = (F, F) if self.act.is_gated else (F,)
        self.fc = Linear(f"{name}.fc", sum(apart), C, config.init_std, has_bias, config.init, blocks=apart)
        self.proj = Linear(f"{name}.proj", C, F, config.std_into_residual, has_bias, config.init)

    def parameters(self) -> list[Parameter]:
        """Of both projections."""
        return self.fc.parameters() + self.proj.parameters()

    def forward(self, x: np.ndarray, p: Arena, call: Call) -> tuple[np.ndarray, Saved]:
        """x (N, C) -> y (N, C)."""
        wide = self.rebuild(x, p, call)
        return self.proj.forward(self.act.forward(wide), p, call), wide

    def rebuild(self, x: np.ndarray, p: Arena, call: Call) -> Saved:
        """The wide rows before the activation."""
        return self.fc.forward(x, p, call)

    def backward(
        self, dy: np.ndarray, x: np.ndarray, wide: Saved, p: Arena, g: Arena, call: Call
    ) -> np.ndarray:
        """dy (N, C), and x of the forward -> dx (N, C).  `wide` is overwritten."""
        d_active = self.proj.backward_input(dy, p, call)
        d_wide, active = self.act.backward(d_active, wide)
        self.proj.backward_weight(dy, active, p, g, call)
        return self.fc.backward(d_wide, x, p, g, call)

    def cost(self, T: int) -> Cost:
        """The wide rows stay; their gradient and the active rows pass."""
        wide = Cost(kept=self.fc.n_out, passing=2 * self.proj.n_in + 5 * self.fc.n_in)
        return self.fc.cost() + wide + self.proj.cost()


MLPS.update({kind: partial(MLP, kind=kind) for kind in ACTIVATIONS})
