"""Runs that are compared count as they were planned: one that somebody has trained on by hand does not."""

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
            f"{place} was trained on by hand, {how}, where {planned:,} steps are planned; it would not "
            "compare with the others: move it away"
        )
    return Newest(checkpoint, TrainState.from_dict(read_json(checkpoint / STATE)))


def steps_of(plan: Plan, place: Path) -> int:
    """How many of its steps the run of a plan has done and saved.  Raises: as `newest`."""
    found = newest(plan, place)
    return found.state.step if found else 0
