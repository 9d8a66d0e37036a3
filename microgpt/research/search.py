"""A search: candidates are drawn, trained to a rung, and on from there to the end where they are good enough.

All are planned for all tokens from the start, so that one that goes on equals one that never paused, to the
last bit.  What came of a draw is stored before the next is made; the run of a candidate lies in a folder by
its number.  The same search may be begun again and again: it goes on where it was, with the same draws.
"""

import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, Protocol

from microgpt.common.errors import ConfigError, MicrogptError
from microgpt.common.output import json_line, tell
from microgpt.common.words import format_amount
from microgpt.core import native
from microgpt.model import count_parameters, flop_per_token
from microgpt.model.architecture import state_bytes
from microgpt.runs.events import Evaluated, Event, EventListener
from microgpt.runs.guard import DivergedError
from microgpt.runs.layout import METRICS
from microgpt.runs.lineage import Begin, begin_with
from microgpt.runs.metrics import read_metrics
from microgpt.runs.settings import SESSION_FIELDS
from microgpt.runs.spec import Plan, Spec
from microgpt.runs.spec_file import spec_of
from microgpt.training import assemble
from microgpt.training.needs import memory_estimate
from microgpt.training.run import train_run
from microgpt.training.stop import StopFlag

from .ablation import at_length
from .as_planned import arrived
from .sampling import Draw, Store, draw, ended
from .search_file import MEDIAN, PRIOR, Search
from .showed import speed_of
from .trials import (
    AGAIN,
    DIVERGED,
    FINISHED,
    IMPOSSIBLE,
    STOPPED,
    Trial,
    claim,
    facts_of,
    locked,
    told,
    trial_of,
    write_table,
)

FINEST_RUNG = 100  # a rung is a share in so many parts of the tokens, or in fewer
MOST_DRAWS = 20  # for each candidate that is wanted: a space may have fewer than that
# What is the search's own: no sample, an evaluation at each rung, and what goes on is the newest.
OF_SEARCH: dict[str, Any] = {"sample_every": 0, "keep": 1, "probes": False}


class Measured(NamedTuple):
    """Of a candidate after so many steps: held-out bits per byte, and tokens a second of its training."""

    bpb: float
    tok_per_s: float


class Trainer(Protocol):
    """Trains candidate `number` up to so many steps of its plan, from where it is, and measures it."""

    def __call__(self, number: int, plan: Plan, steps: int) -> Measured: ...


Say = Callable[[str], None]


# ------------------------------------------------------------------------------------------ candidates


class Candidates:
    """Makes plans of settings: changes of one run, all on as many tokens of one text.

    Raises: ConfigError: the run cannot be, or its tokens are no whole number of steps.
    """

    def __init__(self, search: Search) -> None:
        self.search, self._parents = search, dict[str, Begin]()
        begin = self._begin_with(search.base.parent)
        prepared = assemble.open_corpus(self._first_plan(), begin and begin.tokenizer)
        self.vocab_size = prepared.tokenizer.vocab_size
        step = self._plan(search.base).tokens_per_step
        share = Fraction(search.config.rung).limit_denominator(FINEST_RUNG)
        if not 0 < share < 1:
            raise ConfigError(f"rung = {search.config.rung:g}: expected a share between 0.01 and 0.99")
        unit = step * share.denominator  # so that a rung is a whole number of steps
        self.tokens = math.ceil(search.config.n_tokens / unit) * unit
        self.rung_tokens = int(self.tokens * share)
        self.base = self.plan({})

    def _first_plan(self) -> Plan:
        base = self.search.base
        parent = self._begin_with(base.parent)
        return base.plan(parent=parent and parent[:2])

    def plan(self, settings: Mapping[str, Any]) -> Plan:
        """All settings of a candidate.  Raises: ConfigError: it cannot be."""
        plan = at_length(self._plan(self.spec(settings)), self.tokens)
        steps, rest = divmod(self.rung_tokens, plan.tokens_per_step)
        if rest or not steps:
            raise ConfigError(f"{self.rung_tokens:,} tokens of the rung are no whole number of its steps")
        needed, most = memory_estimate(plan.model, plan.train), self.search.config.most_memory
        if needed > most:
            raise ConfigError(f"takes {format_amount(needed)}B of memory, more than {format_amount(most)}B")
        return plan.with_train(**OF_SEARCH, eval_every=steps)

    def spec(self, settings: Mapping[str, Any]) -> Spec:
        """The run with these settings changed."""
        return changed_spec(self.search.base, settings)

    def sparse_spec(self, settings: Mapping[str, Any]) -> Spec:
        """The same with its length and what is the search's own, so that it makes the candidate's plan."""
        train = self.plan(settings).train
        own: dict[str, Any] = {"max_steps": train.max_steps, "eval_every": train.eval_every, **OF_SEARCH}
        return Spec.of(**own).over(self.spec(settings))

    def _plan(self, spec: Spec) -> Plan:
        begin = self._begin_with(spec.parent)
        return spec.plan(self.vocab_size, begin and begin[:2])

    def _begin_with(self, name: str | None) -> Begin | None:
        if not name:
            return None
        if name not in self._parents:
            self._parents[name] = begin_with(name)
        return self._parents[name]

    def refuse_unequal(self) -> None:
        """Children of parents that were not trained on as many tokens cannot be compared.

        Raises: ConfigError: there would be some.
        """
        names = self.search.space.get("parent", (self.search.base.parent,))
        tokens = {name: begin.parent.tokens if (begin := self._begin_with(name)) else 0 for name in names}
        if len(set(tokens.values())) > 1:
            told = ", ".join(f"{name} {format_amount(n)}" for name, n in tokens.items())
            raise ConfigError(
                f"parents were trained on {told} tokens; children are compared only with their like: name "
                "those of as many tokens"
            )


def changed_spec(base: Spec, settings: Mapping[str, Any]) -> Spec:
    """A run with settings changed, which a search or a table names."""
    own = {name: value for name, value in settings.items() if not name.startswith(PRIOR)}
    priors = {name.removeprefix(PRIOR): value for name, value in settings.items() if name not in own}
    return Spec.of(**own, priors=priors).over(base)


# ------------------------------------------------------------------------------------------ training


class Until(StopFlag):
    """Asks a run to end after so many steps, once it was measured there; a signal ends it as ever."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps, self.is_reached = steps, False

    def __bool__(self) -> bool:
        return self.is_reached or super().__bool__()

    def hear(self, event: Event) -> None:
        """A listener of the run."""
        self.is_reached |= isinstance(event, Evaluated) and event.step == self.steps


class RunTrainer:
    """Trains candidates in this process, each in a folder of its own."""

    def __init__(self, folder: Path, listeners: Iterable[EventListener] = ()) -> None:
        self.folder, self.listeners = folder, list(listeners)

    def __call__(self, number: int, plan: Plan, steps: int) -> Measured:
        place = place_of(self.folder, number)
        if not arrived(plan, place, steps):
            train_until(plan, place, steps, self.listeners)
        return measured_at(place, steps)


def train_until(plan: Plan, place: Path, steps: int, listeners: Iterable[EventListener]) -> None:
    """Train a run up to so many of its steps, where it is measured and saved.

    Raises: DivergedError: its numbers stay bad.  KeyboardInterrupt, SystemExit: after a signal.
    """
    until = Until(steps if steps < plan.train.max_steps else -1)  # at its end it ends by itself
    train_run(spec_of(plan), place, [until.hear, *listeners], stop=until)
    if until.signal is not None:
        raise KeyboardInterrupt if until.exit_code == 130 else SystemExit(until.exit_code)


def measured_at(place: Path, steps: int) -> Measured:
    """What the log of a run says of it after so many steps, at which it was measured."""
    events = read_metrics(place / METRICS)
    found = [one["bpb"] for one in events if one["event"] == "eval" and one["step"] == steps]
    return Measured(float(found[-1]), speed_of(place / METRICS)[0])


def place_of(folder: Path, number: int) -> Path:
    """Where the run of a candidate lies."""
    return folder / f"{number:04d}"


# ------------------------------------------------------------------------------------------ the search


def run_search(search: Search, folder: Path, train: Trainer, say: Say = tell) -> list[Trial]:
    """Search, or go on with a search, until as many candidates are trained as are wanted.

    Raises: ConfigError: the folder holds another search, or the search cannot be.  What `train` raises, but
            for DivergedError.
    """
    candidates = Candidates(search)
    candidates.refuse_unequal()
    claim(folder, search)
    if candidates.tokens != search.config.n_tokens:
        say(f"each is trained on {candidates.tokens:,} tokens, {candidates.rung_tokens:,} to the rung")
    with locked(folder), Store(folder, search.config) as store:
        known = store.trials()
        trials = [trial_of(number, one) for number, one in enumerate(known)]
        write_table(folder, trials)
        most = MOST_DRAWS * search.config.candidates
        while sum(one.is_trained for one in trials) < search.config.candidates and len(trials) < most:
            drawn = draw(search.config, search.space, known, len(trials))
            trial = tried(candidates, drawn, trials, train, say)
            values = None if trial.bpb is None else trial.objectives(search.config.objectives)
            known.append(ended(drawn, values, facts_of(trial)))
            store.add(known[-1])
            trials.append(trial)
            write_table(folder, trials)
    if not any(one.is_trained for one in trials):
        raise ConfigError(f"{folder}: none of {len(trials)} draws can be trained; the last: {trials[-1].why}")
    return trials


def tried(candidates: Candidates, drawn: Draw, before: Sequence[Trial], train: Trainer, say: Say) -> Trial:
    """What comes of a draw.  before: of those before it."""
    trial = Trial(len(before), drawn.settings, IMPOSSIBLE)
    try:
        plan = candidates.plan(drawn.settings)
    except MicrogptError as error:
        return dataclasses.replace(trial, why=str(error))
    native.set_threads(plan.train.n_threads)  # what the one before chose would change the memory that is told
    trial = dataclasses.replace(trial, **counted_facts(plan))
    twin = next((one for one in before if one.plan == trial.plan), None)
    if twin is not None:
        bpb = twin.bpb if twin.state == FINISHED else None
        return dataclasses.replace(
            trial, state=AGAIN, why=f"as {twin.number:04d}", bpb=bpb, tok_per_s=twin.tok_per_s
        )
    number = sum(one.is_trained for one in before) + 1
    wanted = candidates.search.config.candidates
    say(f"candidate {number} of {wanted}: {trial.number:04d} {told(drawn.settings)}")
    return trained(candidates, trial, plan, before, train)


def trained(
    candidates: Candidates, trial: Trial, plan: Plan, before: Sequence[Trial], train: Trainer
) -> Trial:
    """Train a candidate to the rung, and to the end if it may go on."""
    for tokens in (candidates.rung_tokens, candidates.tokens):
        trial = dataclasses.replace(trial, tokens=tokens)
        try:
            found = train(trial.number, plan, tokens // plan.tokens_per_step)
        except DivergedError as error:
            return dataclasses.replace(trial, state=DIVERGED, why=str(error))
        if not math.isfinite(found.bpb):
            return dataclasses.replace(trial, state=DIVERGED, why=f"bits per byte are {found.bpb}")
        trial = dataclasses.replace(trial, tok_per_s=found.tok_per_s)
        if tokens == candidates.rung_tokens:
            trial = dataclasses.replace(trial, rung_bpb=found.bpb)
            if why := why_stopped(candidates.search, found.bpb, before):
                return dataclasses.replace(trial, state=STOPPED, why=why)
    return dataclasses.replace(trial, state=FINISHED, bpb=found.bpb)


def why_stopped(search: Search, bpb: float, before: Sequence[Trial]) -> str:
    """Why a candidate ends at the rung; empty: it goes on."""
    most, what = search.config.threshold, "the threshold"
    if search.config.stop == MEDIAN:
        known = [one.rung_bpb for one in before if one.rung_bpb is not None]
        if sum(one.is_trained for one in before) >= search.config.startup and known:
            most, what = median(known), "the median of those before"
    return f"{bpb:.4f} bits per byte at the rung, {what} is {most:.4f}" if most and bpb > most else ""


def counted_facts(plan: Plan) -> dict[str, Any]:
    """What is known of a candidate before it is trained."""
    return {
        "plan": identity(plan),
        "parent": plan.parent.place if plan.parent else "",
        "parent_tokens": plan.parent.tokens if plan.parent else 0,
        "n_params": count_parameters(plan.model),
        "flop_per_token": flop_per_token(plan.model),
        "memory_bytes": memory_estimate(plan.model, plan.train),
        "state_bytes": state_bytes(plan.model) * plan.model.seq_len,
    }


def identity(plan: Plan) -> str:
    """What a candidate is, as a hash: the text, the weights that it begins with, and all settings in which
    candidates can differ.

    How runs are carried out is no part of it, precision neither, for all candidates share that of [run]; nor
    how long they are, for all train on as many tokens.
    """
    train = {name: value for name, value in plan.train.to_dict().items() if name not in SESSION_FIELDS}
    parent = plan.parent and plan.parent.sha256
    document = {"model": plan.model.to_dict(), "train": train, "data": plan.data.to_dict(), "parent": parent}
    return hashlib.sha256(json_line(document).encode()).hexdigest()[:16]
