"""What a rung must show before the next is begun: each gate passes, fails, or says that evidence is missing.

A gate reads what was measured (`evidence`) and the thresholds of the ladder, and nothing else, so the same
files give the same verdicts.  One that does not pass says what comes next: extend (more evidence), change
(the recipe, the data or the model), or stop.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from microgpt.common.words import counted, format_amount
from microgpt.evaluation.canary_items import CATEGORIES
from microgpt.evaluation.preference import ENOUGH_ITEMS, ENOUGH_PAIRS, ENOUGH_RATERS
from microgpt.evaluation.statistics import share

from .evidence import TOO_LITTLE, mean, points
from .foretelling import law_of, showed_of
from .people import Judged, Table, is_of_run
from .rungs import Gates, Rung

PASS, FAIL, OPEN, NONE = "pass", "fail", "not enough evidence", "not asked"
EXTEND, CHANGE, STOP = "extend", "change", "stop"
FEWEST_SEEDS = 2
POOLED = tuple(name for name in CATEGORIES if name != "C6")
SAME_SIZE = 0.1  # of its parameters: a recipe was looked for at such a size


class Result(NamedTuple):
    """What a gate says: passed, failed, or not enough evidence; why; and what comes next, where it did not
    pass: extend, change or stop, and how."""

    gate: str
    title: str
    verdict: str
    text: str
    step: str = ""
    advice: str = ""


class Said(NamedTuple):
    """A verdict before its gate has a name."""

    verdict: str
    text: str
    step: str = ""
    advice: str = ""


class Case(NamedTuple):
    """All that is known of a rung.

    runs: what each seed showed; None: it diverged.  size: what was looked at once.  canaries: of each seed,
    none where they are not due.  foretold: before it was trained.  below: the rung below, if one is.
    """

    rung: Rung
    gates: Gates
    n_params: int
    runs: list[dict[str, Any] | None]
    size: dict[str, Any]
    canaries: list[dict[str, Any]]
    foretold: dict[str, Any]
    judged: Judged | None
    tables: list[Table]
    below: "Case | None"

    @property
    def whole(self) -> list[dict[str, Any]]:
        """Of the runs that came to their end."""
        return [run for run in self.runs if run is not None]

    @property
    def upwards(self) -> list["Case"]:
        """All rungs from the first to this one."""
        return [*(self.below.upwards if self.below else []), self]

    @property
    def bpb(self) -> float:
        """Mean over seeds of held-out bits per byte."""
        return mean(points(self.whole))


def extend(text: str, advice: str) -> Said:
    """Evidence is missing."""
    return Said(OPEN, text, EXTEND, advice)


# ------------------------------------------------------------------------------------------ proof of life


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
    return Said(PASS, f"{n} seeds: {_listed(found)} bits per byte, {apart:.1%} apart")


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


# ------------------------------------------------------------------------------------------ upwards


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
        f"{', '.join(f'{gain:+.1%}' for gain in gains)} bits per byte, {_listed(nats, 3)} nats less; {wanted}"
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
    pairs = list(zip(case.below.canaries, case.canaries, strict=False))
    if len(pairs) < FEWEST_SEEDS:
        return extend(f"asked of {counted(len(pairs), 'seed')} of both rungs", "two seeds of both rungs")
    up = [set(_risen(old["canaries"], new["canaries"], case.gates.canary_points)) for old, new in pairs]
    both, some = set.intersection(*up), set.union(*up)
    asked = sum(bool(one.get("asked")) for one in pairs[0][1]["canaries"].values())
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


def _risen(old: dict[str, Any], new: dict[str, Any], points: float) -> list[str]:
    """Canaries whose share rose so far, with intervals apart."""
    both = [name for name in new if old.get(name, {}).get("asked") and new[name].get("asked")]
    return [n for n in both if new[n]["share"] - old[n]["share"] >= points and new[n]["low"] > old[n]["high"]]


def coherent(case: Case) -> Said:
    """It does what C1 to C5 ask."""
    if not case.canaries:
        return extend("not asked", "run again")
    missing = [name for name in POOLED if not all(one["categories"].get(name) for one in case.canaries)]
    pooled = []
    for one in case.canaries:
        found = [one["categories"][name] for name in POOLED if one["categories"].get(name)]
        pooled.append(share(sum(f["right"] for f in found), sum(f["asked"] for f in found)))
    low, high = min(one.low for one in pooled), max(one.high for one in pooled)
    text = (
        f"{_listed([100 * one.value for one in pooled], 1)} % of C1 to C5, intervals {low:.1%} to {high:.1%}"
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


# ------------------------------------------------------------------------------------------ laws


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


# ------------------------------------------------------------------------------------------ use


def bits(case: Case) -> Said:
    """It foretells text well enough to be of use."""
    found = points(case.whole)
    text = f"{_listed(found)} bits per byte, {case.gates.bits_per_byte:g} asked for"
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


# ------------------------------------------------------------------------------------------ all of them


class Gate(NamedTuple):
    """A gate: its name, for people, how it judges, and the threshold that says from which size on."""

    name: str
    title: str
    judge: Callable[[Case], Said]
    asked_from: str = ""


GATES = (
    Gate("seeds", "two seeds or more", seeds),
    Gate("probes", "probes", probes),
    Gate("by_heart", "learns windows by heart", by_heart),
    Gate("counting", "beats counting", counting),
    Gate("resume", "resumes exactly", resume),
    Gate("tokenizer", "tokens are pieces of words", tokenizer),
    Gate("balance", "balance of branches is written down", balance),
    Gate("states", "states are sound", states),
    Gate("calm", "no unexplained leaps", calm),
    Gate("better", "better than the rung below", better),
    Gate("recipe", "best recipe known", recipe, "recipe_from"),
    Gate("law", "a law holds", law, "law_from"),
    Gate("forecast", "the law foretold it", forecast, "law_from"),
    Gate("canaries", "abilities emerge", canaries, "canaries_from"),
    Gate("coherent", "C1 to C5", coherent, "canaries_from"),
    Gate("preferred", "people prefer it", preferred, "people_from"),
    Gate("bits", "foretells well enough", bits, "final_from"),
    Gate("score", "people's marks", score, "final_from"),
    Gate("kappa", "raters agree", kappa, "final_from"),
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


def _listed(values: Sequence[float], digits: int = 4) -> str:
    return " ".join(f"{value:.{digits}f}" for value in values) or "no"


def size_told(case: Case) -> str:
    """`3.5m, 2.9M parameters`."""
    return f"{case.rung.name}, {format_amount(case.n_params)} parameters"
