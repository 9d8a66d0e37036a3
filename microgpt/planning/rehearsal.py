"""A run up to its first step, which is not taken: the corpus is read, the plan counted, a few steps timed."""

import dataclasses
import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from microgpt.common.errors import ConfigError
from microgpt.corpus.prepared.folder import Prepared, refuse_settled
from microgpt.evaluation.finding import Finding
from microgpt.evaluation.ngrams import held_out_losses, learn
from microgpt.evaluation.probes import probe_all
from microgpt.evaluation.watch import TOKENS_COUNTED
from microgpt.machine.memory import available_memory
from microgpt.model import GPT
from microgpt.runs.lineage import begin_with, fill
from microgpt.runs.spec import Plan, Spec, of_corpus
from microgpt.training import assemble, depth
from microgpt.training.clock import Clock
from microgpt.training.horizon import Timing, planned_steps
from microgpt.training.length import with_steps
from microgpt.training.run import set_up_machine, settle_threads

from .facts import Facts, facts_of

Say = Callable[[str], None]


class Rehearsal(NamedTuple):
    """A plan that is settled, its numbers, what its parts take here, and whether it fits into the memory that
    is free.  timing: None where no step was timed: it was not wanted, or the run does not fit."""

    plan: Plan
    facts: Facts
    timing: Timing | None
    fits: bool


def open_plan(spec: Spec, say: Say) -> tuple[Plan, Prepared]:
    """The plan that a spec comes to on its corpus, which is prepared if it was not, and the corpus.

    Raises: ConfigError: settings that contradict each other, or a corpus that was prepared otherwise.
    """
    refuse_settled(spec.data_config().data, of_corpus(spec.data))
    begin = None if spec.parent is None else begin_with(spec.parent)
    of_parent = None if begin is None else begin[:2]
    plan = spec.plan(parent=of_parent)
    set_up_machine(plan.train, say)
    prepared = assemble.open_corpus(plan, None if begin is None else begin.tokenizer)
    return with_steps(spec.plan(prepared.tokenizer.vocab_size, of_parent), lambda: prepared), prepared


def rehearse(plan: Plan, prepared: Prepared, say: Say, is_timed: bool = True) -> Rehearsal:
    """Count, and time unless told otherwise, a run that is not to take place.

    Where its length is a time, the plan gets the steps that fit into it.
    """
    n_windows, plan = assemble.batches_of(plan, prepared).n_windows, depth.with_cost(plan)
    facts = facts_of(plan, n_windows)
    fits = facts.needs.total <= available_memory()
    if not (is_timed and fits):
        return Rehearsal(depth.with_steps(plan), facts, None, fits)
    clock = Clock()
    clock.limit(plan.train.time_limit_s)
    settle_threads(plan, plan.train.max_steps or float("inf"), clock, say)
    timing = assemble.measured(plan, prepared, clock)
    if not plan.train.max_steps:
        plan = plan.with_train(max_steps=planned_steps(clock.left_s, timing, plan.train))
    return Rehearsal(depth.with_steps(plan), facts_of(plan, n_windows), timing, fits)


def of_presets(
    names: list[str], spec: Spec, plan: Plan, prepared: Prepared, say: Say, is_timed: bool = True
) -> list[Rehearsal]:
    """The same run of several sizes of model.

    Raises: ConfigError: it begins with weights of another run, which have their size.
    """
    if spec.parent is not None:
        raise ConfigError(f"--from {spec.parent}: its weights have one size; there is none to choose")
    found = []
    for name in names:
        other = dataclasses.replace(spec, preset=name)
        sized = with_steps(other.plan(plan.model.vocab_size), lambda: prepared)
        found.append(rehearse(sized, prepared, say, is_timed))
    return found


def floors(plan: Plan, prepared: Prepared) -> dict[str, float]:
    """Bits per byte of what is held out by counting what followed what in the training text (up to a million
    tokens of it), by name: a model that ends above them has learned less than that."""
    windows = assemble.held_out_windows(plan, prepared)
    losses = held_out_losses(learn(prepared.train, TOKENS_COUNTED)[0], windows)
    return {name: nats * windows.n_tokens / math.log(2) / windows.n_bytes for name, nats in losses.items()}


def probed(plan: Plan, prepared: Prepared) -> Iterator[Finding]:
    """The probes of the model that would be trained, on its corpus."""
    model = GPT(plan.model, recompute=plan.train.recompute, precision=plan.train.precision)
    fill(model, plan, plan.train.seed)
    is_random = plan.parent is None
    batches = assemble.batches_of(plan, prepared)
    with tempfile.TemporaryDirectory() as folder:
        yield from probe_all(
            model, prepared.tokenizer, prepared.train, prepared.val, batches, Path(folder), is_random
        )
