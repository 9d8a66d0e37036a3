"""Muon for the matrices inside the layers, Adam for all else."""

import itertools
import math
from collections.abc import Sequence

import numpy as np

from microgpt.core import ops
from microgpt.model import GPT
from microgpt.model.parameters import Parameter
from microgpt.runs.kinds import OPTIMIZERS
from microgpt.runs.settings import TrainConfig

from .adam import adam_rates, is_hidden, share_of_rate
from .optimizer import Optimizer

MOMENTUM = 0.95
# (a, b, c) of each step of `ops.newton_schulz`, and the margin of its norm.  Jordan et al. take the same in
# all steps, chosen for a steep start; Polar Express has the best for each step in its turn (Amsel et al.
# 2025, arXiv 2505.16932), with a safety factor, which wants a norm below one.
POLYNOMIALS = {
    "newton-schulz": ([(3.4445, -4.7750, 2.0315)] * 5, 1.0),
    "polar-express": (
        [
            (8.156554524902461, -22.48329292557795, 15.878769915207462),
            (4.042929935166739, -2.808917465908714, 0.5000178451051316),
            (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
            (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
            (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
        ],
        1.01,
    ),
}


class Muon(Optimizer):
    """Momentum whose update of each matrix is made nearly orthogonal: all its directions move alike.

    m = 0.95 m + 0.05 g;  u = 0.95 m + 0.05 g;  o = newton_schulz(u), five steps;
    w = (1 - r weight_decay) w - r sqrt(max(1, rows / columns)) o,  r = muon_lr * (rate of the step) / lr

    for every trained matrix of kind "matrix"; each of its `row_blocks` is orthogonalised by itself, so that
    queries, keys and values are three matrices, though they lie in one.  Embeddings, head, gains and biases
    are updated as `Adam` does it, with the rate of the step.

    Source: Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon/).
    """

    def __init__(self, model: GPT, config: TrainConfig) -> None:
        super().__init__(model, config)
        by_name = {parameter.name: parameter for parameter in model.params.parameters}
        self._hidden, self._others = (
            [by_name[name] for name in self.slots[slot]] for slot in ("momentum", "m1")
        )
        self._blocks = [(parameter, block) for parameter in self._hidden for block in blocks_of(parameter)]
        polynomials, self._margin = POLYNOMIALS[config.orthogonalize]
        self._polynomials = np.array(polynomials)

    @staticmethod
    def parameters_of_slots(parameters: Sequence[Parameter]) -> dict[str, list[Parameter]]:
        """One momentum of hidden matrices, two moments of all else that is trained."""
        trained = [parameter for parameter in parameters if parameter.trainable]
        others = [parameter for parameter in trained if not is_hidden(parameter)]
        return {"momentum": [p for p in trained if is_hidden(p)], "m1": others, "m2": others}

    @staticmethod
    def scratch_floats(parameters: Sequence[Parameter], precision: str) -> int:
        """Floats in which the largest matrix, or as many as there are threads of small ones, become
        orthogonal."""
        hidden = [parameter for parameter in parameters if parameter.trainable and is_hidden(parameter)]
        shapes = {(rows, p.size // p.shape[0]) for p in hidden for rows in p.row_blocks}
        return max((ops.newton_schulz_scratch(*shape, precision) for shape in shapes), default=0)

    def apply(self, lr: float, grad_scale: float = 1.0) -> None:
        """The arithmetic of `update` without counting it.  lr: of Adam; that of Muon stands in the same
        proportion to `muon_lr` as this one to the setting."""
        params, grads, config = self.model.params, self.model.grads, self.config
        idle = self.model.idle
        for parameter in (one for one in self._others if one.name not in idle):
            arenas = params, grads, self.slots["m1"], self.slots["m2"]
            share = share_of_rate(self.model, config, parameter)
            rates = adam_rates(config, lr * share, config.weight_decay if parameter.decay else 0.0)
            arrays = [arena[parameter.name].reshape(-1) for arena in arenas]
            ops.adam_step(*arrays, **rates, step=self.updates, grad_scale=grad_scale)
        self._update_matrices(config.muon_lr * lr / config.lr, grad_scale)

    def _update_matrices(self, rate: float, grad_scale: float) -> None:
        """All hidden matrices, whose gradients become updates and then zero."""
        params, grads, momentum = self.model.params, self.model.grads, self.slots["momentum"]
        idle = self.model.idle
        blocks = [(p, block) for p, block in self._blocks if p.name not in idle]
        of_shape: dict[tuple[int, int], list[np.ndarray]] = {}
        for parameter, block in blocks:
            g, m = (arena[parameter.name][block] for arena in (grads, momentum))
            ops.nesterov_momentum(g.reshape(-1), m.reshape(-1), beta=MOMENTUM, grad_scale=grad_scale)
            of_shape.setdefault(g.shape, []).append(g)
        for updates in of_shape.values():
            ops.newton_schulz(updates, self._polynomials, self._margin, self.model.precision)
        for parameter, block in blocks:
            p, g = (arena[parameter.name][block] for arena in (params, grads))
            keep = 1 - rate * self.config.weight_decay if parameter.decay else 1.0
            factor = math.sqrt(max(1.0, g.shape[0] / g.shape[1]))
            ops.descend(p.reshape(-1), g.reshape(-1), rate=rate * factor, keep=keep)


def blocks_of(parameter: Parameter) -> list[slice]:
    """The rows of a matrix that are one in their own right: all, or those of queries, keys and values."""
    ends = list(itertools.accumulate(parameter.row_blocks))
    return [slice(end - rows, end) for end, rows in zip(ends, parameter.row_blocks, strict=True)]


OPTIMIZERS["muon"] = Muon
