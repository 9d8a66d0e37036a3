"""Low-rank adapters: what is learned beside matrices that stay as they are."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from microgpt.core import arrays, ops, random

from .config import ModelConfig
from .layer import Call, Cost
from .linear import Linear
from .low_rank import LowRank
from .parameters import PRODUCTS_READ, Arena, Parameter

ALL = "all"
ALIASES = {f"{name}_proj": name for name in ("q", "k", "v", "o", "gate", "up", "down")}
ROLES = {"key": "k", "value": "v", "out": "o"}  # of matrices whose own names are others
PARTS = ("lora_a", "lora_b")


@dataclass(frozen=True)
class Adapter:
    """s B A beside some rows of a matrix.

    rows: of the matrix.  a: (rank, n_in), first even between +-1/sqrt(n_in).  b: (rows, rank), first zeros.
    """

    target: str
    rows: slice
    a: Parameter
    b: Parameter

    @classmethod
    def of(cls, at: str, target: str, rows: slice, n_in: int, rank: int) -> "Adapter":
        """A new one.  at: where the matrix stands, such as h.0.attn."""
        a, b = (f"{at}.{target}.{part}" for part in PARTS)
        n_out = rows.stop - rows.start
        return cls(
            target,
            rows,
            Parameter(a, (rank, n_in), 1 / math.sqrt(3 * n_in), init="uniform"),
            Parameter(b, (n_out, rank), 0.0, init="zeros"),
        )


class DLow(NamedTuple):
    """What comes back to an adapter: the gradient of its rows, (N, n_out), and that of A x, (N, rank)."""

    adapter: Adapter
    d_rows: np.ndarray
    d_low: np.ndarray


class Adapted(Linear):
    """y = x W^T + b, and beside it on the rows of each target + s drop(x) A^T B^T, s = alpha / rank.

    W and b are not trained.  The small products are in fp32 whatever the precision of the large one.

    Source: Hu et al. 2021 (arXiv 2106.09685).
    """

    def __init__(self, linear: Linear, adapters: list[Adapter], config: ModelConfig) -> None:
        vars(self).update(vars(linear))
        self.adapters, self.rank, self.rate = adapters, config.lora_rank, config.lora_dropout
        self.scale = (config.lora_alpha or 2 * config.lora_rank) / config.lora_rank

    def parameters(self) -> list[Parameter]:
        """Of the matrix, then of each adapter."""
        return super().parameters() + [part for one in self.adapters for part in (one.a, one.b)]

    def forward(self, x: np.ndarray, p: Arena, call: Call) -> np.ndarray:
        """x (N, n_in) -> y (N, n_out).  The backward needs x alone."""
        y, x = super().forward(x, p, call), self._dropped(x, call)
        for one in self.adapters:
            y[:, one.rows] += ops.linear_forward(self._low(one, x, p), p[one.b.name], "fp32")
        return y

    def backward(self, dy: np.ndarray, x: np.ndarray, p: Arena, g: Arena, call: Call) -> np.ndarray:
        """dx and gradients; what they have in common is computed once."""
        low = self._d_low(dy, p)
        self._learn(low, dy, x, p, g, call)
        return self._dx(low, dy, p, call)

    def backward_input(self, dy: np.ndarray, p: Arena, call: Call) -> np.ndarray:
        """dx, through the matrix and through the adapters."""
        return self._dx(self._d_low(dy, p), dy, p, call)

    def backward_weight(self, dy: np.ndarray, x: np.ndarray, p: Arena, g: Arena, call: Call) -> None:
        """Add to the gradients of the adapters."""
        self._learn(self._d_low(dy, p), dy, x, p, g, call)

    def _dx(self, low: list[DLow], dy: np.ndarray, p: Arena, call: Call) -> np.ndarray:
        dx = super().backward_input(dy, p, call)
        through = dx if not self._is_dropping(call) else arrays.zeros_like(dx)
        for one in low:
            through += ops.linear_backward_input(one.d_low, p[one.adapter.a.name], "fp32")
        if through is not dx:
            dx += ops.dropout_backward(through, self.rate, self._keys(dx, call))
        return dx

    def _learn(self, low: list[DLow], dy: np.ndarray, x: np.ndarray, p: Arena, g: Arena, call: Call) -> None:
        super().backward_weight(dy, x, p, g, call)
        x = self._dropped(x, call)
        for adapter, d_rows, d_low in low:
            if adapter.b.name in g:
                ops.linear_backward_weight(d_rows, self._low(adapter, x, p), g[adapter.b.name], "fp32")
            if adapter.a.name in g:
                ops.linear_backward_weight(d_low, x, g[adapter.a.name], "fp32")

    def cost(self) -> Cost:
        """The matrix has no gradient of its own: four FLOP a weight."""
        own = super().cost()
        cost = Cost(flop=own.flop * 2 / 3, products=own.products, passing=2 * self.n_in + self.n_out)
        for one in self.adapters:
            shapes = (self.rank, self.n_in), (one.rows.stop - one.rows.start, self.rank)
            cost = cost + Cost(flop=6 * (one.a.size + one.b.size), products=shapes)
        return cost

    def _low(self, one: Adapter, x: np.ndarray, p: Arena) -> np.ndarray:
        """s A x of each row, (N, rank)."""
        low = ops.linear_forward(x, p[one.a.name], "fp32")
        low *= self.scale
        return low

    def _d_low(self, dy: np.ndarray, p: Arena) -> list[DLow]:
        """Of each adapter."""
        found = []
        for one in self.adapters:
            d_rows = np.ascontiguousarray(dy[:, one.rows])
            d_low = ops.linear_backward_input(d_rows, p[one.b.name], "fp32")
            d_low *= self.scale
            found.append(DLow(one, d_rows, d_low))
        return found

    def _is_dropping(self, call: Call) -> bool:
        return bool(self.rate) and call.keys is not None

    def _dropped(self, x: np.ndarray, call: Call) -> np.ndarray:
        return ops.dropout_forward(x, self.rate, self._keys(x, call)) if self._is_dropping(call) else x

    def _keys(self, x: np.ndarray, call: Call) -> np.ndarray:
        """Of each sequence; of the first for all, where only some rows come by, as in an expert."""
        assert call.keys is not None
        keys = call.keys if len(x) == call.B * call.T else call.keys[:1]
        return np.array([random.key(int(key), "dropout/" + self.name) for key in keys], np.uint64)


# ---- which matrices ---------------------------------------------------------------------------------


def adapt(layer: Any, config: ModelConfig) -> None:
    """Put adapters around the linear layers that a layer is made of, those that the configuration names.

    Small networks (`LowRank`) are of low rank themselves and stay as they are.
    """
    wanted = wanted_targets(config)
    for holder, key, linear in [*_linears(layer)]:
        adapters = [one for one in _adapters(linear, config) if wanted is None or one.target in wanted]
        if adapters:
            holder[key] = Adapted(linear, adapters, config)


def adapted_in(layer: Any) -> Iterator[Adapted]:
    """The layers in a layer that have adapters, each once."""
    found = {id(linear): linear for _, _, linear in _linears(layer) if isinstance(linear, Adapted)}
    yield from found.values()


def wanted_targets(config: ModelConfig) -> set[str] | None:
    """The targets that are named, by their short names; None: all."""
    words = config.lora_targets.split()
    return None if ALL in words else {ALIASES.get(word, word) for word in words}


def _linears(layer: Any) -> Iterator[tuple[Any, Any, Linear]]:
    """Each linear layer in a layer, with the container that holds it and its place there."""
    holder: Any = layer if isinstance(layer, list) else vars(layer)
    for key in range(len(holder)) if isinstance(layer, list) else list(holder):
        part = holder[key]
        if isinstance(part, Linear):
            yield holder, key, part
        elif isinstance(part, list) or (hasattr(part, "parameters") and not isinstance(part, LowRank)):
            yield from _linears(part)


def _adapters(linear: Linear, config: ModelConfig) -> Iterator[Adapter]:
    """Those of a linear layer, one for each matrix in it that is larger than they are."""
    at, _, name = linear.name.removesuffix(".weight").rpartition(".")
    begin = 0
    for target, n_rows in zip(_targets(at, name, linear), linear.weight.row_blocks, strict=True):
        rows, begin = slice(begin, begin + n_rows), begin + n_rows
        if min(n_rows, linear.n_in) > config.lora_rank:
            yield Adapter.of(at, target, rows, linear.n_in, config.lora_rank)


def _targets(at: str, name: str, linear: Linear) -> tuple[str, ...]:
    """The short names of the matrices that lie in a linear layer."""
    if name == "qkv":
        return "q", "k", "v"
    if name == "fc":
        return ("gate", "up")[-len(linear.weight.row_blocks) :]
    if name == "proj":
        return ("o" if at.endswith(("attn", "fusion")) else "down",)
    return (ROLES.get(name, name),)


# ---- what follows for the model ---------------------------------------------------------------------


def is_adapter(parameter: Parameter) -> bool:
    """Whether a parameter belongs to an adapter."""
    return parameter.name.endswith(PARTS)


def saved(parameters: Iterable[Parameter]) -> list[Parameter]:
    """Those of a model that its checkpoints hold: all, of an adapted model the adapters alone."""
    parameters = list(parameters)
    return [parameter for parameter in parameters if is_adapter(parameter)] or parameters


def with_frozen_base(parameters: Iterable[Parameter], config: ModelConfig) -> list[Parameter]:
    """The parameters of an adapted model: first the base, which is not trained and whose matrices are stored
    as `base_weights` says, then the adapters, which lie in one stretch.  Those of others stay as they are.
    """
    parameters = list(parameters)
    if not config.lora_rank:
        return parameters
    base = [_frozen(parameter, config) for parameter in parameters if not is_adapter(parameter)]
    return base + [parameter for parameter in parameters if is_adapter(parameter)]


def _frozen(parameter: Parameter, config: ModelConfig) -> Parameter:
    is_matrix = parameter.kind in PRODUCTS_READ and len(parameter.shape) == 2
    type = config.base_weights if is_matrix else "fp32"
    return replace(parameter, trainable=False, type=type)


def targets_in(parameters: Iterable[Parameter]) -> set[str]:
    """The targets that adapters among the parameters are of, by their short names."""
    return {parameter.name.split(".")[-2] for parameter in parameters if is_adapter(parameter)}
