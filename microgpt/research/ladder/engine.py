"""Climbs a ladder: each rung is stated, foretold, trained with every seed, measured and judged.

The same call goes on where it was killed, to the same results: what is stated is stated once, runs go on from
their checkpoints (`train_run`), and what was measured of a run lies in a file that is of its weights.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from microgpt.common.errors import ConfigError
from microgpt.common.output import tell
from microgpt.common.words import format_amount, format_duration
from microgpt.core import arrays, native
from microgpt.corpus.prepared.folder import Prepared
from microgpt.machine.cpus import thread_count
from microgpt.model import count_parameters
from microgpt.runs.events import EventListener
from microgpt.runs.kept import weights_sha256
from microgpt.runs.layout import RunDirectory
from microgpt.runs.settings import SESSION_FIELDS
from microgpt.runs.spec import Plan
from microgpt.runs.spec_file import spec_of
from microgpt.training import assemble
from microgpt.training.length import with_steps

from ..ablation import differing, trained
from .budget import fitted, timings_of
from .evidence import of_canaries, of_run, of_size
from .foretelling import foretold, showed_of
from .gates import Result, judge, next_step, not_passed
from .gates.case import Case
from .people import judged, table_of
from .rungs import Ladder, Rung, check_sizes
from .state import Begun, State, as_stated, known_of, measured

ITEMS = "canary-items"  # in the name of a file: what a run answered to each item of the canaries


class Standing(NamedTuple):
    """A rung that was measured: what is known of it, what its gates say, and what was forced."""

    case: Case
    begun: Begun
    results: list[Result]

    @property
    def is_passed(self) -> bool:
        """Whether nothing keeps the ladder from going on."""
        return not not_passed(self.results)

    @property
    def is_left(self) -> bool:
        """Whether the rung above may begin: all gates passed, or those that did not were forced."""
        return {one.gate for one in not_passed(self.results)} <= set(self.begun.forced)

    @property
    def next_step(self) -> str:
        """Go on, extend, change or stop."""
        return next_step(self.results)


class Settled(NamedTuple):
    """A rung with all its settings, and the corpus of the ladder."""

    rung: Rung
    plan: Plan
    n_params: int

    @property
    def tokens(self) -> int:
        """That each run of it trains on."""
        return self.plan.planned_tokens


def climb(
    ladder: Ladder,
    folder: Path,
    listeners: Iterable[EventListener] = (),
    is_forced: bool = False,
    budget_s: float | None = None,
) -> list[Standing]:
    """Climb as far as the gates let, or beyond them.

    Args:   is_forced: go on past gates that did not pass; each is recorded.
            budget_s: seconds for all of it; None: as the file says, or as was fitted before.
    Raises: ConfigError: the folder holds something else, the file is not that of the rungs that were begun,
            or a rung has no hypothesis.  What `train_run` raises, but for runs that diverge.
    """
    listeners = list(listeners)
    with RunDirectory(folder):
        state = State.read(folder)
        state.refuse_another(ladder)
        settled, prepared = settle(ladder)
        if not state.begun or state.fitted:
            fit_into(state, ladder, settled, prepared, budget_s)
        elif budget_s is not None:
            raise ConfigError(
                "--budget: rungs were begun without one; leave it out, or choose a new --out-dir"
            )
        settled = [with_fitted(one, state) for one in settled]
        standings: list[Standing] = []
        for one in settled:
            standing = climb_one(ladder, state, one, prepared, standings, listeners)
            if not standing.is_left and is_forced:
                state.force(one.rung.name, tuple(result.gate for result in not_passed(standing.results)))
                standing = standing._replace(begun=_begun(state, one.rung.name))
                tell(
                    f"rung {one.rung.name}: forced past {', '.join(standing.begun.forced)}; that is recorded"
                )
            standings.append(standing)
            if not standing.is_left:
                break
        return standings


def settle(ladder: Ladder) -> tuple[list[Settled], Prepared]:
    """Every rung with all its settings, and the one corpus of them all.

    Raises: ConfigError: rungs that do not rise by small steps, or read other text.
    """
    first = ladder.rungs[0].spec.plan()
    prepared = assemble.open_corpus(first)
    settled = []
    for rung in ladder.rungs:
        plan = rung.spec.plan(prepared.tokenizer.vocab_size)
        if plan.data != first.data:
            raise ConfigError(
                f"rung {rung.name} reads other text than {ladder.rungs[0].name}; losses on one text alone "
                "compare: name it in [run]"
            )
        plan = with_steps(plan, lambda: prepared).with_train(seed=ladder.first_seed)
        settled.append(Settled(rung, plan, count_parameters(plan.model)))
    check_sizes([r.name for r in ladder.rungs], [one.n_params for one in settled], ladder.largest_step)
    return settled, prepared


def fit_into(
    state: State, ladder: Ladder, settled: Sequence[Settled], prepared: Prepared, budget_s: float | None
) -> None:
    """Make the ladder fit into a time, once; later calls keep to that."""
    if state.fitted is not None:
        if budget_s not in (None, state.fitted.budget_s) and state.begun:
            before = format_duration(state.fitted.budget_s)
            raise ConfigError(
                f"--budget: the rungs that were begun were fitted into {before}; leave it out, or choose a "
                "new --out-dir"
            )
        if state.begun or budget_s in (None, state.fitted.budget_s):
            return
    if budget_s is None:
        return
    tell("timing a few steps of each rung ...")
    names, plans = [one.rung.name for one in settled], [one.plan for one in settled]
    native.set_threads(thread_count(None))
    state.fitted = fitted(names, plans, timings_of(plans, prepared), ladder.seeds, budget_s)
    state.write()
    tell(
        f"each rung gets {state.fitted.share:.1%} of its tokens; about "
        f"{format_duration(state.fitted.expected_s)} of {format_duration(budget_s)} in all"
    )


def with_fitted(one: Settled, state: State) -> Settled:
    """A rung with the steps that fit into the time of the ladder; one that the file has got since, with the
    same share of its own."""
    if state.fitted is None:
        return one
    share = max(1, int(state.fitted.share * one.plan.train.max_steps))
    return one._replace(plan=one.plan.with_train(max_steps=state.fitted.steps.get(one.rung.name, share)))


# ------------------------------------------------------------------------------------------ one rung


def climb_one(
    ladder: Ladder,
    state: State,
    one: Settled,
    prepared: Prepared,
    below: Sequence[Standing],
    listeners: Sequence[EventListener],
) -> Standing:
    """State a rung, if that is not done; train, measure and judge what is missing of it."""
    name = one.rung.name
    begun = state.of(name) or begin(ladder, state, one, prepared, below)
    names = differing(begun.spec, spec_of(one.plan).to_dict())
    if names := [name for name in names if name not in SESSION_FIELDS or name == "max_steps"]:
        raise ConfigError(
            f"rung {name} was begun with other settings ({', '.join(names)}); put them back, or choose a new "
            "--out-dir"
        )
    last: list[Path | None] = []
    for seed in ladder.all_seeds:
        tell(f"rung {name}, seed {seed}")
        last.append(trained(one.plan.with_train(seed=seed), state.run(name, seed), listeners))
    measure(ladder, state, one, prepared, last)
    standing = standing_of(ladder, state, name, below[-1].case if below else None)
    assert standing is not None, "all of it was just measured"
    return standing


def begin(ladder: Ladder, state: State, one: Settled, prepared: Prepared, below: Sequence[Standing]) -> Begun:
    """State a rung before anything of it is trained: what it is to show, and what is foretold."""
    name = one.rung.name
    if not one.rung.hypothesis:
        raise ConfigError(
            f'rung {name} has no hypothesis; write hypothesis = "...", what it is to show, before it trains'
        )
    runs = [state.run(name, seed) for seed in ladder.all_seeds]
    if there := [run for run in runs if run.exists()]:
        raise ConfigError(
            f"{there[0]} is there, but its rung was not begun; what is foretold after training is no "
            "forecast: remove it, or choose a new --out-dir"
        )
    showed = [showed_of(run) for standing in below for run in standing.case.whole]
    begun = Begun(
        name,
        one.n_params,
        spec_of(one.plan).to_dict(),
        one.rung.hypothesis,
        dataclasses.asdict(ladder.gates),
        foretold(showed, one.n_params, one.tokens, prepared.train.n_tokens),
        datetime.now().isoformat(" ", "seconds"),
    )
    state.begin(begun)
    tell(
        f"rung {name}, {format_amount(one.n_params)} parameters: {one.rung.hypothesis}",
        told_of(begun.foretold),
    )
    return begun


def told_of(found: dict[str, Any]) -> str:
    """What is foretold of a rung, for a person."""
    if "why_not" in found:
        return f"nothing is foretold: {found['why_not']}"
    hours = "" if found["hours"] is None else f", {format_duration(3600 * found['hours'])} each"
    return (
        f"foretold {found['loss']:.4f} bits per byte, one run {found['run_low']:.4f} to "
        f"{found['run_high']:.4f}{hours}"
    )


def measure(
    ladder: Ladder, state: State, one: Settled, prepared: Prepared, last: Sequence[Path | None]
) -> None:
    """Measure what is missing of a rung that is trained."""
    native.set_threads(thread_count(None))
    name, n_windows = one.rung.name, ladder.gates.windows_by_heart
    key = f"{n_windows} {one.plan.model} {prepared.meta['key']}"
    if known_of(state.evidence(name), key) is None:
        tell(f"rung {name}: learning {n_windows} windows by heart, resuming, the tokenizer ...")
    measured(state.evidence(name), key, lambda: of_size(one.plan, prepared, state.folder, n_windows))
    for seed, checkpoint in zip(ladder.all_seeds, last, strict=True):
        if checkpoint is None:
            measured(state.evidence(name, f"seed{seed}"), "diverged", lambda: {"diverged": True})
            continue
        key, run = weights_sha256(checkpoint), checkpoint
        if known_of(state.evidence(name, f"seed{seed}"), key) is None:
            tell(f"rung {name}, seed {seed}: probes, held-out text ...")
        measured(state.evidence(name, f"seed{seed}"), key, lambda run=run: of_run(run))  # type: ignore[misc]
        if needs_canaries(ladder, one.n_params):
            file = state.evidence(name, f"seed{seed}", ITEMS)
            if known_of(file, key) is None:
                tell(f"rung {name}, seed {seed}: canaries ...")
            measured(file, key, lambda run=run: of_canaries(run))  # type: ignore[misc]
    arrays.release()  # the next rung works on arrays of other sizes


def needs_canaries(ladder: Ladder, n_params: int) -> bool:
    """Whether canaries are asked of a rung, or of one that may stand above it."""
    return ladder.gates.is_due("canaries_from", n_params * ladder.largest_step)


# ------------------------------------------------------------------------------------------ judging


def standings(ladder: Ladder, state: State) -> list[Standing]:
    """What the gates say of every rung that was measured, from its files alone."""
    found: list[Standing] = []
    for begun in state.begun:
        one = standing_of(ladder, state, begun.name, found[-1].case if found else None)
        if one is None:
            break
        found.append(one)
    return found


def standing_of(ladder: Ladder, state: State, name: str, below: Case | None) -> Standing | None:
    """What the gates say of a rung; None: not all of it is measured."""
    begun, rung = _begun(state, name), next(rung for rung in ladder.rungs if rung.name == name)
    runs = [known_of(state.evidence(name, f"seed{seed}")) for seed in ladder.all_seeds]
    size = known_of(state.evidence(name))
    if size is None or None in runs:
        return None
    specs = {one.n_params: one.spec for one in state.begun if one.n_params <= begun.n_params}
    canaries = [known_of(state.evidence(name, f"seed{seed}", ITEMS)) for seed in ladder.all_seeds]
    case = Case(
        as_stated(begun, rung),
        ladder.gates,
        begun.n_params,
        [None if run is None or "diverged" in run else run for run in runs],
        size,
        canaries,
        begun.foretold,
        judged(rung.judged, name),
        [table_of(file, specs) for file in rung.ablations],
        below,
    )
    return Standing(case, begun, judge(case))


def _begun(state: State, name: str) -> Begun:
    found = state.of(name)
    assert found is not None, "only rungs that were begun are judged"
    return found
