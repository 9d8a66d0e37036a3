"""From logits to the next token: a pure function of logits, settings and one uniform number."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from microgpt.common.errors import ConfigError, MicrogptError
from microgpt.common.setting import NOT_NEGATIVE, Range, from_to, refused, setting

PENALTY = 1.1  # where nobody names one and chance plays a part
RECENT = 64  # text tokens back that the repetition penalty looks


@dataclass(frozen=True)
class SamplerConfig:
    """How tokens are chosen.

    Raises: ConfigError: a value outside what it can mean.
    """

    temperature: float = setting(
        0.7,
        "below 1 prefers likely tokens, above 1 flattens; 0: always the likeliest",
        group="sampling",
        within=from_to(0, 100),
    )
    top_k: int = setting(
        40,
        "choose among this many likeliest tokens; 0: all",
        "tokens",
        group="sampling",
        within=NOT_NEGATIVE,
    )
    top_p: float = setting(
        0.95,
        "choose among the likeliest tokens that hold this share of the probability; 1: all",
        group="sampling",
        within=Range(0, 1, is_open=True, most_is_open=False),
    )
    penalty: float | None = setting(
        None,
        f"repetition penalty: multiplies log-probabilities of the last {RECENT} tokens; 1: none "
        f"[default {PENALTY}, at temperature 0 none]",
        group="sampling",
        within=from_to(1, 100),
    )

    def __post_init__(self) -> None:
        if bad := refused(self):
            name, value, expected = bad
            got = f"{value:g}" if isinstance(value, float) else value
            raise ConfigError(f"{name.replace('_', '-')} is {got}; expected {expected}")

    @property
    def penalty_used(self) -> float:
        """The penalty that was named; without one, the likeliest token at temperature 0 is just that."""
        if self.penalty is not None:
            return self.penalty
        return PENALTY if self.temperature else 1


GREEDY = SamplerConfig(temperature=0)


def next_token(
    logits: np.ndarray, config: SamplerConfig, uniform: float = 0.0, recent: Sequence[int] = ()
) -> int:
    """Choose one token.

    Args:    logits: (V,); -inf for tokens that must not come.  uniform: in [0, 1), decides the draw.
             recent: ids that the penalty makes less likely.
    Raises:  MicrogptError: the logits hold a NaN or no finite value.
    """
    scores = penalised(log_softmax(logits), recent, config.penalty_used)
    if config.temperature == 0:
        return int(np.argmax(scores))
    ids, probs = candidates(scores, config)
    place = int(np.searchsorted(np.cumsum(probs), uniform * probs.sum(), side="right"))
    return int(ids[min(place, len(ids) - 1)])


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log-probabilities in float64, (V,)."""
    most = float(logits.max())
    if not math.isfinite(most):
        raise MicrogptError("the model's output is not finite, its weights are bad; take another checkpoint")
    shifted = logits.astype(np.float64) - most
    return shifted - math.log(np.exp(shifted).sum())


def penalised(log_probs: np.ndarray, recent: Sequence[int], penalty: float) -> np.ndarray:
    """Multiply the log-probabilities of recent ids by the penalty (Keskar et al. 2019, section 4.1).

    The usual rule divides positive scores and multiplies negative ones.  Log-probabilities are never
    positive, so only the second half is left; a token that is nearly certain stays so however often it came.
    """
    if penalty == 1 or not len(recent):
        return log_probs
    scores = log_probs.copy()
    ids = np.unique(np.asarray(recent))
    scores[ids] *= penalty
    return scores


def candidates(scores: np.ndarray, config: SamplerConfig) -> tuple[np.ndarray, np.ndarray]:
    """The ids to draw from, likeliest first (of equals the smallest id first), and their probabilities."""
    ids = _top(scores, config.top_k or len(scores))
    with np.errstate(over="ignore"):  # -inf at a tiny temperature: never drawn, as it should be
        probs = np.exp((scores[ids] - scores[ids[0]]) / config.temperature)
    probs /= probs.sum()
    before = np.cumsum(probs) - probs  # probability of all likelier ones
    keep = int((before < config.top_p).sum())
    return ids[:keep], probs[:keep] / probs[:keep].sum()


def _top(scores: np.ndarray, k: int) -> np.ndarray:
    """Ids of the k highest scores that are possible at all, highest first."""
    k = min(k, len(scores))
    least = np.partition(scores, -k)[-k]
    ids = np.flatnonzero((scores >= least) & (scores > -np.inf))
    return ids[np.argsort(-scores[ids], kind="stable")][:k]
