"""What a rung is more than the one below: better, of the best recipe, able to do more, preferred."""

from collections.abc import Mapping

from microgpt.common.words import counted
from microgpt.evaluation.canaries import FEWEST
from microgpt.evaluation.canary_items import CATEGORIES
from microgpt.evaluation.preference import ENOUGH_PAIRS
from microgpt.evaluation.statistics import Share, share

from ..people import is_of_run
from .case import CHANGE, FAIL, FEWEST_SEEDS, NONE, PASS, Case, Said, extend, listed

POOLED = tuple(name for name in CATEGORIES if name != "C6")
SAME_SIZE = 0.1  # of its parameters: a recipe was looked for at such a size
Marks = Mapping[str, Mapping[str, bool]]  # by canary and item: whether the answer was right


def better(case: Case) -> Said:
    """It is clearly better than the rung below, with each seed."""
    if case.below is None:
        return Said(NONE, "no rung is below")
    both = zip(case.below.runs, case.runs, strict=False)  # of one seed
    pairs = [(old, new) for old, new in both if old is not None and new is not None]
    gains = [1 - new["showed"]["loss"] / old["showed"]["loss"] for old, new in pairs]
    nats = [old["loss"] - new["loss"] for old, new in pairs]
    wanted = f"{case.gates.gain:.0%} or {case.gates.gain_nats:g} nats asked for"
    text = (
        f"{', '.join(f'{gain:+.1%}' for gain in gains)} bits per byte, {listed(nats, 3)} nats less; {wanted}"
    )
    is_met = [g >= case.gates.gain or n >= case.gates.gain_nats for g, n in zip(gains, nats, strict=True)]
    if len(pairs) < FEWEST_SEEDS:
        return extend(f"{text}; one seed is no evidence", "another seed for each of the two rungs")
    if all(is_met):
        return Said(PASS, text)
    if any(is_met):
        return extend(f"{text}: not with each seed", "another seed for each of the two rungs")
    advice = "what holds it back (microgpt capacity): text, tokens, the schedule; or the ladder ends here"
    return Said(FAIL, text, CHANGE, advice)


def recipe(case: Case) -> Said:
    """The settings are the best known, and it is known how they compare."""
    sizes = [one.n_params for one in case.upwards]
    useful = [t for t in case.tables if any(abs(t.n_params / size - 1) <= SAME_SIZE for size in sizes)]
    rows = [(table, row) for table in useful for row in table.changes]
    how = 'microgpt ablate run.toml --change ... --seeds 2, then ablations = ["runs/ablate-run"] for the rung'
    others = sorted({name for table in useful for name in table.other_settings})
    if others:
        return extend(f"it was looked for with another {', '.join(others)}", how)
    few = [table.file for table in useful if table.n_seeds < FEWEST_SEEDS]
    if few:
        return extend(f"{few[0]} has one seed, which is no evidence", how)
    if len(rows) < case.gates.changes:
        return extend(
            f"{counted(len(rows), 'change')} tried at a size of this ladder, {case.gates.changes} asked for",
            how,
        )
    lower = [(row["difference"], row["name"]) for _, row in rows if row["verdict"] == "lower"]
    if lower:
        by, name = min(lower)
        return Said(
            FAIL, f"{name} is better by {-by:.4f} bits per byte", CHANGE, f"{name} in [run], a new ladder"
        )
    return Said(PASS, f"none of {len(rows)} changes is better: {', '.join(row['name'] for _, row in rows)}")


def canaries(case: Case) -> Said:
    """New abilities emerge from one rung to the next."""
    if case.below is None:
        return Said(NONE, "no rung is below")
    of_seeds = zip(case.below.canaries, case.canaries, strict=False)
    pairs = [compared(old["marks"], new["marks"]) for old, new in of_seeds if old and new]
    if len(pairs) < FEWEST_SEEDS:
        return extend(f"asked of {counted(len(pairs), 'seed')} of both rungs", "two seeds of both rungs")
    up = [{name for name, found in pair.items() if is_up(*found, case.gates.canary_points)} for pair in pairs]
    both, some = set.intersection(*up), set.union(*up)
    asked = len(set.intersection(*map(set, pairs)))
    text = f"{len(both)} of {asked} canaries up by {100 * case.gates.canary_points:.0f} points with each seed"
    if both:
        text += f" ({' '.join(sorted(both))})"
    if asked < case.gates.canaries:
        return extend(
            f"{text}; {case.gates.canaries} asked for", "a chat corpus and a window that they fit into"
        )
    if len(both) >= case.gates.canaries:
        return Said(PASS, text)
    if len(some) >= case.gates.canaries:
        return extend(f"{text}, of some seed {len(some)}", "another seed")
    return Said(
        FAIL, f"{text}; {case.gates.canaries} asked for", CHANGE, "text that teaches them (microgpt failures)"
    )


def compared(old: Marks, new: Marks) -> dict[str, tuple[Share, Share]]:
    """What two runs have right of each canary, by the items that both were asked, where those are enough.

    Items follow the window of a model, and so do those that fit into it: a place in a list is no item.
    """
    found = {}
    for name in new:
        items = [item for item in new[name] if item in old.get(name, {})]
        if len(items) >= FEWEST:
            before, now = (share(sum(of[name][item] for item in items), len(items)) for of in (old, new))
            found[name] = before, now
    return found


def is_up(before: Share, now: Share, points: float) -> bool:
    """Whether a share rose so far, with intervals apart."""
    return now.value - before.value >= points and now.low > before.high


def coherent(case: Case) -> Said:
    """It does what C1 to C5 ask."""
    if not case.asked:
        return extend("not asked", "run again")
    missing = [name for name in POOLED if not all(one["categories"].get(name) for one in case.asked)]
    pooled = []
    for one in case.asked:
        found = [one["categories"][name] for name in POOLED if one["categories"].get(name)]
        pooled.append(share(sum(f["right"] for f in found), sum(f["asked"] for f in found)))
    low, high = min(one.low for one in pooled), max(one.high for one in pooled)
    text = (
        f"{listed([100 * one.value for one in pooled], 1)} % of C1 to C5, intervals {low:.1%} to {high:.1%}"
    )
    if missing:
        return extend(
            f"{text}; nothing of {' '.join(missing)} was asked", "a chat corpus, a window that they fit into"
        )
    if low > case.gates.pooled:
        return Said(PASS, text)
    if high < case.gates.pooled:
        return Said(FAIL, text, CHANGE, "what is missing, data or ability: microgpt failures")
    return extend(f"{text} on both sides of {case.gates.pooled:.0%}", "more tokens for this rung")


def preferred(case: Case) -> Said:
    """People who do not know which is which prefer it."""
    how = f"microgpt judge OLD NEW on {ENOUGH_PAIRS} prompts or more, then judged = [FILE] for the rung"
    if case.below is None:
        return Said(NONE, "no rung is below")
    if case.judged is None:
        return extend("nobody has judged it", how)
    found = case.judged.verdict.preference
    for_it = found.wins_a if case.judged.side == "a" else found.wins_b
    text = f"{for_it} of {found.n} pairs, {found.ties} undecided, p {found.p:.2g}"
    if not is_of_run(case.judged.other, case.below.rung.name):
        return extend(f"judged against {case.judged.other}, no run of {case.below.rung.name}", how)
    if case.judged.is_preferred is None:
        return extend(text, how)
    if case.judged.is_preferred:
        return Said(PASS, text)
    return Said(
        FAIL, f"{text}: the rung below is preferred", CHANGE, "what it says worse: microgpt failures OLD NEW"
    )
