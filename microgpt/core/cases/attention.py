"""Cases of `ops/attention.py`."""

from typing import Any

import numpy as np

from microgpt.core import ops
from microgpt.core.heads import Heads

from .case import Case, Inputs, Zeros, normal, starts_of
from .products import errors_in


def _attention(
    H: int, H_kv: int, documents: int = 1, window: int = 0, stride: int = 0, precision: str = "fp32"
) -> dict[str, Any]:
    """Of a case at (B, T, hs): inputs and both directions, on rows that hold several documents."""

    def call(i: Inputs) -> tuple[list[np.ndarray], list[Any]]:
        qkv, starts = i["qkv"], i.get("starts")
        heads = Heads(H, H_kv, qkv.shape[-1] // (H + 2 * H_kv), window, stride)
        tables = ops.rope_tables(qkv.shape[1] + 1, heads.hs, dtype=qkv.dtype)
        return [qkv, *tables], [heads, starts, precision]

    def make(B: int, T: int, hs: int) -> Inputs:
        inputs = {"qkv": normal("qkv", B, T, (H + 2 * H_kv) * hs)}
        return inputs if documents == 1 else inputs | {"starts": starts_of(B, T, documents)}

    def forward(i: Inputs) -> tuple[np.ndarray, Any]:
        arrays, how = call(i)
        y, lse = ops.attention_forward(*arrays, *how)
        return y, (y, lse)

    def backward(dy: np.ndarray, i: Inputs, saved: Any, zeros: Zeros) -> dict[str, np.ndarray]:
        arrays, how = call(i)
        return {"qkv": ops.attention_backward(dy, *arrays, *saved, *how)}

    return {"make": make, "forward": forward, "backward": backward, **errors_in(precision)}


def _turned(qkv: np.ndarray, start: int, back: bool = False) -> np.ndarray:
    """qkv (T, W) of four query and two key heads, turned as from position `start` on, or back."""
    heads = Heads(4, 2, qkv.shape[-1] // 8)
    cos, sin = ops.rope_tables(start + len(qkv), heads.hs, dtype=qkv.dtype)
    turned = qkv.copy()
    ops.rope(turned, cos, -sin if back else sin, heads, start)
    return turned


def _attention_cached(window: int = 0, stride: int = 0) -> dict[str, Any]:
    """Of a case at (T, S, hs)."""

    def make(T: int, S: int, hs: int) -> Inputs:
        cached = {name: normal(name, S, 2 * hs) for name in ("keys", "values")}
        return {"qkv": normal("qkv", T, 8 * hs), **cached}

    def forward(i: Inputs) -> tuple[np.ndarray, None]:
        heads = Heads(4, 2, i["keys"].shape[-1] // 2, window, stride)
        return ops.attention_cached(i["qkv"], i["keys"], i["values"], heads), None

    return {"make": make, "forward": forward}


HEADS = [
    *((1, 1, 2), (2, 3, 6), (1, 67, 16), (2, 130, 10), (1, 33, 40), (3, 16, 34), (1, 401, 10), (1, 257, 32)),
    *((2, 47, 66), (1, 511, 24)),
]


CASES: dict[str, Case] = {
    "rope": Case(
        make=lambda T, hs, start: {"qkv": normal("qkv", T, 8 * hs), "start": np.array(start, np.int32)},
        forward=lambda i: (_turned(i["qkv"], int(i["start"])), None),
        backward=lambda dy, i, saved, zeros: {"qkv": _turned(dy, int(i["start"]), back=True)},
        shapes=[(1, 2, 0), (3, 6, 1), (5, 64, 7), (9, 34, 0), (130, 10, 3)],
        bench=(512, 64, 0),
        flop=lambda T, hs, start: 36 * T * hs,
        bytes=lambda T, hs, start: 4 * 24 * T * hs,
    ),
    "attention": Case(
        **_attention(2, 2),
        shapes=HEADS,
        bench=(8, 512, 32),
        flop=lambda B, T, hs: 14 * B * T * T * hs,
        bytes=lambda B, T, hs: 4 * 28 * B * T * hs,
    ),
    "attention_in_bf16": Case(
        **_attention(2, 2, precision="bf16"),
        shapes=HEADS,
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
    "attention_of_documents_in_bf16": Case(
        **_attention(4, 2, documents=3, precision="bf16"),
        shapes=HEADS,
        bench=(8, 512, 32),
        flop=lambda B, T, hs: 28 * B * T * T * hs / 3,
        bytes=lambda B, T, hs: 4 * 46 * B * T * hs,
    ),
    "attention_cached": Case(
        **_attention_cached(),
        shapes=[(1, 1, 2), (1, 67, 16), (3, 3, 6), (5, 130, 10), (2, 401, 64), (17, 33, 34)],
        bench=(1, 2048, 64),
        flop=lambda T, S, hs: 16 * T * S * hs,
        bytes=lambda T, S, hs: 4 * 4 * S * hs,
    ),
    "attention_of_windows": Case(
        **_attention(4, 2, window=5),
        shapes=[(1, 1, 2), (2, 3, 6), (2, 67, 16), (1, 401, 10), (1, 257, 32)],
        bench=(1, 4096, 32),
        flop=lambda B, T, hs: 56 * B * Heads(4, 2, hs, 5).pairs(T) * hs,
        bytes=lambda B, T, hs: 4 * 46 * B * T * hs,
    ),
    "attention_of_windows_and_strides": Case(
        **_attention(2, 1, documents=3, window=37, stride=5),
        shapes=[(1, 1, 2), (2, 3, 6), (3, 67, 16), (2, 130, 10), (1, 401, 10), (2, 257, 32)],
        bench=(1, 4096, 32),
        flop=lambda B, T, hs: 28 * B * Heads(2, 1, hs, 37, 5).pairs(T) * hs / 3,
        bytes=lambda B, T, hs: 4 * 26 * B * T * hs,
    ),
    "attention_of_windows_and_strides_in_bf16": Case(
        **_attention(2, 1, documents=3, window=37, stride=5, precision="bf16"),
        shapes=[(2, 67, 16), (1, 401, 10), (1, 257, 32)],
        bench=(1, 4096, 32),
        flop=lambda B, T, hs: 28 * B * Heads(2, 1, hs, 37, 5).pairs(T) * hs / 3,
        bytes=lambda B, T, hs: 4 * 26 * B * T * hs,
    ),
    "attention_cached_of_windows_and_strides": Case(
        **_attention_cached(window=13, stride=5),
        shapes=[(1, 1, 2), (1, 67, 16), (5, 130, 10), (2, 401, 64), (17, 33, 34)],
        bench=(1, 2048, 64),
        flop=lambda T, S, hs: 16 * T * (13 + (S - 13) / 5) * hs,
        bytes=lambda T, S, hs: 4 * 4 * (13 + (S - 13) / 5) * hs,
    ),
}
