"""One-field changes of a run, each trained on as many tokens with the same seeds, and compared with the run
as it is, document by document.

What of a run follows from the field follows the change, unless it is named: the last learning rate from the
first.  A run that was interrupted goes on, one that is done is only measured again, so the same call may be
made again and again, and gives the same numbers.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median, stdev
from typing import Any, NamedTuple

import numpy as np

from microgpt.common.errors import ConfigError
from microgpt.common.flags import shown_value
from microgpt.common.output import json_line, tell
from microgpt.core import native
from microgpt.evaluation.held_out import carries_state, packing_of, text_to_measure
from microgpt.evaluation.loss import Documents, half_width
from microgpt.evaluation.measure import quality
from microgpt.evaluation.pairs import Difference, Side, compare
from microgpt.evaluation.sides import side_of
from microgpt.files import durable
from microgpt.files.records import read_json
from microgpt.machine.cpus import thread_count
from microgpt.model import count_parameters
from microgpt.runs.checkpoint import load_model
from microgpt.runs.events import EventListener
from microgpt.runs.guard import DivergedError
from microgpt.runs.layout import METRICS
from microgpt.runs.settings import LENGTHS, SESSION_FIELDS
from microgpt.runs.spec import Plan, Spec, section_of
from microgpt.runs.spec_file import spec_of
from microgpt.training import assemble
from microgpt.training.length import with_steps
from microgpt.training.needs import memory_estimate
from microgpt.training.run import train_run

from .as_planned import arrived
from .showed import speed_of

AS_IS, PARENT = "as it is", "parent"
OF_LENGTH = (*LENGTHS, "max_time", "stop_after")  # what decides how many tokens a run sees
# How runs are carried out, as far as that may change when they go on: it makes no number of them another, as
# precision and recompute do.
CARRIED_OUT = SESSION_FIELDS - {"max_steps", "precision", "recompute"}
RECORD = "ablation.json"  # in the folder of the runs: what they are changes of


class Arm(NamedTuple):
    """What is trained with each seed: the run as it is, or with one field changed; the parent is not."""

    name: str
    plan: Plan

    @property
    def tokens(self) -> int:
        """That a run of it trains on."""
        return 0 if self.name == PARENT else self.plan.planned_tokens


class Row(NamedTuple):
    """What came out for an arm.

    bpb: held-out bits per byte, and by_seed: what they are above those of the run as it is, a number for
    each seed; None: that run diverged.  difference: of the means over seeds, with its interval over
    documents; None: the run as it is, or one diverged.  seeds_half: half of the interval over seeds; None: of
    fewer than two.  tok_per_s: median of the runs.  memory: bytes, as estimated for training.
    """

    name: str
    n_params: int
    tokens: int
    seeds: list[int]
    bpb: list[float | None]
    by_seed: list[float | None]
    difference: Difference | None
    seeds_half: float | None
    tok_per_s: float
    memory: float

    @property
    def verdict(self) -> str:
        """Whether it is more than chance: the choice of documents and, of several seeds, that of seeds."""
        if None in self.bpb:
            return "diverged"
        if self.difference is None:
            return ""
        is_clear = self.difference.is_clear and abs(self.difference.value) > (self.seeds_half or 0.0)
        word = ("lower" if self.difference.value < 0 else "higher") if is_clear else "not told apart"
        return word if self.seeds_half is not None else f"{word}, by one seed"


# ------------------------------------------------------------------------------------------ what is trained


def arms_of(spec: Spec, changes: Iterable[tuple[str, Any]]) -> list[Arm]:
    """The run as it is, then each change of it, (field, value); the corpus is prepared for it.

    Raises: ConfigError: a run that cannot be, or a change that is none or makes it another run altogether.
    """
    refuse_uneven(spec)
    prepared = assemble.open_corpus(spec.plan())
    vocab_size = prepared.tokenizer.vocab_size
    arms = [Arm(AS_IS, with_steps(spec.plan(vocab_size), lambda: prepared))]
    for name, value in changes:
        try:
            arm = changed(spec, arms[0], vocab_size, name, value)
        except ConfigError as error:
            raise ConfigError(f"--change {name}={shown_value(value)}: {error}") from error
        if arm.name in [other.name for other in arms]:
            raise ConfigError(f"--change {arm.name} is named twice; leave one out")
        arms.append(arm)
    return arms


def refuse_uneven(spec: Spec) -> None:
    """Refuse what no change of one field at equal tokens can be made of."""
    if spec.parent:
        raise ConfigError(
            f"the run begins with the weights of {spec.parent}; expected one that has no parent"
        )
    for name in ("max_time", "stop_after"):
        if spec.train.get(name):
            raise ConfigError(
                f"{name} is {spec.train[name]}, so tokens would not be equal; give max_steps alone"
            )


def changed(spec: Spec, base: Arm, vocab_size: int, name: str, value: Any) -> Arm:
    """The run with one field changed, on as many tokens."""
    refuse_change(name)
    plan = at_length(Spec.of(**{name: value}).over(spec).plan(vocab_size), base.tokens)
    if plan == base.plan:
        raise ConfigError("the run has that already; leave it out")
    return Arm(f"{name}={shown_value(plan.to_dict()[section_of(name)][name])}", plan)


def refuse_change(name: str) -> None:
    """Refuse a setting in which runs that are compared cannot differ."""
    if section_of(name) == "data" or name in ("vocab_size", "eval_tokens"):
        raise ConfigError(
            "it changes the text, and what is measured on it; expected a setting of model or training"
        )
    if name == "seed":
        raise ConfigError("every change is trained with the same seeds; say how many with --seeds")
    if name in OF_LENGTH:
        raise ConfigError(
            "it changes how many tokens are trained on; expected a setting that leaves them equal"
        )


def at_length(plan: Plan, tokens: int) -> Plan:
    """The plan with as many steps as these tokens are."""
    steps, rest = divmod(tokens, plan.tokens_per_step)
    if rest or not steps:
        raise ConfigError(
            f"{tokens:,} tokens are no whole number of steps of {plan.tokens_per_step:,}; give another value"
        )
    return plan.with_train(max_steps=steps, epochs=None, tokens=None, tokens_per_param=None)


def claim(folder: Path, base: Arm) -> None:
    """Make the folder of the runs, or find that it is of the same run.

    Raises: ConfigError: it holds something else.
    """
    wanted, record = spec_of(base.plan).to_dict(), folder / RECORD
    if record.exists():
        known = read_json(record)
        if names := [name for name in differing(known, wanted) if name not in CARRIED_OUT]:
            raise ConfigError(
                f"{folder} holds changes of another run ({', '.join(names)}); choose another --out-dir"
            )
        return
    if not durable.is_unused(folder):
        raise ConfigError(f"{folder} is there already and holds no ablation; choose another --out-dir")
    durable.make_directory(folder)
    durable.replace_file(record, [json_line(wanted).encode() + b"\n"])


def differing(known: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """The names of settings that two specs do not share."""
    one, other = ({**spec, **spec["model"], **spec["train"], **spec["data"]} for spec in (known, wanted))
    sections = ("model", "train", "data")
    return sorted(n for n in {*one, *other} if n not in sections and one.get(n) != other.get(n))


# ------------------------------------------------------------------------------------------ training


def place_of(folder: Path, arm: Arm, seed: int) -> Path:
    """Where the run of an arm and a seed lies."""
    return folder / f"{re.sub(r'[^A-Za-z0-9_.=+-]', '-', arm.name)}-seed{seed}"


def trained(plan: Plan, place: Path, listeners: Iterable[EventListener]) -> Path | None:
    """The last checkpoint of a run, which is trained to its end if it was not before; None: it diverged.

    Raises: ConfigError: it was trained otherwise than planned.  What `train_run` raises but that.
    """
    if found := arrived(plan, place, plan.train.max_steps):
        return found.checkpoint
    try:
        return train_run(spec_of(plan), place, listeners).checkpoint
    except DivergedError as error:
        tell(f"warning: {place}: {error}")
        return None


def measured(checkpoint: Path) -> Side:
    """Held-out text by a run, windows as it was trained with."""
    model, tokenizer, _ = load_model(checkpoint)
    held_out = text_to_measure(checkpoint, tokenizer, None, native.threads(), {})
    which = None, packing_of(checkpoint), None, carries_state(checkpoint)
    return side_of(checkpoint, model, tokenizer, held_out, *which)


def ablate(
    arms: Sequence[Arm],
    n_seeds: int,
    folder: Path,
    listeners: Iterable[EventListener] = (),
) -> list[Row]:
    """Train each arm with each seed, seed after seed, and compare them.

    Args:   listeners: called with each event of every run, one after the other.
    Raises: ConfigError: the folder holds something else.  What `train_run` raises, but for runs that diverge.
    """
    claim(folder, arms[0])
    return rows_of(arms, all_trained(arms, n_seeds, folder, listeners))


def all_trained(
    arms: Sequence[Arm], n_seeds: int, folder: Path, listeners: Iterable[EventListener]
) -> dict[str, list[Path | None]]:
    """The last checkpoint of each arm with each seed; None: it diverged.  What was trained before is kept."""
    listeners = list(listeners)
    first = arms[0].plan.train.seed
    order = [(arm, seed) for seed in range(first, first + n_seeds) for arm in arms]
    found: dict[str, list[Path | None]] = {arm.name: [] for arm in arms}
    for number, (arm, seed) in enumerate(order, 1):
        tell(f"run {number} of {len(order)}: {arm.name}, seed {seed}")
        plan, place = arm.plan.with_train(seed=seed), place_of(folder, arm, seed)
        found[arm.name].append(trained(plan, place, listeners))
    return found


# ------------------------------------------------------------------------------------------ comparing


def rows_of(
    arms: Sequence[Arm],
    found: dict[str, list[Path | None]],
    measure: Callable[[Path], Side] = measured,
    before: Callable[[Path], Side] | None = None,
) -> list[Row]:
    """Compare the arms with the first of them.

    Args: found: the checkpoints of `all_trained`.  measure: what is measured of each.  before: the same of
          the weights that it began with, of runs that began with a parent's: those get a row.
    """
    native.set_threads(thread_count(None))
    first, *others = arms
    base = [measure(one) if one else None for one in found[first.name]]
    rows = [row(first, found[first.name], base)]
    if before is not None:
        sides = [before(one) if one else None for one in found[first.name]]
        rows.append(row(Arm(PARENT, first.plan), [], sides, base))
    for arm in others:
        sides = [measure(one) if one else None for one in found[arm.name]]
        rows.append(row(arm, found[arm.name], sides, base))
    return rows


def row(
    arm: Arm,
    checkpoints: Sequence[Path | None],
    sides: Sequence[Side | None],
    compared: Sequence[Side | None] | None = None,
) -> Row:
    """What came out for an arm.  sides, and those that it is compared with: one for each seed; None: it
    diverged.  compared: None: it is what others are compared with."""
    base = sides if compared is None else compared
    bpb, before = ([one and bpb_of(one) for one in those] for those in (sides, base))
    apart = [None if a is None or b is None else a - b for a, b in zip(bpb, before, strict=True)]
    known = [one for one in apart if one is not None]
    whole, whole_base = ([one for one in those if one] for those in (sides, base))
    is_compared = compared is not None and len(known) == len(apart)
    plan, speeds = arm.plan, [speed_of(one.parent / METRICS)[0] for one in checkpoints if one]
    return Row(
        arm.name,
        count_parameters(plan.model),
        arm.tokens,
        [plan.train.seed + number for number in range(len(bpb))],
        bpb,
        apart,
        compare(mean_of(whole_base), mean_of(whole)).bpb if is_compared else None,
        half_of(known) if is_compared else None,
        median(speeds) if speeds else 0.0,
        memory_estimate(plan.model, plan.train),
    )


def bpb_of(side: Side) -> float:
    """Bits per byte of all documents."""
    return quality(side.documents.nats, side.documents).bpb.value


def mean_of(sides: Sequence[Side]) -> Side:
    """The mean over seeds of what is lost in each document."""
    return sides[0]._replace(
        documents=Documents(*(np.mean(sums, 0) for sums in zip(*(s.documents for s in sides), strict=True)))
    )


def half_of(values: Sequence[float]) -> float | None:
    """Half of the 95 % interval around a mean over seeds; None: of one."""
    n = len(values)
    return half_width(stdev(values) / n**0.5, n) if n > 1 else None
