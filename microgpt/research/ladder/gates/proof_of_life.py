"""Proof of life, asked of every size: the parts work, the loss falls, and with more than one seed."""

from microgpt.common.words import counted

from ..evidence import TOO_LITTLE, mean, points
from .case import CHANGE, FAIL, FEWEST_SEEDS, NONE, PASS, STOP, Case, Said, extend, listed


def seeds(case: Case) -> Said:
    """Luck happens: one seed is no evidence."""
    n, lost = len(case.whole), len(case.runs) - len(case.whole)
    if lost:
        text = f"{counted(lost, 'seed')} of {len(case.runs)} diverged"
        return Said(FAIL, text, CHANGE, "a lower lr, a longer warm-up; then a new ladder (--out-dir)")
    if n < FEWEST_SEEDS:
        return extend("one seed is no evidence", "seeds = 2 in the file, then run again")
    found = points(case.whole)
    apart = (max(found) - min(found)) / mean(found)
    return Said(PASS, f"{n} seeds: {listed(found)} bits per byte, {apart:.1%} apart")


def probes(case: Case) -> Said:
    """Mask, shift, gradients, data: all as it should be."""
    bad = sorted(
        {f"{f['name']}: {f['text']}" for run in case.whole for f in run["findings"] if f["is_good"] is False}
    )
    if bad:
        return Said(
            FAIL, "; ".join(bad), STOP, "find the bug first (microgpt probe); a larger model has it, too"
        )
    n = sum(f["is_good"] is True for run in case.whole for f in run["findings"])
    if not case.whole:
        return extend("no run came to its end", "see the seeds")
    return Said(PASS, f"all {n} good")


def by_heart(case: Case) -> Said:
    """The model, its gradient and its optimizer can learn."""
    found = case.size["by_heart"]
    text = (
        f"{found['accuracy']:.2%} of the tokens of {found['windows']} windows after {found['steps']:,} steps"
    )
    if found["accuracy"] < 1:
        return Said(FAIL, text, STOP, "loss, gradient or optimizer are broken (microgpt probe)")
    if found["windows"] < case.gates.windows_by_heart:
        return extend(f"{text}; the text has no more", "more text")
    return Said(PASS, text)


def counting(case: Case) -> Said:
    """It foretells held-out text better than counting tokens and pairs of them."""
    if not case.whole or not all(run["above"] for run in case.whole):
        return extend("the training text is not there any more", "prepare it again and run again")
    worst = {
        name: max((run["above"][name] for run in case.whole), key=lambda one: one["high"])
        for name in case.whole[0]["above"]
    }
    text = ", ".join(f"{one['value']:+.3f} nats a token from the {name}" for name, one in worst.items())
    if all(one["high"] < 0 for one in worst.values()):
        return Said(PASS, text)
    if any(one["low"] > 0 for one in worst.values()):
        return Said(
            FAIL, text, CHANGE, "more tokens, another lr, or a larger first rung; microgpt capacity tells"
        )
    return extend(f"{text}: its interval holds 0", "more held-out text, or more tokens")


def resume(case: Case) -> Said:
    """A run that was torn goes on to the same weights."""
    if case.size["is_exact"]:
        return Said(PASS, "a run that was torn and went on has the same weights to the bit")
    return Said(
        FAIL,
        "a run that was torn and went on has other weights",
        STOP,
        "report a bug; nothing can be repeated",
    )


def tokenizer(case: Case) -> Said:
    """Tokens are pieces of words (BPE), and text comes back from them."""
    found = case.size["tokenizer"]
    text = f"{found['merges']:,} merges, {found['bytes_per_token']:.2f} bytes a token"
    if not found["is_lossless"]:
        return Said(FAIL, f"{text}; text does not come back from its tokens", STOP, "another tokenizer")
    if found["merges"] < 1 or found["bytes_per_token"] <= 1:
        return Said(FAIL, f"{text}: characters, not pieces of words", CHANGE, "--merges above 0")
    return Said(PASS, f"{text}, text comes back as it was")


def balance(case: Case) -> Said:
    """What the two branches of a fusion bring is written down, whatever it is."""
    if few := _too_little(case):
        return few
    told = [check for run in case.whole for check in run["states"] if check["test"].startswith("S4")]
    if not told or all(check["verdict"] == "-" for check in told):
        return Said(NONE, "no layer has two mixers beside each other")
    return Said(PASS, "; ".join(check["text"] for check in told))


def states(case: Case) -> Said:
    """S0 to S4: states are there, sound, changing, determined, and both branches count."""
    told = [check for run in case.whole for check in run["states"]]
    if not told:
        return Said(NONE, "no layer has a recurrent state")
    if few := _too_little(case):
        return few
    bad = [f"{check['test']}: {check['text']}" for check in told if check["verdict"] == "fail"]
    if bad:
        return Said(FAIL, "; ".join(bad), STOP, "states that are broken here are broken at any size")
    return Said(PASS, f"{counted(len(told), 'test')}, none failed")


def _too_little(case: Case) -> Said | None:
    """Where there was too little text for the tests of states."""
    told = [check["text"] for run in case.whole for check in run["states"] if check["verdict"] == TOO_LITTLE]
    return extend(told[0], "more held-out text") if told else None


def calm(case: Case) -> Said:
    """The loss does not leap, or it is known why."""
    leaps = [leap for run in case.whole for leap in run["log"]["trouble"]]
    if len(case.whole) < len(case.runs):
        return Said(FAIL, "a run diverged", CHANGE, "see the seeds")
    if not leaps:
        return Said(PASS, "no spike, no skipped step, no way back")
    text = f"{counted(len(leaps), 'leap')}, the first a {leaps[0]['event']} at step {leaps[0]['step']:,}"
    if case.rung.explained:
        return Said(PASS, f"{text}; explained: {case.rung.explained}")
    return extend(
        f"{text}, unexplained", 'look at report, then write explained = "..." for the rung; or a lower lr'
    )
