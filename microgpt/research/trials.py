"""What came of the draws of a search, and the folder in which it lies."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from microgpt.common.errors import ConfigError
from microgpt.common.flags import shown_value
from microgpt.common.output import json_line
from microgpt.common.plain import record_from
from microgpt.files import durable
from microgpt.files.records import read_json

from . import ablation
from .ablation import CARRIED_OUT
from .sampling import STORE, Store
from .search_file import Search, search_of_record

FINISHED, STOPPED, DIVERGED = "finished", "stopped", "diverged"
IMPOSSIBLE, AGAIN = "impossible", "drawn again"
RECORD, TABLE = "search.json", "trials.jsonl"  # what the folder is a search of; a line for each draw


@dataclasses.dataclass(frozen=True)
class Trial:
    """What came of a draw.

    settings: that were drawn.  state: finished, stopped at the rung, diverged, impossible, or drawn again.
    why: a line, where it did not finish.  tokens: that it was trained on, at most; parent_tokens: that the
    weights of `parent` had seen, with which it began.  rung_bpb, bpb: held out, after rung and all tokens.
    plan: a hash of what it is (`search.identity`).  The other numbers are as in OBJECTIVES.
    """

    number: int
    settings: dict[str, Any]
    state: str
    why: str = ""
    parent: str = ""
    parent_tokens: int = 0
    tokens: int = 0
    rung_bpb: float | None = None
    bpb: float | None = None
    n_params: int = 0
    flop_per_token: float = 0.0
    tok_per_s: float = 0.0
    memory_bytes: float = 0.0
    state_bytes: int = 0
    plan: str = ""

    @property
    def is_trained(self) -> bool:
        """Whether it is one of the candidates that were asked for."""
        return self.state in (FINISHED, STOPPED, DIVERGED)

    @property
    def all_tokens(self) -> int:
        """That its weights have seen."""
        return self.tokens + self.parent_tokens

    def objectives(self, names: Sequence[str]) -> list[float]:
        """Their values."""
        return [float(getattr(self, name)) for name in names]


def told(settings: Mapping[str, Any]) -> str:
    """`lr=0.003 n_layer=2`."""
    return " ".join(f"{name}={shown_value(value)}" for name, value in settings.items())


def facts_of(trial: Trial) -> dict[str, Any]:
    """What is stored of a draw beside its settings."""
    return {
        name: one for name, one in dataclasses.asdict(trial).items() if name not in ("number", "settings")
    }


def trial_of(number: int, stored: Any) -> Trial:
    """A trial that was stored."""
    return record_from(Trial, {"number": number, "settings": dict(stored.params), **stored.user_attrs}, STORE)


def write_table(folder: Path, trials: Sequence[Trial]) -> None:
    """Write trials.jsonl: a line of JSON for each draw, with what came of it."""
    lines = [json_line(dataclasses.asdict(trial)).encode() + b"\n" for trial in trials]
    durable.replace_file(folder / TABLE, lines)


def claim(folder: Path, search: Search) -> None:
    """Make the folder of a search, or find that it is of the same search.

    More candidates, and what comes after them, may be asked for later; so may other threads.
    Raises: ConfigError: it holds something else.
    """
    record, wanted = folder / RECORD, search.to_dict()
    if record.exists():
        known = read_json(record)
        if names := differing(known, wanted):
            raise ConfigError(f"{folder} holds another search ({', '.join(names)}); choose another --out-dir")
    elif not durable.is_unused(folder):
        raise ConfigError(f"{folder} is there already and holds no search; choose another --out-dir")
    durable.make_directory(folder)
    durable.replace_file(record, [json_line(wanted).encode() + b"\n"])


def differing(known: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """The names of what two searches do not share."""
    later = ("candidates", "finalists", "seeds", "ablate")
    found = {"run": [n for n in ablation.differing(known["run"], wanted["run"]) if n not in CARRIED_OUT]}
    for table in ("search", "space"):
        one, other = known[table], wanted[table]
        found[table] = sorted(n for n in {*one, *other} if one.get(n) != other.get(n) and n not in later)
    return [f"{table}.{name}" for table, names in sorted(found.items()) for name in names]


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Nobody else searches there meanwhile.  Raises: ConfigError: somebody does."""
    try:
        lock = durable.lock_directory(folder)
    except OSError:
        raise ConfigError(f"another search is using {folder}; wait until it ends, or end it") from None
    try:
        yield
    finally:
        durable.unlock_directory(lock)


def read_trials(folder: Path) -> tuple[Search, list[Trial]]:
    """A search that was begun, and what came of its draws so far.

    Raises: ConfigError: there is none.
    """
    if not (folder / RECORD).is_file():
        raise ConfigError(f"{folder} holds no search; expected the folder of one, as runs/search-NAME")
    search = search_of_record(read_json(folder / RECORD))
    with Store(folder, search.config) as store:
        return search, [trial_of(number, one) for number, one in enumerate(store.trials())]
