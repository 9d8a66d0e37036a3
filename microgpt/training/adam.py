"""Adam over flat arenas: one pass updates every parameter, with the clip factor folded in."""

import math
from typing import NamedTuple

from microgpt.core import ops
from microgpt.model import GPT, Arena
from microgpt.runs.checkpoint import SLOTS
from microgpt.runs.settings import TrainConfig


class Segment(NamedTuple):
    """A stretch of parameters that one call updates: `size` of them from `start` on, which lie from `at` on
    among those that are trained; decay: of the weights."""

    start: int
    at: int
    size: int
    decay: float


class Adam:
    """Adam with bias correction and optional decoupled weight decay (AdamW).

    m1 = beta1*m1 + (1-beta1)*g;  m2 = beta2*m2 + (1-beta2)*g*g;
    p -= lr * (m1/(1-beta1^t) / (sqrt(m2/(1-beta2^t)) + eps) + weight_decay*p)

    Parameters that are not trained have no moments.

    Attributes: slots: what it keeps beside the weights, by name, each an arena like the gradients.
    Source:   Kingma & Ba 2015 (arXiv 1412.6980); Loshchilov & Hutter 2019 (arXiv 1711.05101).
    """

    def __init__(self, model: GPT, config: TrainConfig) -> None:
        self.model = model
        self.config = config
        self.slots: dict[str, Arena] = {name: model.params.trained() for name in SLOTS}
        self.updates = 0  # completed updates; skipped steps do not count
        self._segments = segments(model.params, config.weight_decay)

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
        m1, m2 = (self.slots[name].flat for name in SLOTS)
        for segment in self._segments:
            trained = slice(segment.at, segment.at + segment.size)
            ops.adam_step(
                params[segment.start : segment.start + segment.size],
                grads[trained],
                m1[trained],
                m2[trained],
                lr=lr,
                beta1=config.beta1,
                beta2=config.beta2,
                eps=config.eps,
                weight_decay=segment.decay,
                step=self.updates,
                grad_scale=grad_scale,
            )

    def _clip_factor(self, grad_norm: float) -> float:
        clip = self.config.grad_clip
        return clip / grad_norm if clip and grad_norm > clip else 1.0


def segments(params: Arena, weight_decay: float) -> list[Segment]:
    """Cut the parameters into as few stretches as can be; the table says which are trained, which decay."""
    found: list[Segment] = []
    start = at = 0
    for parameter in params.in_flat:
        if parameter.trainable:
            decay = weight_decay if parameter.decay else 0.0
            if found and found[-1].decay == decay and found[-1].start + found[-1].size == start:
                found[-1] = found[-1]._replace(size=found[-1].size + parameter.size)
            else:
                found.append(Segment(start, at, parameter.size, decay))
            at += parameter.size
        start += parameter.size
    return found
