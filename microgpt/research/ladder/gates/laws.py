"""Whether a law of loss holds, and foretold this rung before it was trained."""

from microgpt.common.words import counted

from ..evidence import points
from ..foretelling import law_of, showed_of
from .case import CHANGE, FAIL, FEWEST_SEEDS, PASS, Case, Said, extend


def law(case: Case) -> Said:
    """The loss of all rungs lies on a law."""
    found = law_of([showed_of(run) for one in case.upwards for run in one.whole])
    if "why_not" in found:
        return extend(found["why_not"], "rungs between, or below")
    text = (
        f"R^2 {found['r_squared']:.4f} of {counted(found['n_runs'], 'run')} of "
        f"{counted(found['n_sizes'], 'size')}, a run lies {found['spread']:.2%} about it"
    )
    if found["r_squared"] > case.gates.r_squared:
        return Said(PASS, text)
    return Said(FAIL, text, CHANGE, "find why: data that is used up, one recipe that does not suit all sizes")


def forecast(case: Case) -> Said:
    """The law of the rungs below foretold this one, before it was trained."""
    found = case.foretold
    if "why_not" in found:
        return extend(f"nothing was foretold: {found['why_not']}", "a ladder with more rungs below")
    if not case.whole:
        return extend("no run came to its end", "see the seeds")
    miss = case.bpb / found["loss"] - 1
    inside = sum(found["run_low"] <= one <= found["run_high"] for one in points(case.whole))
    text = (
        f"foretold {found['loss']:.4f} ({found['run_low']:.4f} to {found['run_high']:.4f}), became "
        f"{case.bpb:.4f}: {miss:+.1%}, {inside} of {counted(len(case.whole), 'run')} in the interval"
    )
    if len(case.whole) < FEWEST_SEEDS:
        return extend(f"{text}; one seed is no evidence", "another seed")
    if abs(miss) <= case.gates.miss:
        return Said(PASS, text)
    if abs(miss) <= case.gates.far_miss:
        return extend(text, "a rung between, or more seeds, for a surer law")
    return Said(FAIL, text, CHANGE, "find why the law broke: data that is used up, another recipe, a bug")
