"""What all optimizers have in common: the norm of the gradient, clipping, the count of updates."""

import math
from collections.abc import Sequence

from microgpt.core import ops
from microgpt.model import GPT, Arena
from microgpt.model.parameters import Parameter
from microgpt.runs.settings import TrainConfig


class Optimizer:
    """An optimizer that has its arithmetic in `apply`, and names in `parameters_of_slots` what it keeps.

    Attributes: slots: arenas by name.  updates: completed; skipped steps do not count.
    """

    def __init__(self, model: GPT, config: TrainConfig) -> None:
        self.model, self.config = model, config
        kept = self.parameters_of_slots(model.params.parameters)
        self.slots = {name: Arena(those, model.params.flat.dtype) for name, those in kept.items()}
        self.updates = 0

    @staticmethod
    def parameters_of_slots(parameters: Sequence[Parameter]) -> dict[str, list[Parameter]]:
        """Which of the parameters each slot has room for."""
        raise NotImplementedError

    @staticmethod
    def scratch_floats(parameters: Sequence[Parameter], precision: str) -> int:
        """Floats that an update of the parameters works in."""
        return 0

    def apply(self, lr: float, grad_scale: float = 1.0) -> None:
        """Change the weights by the gradients times grad_scale, which are zero then."""
        raise NotImplementedError

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

    def _clip_factor(self, grad_norm: float) -> float:
        clip = self.config.grad_clip
        return clip / grad_norm if clip and grad_norm > clip else 1.0
