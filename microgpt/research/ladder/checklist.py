"""The four questions that are asked before a ladder goes on from a rung, each part with its evidence."""

from typing import NamedTuple

from microgpt.common.words import format_amount, format_duration
from microgpt.evaluation.law_runs import MOST_PASSES
from microgpt.evaluation.verdict import UNKNOWN

from .engine import Standing
from .evidence import mean, points
from .gates.case import FAIL, NONE, OPEN, PASS, Case
from .rungs import Ladder

YES, NO = "yes", "no"
CLOSE = 0.02  # of bits per byte, by which seeds of one rung may lie apart
SURE_TIME = 0.25  # by which the hours of a rung may miss what was foretold
ANSWERS = {PASS: YES, FAIL: NO, OPEN: OPEN, NONE: OPEN}


class Answer(NamedTuple):
    """Yes, no or not enough evidence, and by what."""

    question: str
    answer: str
    evidence: str


class Question(NamedTuple):
    """One of the four, with its parts."""

    title: str
    parts: list[Answer]

    @property
    def answer(self) -> str:
        """Yes if every part is; no if one is."""
        found = {part.answer for part in self.parts}
        return NO if NO in found else OPEN if OPEN in found else YES


def checklist(ladder: Ladder, standing: Standing) -> list[Question]:
    """The four questions of a rung."""
    case = standing.case
    by_gate = {
        one.gate: Answer("", ANSWERS[one.verdict], f"{one.title}: {one.text}") for one in standing.results
    }

    def of(question: str, *gates: str) -> Answer:
        """By gates: no if one fails, yes if all pass."""
        known = [by_gate[gate] for gate in gates if gate in by_gate]
        if len(known) < len(gates):
            missing = ", ".join(gate for gate in gates if gate not in by_gate)
            return Answer(
                question, OPEN, f"{missing}: not asked of so small a rung (see [gates] of the file)"
            )
        answers = {one.answer for one in known}
        answer = NO if NO in answers else OPEN if OPEN in answers else YES
        told = [one for one in known if one.answer == answer]
        return Answer(question, answer, "; ".join(one.evidence for one in told))

    return [
        Question(
            "Technical readiness",
            [
                both(of("Is training stable and reproducible?", "seeds", "calm"), reproducible(case)),
                of("Do metrics improve predictably?", "better", "forecast"),
                of("Are all major bugs fixed?", "probes", "by_heart", "counting", "tokenizer"),
                of("Can I resume training from checkpoints?", "resume"),
            ],
        ),
        Question(
            "Scientific validity",
            [
                learned(case),
                holds(case),
                reproducible(case),
            ],
        ),
        Question(
            "Capability advancement",
            [
                of("Has it a new ability?", "canaries"),
                of("Is it better than the rung below in a way that matters?", "better"),
                of("Do people agree with the numbers?", "preferred"),
            ],
        ),
        Question(
            "Resource forecasting",
            [
                cost(case),
                bottleneck(case),
                data(ladder, case),
            ],
        ),
    ]


def both(one: Answer, other: Answer) -> Answer:
    """One answer, unless another that belongs to it is worse."""
    order = (NO, OPEN, YES)
    return (
        other._replace(question=one.question) if order.index(other.answer) < order.index(one.answer) else one
    )


def learned(case: Case) -> Answer:
    """What the rung taught is for a person to write down."""
    question = "Have we learned something new?"
    if case.rung.learned:
        return Answer(question, YES, f"hypothesis: {case.rung.hypothesis}  Learned: {case.rung.learned}")
    return Answer(
        question, OPEN, f'hypothesis: {case.rung.hypothesis}  What came of it: learned = "..." in the file'
    )


def holds(case: Case) -> Answer:
    """Whether the law foretold the rung, to the wider of the two bounds."""
    question = f"Does the law foretell the next rung, within {case.gates.far_miss:.0%}?"
    if "why_not" in case.foretold or not case.whole:
        return Answer(question, OPEN, str(case.foretold.get("why_not", "no run came to its end")))
    miss = case.bpb / case.foretold["loss"] - 1
    told = case.foretold["loss"]
    text = f"{told:.4f} foretold before it was trained, {case.bpb:.4f} became of it: {miss:+.1%}"
    return Answer(question, YES if abs(miss) <= case.gates.far_miss else NO, text)


def reproducible(case: Case) -> Answer:
    """Whether seeds come to the same."""
    question = "Do several runs come to the same?"
    found = points(case.whole)
    if len(found) < 2:
        return Answer(question, OPEN, "one seed is no evidence")
    apart = (max(found) - min(found)) / mean(found)
    text = f"{len(found)} seeds lie {apart:.1%} of their bits per byte apart, {CLOSE:.0%} at most asked for"
    return Answer(question, YES if apart <= CLOSE else NO, text)


def cost(case: Case) -> Answer:
    """Whether the time of this rung was foretold from the speeds of those below."""
    question = "Can we foretell what the next rung costs?"
    hours = case.foretold.get("hours")
    if hours is None or not case.whole:
        return Answer(question, OPEN, "no hours were foretold: that takes a law of the rungs below")
    took = mean([run["log"]["seconds"] for run in case.whole])
    miss = took / (3600 * hours) - 1
    text = f"{format_duration(3600 * hours)} foretold, {format_duration(took)} became of it: {miss:+.0%}"
    return Answer(question, YES if abs(miss) <= SURE_TIME else NO, text)


def bottleneck(case: Case) -> Answer:
    """What holds the runs back."""
    question = "Do we know the bottleneck?"
    words = {run["holds_back"]["word"] for run in case.whole}
    if not words or UNKNOWN in words or len(words) > 1:
        told = "; ".join(sorted({f"{r['holds_back']['word']}: {r['holds_back']['why']}" for r in case.whole}))
        return Answer(question, OPEN, told or "no run came to its end")
    one = case.whole[0]["holds_back"]
    return Answer(question, YES, f"{one['word']}: {one['why']}")


def data(ladder: Ladder, case: Case) -> Answer:
    """Whether there is text enough for a rung of the largest step."""
    question = "Can we tell what data the next rung needs?"
    passes, tokens = case.foretold["passes"], case.foretold["tokens"]
    times = ladder.largest_step
    text = (
        f"this rung took {format_amount(tokens)} tokens, {passes:.2g} passes; one of {times:g} times its "
        f"size takes {format_amount(times * tokens)}, {times * passes:.2g} passes of {MOST_PASSES} at most"
    )
    return Answer(question, YES, text)
