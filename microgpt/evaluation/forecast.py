"""What a law says of models that nobody has trained: their loss, and how long training takes."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from microgpt.common.errors import ConfigError
from microgpt.common.words import format_amount

from .law_runs import Showed
from .laws import FLOP_OF_TOKEN, Fit, Law, draws, interval

FAR = 8  # times the most work of a run: what lies beyond is far
OFF_THE_RAY = 0.1  # in log D
PETA = 1e15
DOUBLINGS = 6


class Forecast(NamedTuple):
    """Of a model: its parameters, tokens and work in FLOP, its loss, and hours if known.

    low, high: the interval of the law there.  run_low, run_high: that of one run, which lies about the law.
    """

    n_params: float
    tokens: float
    flop: float
    loss: float
    low: float
    high: float
    run_low: float
    run_high: float
    hours: float | None
    is_far: bool


class Doubling(NamedTuple):
    """What so many times the work brings: loss, bits saved less than at once the work, and bits gained by
    each further PFLOP at that place."""

    times: int
    n_params: float
    tokens: float
    loss: float
    saved: float
    gain_per_pflop: float


class Speed(NamedTuple):
    """Tokens a second go as scale N^exponent, by runs on one machine."""

    scale: float
    exponent: float
    machine: str

    def tok_per_s(self, n_params: float) -> float:
        """Of a model of this size."""
        return self.scale * n_params**self.exponent


class Forecaster:
    """Foretells by a law and the laws that draws show.

    Args: runs: that showed the law; their speeds, where known, tell how long others take.
    """

    def __init__(self, found: Fit, runs: Sequence[Showed], n_draws: int, seed: int) -> None:
        self.found, self.law = found, found.law
        self.drawn: Law = draws(found, n_draws, seed)
        self.noise = np.random.default_rng(seed + 1).standard_normal(n_draws)
        self.speed = speed_of_sizes(runs)
        n_params, tokens, _ = found.points
        self.most_flop = float((FLOP_OF_TOKEN * n_params * tokens).max())

    def interval(self, values: Any) -> tuple[float, float]:
        """Of something that each drawn law has."""
        return interval(np.asarray(values), self.found.n_free)

    def of(self, n_params: float, tokens: float | None = None) -> Forecast:
        """A model of this size.  tokens: None: as many as a law along a ray has, or as are best for the size.

        Raises: ConfigError: tokens that do not lie on the ray of the law.
        """
        tokens = self.tokens_for(n_params) if tokens is None else tokens
        if self.law.ratio and abs(math.log(tokens / n_params / self.law.ratio)) > OFF_THE_RAY:
            on_it = format_amount(self.tokens_for(n_params))
            raise ConfigError(
                f"{format_amount(n_params)} parameters on {format_amount(tokens)} tokens: the law is known "
                f"along {self.law.ratio:.3g} tokens for each parameter, here {on_it}"
            )
        drawn = self.drawn.loss(n_params, tokens)
        low, high = self.interval(drawn)
        run_low, run_high = self.interval(drawn * np.exp(self.found.spread * self.noise))
        flop = FLOP_OF_TOKEN * n_params * tokens
        hours = None if self.speed is None else tokens / self.speed.tok_per_s(n_params) / 3600
        loss = float(self.law.loss(n_params, tokens))
        return Forecast(
            n_params, tokens, flop, loss, low, high, run_low, run_high, hours, flop > FAR * self.most_flop
        )

    def tokens_for(self, n_params: float) -> float:
        """Tokens for which this size is the best, or those of the ray."""
        if self.law.ratio:
            return n_params * self.law.ratio
        low, high = 0.0, math.log(1e40)
        for _ in range(100):
            middle = (low + high) / 2
            is_small = self.law.best_size(math.exp(middle)) < n_params
            low, high = (middle, high) if is_small else (low, middle)
        return float(self.law.best_tokens(math.exp(high)))

    def reaching(self, loss: float) -> Forecast | None:
        """The model of least work that reaches a loss; None: no work does, by this law."""
        flop = self.law.flop_for(loss)
        if math.isinf(flop):
            return None
        return self.of(float(self.law.best_size(flop)), float(self.law.best_tokens(flop)))

    def doublings(self) -> list[Doubling]:
        """What the most work so far, and then twice as much each time, brings where it is spent best."""
        first, found = float(self.law.least_loss(self.most_flop)), []
        for times in (2**i for i in range(DOUBLINGS + 1)):
            flop = times * self.most_flop
            loss = float(self.law.least_loss(flop))
            gain = (loss - float(self.law.least_loss(1.001 * flop))) / (0.001 * flop / PETA)
            size, tokens = float(self.law.best_size(flop)), float(self.law.best_tokens(flop))
            found.append(Doubling(times, size, tokens, loss, first - loss, gain))
        return found


def speed_of_sizes(runs: Sequence[Showed]) -> Speed | None:
    """How tokens a second go with size, a line through their logarithms; None: runs of fewer than two sizes,
    or of several machines, tell nothing of it."""
    known = [run for run in runs if run.tok_per_s > 0]
    if len({run.machine for run in known}) != 1 or len({run.n_params for run in known}) < 2:
        return None
    x, y = np.log([[run.n_params, run.tok_per_s] for run in known]).T
    exponent, log_scale = np.polyfit(x, y, 1)
    return Speed(float(np.exp(log_scale)), float(exponent), known[0].machine)
