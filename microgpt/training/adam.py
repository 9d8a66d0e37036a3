"""Adam over flat arenas: one pass updates every parameter, with the clip factor folded in."""

import math

from microgpt.core import ops
from microgpt.model import GPT, Arena
from microgpt.runs.settings import TrainConfig


class Adam:
    """Adam with bias correction and optional decoupled weight decay (AdamW).

    m1 = beta1*m1 + (1-beta1)*g;  m2 = beta2*m2 + (1-beta2)*g*g;
    p -= lr * (m1/(1-beta1^t) / (sqrt(m2/(1-beta2^t)) + eps) + weight_decay*p)

    Source:   Kingma & Ba 2015 (arXiv 1412.6980); Loshchilov & Hutter 2019 (arXiv 1711.05101).
    """

    def __init__(self, model: GPT, config: TrainConfig) -> None:
        self.model = model
        self.config = config
        self.m1, self.m2 = model.params.zeros_like(), model.params.zeros_like()
        self.slots: dict[str, Arena] = {"m1": self.m1, "m2": self.m2}
        self.updates = 0  # completed updates; skipped steps do not count
        self._segments = decay_segments(model.params, config.weight_decay)

    def grad_norm(self, n: int = 1) -> float:
        """Global L2 norm of the mean gradient, of gradients summed over n losses; not finite if
        any gradient is not."""
        return math.sqrt(ops.sum_squares(self.model.grads.flat)) / n

    def update(self, lr: float, grad_norm: float, n: int = 1) -> None:
        """Apply one update with the mean gradient, clipped by its given norm; the gradients are zero then."""
        self.apply(lr, self._clip_factor(grad_norm) / n)
        self.updates += 1

    def discard(self) -> None:
        """Drop gradients that are not to be applied."""
        self.model.grads.flat[:] = 0

    def apply(self, lr: float, grad_scale: float = 1.0) -> None:
        """The arithmetic of `update` without counting it."""
        config, params, grads = self.config, self.model.params.flat, self.model.grads.flat
        for start, stop, weight_decay in self._segments:
            part = slice(start, stop)
            ops.adam_step(
                params[part],
                grads[part],
                self.m1.flat[part],
                self.m2.flat[part],
                lr=lr,
                beta1=config.beta1,
                beta2=config.beta2,
                eps=config.eps,
                weight_decay=weight_decay,
                step=self.updates,
                grad_scale=grad_scale,
            )

    def _clip_factor(self, grad_norm: float) -> float:
        clip = self.config.grad_clip
        return clip / grad_norm if clip and grad_norm > clip else 1.0


def decay_segments(params: Arena, weight_decay: float) -> list[tuple[int, int, float]]:
    """Cut the flat arena into (start, stop, decay) runs; the table of parameters says which ones decay."""
    if weight_decay == 0:
        return [(0, params.flat.size, 0.0)]
    segments: list[tuple[int, int, float]] = []
    start = 0
    for parameter in params.parameters:
        stop, decay = start + parameter.size, weight_decay if parameter.decay else 0.0
        if segments and segments[-1][2] == decay:
            segments[-1] = (segments[-1][0], stop, decay)
        else:
            segments.append((start, stop, decay))
        start = stop
    return segments
