"""A seed: what a larger run begins from.  A folder with one candidate of a search: its run, its settings as a
file, and what came of it and of the search."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from microgpt.common.errors import ConfigError
from microgpt.common.output import json_line
from microgpt.common.plain import record_from
from microgpt.files import durable
from microgpt.files.records import read_json
from microgpt.runs.kept import weights_sha256
from microgpt.runs.spec import Spec
from microgpt.runs.spec_file import read_spec, spec_text

from .as_planned import newest
from .finals import FINALS, RESULTS
from .search import Candidates, place_of
from .search_file import Search, search_of_record
from .search_table import front_of, lineage
from .trials import FINISHED, TABLE, Trial, read_trials

SEED, SPEC = "seed.json", "spec.toml"


class Seed(NamedTuple):
    """A seed as it lies on disk.  trials: of its search, all draws."""

    folder: Path
    spec: Spec
    search: Search
    trial: Trial
    trials: list[Trial]
    rung_tokens: int


def export_seed(folder: Path, number: int | None, out: Path) -> Path:
    """Write a seed of a candidate; None: that of fewest bits per byte.

    Raises: ConfigError: the search has none such, its run was trained otherwise than planned or is gone, or
            there is something at `out` already.
    """
    search, trials = read_trials(folder)
    trial = _chosen(trials, search, number)
    if out.exists():
        raise ConfigError(f"{out} is there already; choose another --out-dir")
    candidates = Candidates(search)
    run, spec = place_of(folder, trial.number), candidates.sparse_spec(trial.settings)
    found = newest(candidates.plan(trial.settings), run)
    if found is None:
        raise ConfigError(f"{run}: the run of that candidate is not there any more; choose another one")
    new = out.with_name(f".tmp_{out.name}")
    shutil.rmtree(new, ignore_errors=True)  # of a process that was killed
    durable.make_directory(out.parent)
    shutil.copytree(run, new)
    shutil.copy(folder / TABLE, new / TABLE)
    results = folder / FINALS / f"{trial.number:04d}" / RESULTS
    if results.exists():
        shutil.copy(results, new / RESULTS)
    durable.write_file(new / SPEC, [spec_text(spec).encode()])
    about: dict[str, Any] = {
        "trial": dataclasses.asdict(trial),
        "lineage": lineage(trial, trials, search.config.objectives),
        "rung_tokens": candidates.rung_tokens,
        "checkpoint": found.checkpoint.name,
        "sha256": weights_sha256(found.checkpoint),
        "search": search.to_dict(),
    }
    durable.write_file(new / SEED, [json_line(about).encode() + b"\n"])
    durable.rename(new, out)
    return out


def _chosen(trials: list[Trial], search: Search, number: int | None) -> Trial:
    front = front_of(trials, search.config.objectives)
    if not front:
        raise ConfigError("no candidate has finished yet; go on with microgpt search run")
    if number is None:
        return front[0]
    if not 0 <= number < len(trials) or trials[number].state != FINISHED:
        best = ", ".join(str(one.number) for one in front)
        raise ConfigError(f"candidate {number} has not finished; on the front are {best}")
    return trials[number]


def read_seed(folder: Path) -> Seed:
    """A seed that was exported.  Raises: ConfigError: there is none."""
    if not (folder / SEED).is_file():
        raise ConfigError(
            f"{folder} is no seed; microgpt search export-seed DIR --out-dir {folder} makes one"
        )
    about = read_json(folder / SEED)
    lines = (folder / TABLE).read_text(encoding="utf-8").splitlines()
    trials = [record_from(Trial, json.loads(line), TABLE) for line in lines]
    search = search_of_record(about["search"])
    number = about["trial"]["number"]
    return Seed(folder, read_spec(folder / SPEC), search, trials[number], trials, about["rung_tokens"])
