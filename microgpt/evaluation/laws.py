"""Laws of loss: how it falls with parameters N and tokens D, as finished runs show it.

    L(N, D) = E + A N^-alpha + B D^-beta    the law of two terms (Hoffmann et al. 2022, arXiv 2203.15556)
    L(N)    = E + A N^-alpha                along a ray, D = r N, where A and B cannot be told apart

Fitted is the logarithm of the loss, by the least sum (no mean) of Huber losses, so that a run which went
wrong pulls no harder than others, from many starts (`power_sums`).  How sure a law is tell laws that other
such runs would have shown (`draws`).

N counts all parameters of a model, embeddings among them; D the tokens that it was trained on, one that came
twice as two; C, a budget, is 6 N D floating-point operations.  L is what the points have: bits per byte of
held-out text where they come from runs, whatever the loss of a table is.
"""

from typing import Any, NamedTuple

import numpy as np

from .power_sums import SMOOTH, huber, least
from .statistics import student_quantile

DELTA = 1e-3  # of log loss: up to here a residual counts squared, beyond in proportion
FLOP_OF_TOKEN = 6  # for each parameter, forward and backward
ON_A_RAY = 0.05  # standard deviation of log(D / N) below which all lies on a ray
SAME_SIZE = 0.02  # in log N: models nearer than that are of one size
N_DRAWS = 1000
COVERED = 0.9  # of true values lie within an interval
FEWEST_SIZES = 3
MANY_RUNS = 40  # from here on runs are drawn, and not noise
FEW_OF_A_SIZE = 8
LARGEST = 1e40  # FLOP

_N_BEST = 6  # starts that are followed to the end
_EXPONENTS = (0.08, 0.25, 0.5, 1.0)  # where fits start, of each term
_SHARES = (0.05, 0.4, 0.8)  # of the mean loss that E starts with


class Points(NamedTuple):
    """What runs showed: parameters, tokens and loss of each, (n,) float64."""

    n_params: np.ndarray
    tokens: np.ndarray
    loss: np.ndarray

    @classmethod
    def of(cls, n_params: Any, tokens: Any, loss: Any) -> "Points":
        """From any three sequences."""
        return cls(*(np.asarray(column, np.float64) for column in (n_params, tokens, loss)))

    def where(self, chosen: np.ndarray) -> "Points":
        """Some of them."""
        return Points(*(column[chosen] for column in self))

    @property
    def sizes(self) -> np.ndarray:
        """The number of each point's size, the smallest being 0, (n,)."""
        order = np.argsort(self.n_params, kind="stable")
        steps = np.diff(np.log(self.n_params[order])) > SAME_SIZE
        numbers = np.empty(len(order), np.int64)
        numbers[order] = np.concatenate([[0], np.cumsum(steps)])
        return numbers

    @property
    def ratio(self) -> float:
        """Tokens for each parameter: their geometric mean."""
        return float(np.exp(np.log(self.tokens / self.n_params).mean()))

    @property
    def is_ray(self) -> bool:
        """Whether tokens are in proportion to parameters, so that N and D say the same."""
        return bool(np.log(self.tokens / self.n_params).std() < ON_A_RAY)


class Law(NamedTuple):
    """Numbers of a law, or arrays of as many laws.  Along a ray B is 0 and `ratio` the tokens for each
    parameter; elsewhere `ratio` is 0."""

    E: Any
    A: Any
    alpha: Any
    B: Any = 0.0
    beta: Any = 0.0
    ratio: float = 0.0

    def at(self, k: int) -> "Law":
        """Law number k of many."""
        E, A, alpha, B, beta = (float(number[k]) for number in self[:5])
        return Law(E, A, alpha, B, beta, self.ratio)

    @property
    def n_numbers(self) -> int:
        """How many numbers were fitted."""
        return 3 if self.ratio else 5

    def loss(self, n_params: Any, tokens: Any) -> Any:
        """What models of so many parameters reach after so many tokens, which along a ray follow."""
        return self.E + self.A * np.power(n_params, -self.alpha) + self.B * np.power(tokens, -self.beta)

    def best_size(self, flop: Any) -> Any:
        """Parameters that reach the least loss with 6 N D = flop; along a ray those that there are.

        N = G (C / 6)^(beta / (alpha + beta)), G = (alpha A / (beta B))^(1 / (alpha + beta))
        """
        if self.ratio:
            return np.sqrt(flop / (FLOP_OF_TOKEN * self.ratio))
        whole = self.alpha + self.beta
        G = (self.alpha * self.A / (self.beta * self.B)) ** (1 / whole)
        return G * (flop / FLOP_OF_TOKEN) ** (self.beta / whole)

    def best_tokens(self, flop: Any) -> Any:
        """The tokens that go with `best_size`."""
        return flop / FLOP_OF_TOKEN / self.best_size(flop)

    def least_loss(self, flop: Any) -> Any:
        """What the best model for so much work reaches."""
        return self.loss(self.best_size(flop), self.best_tokens(flop))

    def flop_for(self, loss: float) -> float:
        """The least work that reaches a loss; infinite where no work does."""
        low, high = 0.0, np.log(LARGEST)
        if self.least_loss(LARGEST) > loss:
            return float("inf")
        for _ in range(100):
            middle = (low + high) / 2
            low, high = (middle, high) if self.least_loss(np.exp(middle)) > loss else (low, middle)
        return float(np.exp(high))


class Fit(NamedTuple):
    """A law of points.  objective: the least sum of Huber losses."""

    law: Law
    points: Points
    delta: float
    objective: float

    @property
    def residuals(self) -> np.ndarray:
        """Log loss less that of the law, (n,)."""
        return np.log(self.points.loss) - np.log(self.law.loss(self.points.n_params, self.points.tokens))

    @property
    def r_squared(self) -> float:
        """Share of the variance of log loss that the law explains."""
        y = np.log(self.points.loss)
        return 1 - float((self.residuals**2).sum() / ((y - y.mean()) ** 2).sum())

    @property
    def spread(self) -> float:
        """Standard deviation of a run's log loss about the law."""
        return float(np.sqrt((self.residuals**2).sum() / max(1, self.n_free)))

    @property
    def n_free(self) -> int:
        """Points less the numbers that they were to tell."""
        return len(self.points.loss) - self.law.n_numbers


def objective(law: Law, points: Points, delta: float = DELTA) -> float:
    """Sum over points of the Huber loss of log loss less that of the law."""
    wanted = np.log(law.loss(points.n_params, points.tokens))
    return float(huber(np.log(points.loss) - wanted, delta).sum())


def fit(points: Points, delta: float = DELTA, is_ray: bool | None = None) -> Fit:
    """The law that points show.

    Args: is_ray: whether it is to be the law along a ray; None: that which the points allow.
    """
    inputs = _Inputs.of(points, points.is_ray if is_ray is None else is_ray)
    y = np.log(points.loss)[None] - inputs.mean_loss
    theta, values = least(inputs.x, y, inputs.starts(), SMOOTH)
    theta, values = least(inputs.x, y, theta[np.argsort(values)[:_N_BEST]], delta)
    best = int(np.argmin(values))
    return Fit(inputs.law(theta).at(best), points, delta, float(values[best]))


def refit(found: Fit, losses: np.ndarray, weights: np.ndarray | None = None) -> Law:
    """Laws of the same points with other losses (K, n), or with each point counted so many times (K, n)."""
    inputs = _Inputs.of(found.points, bool(found.law.ratio))
    starts = np.repeat(inputs.theta(found.law), len(losses), 0)
    theta, _ = least(inputs.x, np.log(losses) - inputs.mean_loss, starts, found.delta, weights)
    return inputs.law(theta)


class _Inputs(NamedTuple):
    """Points as `power_sums` takes them: x, the logarithms (n, J) of N, or of N and D, less their means, so
    that a coefficient depends little on its exponent; log loss less its mean."""

    x: np.ndarray
    means: np.ndarray
    mean_loss: float
    ratio: float

    @classmethod
    def of(cls, points: Points, is_ray: bool) -> "_Inputs":
        x = np.log(np.stack([points.n_params] if is_ray else [points.n_params, points.tokens], -1))
        means = x.mean(0)
        return cls(x - means, means, float(np.log(points.loss).mean()), points.ratio if is_ray else 0.0)

    def law(self, theta: np.ndarray) -> Law:
        """K laws in one, of theta (K, 1 + 2 J)."""
        exponents = theta[:, 2::2].T
        E = np.exp(theta[:, 0] + self.mean_loss)
        at_one = np.exp(theta[:, 1::2].T + exponents * self.means[:, None] + self.mean_loss)
        if self.ratio:
            return Law(E, at_one[0], exponents[0], np.zeros_like(E), np.zeros_like(E), self.ratio)
        return Law(E, at_one[0], exponents[0], at_one[1], exponents[1])

    def theta(self, law: Law) -> np.ndarray:
        """The inverse, of one law: (1, 1 + 2 J)."""
        found = [np.log(law.E) - self.mean_loss]
        for (coefficient, exponent), mean in zip([law[1:3], law[3:5]], self.means, strict=False):
            found += [np.log(coefficient) - exponent * mean - self.mean_loss, exponent]
        return np.array([found])

    def starts(self) -> np.ndarray:
        """Every choice of some exponents, and of the part of the loss that is E."""
        J = len(self.means)
        grid = np.stack(np.meshgrid(_SHARES, *[_EXPONENTS] * J, indexing="ij"), -1).reshape(-1, 1 + J)
        theta = np.empty((len(grid), 1 + 2 * J))
        theta[:, 0] = np.log(grid[:, 0])
        theta[:, 1::2] = np.log((1 - grid[:, :1]) / J)
        theta[:, 2::2] = grid[:, 1:]
        return theta


# ---------------------------------------------------------------------------- how sure a law is


def draws(found: Fit, n_draws: int = N_DRAWS, seed: int = 0) -> Law:
    """Laws that other such runs would have shown, one of each draw.

    Of many runs, as many are drawn anew, those of each size, or of a few neighbouring sizes, among
    themselves (the bootstrap of Rao, Wu 1988, Journal of the American Statistical Association 83).  Few runs
    have too few others to be drawn: then losses are those of the law, with noise as large as the residuals.
    """
    rng, n = np.random.default_rng(seed), len(found.points.loss)
    if n >= MANY_RUNS:
        weights = np.empty((n_draws, n))
        for group in _groups(found.points.sizes):
            weights[:, group] = _drawn(rng, n_draws, len(group))
        return refit(found, np.broadcast_to(found.points.loss, weights.shape), weights)
    wanted = np.log(found.points.loss) - found.residuals
    return refit(found, np.exp(wanted + found.spread * rng.standard_normal((n_draws, n))))


def _drawn(rng: np.random.Generator, n_draws: int, n: int) -> np.ndarray:
    """How often each of n runs counts, (n_draws, n), when n - 1 of them are drawn to stand for n."""
    chosen = rng.integers(n, size=(n_draws, n - 1))
    counts = np.zeros((n_draws, n))
    np.add.at(counts, (np.arange(n_draws)[:, None], chosen), n / (n - 1))
    return counts


def _groups(sizes: np.ndarray) -> list[np.ndarray]:
    """Points by size, from the smallest on; a size of few points goes with the next."""
    groups: list[np.ndarray] = []
    for number in range(sizes.max() + 1):
        here = np.flatnonzero(sizes == number)
        if groups and len(groups[-1]) < FEW_OF_A_SIZE:
            groups[-1] = np.concatenate([groups[-1], here])
        else:
            groups.append(here)
    if len(groups) > 1 and len(groups[-1]) < FEW_OF_A_SIZE:
        groups[-2:] = [np.concatenate(groups[-2:])]
    return groups


def interval(values: np.ndarray, n_free: int, covered: float = COVERED) -> tuple[float, float]:
    """Ends between which a true value lies in `covered` of cases, by what draws have of it.

    Percentiles of the draws, taken further out for the few runs that tell how large noise is, as Student's
    distribution is wider than the normal one (Hesterberg 2015, The American Statistician 69).
    """
    from scipy.special import ndtr  # a large package, which --help does not need

    tail = float(ndtr(student_quantile(max(1, n_free), (1 - covered) / 2)))
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def left_out(found: Fit) -> dict[int, float]:
    """By size, the mean error of log loss as the law of all other sizes foretells it.

    Returns:  nothing where the others are too few to show a law.
    """
    points, sizes = found.points, found.points.sizes
    is_left_out = sizes == np.arange(sizes.max() + 1)[:, None]  # (sizes, n)
    n_others = len(sizes) - is_left_out.sum(1).max()
    if len(is_left_out) <= FEWEST_SIZES or n_others <= found.law.n_numbers:
        return {}
    laws = refit(found, np.broadcast_to(points.loss, is_left_out.shape), 1.0 - is_left_out)
    errors = {}
    for number, here in enumerate(is_left_out):
        own = points.where(here)
        wanted = laws.at(number).loss(own.n_params, own.tokens)
        errors[number] = float((np.log(own.loss) - np.log(wanted)).mean())
    return errors
