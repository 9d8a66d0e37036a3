"""Adam over flat arenas: one pass updates every parameter, with the clip factor folded in."""

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import NamedTuple

from microgpt.core import ops
from microgpt.model import GPT, Arena
from microgpt.model.architecture import TABLES
from microgpt.model.parameters import Parameter
from microgpt.runs.kinds import OPTIMIZERS
from microgpt.runs.settings import TrainConfig

from .optimizer import Optimizer


class Segment(NamedTuple):
    """A stretch of parameters that one call updates: `size` of them from `start` on, which lie from `at` on
    among those that are trained; decay: of the weights; rate: their part of the learning rate."""

    start: int
    at: int
    size: int
    decay: float
    rate: float = 1.0


class Adam(Optimizer):
    """Adam with bias correction and optional decoupled weight decay (AdamW).

    m1 = beta1*m1 + (1-beta1)*g;  m2 = beta2*m2 + (1-beta2)*g*g;
    p -= lr * (m1/(1-beta1^t) / (sqrt(m2/(1-beta2^t)) + eps) + weight_decay*p)

    Parameters that are not trained have no moments; those of blocks that take no part stay as they are.
    With `width_scaling` lr of the matrices inside the layers is multiplied by width_scaling / n_embd, so that
    a rate found at one width holds at another; that of embedding and head by `embedding_rate`.

    Source:   Kingma & Ba 2015 (arXiv 1412.6980); Loshchilov & Hutter 2019 (arXiv 1711.05101); scaling: Yang
              et al. 2022 (arXiv 2203.03466), of which this is the part that concerns rates.
    """

    def __init__(self, model: GPT, config: TrainConfig) -> None:
        super().__init__(model, config)
        self._segments: dict[int | None, list[Segment]] = {}  # by how many blocks take part

    @staticmethod
    def parameters_of_slots(parameters: Sequence[Parameter]) -> dict[str, list[Parameter]]:
        """Two moments of every parameter that is trained."""
        trained = [parameter for parameter in parameters if parameter.trainable]
        return {"m1": trained, "m2": trained}

    def apply(self, lr: float, grad_scale: float = 1.0) -> None:
        """The arithmetic of `update` without counting it."""
        params, grads = self.model.params.flat, self.model.grads.flat
        m1, m2 = (self.slots[name].flat for name in ("m1", "m2"))
        for segment in self._segments_now():
            trained = slice(segment.at, segment.at + segment.size)
            p = params[segment.start : segment.start + segment.size]
            arrays = p, grads[trained], m1[trained], m2[trained]
            rates = adam_rates(self.config, lr * segment.rate, segment.decay)
            ops.adam_step(*arrays, **rates, step=self.updates, grad_scale=grad_scale)

    def _segments_now(self) -> list[Segment]:
        depth = self.model.depth
        if depth not in self._segments:
            share = partial(share_of_rate, self.model, self.config)
            how = self.config.weight_decay, share, self.model.idle
            self._segments[depth] = segments(self.model.params, *how)
        return self._segments[depth]


def adam_rates(config: TrainConfig, lr: float, decay: float) -> dict[str, float]:
    """What `ops.adam_step` takes from the settings."""
    return {
        "lr": lr,
        "beta1": config.beta1,
        "beta2": config.beta2,
        "eps": config.eps,
        "weight_decay": decay,
    }


def share_of_rate(model: GPT, config: TrainConfig, parameter: Parameter) -> float:
    """What part of the learning rate a parameter of a model has with Adam."""
    if is_hidden(parameter):
        return config.width_scaling / model.config.n_embd if config.width_scaling else 1.0
    return config.embedding_rate if parameter.name in TABLES else 1.0


def segments(
    params: Arena,
    weight_decay: float,
    share: Callable[[Parameter], float] = lambda parameter: 1.0,
    idle: Collection[str] = (),
) -> list[Segment]:
    """Cut the parameters into as few stretches as can be; the table says which are trained and which decay,
    `share` what part of the rate each has, `idle` which are left out."""
    found: list[Segment] = []
    start = at = 0
    for parameter in params.in_flat:
        if parameter.trainable and parameter.name not in idle:
            how = weight_decay if parameter.decay else 0.0, share(parameter)
            if found and found[-1][3:] == how and found[-1].start + found[-1].size == start:
                found[-1] = found[-1]._replace(size=found[-1].size + parameter.size)
            else:
                found.append(Segment(start, at, parameter.size, *how))
        at += parameter.size if parameter.trainable else 0
        start += parameter.size
    return found


def is_hidden(parameter: Parameter) -> bool:
    """Whether it is a matrix inside the layers: no embedding, no head, no vector."""
    return parameter.kind == "matrix" and len(parameter.shape) == 2


OPTIMIZERS["adam"] = Adam
