"""The least sum of Huber losses of a logarithm of sums of powers, of many problems at once.

    y ~ log(e^t0 + sum over terms j of e^(a_j - b_j x_j))        theta = t0, a_1, b_1, a_2, b_2, ...

x holds the logarithms (n, J) of what is raised to powers, y the logarithms of losses.  Laws of many draws, or
from many starts, differ in y, in weights or in where they begin, so their steps are taken side by side.
"""

import numpy as np

_FEWEST, _MOST = -8.0, 3.0  # of t0
_STEEPEST = 4.0  # of an exponent
_DELTAS = 12.0  # a delta is come down to in such steps, so that no fit ends in a corner of a rough sum
SMOOTH = 0.1  # from here on
_AT_ONCE = 1 << 14  # points of all problems, so that their arrays stay in the cache
_N_STEPS, _N_BAD = 300, 12  # at most, and in a row without gain
_STILL = 1e-10  # of its sum: a problem that can fall by no more is solved


def huber(residuals: np.ndarray, delta: float) -> np.ndarray:
    """r^2 / 2 up to delta, delta (|r| - delta / 2) beyond."""
    size = np.abs(residuals)
    return np.where(size <= delta, residuals**2 / 2, delta * (size - delta / 2))


def least(
    x: np.ndarray, y: np.ndarray, theta: np.ndarray, delta: float, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Theta (K, 1 + 2 J) of the least sums, from a delta that makes them smooth down to the one asked for.

    Args:     y: (K, n), or (1, n) for all.  theta: where to start.  weights: of each point (K, n).
    Returns:  theta, and the sums (K,).
    """
    y = np.broadcast_to(y, (len(theta), y.shape[1]))
    weights = np.broadcast_to(1.0 if weights is None else weights, y.shape)
    theta, values, deltas = theta.copy(), np.zeros(len(theta)), [delta]
    while deltas[-1] < SMOOTH:
        deltas.append(deltas[-1] * _DELTAS)
    for first in range(0, len(theta), at_once := max(1, _AT_ONCE // len(x))):
        part = slice(first, first + at_once)
        for one in reversed(deltas):
            theta[part], values[part] = _newton(x, y[part], theta[part], one, weights[part])
    return theta, values


def _newton(
    x: np.ndarray, y: np.ndarray, theta: np.ndarray, delta: float, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Damped Newton steps of K problems side by side, each until it no longer falls.

    The Hessian's eigenvalues are taken without their signs (Dauphin et al. 2014, arXiv 1406.2572), so each
    step goes down; the damping of a problem grows where its step did not, and shrinks where it did.
    """
    theta = theta.copy()
    values, damping = _value(x, y, theta, delta, weights), np.full(len(theta), 1e-3)
    n_bad, left = np.zeros(len(theta), int), np.arange(len(theta))
    for _ in range(_N_STEPS):
        at, w = theta[left], weights[left]
        step, gradient = _step(x, y[left], at, delta, w, damping[left])
        tried = at + step
        tried[:, 0] = np.clip(tried[:, 0], _FEWEST, _MOST)
        tried[:, 2::2] = np.clip(tried[:, 2::2], -_STEEPEST, _STEEPEST)
        after = _value(x, y[left], tried, delta, w)
        gain = values[left] - after
        is_good = gain > 0
        good = left[is_good]
        theta[good], values[good] = tried[is_good], after[is_good]
        damping[left] = np.clip(np.where(is_good, damping[left] / 5, damping[left] * 7), 1e-12, 1e12)
        n_bad[left] = np.where(is_good, 0, n_bad[left] + 1)
        foretold = -(gradient * step).sum(-1)
        left = left[(foretold > _STILL * values[left] + 1e-16 * delta**2) & (n_bad[left] < _N_BAD)]
        if not len(left):
            break
    return theta, values


def _parts(x: np.ndarray, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log loss of K laws at n points (K, n), and the share that each term has of it (K, n, 1 + J)."""
    exponents = theta[:, None, 1::2] - theta[:, None, 2::2] * x
    terms = np.concatenate([np.broadcast_to(theta[:, None, :1], (*exponents.shape[:2], 1)), exponents], -1)
    most = terms.max(-1, keepdims=True)
    shares = np.exp(terms - most)
    whole = shares.sum(-1, keepdims=True)
    return (most + np.log(whole))[..., 0], shares / whole


def _value(x: np.ndarray, y: np.ndarray, theta: np.ndarray, delta: float, weights: np.ndarray) -> np.ndarray:
    return (weights * huber(_parts(x, theta)[0] - y, delta)).sum(-1)


def _step(
    x: np.ndarray, y: np.ndarray, theta: np.ndarray, delta: float, weights: np.ndarray, damping: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """-(|H| + damping)^-1 g of each problem, in units in which the diagonal of H is about 1; and g."""
    wanted, shares = _parts(x, theta)
    residuals = wanted - y
    J = x.shape[1]
    first = np.empty((*residuals.shape, 1 + 2 * J))  # d log loss / d theta
    first[..., 0] = shares[..., 0]
    first[..., 1::2] = shares[..., 1:]
    first[..., 2::2] = -x * shares[..., 1:]
    pull = weights * np.clip(residuals, -delta, delta)
    curved = weights * (np.abs(residuals) <= delta)
    gradient = np.einsum("kn,kni->ki", pull, first)
    hessian = np.einsum("kn,kni,knj->kij", curved - pull, first, first, optimize=True)
    hessian[:, 0, 0] += (pull * shares[..., 0]).sum(-1)
    for j in range(J):  # d^2 of a sum of exponentials: of each term by itself, less the product of firsts
        own, at = pull * shares[..., 1 + j], 1 + 2 * j
        hessian[:, at, at] += own.sum(-1)
        hessian[:, at, at + 1] -= (own * x[:, j]).sum(-1)
        hessian[:, at + 1, at] = hessian[:, at, at + 1]
        hessian[:, at + 1, at + 1] += (own * x[:, j] ** 2).sum(-1)
    majorant = weights * np.minimum(1, delta / np.maximum(np.abs(residuals), 1e-300))
    size = np.sqrt(np.einsum("kn,kni->ki", majorant, first**2) + 1e-300)
    values, vectors = np.linalg.eigh(hessian / size[:, :, None] / size[:, None, :])
    along = np.einsum("kij,ki->kj", vectors, gradient / size)
    along /= np.abs(values) + damping[:, None]
    return -np.einsum("kij,kj->ki", vectors, along) / size, gradient
