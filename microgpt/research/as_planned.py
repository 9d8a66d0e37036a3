"""Runs that are compared count as they were planned: one that somebody trained on otherwise does not."""

from pathlib import Path
from typing import NamedTuple

from microgpt.common.errors import ConfigError
from microgpt.files.records import read_json
from microgpt.runs.checkpoint import read_config
from microgpt.runs.kept import STATE, newest_valid
from microgpt.runs.layout import checkpoints
from microgpt.runs.spec import Plan
from microgpt.runs.state import TrainState


class Newest(NamedTuple):
    """The newest whole checkpoint of a run, and where the run was then."""

    checkpoint: Path
    state: TrainState


def newest(plan: Plan, place: Path) -> Newest | None:
    """How far the run of a plan has come; None: it has no checkpoint yet.

    Raises: ConfigError: it was given another length than its plan has, now or on its way, so that its rates
            were others.  CheckpointError: none is whole.
    """
    if not checkpoints(place):
        return None
    checkpoint = newest_valid(place, (STATE,))
    has, planned = Plan.from_dict(read_config(checkpoint)).train, plan.train.max_steps
    if has.max_steps != planned or has.onward_step:
        is_longer = has.max_steps != planned
        how = f"for {has.max_steps:,} steps" if is_longer else f"by other rates from step {has.onward_step:,}"
        raise ConfigError(
            f"{place}: somebody went on training it with other settings, {how}, where {planned:,} steps are "
            "planned; it would not compare with the others: move it away"
        )
    return Newest(checkpoint, TrainState.from_dict(read_json(checkpoint / STATE)))


def arrived(plan: Plan, place: Path, steps: int) -> Newest | None:
    """The run of a plan once it has done so many of its steps and was measured there; None: it has to go on.

    A signal between a step and its evaluation leaves a run that is saved, but not measured.

    Args:   steps: at which its plan has an evaluation.
    Raises: as `newest`.
    """
    found = newest(plan, place)
    if found is None or found.state.step < steps:
        return None
    is_measured = found.state.step > steps or found.state.evaluated_at == steps
    return found if is_measured or not plan.train.eval_every else None
