"""What optimizers do to weights, gradients and moments, in place."""

from collections.abc import Sequence

import numpy as np

from microgpt.core import native
from microgpt.core.arrays import workspace
from microgpt.core.backend import op
from microgpt.core.native import arg, out


@op
def sum_squares(x: np.ndarray) -> float:
    """The sum of squares of a flat array, in double, in a fixed order.  Infinities and NaNs come through."""
    (n,) = x.shape
    return native.lib.mg_sum_squares(arg("x", x, (n,)), out(np.empty(n // 65536 + 1)), n)


@op
def adam_step(
    p: np.ndarray,
    grad: np.ndarray,
    m1: np.ndarray,
    m2: np.ndarray,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    step: int,
    grad_scale: float,
) -> None:
    """One Adam update with decoupled weight decay, in place over flat arrays.

    grad is read as grad_scale * grad and left zero, ready for the next step.

    Args:    step: completed updates, so 0 for the first.
    Source:  Kingma & Ba 2014 (arXiv 1412.6980); decay as in Loshchilov & Hutter 2017 (arXiv 1711.05101).
    """
    (n,) = p.shape
    native.lib.mg_adam_step(
        arg("p", p, (n,)),
        arg("m1", m1, (n,)),
        arg("m2", m2, (n,)),
        arg("grad", grad, (n,)),
        n,
        lr,
        beta1,
        beta2,
        1 - beta1,
        1 - beta2,
        eps,
        weight_decay,
        1 - beta1 ** (step + 1),
        1 - beta2 ** (step + 1),
        grad_scale,
    )


@op
def nesterov_momentum(grad: np.ndarray, m: np.ndarray, *, beta: float, grad_scale: float) -> None:
    """m = beta m + (1 - beta) grad_scale grad, and in the place of grad what Nesterov's method takes for it:
    beta m + (1 - beta) grad_scale grad.  In place over flat arrays.

    Source: Nesterov 1983, in the form of Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon/).
    """
    (n,) = grad.shape
    native.lib.mg_nesterov_momentum(arg("grad", grad, (n,)), arg("m", m, (n,)), n, beta, 1 - beta, grad_scale)


@op
def newton_schulz(
    x: Sequence[np.ndarray], polynomials: np.ndarray, margin: float = 1.0, precision: str = "fp32"
) -> None:
    """Bring matrices of one shape, each in place, near to the orthogonal one that has its singular vectors.

    X = X / (margin |X| + 1e-7), |X| the root of the sum of squares; then for each polynomial (a, b, c)
    X = a X + (b A + c A^2) X,  A = X X^T

    Args:   x: n of (M, K), wherever they lie.  polynomials: (steps, 3).  margin: at least 1.  precision: as
            of `linear_forward`.
    Source: Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon/).
    """
    n, (M, K) = len(x), x[0].shape
    by, abc = native.products_in(precision), np.ascontiguousarray(polynomials, np.float32)
    scratch = out(workspace(newton_schulz_scratch(M, K, precision)))
    places = native.ffi.new("float *[]", n)
    for i in range(n):
        places[i] = arg("x", x[i], (M, K))
    steps = len(abc)
    by.lib.mg_newton_schulz(
        places, scratch, arg("polynomials", abc, (steps, 3)), n, M, K, steps, margin, by.how
    )


def newton_schulz_scratch(M: int, K: int, precision: str = "fp32") -> int:
    """Floats that matrices (M, K) become orthogonal in."""
    by = native.products_in(precision)
    return by.lib.mg_newton_schulz_scratch(M, K, by.how)


@op
def descend(p: np.ndarray, update: np.ndarray, *, rate: float, keep: float = 1.0) -> None:
    """p = keep p - rate update, in place over flat arrays; update is left zero."""
    (n,) = p.shape
    native.lib.mg_descend(arg("p", p, (n,)), arg("update", update, (n,)), n, rate, keep)
