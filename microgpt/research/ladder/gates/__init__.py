"""What a rung must show before the next is begun: each gate passes, fails, or says that evidence is missing.

A gate reads what was measured (`evidence`) and the thresholds of the ladder, and nothing else, so the same
files give the same verdicts.  One that does not pass says what comes next: extend (more evidence), change
(the recipe, the data or the model), or stop.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from . import laws, proof_of_life, upwards, use
from .case import CHANGE, EXTEND, FAIL, OPEN, STOP, Case, Said


class Result(NamedTuple):
    """What a gate says: passed, failed, or not enough evidence; why; and what comes next, where it did not
    pass: extend, change or stop, and how."""

    gate: str
    title: str
    verdict: str
    text: str
    step: str = ""
    advice: str = ""


class Gate(NamedTuple):
    """A gate: its name, for people, how it judges, and the threshold that says from which size on."""

    name: str
    title: str
    judge: Callable[[Case], Said]
    asked_from: str = ""


GATES = (
    Gate("seeds", "two seeds or more", proof_of_life.seeds),
    Gate("probes", "probes", proof_of_life.probes),
    Gate("by_heart", "learns windows by heart", proof_of_life.by_heart),
    Gate("counting", "beats counting", proof_of_life.counting),
    Gate("resume", "resumes exactly", proof_of_life.resume),
    Gate("tokenizer", "tokens are pieces of words", proof_of_life.tokenizer),
    Gate("balance", "balance of branches is written down", proof_of_life.balance),
    Gate("states", "states are sound", proof_of_life.states),
    Gate("calm", "no unexplained leaps", proof_of_life.calm),
    Gate("better", "better than the rung below", upwards.better),
    Gate("recipe", "best recipe known", upwards.recipe, "recipe_from"),
    Gate("law", "a law holds", laws.law, "law_from"),
    Gate("forecast", "the law foretold it", laws.forecast, "law_from"),
    Gate("canaries", "abilities emerge", upwards.canaries, "canaries_from"),
    Gate("coherent", "C1 to C5", upwards.coherent, "canaries_from"),
    Gate("preferred", "people prefer it", upwards.preferred, "people_from"),
    Gate("bits", "foretells well enough", use.bits, "final_from"),
    Gate("score", "people's marks", use.score, "final_from"),
    Gate("kappa", "raters agree", use.kappa, "final_from"),
)


def judge(case: Case) -> list[Result]:
    """What every gate says of a rung that is asked of its size."""
    due = [g for g in GATES if not g.asked_from or case.gates.is_due(g.asked_from, case.n_params)]
    return [Result(gate.name, gate.title, *gate.judge(case)) for gate in due]


def not_passed(results: Sequence[Result]) -> list[Result]:
    """Those that keep the ladder from going on."""
    return [one for one in results if one.verdict in (FAIL, OPEN)]


def next_step(results: Sequence[Result]) -> str:
    """What comes after a rung: go on, extend, change or stop; the gravest of what its gates say."""
    steps = {one.step for one in not_passed(results)}
    return next((step for step in (STOP, CHANGE, EXTEND) if step in steps), "go on")
