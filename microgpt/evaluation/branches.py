"""What the mixers of a model bring to it: how large, how strongly trained, and how much worse it is without.

A fusion's two branches are told apart after the fusion, where they are added to the residual stream, so that
a branch that is scaled away counts as little as one that is small.
"""

import contextlib
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from microgpt.batches.batches import EvalWindows
from microgpt.model import GPT, Batch
from microgpt.model.block import Branch, Recomputed
from microgpt.model.fusion import Fusion
from microgpt.model.layer import Call, Mixer, Saved
from microgpt.model.parameters import Arena

from .held_out import score
from .loss import Documents
from .pairs import Difference, difference


class Ear:
    """In the place of a mixer: does the same, but for its branches of one kind, which may be silent, and adds
    up the squares of what each branch brings.

    Args:       kinds: of its branches.  silent: the kind that is left out.
    Attributes: squares: sums of squares of each branch.  n: numbers in each.
    """

    def __init__(self, mixer: Mixer, kinds: list[str], silent: str) -> None:
        self.mixer, self.kinds, self.silent = mixer, kinds, silent
        self.squares, self.n = np.zeros(len(kinds)), 0

    def forward(self, x: np.ndarray, p: Arena, call: Call) -> tuple[np.ndarray, Saved]:
        """x (N, C) -> y (N, C), without the kind that is silent."""
        parts: tuple[np.ndarray, ...]
        if isinstance(self.mixer, Fusion):
            saved = self.mixer.rebuild(x, p, call)
            parts = self.mixer.parts(saved, p, call)
        else:
            made, saved = self.mixer.forward(x, p, call)
            parts = (made,)
        self.squares += [float(np.square(part, dtype=np.float64).sum()) for part in parts]
        self.n += parts[0].size
        y = np.zeros_like(x)
        for kind, part in zip(self.kinds, parts, strict=True):
            if kind != self.silent:
                y += part
        return y, saved


@contextlib.contextmanager
def heard(model: GPT, silent: str = "") -> Iterator[list[Ear]]:
    """While the context lasts, a model's mixers are heard, those of one kind silenced: an ear for each layer.
    It goes forward alone."""
    branches = [_first(block) for block in model.blocks]
    mixers = [branch.inner for branch in branches]
    ears = [Ear(mixer, kinds, silent) for mixer, kinds in zip(mixers, kinds_of(model), strict=True)]  # type: ignore[arg-type]
    try:
        for branch, ear in zip(branches, ears, strict=True):
            branch.inner = ear  # type: ignore[assignment]
        yield ears
    finally:
        for branch, mixer in zip(branches, mixers, strict=True):
            branch.inner = mixer


def _first(block: object) -> Branch:
    """The branch that holds a block's mixer."""
    return block.block.first if isinstance(block, Recomputed) else block.first  # type: ignore[attr-defined]


def kinds_of(model: GPT) -> list[list[str]]:
    """The mixers of each layer."""
    config = model.config
    return [config.mixer_of(layer).split("+") for layer in range(config.n_layer)]


class Size(NamedTuple):
    """Of what two branches bring, as root mean squares, in one layer or in all."""

    first: float
    second: float

    @property
    def ratio(self) -> float:
        """First by second; infinite if that brings nothing."""
        return self.first / self.second if self.second else math.inf


class Branches(NamedTuple):
    """The branches of a model's mixers on held-out text.

    loss:     in nats per token, as the model is.
    sizes:    by number of the layer, of those that have two.
    gradient: norms of the gradient of the first mixers of all those, and of the second.
    without:  by kind, how much the loss rises without all mixers of that kind.
    names:    of the two; of models that mix them otherwise in other layers, all.
    """

    loss: float
    sizes: dict[int, Size]
    gradient: Size
    without: dict[str, Difference]
    names: list[str]

    @property
    def overall(self) -> Size:
        """Over all layers that have two."""
        squares = np.mean([np.square(size) for size in self.sizes.values()], axis=0)
        return Size(*map(float, np.sqrt(squares)))


def branches(model: GPT, windows: EvalWindows) -> Branches:
    """Measure them on held-out text.  Gradients are zero again afterwards."""
    with heard(model) as ears:
        base = _documents(model, windows)
    two = {layer: ear for layer, ear in enumerate(ears) if len(ear.kinds) == 2}
    sizes = {layer: Size(*map(float, np.sqrt(ear.squares / ear.n))) for layer, ear in two.items()}
    kinds = sorted({kind for kinds in kinds_of(model) for kind in kinds})
    without = {kind: _rise(model, windows, base, kind) for kind in kinds}
    batch = next(iter(windows.batches(4)))
    names = list(dict.fromkeys("+".join(ear.kinds) for ear in two.values()))
    loss = float(base.nats.sum() / base.tokens.sum())
    return Branches(loss, sizes, _gradient(model, batch, list(two.values())), without, names)


def _documents(model: GPT, windows: EvalWindows) -> Documents:
    found = score(model, windows).documents
    assert found is not None
    return found


def _rise(model: GPT, windows: EvalWindows, base: Documents, kind: str) -> Difference:
    """Of the loss without the mixers of a kind, with its interval over documents."""
    with heard(model, kind):
        without = _documents(model, windows)
    is_scored = base.tokens > 0
    return difference((without.nats - base.nats)[is_scored], base.tokens[is_scored], seed=0)


def _gradient(model: GPT, batch: Batch, ears: list[Ear]) -> Size:
    """Norms of the gradients of the first and the second mixers of some layers."""
    if not ears:
        return Size(0.0, 0.0)
    model.grads.flat[:] = 0
    model.loss_and_grad(batch._replace(memory=None))
    squares = [0.0, 0.0]
    for ear in ears:
        for i, mixer in enumerate(ear.mixer.mixers):  # type: ignore[attr-defined]
            names = [parameter.name for parameter in mixer.parameters() if parameter.name in model.grads]
            squares[i] += sum(float(np.square(model.grads[name], dtype=np.float64).sum()) for name in names)
    model.grads.flat[:] = 0
    return Size(*map(math.sqrt, squares))
