"""What holds a run back: more data, a larger model, another schedule, a bug, or nothing.

A model that is broken looks as one that is too small: its loss has stopped falling.  So nothing is said of
size before the probes have passed, and none of it without numbers that chance does not make.
"""

from collections.abc import Sequence
from typing import NamedTuple

from .alarms import ABOVE_FIT
from .annealing import FEWEST, Course
from .finding import Finding

DATA, CAPACITY, SCHEDULE, BUG, NOTHING, UNKNOWN = (
    "data",
    "capacity",
    "schedule",
    "bug",
    "none",
    "not enough evidence",
)
SHIFT = "shift"  # the name of that probe
OPTIMUM = 20.0  # tokens for each parameter (Hoffmann et al. 2022, table 3), for want of a law of one's own
FAR = 4.0  # times or below the optimum
STEEP = 0.02  # of the loss, that as much training again would gain: there is something to gain
GAP = 0.1  # of the loss on training text, by which held-out text is foretold worse: learned by heart
LOW_RATE = 0.2  # of the rate that the recipe has for such a size
HARDLY = 0.5  # of their size: weights that were trained are about 1 from where they began
ABOVE_OWN = 0.1  # of the loss by which a run may lie above the law of other runs


class Facts(NamedTuple):
    """What is known of a run.

    findings: of the probes.  alarms: that sounded, by name.  tokens, end_tokens: trained on so far, and at
    the end of the schedule.  passes: over the text so far.  optimum: tokens for each parameter.
    rate: the highest, against that of the recipe for the size.  moved: how far the weights are from where
    they began, against their size now.  gap: held-out less training loss, as a share of the latter.
    above_fit: loss less that of published fits, nats; None: they do not apply.
    above_own: loss at the end against the law of other runs, as a share; None: there is none.
    """

    findings: Sequence[Finding]
    alarms: Sequence[str]
    n_params: int
    tokens: int
    end_tokens: int
    passes: float
    optimum: float
    rate: float
    moved: float
    course: Course | None
    gap: float
    above_fit: float | None
    above_own: float | None

    @property
    def ratio(self) -> float:
        """Tokens for each parameter so far."""
        return self.tokens / self.n_params


class Verdict(NamedTuple):
    """In a word, why, and what to do."""

    word: str
    why: str
    advice: str


def judge(facts: Facts) -> Verdict:
    """What holds a run back, the first of these that the facts show: a bug, too little text, its schedule,
    its size."""
    checks = (_bug, _by_heart, _schedule, _too_few, _capacity, _short)
    found = (check(facts) for check in checks)
    return next((verdict for verdict in found if verdict), _nothing(facts))


def _bug(facts: Facts) -> Verdict | None:
    bad = [one for one in facts.findings if one.is_good is False]
    bad.sort(key=lambda one: one.name != SHIFT)  # which says why others are bad
    if bad:
        return Verdict(BUG, f"{bad[0].name}: {bad[0].text}", bad[0].look)
    if facts.above_fit is not None and facts.above_fit > ABOVE_FIT:
        why = f"{facts.above_fit:.2f} nats above published fits for such a model and so much text"
        look = "the data, the tokenizer, what is measured; `microgpt probe --check overfit`"
        return Verdict(BUG, why, look)
    return None


def _by_heart(facts: Facts) -> Verdict | None:
    if facts.gap <= GAP or facts.passes < 1:
        return None
    why = (
        f"held-out text is foretold {facts.gap:.0%} worse than training text, after {facts.passes:.1f} passes"
    )
    advice = "more text, fewer passes, --dropout, --stop-after; a larger model learns more by heart"
    return Verdict(DATA, why, advice)


def _schedule(facts: Facts) -> Verdict | None:
    """A low rate, and weights that have hardly left where they began.  The course is no evidence: with such a
    rate the loss may lie still long before there is nothing to gain."""
    if facts.rate >= LOW_RATE or facts.moved >= HARDLY:
        return None
    why = (
        f"its rate is {facts.rate:.2g} times what the recipe has for such a size, and its weights are only "
        f"{facts.moved:.2f} of their size from where they began"
    )
    return Verdict(SCHEDULE, why, "--lr, --warmup-steps, --decay-steps; leave them to the recipe")


def _too_few(facts: Facts) -> Verdict | None:
    if facts.course is not None:
        return None
    why = f"fewer than {FEWEST} measurements after the rate's rise and the first tenth of the course"
    return Verdict(UNKNOWN, why, "a smaller --eval-every, or more training")


def _capacity(facts: Facts) -> Verdict | None:
    """Much more text than is best for the size, and next to nothing to gain from still more."""
    course = facts.course
    assert course is not None
    if facts.ratio < FAR * facts.optimum or course.doubling_low >= STEEP:
        return None
    what = f"{facts.ratio:.0f} tokens for each parameter, {facts.ratio / facts.optimum:.1f} times the optimum"
    gain = f"{_range(course)} of the loss"
    if course.doubling_high >= STEEP:
        why = f"{what}, but as much training again would gain {gain}: it may be flat or not"
        return Verdict(UNKNOWN, why, "more measurements on more held-out text: --eval-every, --eval-tokens")
    return Verdict(CAPACITY, f"{what}, and as much training again would gain {gain}", "`microgpt options`")


def _short(facts: Facts) -> Verdict | None:
    """Much less text than is best, and much to gain: a smaller model or a longer run would do better."""
    course, ratio = facts.course, facts.end_tokens / facts.n_params
    assert course is not None
    if ratio * FAR > facts.optimum or course.doubling_low < STEEP:
        return None
    why = (
        f"{ratio:.2g} tokens for each parameter by its end, {facts.optimum:.3g} are best, and as much "
        f"training again would gain {_range(course)} of the loss"
    )
    return Verdict(DATA, why, "more tokens, or a smaller model for as many")


def _nothing(facts: Facts) -> Verdict:
    own = facts.above_own
    if own is not None and own > ABOVE_OWN:
        why = f"it ends {own:.0%} above the law of other runs, and nothing here tells why"
        return Verdict(UNKNOWN, why, "what is different about it: settings, data, `microgpt compare`")
    return Verdict(NOTHING, "nothing of all this holds it back", "let it train on as planned")


def _range(course: Course) -> str:
    return f"{max(0.0, course.doubling_low):.1%} to {max(0.0, course.doubling_high):.1%}"
