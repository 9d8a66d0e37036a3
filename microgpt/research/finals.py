"""The finalists of a search: more seeds of each, and each of its settings set back by itself, by `ablate`."""

import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from microgpt.common.errors import ConfigError
from microgpt.common.flags import shown_value
from microgpt.common.output import tell
from microgpt.files import durable
from microgpt.runs.events import EventListener
from microgpt.runs.spec import section_of

from . import ablation, ablation_table
from .ablation import AS_IS, Arm, ablate, changed, half_of
from .as_planned import newest
from .search import Candidates, Say, place_of
from .search_file import NAMED_ALONE, PRIOR, Search
from .search_table import BySeeds, front_of
from .trials import Trial, locked

FINALS, RESULTS = "finals", "results.json"


def run_finals(
    search: Search,
    trials: Sequence[Trial],
    folder: Path,
    listeners: Iterable[EventListener] = (),
    say: Say = tell,
) -> None:
    """Train finalists with more seeds, and what they would be with one setting as it was; or go on with that.

    Results lie in finals/<number>, as those of `ablate`.  Children of a parent have none: weights that they
    begin with are of one seed.
    Raises: ConfigError: somebody else searches there, or a finalist was trained otherwise than planned.
    """
    config = search.config
    finalists = front_of(trials, config.objectives)[: config.finalists]
    if not finalists:
        return
    if any(one.parent for one in finalists):
        say("no more seeds: the weights that candidates begin with are of one seed")
        return
    candidates, listeners = Candidates(search), list(listeners)
    with locked(folder):
        for trial in finalists:
            arms = arms_of(candidates, trial, say)
            place = folder / FINALS / f"{trial.number:04d}"
            ablation.claim(place, arms[0])
            bring(place_of(folder, trial.number), arms[0], place)
            say(f"finalist {trial.number:04d}: {config.seeds} seeds, {len(arms) - 1} settings set back")
            ablation_table.write(ablate(arms, config.seeds, place, listeners), place)


def arms_of(candidates: Candidates, trial: Trial, say: Say = tell) -> list[Arm]:
    """A candidate as it is, and with each setting that the search has changed as it is in the run."""
    spec, base = candidates.sparse_spec(trial.settings), candidates.base.to_dict()
    arms = [Arm(AS_IS, candidates.plan(trial.settings))]
    if not candidates.search.config.ablate:
        return arms
    for name in trial.settings:
        if name in NAMED_ALONE or name.startswith(PRIOR):
            continue
        value = base[section_of(name)][name]
        if value == arms[0].plan.to_dict()[section_of(name)][name]:
            continue
        try:
            arms.append(changed(spec, arms[0], candidates.vocab_size, name, value))
        except ConfigError as error:
            say(f"{trial.number:04d} is not tried with {name}={shown_value(value)} alone: {error}")
    return arms


def bring(source: Path, arm: Arm, place: Path) -> None:
    """The run of the search is that of the first seed; one that is not there any more is trained anew.

    Raises: ConfigError: it was trained otherwise than planned.
    """
    target = ablation.place_of(place, arm, arm.plan.train.seed)
    if target.exists() or newest(arm.plan, source) is None:
        return
    new = target.with_name(f".tmp_{target.name}")
    shutil.rmtree(new, ignore_errors=True)  # of a process that was killed
    shutil.copytree(source, new)
    durable.rename(new, target)


def by_seeds(folder: Path) -> dict[int, BySeeds]:
    """What finalists reached over seeds, by number."""
    found = {}
    for path in sorted((folder / FINALS).glob(f"*/{RESULTS}")):
        values = [one for one in json.loads(path.read_bytes())[0]["bpb"] if one is not None]
        if values:
            mean = sum(values) / len(values)
            found[int(path.parent.name)] = BySeeds(mean, half_of(values), len(values))
    return found
