"""Whether a model is of use: it foretells text well enough, and people mark its answers high and agree."""

from microgpt.common.words import counted
from microgpt.evaluation.preference import ENOUGH_ITEMS, ENOUGH_RATERS

from ..evidence import mean, points
from .case import CHANGE, FAIL, FEWEST_SEEDS, PASS, Case, Said, extend, listed


def bits(case: Case) -> Said:
    """It foretells text well enough to be of use."""
    found = points(case.whole)
    text = f"{listed(found)} bits per byte, {case.gates.bits_per_byte:g} asked for"
    if not found or len(found) < FEWEST_SEEDS:
        return extend(f"{text}; one seed is no evidence", "another seed")
    if max(found) <= case.gates.bits_per_byte:
        return Said(PASS, text)
    if min(found) > case.gates.bits_per_byte:
        return Said(FAIL, text, CHANGE, "more text and tokens, or a larger rung (microgpt fit --target-bpb)")
    return extend(text, "another seed")


def score(case: Case) -> Said:
    """People mark its answers high."""
    how = "microgpt judge with marks, then judged = [FILE] for the rung"
    if case.judged is None or not case.judged.marks:
        return extend("nobody has marked its answers", how)
    n = min(one.n_pairs for one in case.judged.verdict.marks.values())
    found = mean(case.judged.marks)
    text = f"{found:.2f} of 5 on {counted(n, 'pair')}, {case.gates.score:g} asked for"
    if n < ENOUGH_ITEMS:
        return extend(f"{text}; fewer than {ENOUGH_ITEMS} pairs", how)
    if found >= case.gates.score:
        return Said(PASS, text)
    return Said(FAIL, text, CHANGE, "what it says badly: microgpt failures")


def kappa(case: Case) -> Said:
    """Raters agree, so their marks mean something."""
    how = f"{ENOUGH_RATERS} raters on {ENOUGH_ITEMS} pairs or more, then judged = [FILES] for the rung"
    found = case.judged.verdict.fleiss if case.judged else None
    if found is None or case.judged is None:
        return extend("no pair was judged by several people", how)
    n = f"{found.n_raters} raters on {found.n_items} pairs"
    text = f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f}), {n}"
    if not case.judged.verdict.is_agreement_enough:
        return extend(text, how)
    if found.value > case.gates.kappa:
        return Said(PASS, text)
    return Said(FAIL, text, CHANGE, "clearer rules for raters, then judge again")
