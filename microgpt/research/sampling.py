"""Candidates of a search are drawn by Optuna's samplers, and what came of them lies in its SQLite storage.

What is drawn is a function of the search, the number of the draw, and what came of the draws before it: the
sampler is made anew for each, seeded by (seed, number), over those that are stored.  A draw is stored in one
transaction, when all that came of it is known.  A search that is killed at any moment draws the same again.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from microgpt.common.errors import DataError
from microgpt.common.extras import wanted
from microgpt.core import random
from microgpt.files import durable

from .search_file import OBJECTIVES, SearchConfig, Space, Span

STORE, STUDY = "search.db", "search"


class Draw(NamedTuple):
    """Settings that were drawn.  trial: of Optuna, with what its sampler keeps beside them."""

    settings: dict[str, Any]
    trial: Any


def optuna() -> Any:
    """Optuna, without what it has to say.  Raises: ConfigError: it is not installed."""
    package = wanted("optuna", "search", "microgpt search")
    package.logging.set_verbosity(package.logging.ERROR)
    return package


def draw(config: SearchConfig, space: Space, known: Sequence[Any], number: int) -> Draw:
    """The settings of a draw.  known: the trials that are stored, in order."""
    study = optuna().create_study(directions=_directions(config), sampler=_sampler(config, number))
    study.add_trials(known)
    asked = study.ask(fixed_distributions=_distributions(space))
    trial = study.get_trials(deepcopy=False)[asked.number]
    return Draw(dict(trial.params), trial)


def _directions(config: SearchConfig) -> list[str]:
    return ["maximize" if OBJECTIVES[name][1] else "minimize" for name in config.objectives]


def _sampler(config: SearchConfig, number: int) -> Any:
    """A sampler for one draw."""
    samplers, seed = optuna().samplers, random.key(config.seed, "search", number) % (1 << 32)
    if config.sampler == "nsga2":
        return samplers.NSGAIISampler(population_size=config.population, seed=seed)
    if config.sampler == "tpe":
        return samplers.TPESampler(n_startup_trials=config.startup, seed=seed)
    return samplers.RandomSampler(seed=seed)


def _distributions(space: Space) -> dict[str, Any]:
    """The space as Optuna has it."""
    kinds = optuna().distributions
    found = {}
    for name, one in space.items():
        if not isinstance(one, Span):
            found[name] = kinds.CategoricalDistribution(one)
        elif all(type(end) is int for end in (one.low, one.high, one.step or 1)):
            found[name] = kinds.IntDistribution(one.low, one.high, log=one.log, step=one.step or 1)
        else:
            found[name] = kinds.FloatDistribution(float(one.low), float(one.high), log=one.log, step=one.step)
    return found


def ended(drawn: Draw, values: Sequence[float] | None, facts: Mapping[str, Any]) -> Any:
    """A trial of Optuna, with what came of a draw.  values: of the objectives; None: it was stopped."""
    states = optuna().trial.TrialState
    return optuna().trial.create_trial(
        state=states.PRUNED if values is None else states.COMPLETE,
        values=values,
        params=drawn.trial.params,
        distributions=drawn.trial.distributions,
        user_attrs=dict(facts),
        system_attrs=drawn.trial.system_attrs,
    )


class Store:
    """What is known of a search: a study of Optuna in a file of SQLite, made when it is not there.

    Raises: DataError: the file cannot be read as one.
    """

    def __init__(self, folder: Path, config: SearchConfig) -> None:
        self.path = folder / STORE
        if not self.path.exists():
            new = folder / f".tmp_{STORE}"
            new.unlink(missing_ok=True)  # of a process that was killed
            self._release(_study(new, _directions(config)))
            durable.rename(new, self.path)
        try:
            self._study = _study(self.path, _directions(config))
        except Exception as error:  # whatever SQLite, SQLAlchemy and Optuna raise
            raise DataError(f"{self.path}: not readable as the storage of a search ({error})") from error

    def trials(self) -> list[Any]:
        """All trials of Optuna, in order of their numbers."""
        return list(self._study.get_trials(deepcopy=False))

    def add(self, trial: Any) -> None:
        """Store a trial that `ended` has made."""
        self._study.add_trial(trial)

    def close(self) -> None:
        """Let go of the file."""
        self._release(self._study)

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @staticmethod
    def _release(study: Any) -> None:
        study._storage.remove_session()
        engine = getattr(study._storage, "_backend", study._storage).engine
        engine.dispose()


def _study(path: Path, directions: Sequence[str]) -> Any:
    """The study in a file.  The file is opened here, for in an address, such as sqlite:///..., the characters
    ? # % { } of a path mean something else."""
    opened = {"creator": lambda: sqlite3.connect(path)}
    storage = optuna().storages.RDBStorage("sqlite:///opened-by-creator", engine_kwargs=opened)
    return optuna().create_study(
        storage=storage, study_name=STUDY, directions=directions, load_if_exists=True
    )
