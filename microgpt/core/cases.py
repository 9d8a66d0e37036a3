"""One row per operation: inputs, shapes and how to differentiate it.  Tests and benchmarks walk this table
and name no operation themselves; a test fails if an operation of `ops` has no row."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import ops, random
from .heads import Heads

Inputs = dict[str, Any]


def normal(name: str, *shape: int) -> np.ndarray:
    """Standard normal numbers, the same for the same name and shape."""
    return random.normal(random.key(0, name, *shape), int(np.prod(shape))).reshape(shape)


def below(name: str, n: int, *shape: int) -> np.ndarray:
    """Integers in [0, n), int32."""
    draws = random.uniform(random.key(0, name, *shape), int(np.prod(shape)))
    return (draws * n).astype(np.int32).reshape(shape)


@dataclass(frozen=True)
class Case:
    """How to run one operation.

    make:     shape -> inputs, float64 and int32; the caller casts.
    forward:  inputs -> (y, whatever backward needs).
    backward: (dy, inputs, saved, zeros) -> gradient of every differentiable input; zeros(name) is a fresh
              accumulator for a parameter gradient.
    shapes:   odd sizes, tails, one row.   bench: a shape of real size.
    flop, bytes: work and memory traffic of forward and backward together at a shape.
    """

    make: Callable[..., Inputs]
    forward: Callable[[Inputs], tuple[np.ndarray, Any]]
    backward: Callable[[np.ndarray, Inputs, Any, Callable[[str], np.ndarray]], dict[str, np.ndarray]]
    shapes: Sequence[tuple[int, ...]]
    bench: tuple[int, ...]
    flop: Callable[..., float]
    bytes: Callable[..., float]


def _embedding_backward(dy: np.ndarray, i: Inputs, saved: Any, zeros: Callable) -> dict[str, np.ndarray]:
    dweight = zeros("weight")
    ops.embedding_backward(dy, i["ids"], dweight)
    return {"weight": dweight}


def _rmsnorm_backward(dy: np.ndarray, i: Inputs, rstd: Any, zeros: Callable) -> dict[str, np.ndarray]:
    dweight, by_pass = zeros("weight"), zeros("x")
    return {"x": ops.rmsnorm_backward(dy, i["x"], i["weight"], rstd, dweight, by_pass), "weight": dweight}


def _keys(x: np.ndarray) -> np.ndarray:
    """Keys of the windows that rows of x make up: three where that is possible."""
    n = 3 if len(x) % 3 == 0 else 1
    return random.keys(0, "cases", range(n))


def _linear_backward(dy: np.ndarray, i: Inputs, saved: Any, zeros: Callable) -> dict[str, np.ndarray]:
    dweight = zeros("weight")
    return {"x": ops.linear_backward(dy, i["x"], i["weight"], dweight), "weight": dweight}


def _attention(H: int, H_kv: int, documents: int = 1) -> dict[str, Any]:
    """Of a case at (B, T, hs): inputs and both directions, on windows that hold several documents."""

    def call(i: Inputs) -> tuple[list[np.ndarray], list[Any]]:
        qkv, starts = i["qkv"], i.get("starts")
        heads = Heads(H, H_kv, qkv.shape[-1] // (H + 2 * H_kv))
        tables = ops.rope_tables(qkv.shape[1] + 1, heads.hs, dtype=qkv.dtype)
        return [qkv, *tables], [heads, starts]

    def make(B: int, T: int, hs: int) -> Inputs:
        inputs = {"qkv": normal("qkv", B, T, (H + 2 * H_kv) * hs)}
        return inputs if documents == 1 else inputs | {"starts": _starts(B, T, documents)}

    def forward(i: Inputs) -> tuple[np.ndarray, Any]:
        arrays, how = call(i)
        y, lse = ops.attention_forward(*arrays, *how)
        return y, (y, lse)

    def backward(dy: np.ndarray, i: Inputs, saved: Any, zeros: Callable) -> dict[str, np.ndarray]:
        arrays, how = call(i)
        return {"qkv": ops.attention_backward(dy, *arrays, *saved, *how)}

    return {"make": make, "forward": forward, "backward": backward}


def _starts(B: int, T: int, documents: int) -> np.ndarray:
    """Where the document of each position begins, (B, T): about so many in a row, at places of chance."""
    begins = np.where(below("starts", T, B, T) < documents, np.arange(T), 0)
    return np.maximum.accumulate(begins, axis=1).astype(np.int32)


def _gelu_backward(dy: np.ndarray, i: Inputs, saved: Any, zeros: Callable) -> dict[str, np.ndarray]:
    return {"x": ops.gelu_backward(dy.copy(), i["x"].copy())[0]}


def _cross_entropy_backward(dy: np.ndarray, i: Inputs, lse: Any, zeros: Callable) -> dict[str, np.ndarray]:
    # The kernel scales all rows alike; a cotangent with a row of its own is applied outside.
    dlogits = ops.cross_entropy_backward(i["logits"].copy(), lse, i["targets"], 0.5)
    return {"logits": dlogits * (dy / 0.5)[:, None]}


ROWS = [(1, 1), (3, 7), (8, 64), (5, 769), (67, 33)]
CASES: dict[str, Case] = {
    "embedding": Case(
        make=lambda N, C: {"weight": normal("weight", 5, C), "ids": below("ids", 5, N)},
        forward=lambda i: (ops.embedding_forward(i["weight"], i["ids"]), None),
        backward=_embedding_backward,
        shapes=ROWS,
        bench=(2048, 384),
        flop=lambda N, C: N * C,
        bytes=lambda N, C: 4 * 5 * N * C,
    ),
    "rmsnorm": Case(
        make=lambda N, C: {"x": 3 * normal("x", N, C) + 1, "weight": normal("weight", C)},
        forward=lambda i: ops.rmsnorm_forward(i["x"], i["weight"]),
        backward=_rmsnorm_backward,
        shapes=[(1, 5), *ROWS[1:]],  # in a row of one, dx is a difference of equal numbers
        bench=(2048, 384),
        flop=lambda N, C: 14 * N * C,
        bytes=lambda N, C: 4 * 6 * N * C,
    ),
    "linear": Case(
        make=lambda N, M, K: {"x": normal("x", N, K), "weight": normal("weight", M, K)},
        forward=lambda i: (ops.linear_forward(i["x"], i["weight"]), None),
        backward=_linear_backward,
        shapes=[(1, 1, 1), (3, 5, 7), (1, 769, 33), (257, 31, 65), (300, 800, 17)],
        bench=(2048, 1536, 384),
        flop=lambda N, M, K: 6 * N * M * K,
        bytes=lambda N, M, K: 4 * (3 * N * M + 3 * N * K + 4 * M * K),
    ),
    "attention": Case(
        **_attention(2, 2),
        shapes=[
            (1, 1, 2),
            (2, 3, 6),
            (1, 67, 16),
            (2, 130, 10),
            (1, 33, 40),
            (3, 16, 34),
            (1, 401, 10),
            (1, 257, 32),
        ],
        bench=(8, 512, 32),
        flop=lambda B, T, hs: 14 * B * T * T * hs,
        bytes=lambda B, T, hs: 4 * 28 * B * T * hs,
    ),
    "attention_of_documents": Case(
        **_attention(4, 2, documents=3),
        shapes=[(1, 1, 2), (2, 3, 6), (1, 67, 16), (2, 130, 10), (3, 33, 40), (1, 401, 10), (1, 257, 32)],
        bench=(8, 512, 32),
        flop=lambda B, T, hs: 28 * B * T * T * hs / 3,
        bytes=lambda B, T, hs: 4 * 46 * B * T * hs,
    ),
    "gelu": Case(
        make=lambda N, F: {"x": 3 * normal("x", N, F)},
        forward=lambda i: (ops.gelu_forward(i["x"]), None),
        backward=_gelu_backward,
        shapes=ROWS,
        bench=(2048, 1536),
        flop=lambda N, F: 61 * N * F,
        bytes=lambda N, F: 4 * 6 * N * F,
    ),
    "dropout": Case(
        make=lambda N, C: {"x": normal("x", N, C)},
        forward=lambda i: (ops.dropout_forward(i["x"], 0.3, _keys(i["x"])), None),
        backward=lambda dy, i, saved, zeros: {"x": ops.dropout_backward(dy, 0.3, _keys(i["x"]))},
        shapes=ROWS,
        bench=(2048, 384),
        flop=lambda N, C: 2 * N * C,
        bytes=lambda N, C: 4 * 4 * N * C,
    ),
    "residual": Case(
        make=lambda N, C: {"x": normal("x", N, C), "branch": normal("branch", N, C)},
        forward=lambda i: (ops.residual_forward(i["x"], i["branch"], 0.3, _keys(i["x"])), None),
        backward=lambda dy, i, saved, zeros: {
            "x": dy,
            "branch": ops.residual_backward(dy, 0.3, _keys(i["x"])),
        },
        shapes=ROWS,
        bench=(2048, 384),
        flop=lambda N, C: 3 * N * C,
        bytes=lambda N, C: 4 * 5 * N * C,
    ),
    "cross_entropy": Case(
        make=lambda N, V: {"logits": 4 * normal("logits", N, V), "targets": below("targets", V + 1, N) - 1},
        forward=lambda i: ops.cross_entropy_forward(i["logits"], i["targets"]),
        backward=_cross_entropy_backward,
        shapes=ROWS,
        bench=(512, 4261),
        flop=lambda N, V: 40 * N * V,
        bytes=lambda N, V: 4 * 3 * N * V,
    ),
}
