"""Rotary positions and attention: over whole windows, and of new positions to cached ones."""

from typing import Any

import numpy as np

from microgpt.common.errors import ShapeError
from microgpt.core import native, reference
from microgpt.core.arrays import empty, empty_like
from microgpt.core.backend import op
from microgpt.core.heads import Heads
from microgpt.core.native import arg, out

rope_tables = reference.rope_tables


@op
def rope(qkv: np.ndarray, cos: np.ndarray, sin: np.ndarray, heads: Heads, start: int = 0) -> None:
    """Rotate queries and keys in place by their position, for a cache of rotated keys; training has this
    inside its attention.

    Args:    qkv: (T, W), packed as `heads` says.  cos, sin: (at least start+T, hs/2), of `rope_tables`.
             start: position of the first row.
    Source:  Su et al. 2021 (arXiv 2104.09864), eq. 34, with the pairs (i, i + hs/2) of a head.
    """
    T = len(qkv)
    tables = _tables("rope", cos, sin, start + T, heads.hs)
    native.lib.mg_rope(arg("qkv", qkv, (T, heads.width)), *tables, T, *_sizes(heads), start)


@op
def attention_forward(
    qkv: np.ndarray,
    cos: np.ndarray,
    sin: np.ndarray,
    heads: Heads,
    starts: np.ndarray | None = None,
    precision: str = "fp32",
) -> tuple[np.ndarray, np.ndarray]:
    """Causal self-attention over packed projections, with rotary positions.

    probs = softmax(q k^T / sqrt(hs)) over the keys s that t sees;  y = probs v;  q, k turned as by `rope`
    Seen: starts[t] <= s <= t; with a window s > t - window, or else the stride divides s - starts[t].

    Args:    qkv: (B, T, W), packed as `heads` says, not rotated.
             cos, sin: of `rope_tables`, at least T rows.
             starts: (B, T) int32, where the document of each row begins; None: all at 0.
             precision: of all products inside, fp32 or bf16: `native.products_in`.
    Returns: y: (B, T, C).  lse: (B, H, T), natural log, kept for backward.
    Raises:  ShapeError: wrong shapes; a start behind its row, or before the start of the row before.
    Cost:    4*hs FLOP for each query head and each pair of positions that is seen, so 2*B*T*T*C where
             every row is one document without a window; memory O(B*T*C), scores are never stored.
    Source:  Vaswani 2017 (arXiv 1706.03762) eq. 1; recomputation as in Dao 2022 (arXiv 2205.14135).
    """
    B, T, _ = qkv.shape
    tables, by = _tables("attention_forward", cos, sin, T, heads.hs), native.products_in(precision)
    y, lse, scratch = empty((B, T, heads.C)), empty((B, heads.H, T)), _attention_scratch(B, T, heads, by)
    bad = by.lib.mg_attention_forward(
        out(y),
        out(lse),
        out(scratch),
        arg("qkv", qkv, (B, T, heads.width)),
        *tables,
        _starts(starts, B, T),
        B,
        T,
        *_sizes(heads),
        heads.window,
        heads.stride,
        by.how,
    )
    _refuse_start("attention_forward", starts, bad)
    return y, lse


@op
def attention_backward(
    dy: np.ndarray,
    qkv: np.ndarray,
    cos: np.ndarray,
    sin: np.ndarray,
    y: np.ndarray,
    lse: np.ndarray,
    heads: Heads,
    starts: np.ndarray | None = None,
    precision: str = "fp32",
) -> np.ndarray:
    """Gradient of qkv: (B, T, W).  y and lse as the forward returned them, precision as it was told."""
    B, T, _ = qkv.shape
    dqkv, by = empty_like(qkv), native.products_in(precision)
    bad = by.lib.mg_attention_backward(
        out(dqkv),
        out(_attention_scratch(B, T, heads, by)),
        arg("dy", dy, (B, T, heads.C)),
        arg("qkv", qkv, (B, T, heads.width)),
        *_tables("attention_backward", cos, sin, T, heads.hs),
        arg("y", y, (B, T, heads.C)),
        arg("lse", lse, (B, heads.H, T)),
        _starts(starts, B, T),
        B,
        T,
        *_sizes(heads),
        heads.window,
        heads.stride,
        by.how,
    )
    _refuse_start("attention_backward", starts, bad)
    return dqkv


def _sizes(heads: Heads) -> tuple[int, int, int]:
    return heads.H, heads.H_kv, heads.hs


def _starts(starts: np.ndarray | None, B: int, T: int) -> Any:
    return native.ffi.NULL if starts is None else arg("starts", starts, (B, T), np.int32)


def _refuse_start(name: str, starts: np.ndarray | None, bad: int) -> None:
    if starts is not None and bad >= 0:
        b, t = divmod(bad, starts.shape[1])
        raise ShapeError(
            f"{name}: row {b} begins its document at {starts[b, t]} for position {t}; expected a position "
            "up to its own, and none before the one of the position before"
        )


def _tables(name: str, cos: np.ndarray, sin: np.ndarray, rows: int, hs: int) -> tuple[Any, Any]:
    if len(cos) < rows:
        raise ShapeError(f"{name}: {rows} positions; the rotary tables end at {len(cos) - 1}")
    shape = (len(cos), hs // 2)
    return arg("cos", cos, shape), arg("sin", sin, shape)


def _attention_scratch(B: int, T: int, heads: Heads, by: native.Products) -> np.ndarray:
    n = by.lib.mg_attention_scratch(B, T, *_sizes(heads), heads.window, heads.stride)
    return empty((n,))


@op
def attention_cached(qkv: np.ndarray, keys: np.ndarray, values: np.ndarray, heads: Heads) -> np.ndarray:
    """The attention of T new rows of one sequence against S cached rows, the last T of which are their own.

    Args:    qkv: (T, W), packed as `heads` says, rotated.  keys, values: (S, C_kv), S >= T, of one document.
    Returns: y: (T, C).
    """
    T, S = len(qkv), len(keys)
    if S < T:
        raise ShapeError(f"attention_cached: {S} cached rows; expected at least the {T} new ones")
    y, scratch = empty((T, heads.C)), empty((T, heads.H, S))
    native.lib.mg_attention_cached(
        out(y),
        out(scratch),
        arg("qkv", qkv, (T, heads.width)),
        arg("keys", keys, (S, heads.C_kv)),
        arg("values", values, (S, heads.C_kv)),
        T,
        S,
        *_sizes(heads),
        heads.window,
        heads.stride,
    )
    return y
