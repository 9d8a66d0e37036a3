"""The rows between the layers: embedding, dropout, what a branch adds, and the loss at their end."""

import numpy as np

from microgpt.common.errors import ShapeError
from microgpt.core import native
from microgpt.core.arrays import empty, empty_like
from microgpt.core.backend import op
from microgpt.core.native import arg, out

from .products import stored, type_of


@op
def embedding_forward(weight: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Look up rows.

    Args:    weight: (V, C), float32 or stored bfloat16 (`bf16_bits`).  ids: (N,) int32 in [0, V).
    Returns: y: (N, C).
    Raises:  ShapeError: an id outside the table.
    """
    (V, C), (N,) = weight.shape, ids.shape
    y = empty((N, C))
    bad = native.lib.mg_embedding_forward(
        out(y),
        arg("weight", weight, (V, C), stored(weight)),
        arg("ids", ids, (N,), np.int32),
        N,
        C,
        V,
        type_of(weight),
    )
    if bad >= 0:
        raise ShapeError(f"embedding_forward: id {ids[bad]} at position {bad}; expected 0 to {V - 1}")
    return y


@op
def embedding_backward(dy: np.ndarray, ids: np.ndarray, dweight: np.ndarray) -> None:
    """Add dy's rows into the rows of dweight that ids name."""
    N, C = dy.shape
    native.lib.mg_embedding_backward(
        arg("dweight", dweight, (len(dweight), C)),
        arg("dy", dy, (N, C)),
        arg("ids", ids, (N,), np.int32),
        N,
        C,
    )


@op
def dropout_forward(x: np.ndarray, p: float, keys: np.ndarray) -> np.ndarray:
    """Zero each element with probability p, divide the others by 1-p.

    Which ones is a function of (key, index in the window): keys (B,) uint64 are those of B windows of equal
    size, one behind the other in x, so that no mask depends on what else is in the batch.
    """
    y = empty_like(x)
    B, n = _windows("dropout_forward", x, keys)
    native.lib.mg_dropout(out(y), arg("x", x, x.shape), arg("keys", keys, (B,), np.uint64), B, n, p)
    return y


@op
def dropout_backward(dy: np.ndarray, p: float, keys: np.ndarray) -> np.ndarray:
    """The same elements and factors as in the forward."""
    dx = empty_like(dy)
    B, n = _windows("dropout_backward", dy, keys)
    native.lib.mg_dropout(out(dx), arg("dy", dy, dy.shape), arg("keys", keys, (B,), np.uint64), B, n, p)
    return dx


@op
def residual_forward(x: np.ndarray, branch: np.ndarray, p: float, keys: np.ndarray) -> np.ndarray:
    """y = x + dropout(branch); a plain sum for p = 0."""
    y = empty_like(x)
    B, n = _windows("residual_forward", x, keys)
    native.lib.mg_residual_forward(
        out(y),
        arg("x", x, x.shape),
        arg("branch", branch, x.shape),
        arg("keys", keys, (B,), np.uint64),
        B,
        n,
        p,
    )
    return y


@op
def residual_backward(dy: np.ndarray, p: float, keys: np.ndarray) -> np.ndarray:
    """Gradient of the branch; that of x is dy itself.  For p = 0 they are the same array."""
    return dropout_backward(dy, p, keys) if p else dy


def _windows(name: str, x: np.ndarray, keys: np.ndarray) -> tuple[int, int]:
    """How many windows x consists of, and the elements of each."""
    B = len(keys)
    if not B or x.size % B:
        raise ShapeError(f"{name}: {x.size} elements; expected {B} windows of equal size, one for each key")
    return B, x.size // B


@op
def cross_entropy_forward(logits: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """loss[n] = lse[n] - logits[n, targets[n]] in nats, 0 where the target is -1.

    Args:    logits: (N, V).  targets: (N,) int32 in [-1, V).
    Returns: loss: (N,).  lse: (N,), log-sum-exp of the row, kept for backward.
    Raises:  ShapeError: a target outside the vocabulary.
    """
    N, V = logits.shape
    loss, lse = empty((N,)), empty((N,))
    bad = native.lib.mg_cross_entropy_forward(
        out(loss), out(lse), arg("logits", logits, (N, V)), arg("targets", targets, (N,), np.int32), N, V
    )
    if bad >= 0:
        raise ShapeError(
            f"cross_entropy_forward: target {targets[bad]} at position {bad}; expected -1 to {V - 1}"
        )
    return loss, lse


@op
def cross_entropy_backward(
    logits: np.ndarray, lse: np.ndarray, targets: np.ndarray, scale: float
) -> np.ndarray:
    """dlogits = scale * (softmax(logits) - onehot(target)).  Overwrites and returns `logits`."""
    N, V = logits.shape
    pointer = arg("logits", logits, (N, V))
    native.lib.mg_cross_entropy_backward(
        pointer, pointer, arg("lse", lse, (N,)), arg("targets", targets, (N,), np.int32), N, V, scale
    )
    return logits
