"""Alarms: what in the numbers of a run cannot be right, or is of no use, told once with a reason.

    watch = Alarms(facts)
    for alarm in watch.stepped(...):  ...      after every step
    for alarm in watch.evaluated(...):  ...    after every evaluation

They see numbers and weights alone and change nothing, so any loop can feed them.
"""

import math
from collections.abc import Callable, Mapping
from statistics import median
from typing import NamedTuple

import numpy as np

from microgpt.common.words import counted

from .ngrams import UNIFORM, UNIGRAM, name_of

CLEAR = 4.0  # standard errors: a difference beyond is no chance
STILL_STEPS = 3  # with a learning rate of zero
SLOW_STEPS, SLOW_S = 20, 60.0  # so many steps, in no less than so many seconds, have one speed, their median;
SLOW = 0.5  # of the median of those before
WORSE = 3  # evaluations in a row
LATE, AT_END = 0.5, 0.9  # of the steps of a run: bigrams are to be beaten from then on, and longer n-grams,
FOR_BIGRAM, FOR_LONGER = 2, 20  # tokens for each parameter: a shorter run may well not know more,
FEWEST_TO_COUNT = 500_000  # nor a smaller model, which has fewer numbers than the tables
FEWEST_PARAMETERS, FEWEST_TOKENS = 40e6, 0.5e9  # where published fits begin to hold
ABOVE_FIT = 1.0  # nats


class Alarm(NamedTuple):
    """Something that is wrong with a run: its name, why, and what to look at."""

    name: str
    why: str
    look: str


class Facts(NamedTuple):
    """What is known of a run before it starts.

    first_loss: of random weights, and how far from it the first loss may be; None: the weights are given.
    baselines:  held-out nats per token by name, as of `ngrams`; asked for when they are due.
    """

    n_params: int
    max_steps: int
    first_loss: tuple[float, float] | None = None
    baselines: Callable[[], Mapping[str, float]] = dict


class Loss(NamedTuple):
    """A loss without dropout in nats per token, and its standard error if that is known."""

    loss: float
    error: float | None = None


class Alarms:
    """Sees what happens in a run; each alarm sounds once."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._told: set[str] = set()
        self._n_still = self._n_worse = 0
        self._steps: list[tuple[float, float]] = []  # speed and seconds of the latest
        self._speeds: list[float] = []  # of all stretches before them
        self._best = Loss(math.inf)
        self._training_then = math.inf  # loss when held-out text was foretold best
        self._sums: dict[str, float] = {}
        self._seen_step: int | None = None

    def stepped(self, step: int, loss: float, lr: float, tok_per_s: float, dt_s: float) -> list[Alarm]:
        """After the optimizer step of this number, the first being 1, which took dt_s seconds."""
        found = [self._first(loss)] if step == 1 else []
        return self._new([*found, self._still(lr), self._slow(tok_per_s, dt_s)])

    def evaluated(
        self,
        step: int,
        tokens: int,
        held_out: Loss,
        training: Loss | None = None,
        params: Mapping[str, np.ndarray] | None = None,
    ) -> list[Alarm]:
        """After an evaluation.

        Args: tokens: trained on so far.  training: the same measure on text that is trained on.
              params: the weights, to see whether they move.
        """
        found = [
            self._beaten(step, tokens, held_out),
            self._above_fits(tokens, held_out),
            self._unmoved(step, params),
        ]
        if training is not None:
            found += [self._better(step, held_out, training), self._memorising(step, held_out, training)]
        return self._new(found)

    def planned(self, max_steps: int) -> None:
        """The run has another number of steps from now on."""
        self._facts = self._facts._replace(max_steps=max_steps)

    def _new(self, found: list[Alarm | None]) -> list[Alarm]:
        new = [alarm for alarm in found if alarm is not None and alarm.name not in self._told]
        self._told |= {alarm.name for alarm in new}
        return new

    # ---- after a step

    def _first(self, loss: float) -> Alarm | None:
        if self._facts.first_loss is None:
            return None
        wanted, tolerance = self._facts.first_loss
        if abs(loss - wanted) <= tolerance:
            return None
        why = f"{loss:.3f}, such random weights have {wanted:.3f} +- {tolerance:.3f}"
        return Alarm("first loss", why, "the shift of targets, the mask, initial weights; `microgpt probe`")

    def _still(self, lr: float) -> Alarm | None:
        self._n_still = 0 if lr > 0 else self._n_still + 1
        if self._n_still < STILL_STEPS:
            return None
        why = f"zero for {STILL_STEPS} steps: they change nothing"
        return Alarm("learning rate", why, "--lr, --min-lr, --decay-steps")

    def _slow(self, tok_per_s: float, dt_s: float) -> Alarm | None:
        self._steps.append((tok_per_s, dt_s))
        seconds = sum(dt for _, dt in self._steps)
        if len(self._steps) < SLOW_STEPS or seconds < SLOW_S:
            return None
        now, self._steps = median(speed for speed, _ in self._steps), []
        before = median(self._speeds) if self._speeds else now
        self._speeds.append(now)
        if now >= SLOW * before:
            return None
        why = f"{now:,.0f} tokens a second for {seconds:.0f} seconds, it was {before:,.0f}"
        return Alarm("throughput", why, "what else runs on this machine, its temperature, its memory")

    # ---- after an evaluation

    def _better(self, step: int, held_out: Loss, training: Loss) -> Alarm | None:
        """Text that is not trained on cannot be foretold better than text that is, but by chance."""
        if step == 0 or held_out.error is None or training.error is None:
            return None
        noise = CLEAR * math.hypot(held_out.error, training.error)
        if held_out.loss >= training.loss - noise:
            return None
        why = f"{held_out.loss:.3f} nats, {training.loss:.3f} on training text, both without dropout"
        look = "whether held-out text is trained on, or of another kind"
        return Alarm("held-out better than training", why, look)

    def _memorising(self, step: int, held_out: Loss, training: Loss) -> Alarm | None:
        """Held-out loss is above its best, again and again, while the training loss falls on.

        What a run begins with, as by the counts of pairs, is no best that it has come to.
        """
        if step == 0:
            return None
        if held_out.loss < self._best.loss:
            self._best, self._training_then, self._n_worse = held_out, training.loss, 0
            return None
        is_worse = held_out.loss > self._best.loss + 2 * (held_out.error or 0.0)
        self._n_worse = self._n_worse + 1 if is_worse and training.loss < self._training_then else 0
        if self._n_worse < WORSE:
            return None
        why = (
            f"{held_out.loss:.3f} nats held out, it was {self._best.loss:.3f}; on training text "
            f"{training.loss:.3f}, it was {self._training_then:.3f}"
        )
        return Alarm(
            "memorising", why, "more text, fewer passes, --dropout, --stop-after, the best checkpoint"
        )

    def _beaten(self, step: int, tokens: int, held_out: Loss) -> Alarm | None:
        """By now counting pairs of tokens should be beaten; at the end longer n-grams, too."""
        N, done = self._facts.n_params, step / max(1, self._facts.max_steps)
        if N < FEWEST_TO_COUNT or done < LATE or tokens < FOR_BIGRAM * N:
            return None
        is_at_end = done >= AT_END and tokens >= FOR_LONGER * N
        for name, loss in self._facts.baselines().items():
            is_due = is_at_end or name in (UNIFORM, UNIGRAM, name_of(2))
            if is_due and held_out.loss > loss + 2 * (held_out.error or 0.0):
                why = f"the {name} baseline has {loss:.3f} nats held out, this model {held_out.loss:.3f}"
                return Alarm(f"beaten by {name}", why, "--lr, the number of steps, `microgpt probe`")
        return None

    def _above_fits(self, tokens: int, held_out: Loss) -> Alarm | None:
        wanted = published_fit(self._facts.n_params, tokens)
        if wanted is None or held_out.loss <= wanted + ABOVE_FIT:
            return None
        why = f"{held_out.loss:.3f} nats, published fits have {wanted:.3f} for such a model and so much text"
        return Alarm("far above published fits", why, "a bug, not a bigger model: `microgpt probe`, the data")

    def _unmoved(self, step: int, params: Mapping[str, np.ndarray] | None) -> Alarm | None:
        """Which weights are the same as at the evaluation before."""
        if params is None:
            return None
        sums = {name: float(np.dot(flat := value.reshape(-1), flat)) for name, value in params.items()}
        before, self._sums = self._sums, sums
        last, self._seen_step = self._seen_step, step
        same = [name for name in sums if before.get(name) == sums[name]]
        if not same or last is None or step - last < STILL_STEPS:
            return None
        why = (
            f"{counted(len(same), 'parameter')} did not change in {step - last} steps: {', '.join(same[:3])}"
        )
        return Alarm("layer without gradient", why, "frozen parameters, the backward of that layer")


def published_fit(n_params: float, tokens: float) -> float | None:
    """Nats per token that a model of this size reaches after so many tokens; None out of the range of fits.

    L = 1.8169 + 482.01 / N^0.3478 + 2085.43 / D^0.3658, of web text and books in tokens of a vocabulary of
    32,000 (Besiroglu et al. 2024, arXiv 2404.10102, of the runs of Hoffmann et al. 2022).
    """
    if n_params < FEWEST_PARAMETERS or tokens < FEWEST_TOKENS:
        return None
    return 1.8169 + 482.01 / n_params**0.3478 + 2085.43 / tokens**0.3658


def fit_note(n_params: int, tokens: int) -> str:
    """What published fits say of a run, for the screen."""
    wanted = published_fit(n_params, tokens)
    if wanted is None:
        return (
            f"published ones do not apply, they begin at {FEWEST_PARAMETERS / 1e6:.0f}M parameters and "
            f"{FEWEST_TOKENS / 1e9:.1f}B tokens"
        )
    return f"published ones have {wanted:.2f} nats per token for such a model and {tokens / 1e9:.1f}B tokens"
