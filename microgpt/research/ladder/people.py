"""What people judged and what changes of a recipe gave, read from the files that a rung names."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from microgpt.common.errors import ConfigError, DataError
from microgpt.evaluation.judgements import Judgement, read_judgements
from microgpt.evaluation.preference import Verdict, verdict
from microgpt.files.records import read_json
from microgpt.runs.spec import Spec

from ..ablation import AS_IS, OF_LENGTH, RECORD, differing

OF_REPORTS = ("eval_every", "eval_tokens", "sample_every", "log_every", "save_every", "keep", "probes")
OF_MACHINE = ("precision", "threads", "recompute")
# What may differ between a rung and the run whose recipe was looked for: its size, length and reports.
OF_SIZE = ("n_layer", "n_head", "n_kv_head", "n_embd", "n_inner", "seq_len", "min_lr", "seed", "preset")
FREE = {*OF_LENGTH, *OF_REPORTS, *OF_MACHINE, *OF_SIZE}


class Judged(NamedTuple):
    """What people say of a rung.  side: a or b, its model of the two.  other: the name of the other one."""

    verdict: Verdict
    side: str
    other: str

    @property
    def is_preferred(self) -> bool | None:
        """Whether they prefer it by more than chance; None: neither, or there are too few pairs."""
        better = self.verdict.preference.better if self.verdict.preference.is_enough else None
        return None if better is None else better == self.side

    @property
    def marks(self) -> list[float]:
        """Its mean marks, of the rules that were marked."""
        return [getattr(one, self.side) for one in self.verdict.marks.values()]


def judged(files: Sequence[str], rung: str) -> Judged | None:
    """What files of judgements say of a rung; None: there are none.

    Raises: DataError: they are not of a run of it.
    """
    found = read_judged(files, rung)
    if not found:
        return None
    side = [is_of_run(name, rung) for name in found[0].models].index(True)
    return Judged(verdict(found), "ab"[side], found[0].models[1 - side])


def read_judged(files: Sequence[str], rung: str) -> list[Judgement]:
    """The judgements in files, all of a run of a rung and one other.  Raises: DataError: they are not."""
    found = read_judgements(files) if files else []
    if found and sum(is_of_run(name, rung) for name in found[0].models) != 1:
        raise DataError(
            f"{files[0]}: judges {' and '.join(found[0].models)}; expected one that is a run of {rung}, such "
            f"as {rung}-seed0, and one that is not"
        )
    return found


def is_of_run(name: str, rung: str) -> bool:
    """Whether a run, by its name or place, is one of a rung."""
    return any(part.rpartition("-seed")[0] == rung for part in Path(name).parts)


class Rows(NamedTuple):
    """What `ablate` found.  base: the row of the run as it is; changes: the others.  spec: of that run."""

    file: str
    base: dict[str, Any]
    changes: list[dict[str, Any]]
    spec: dict[str, Any]


class Table(NamedTuple):
    """The same beside a rung: size of the run as it is, its changes, settings that the rung has otherwise."""

    file: str
    n_params: int
    changes: list[dict[str, Any]]
    other_settings: list[str]
    n_seeds: int


def read_rows(file: str) -> Rows:
    """The rows in results.json of a folder that `ablate` made, or in the folder.

    Raises: ConfigError: it cannot be read, or the run that it is of is not known.
    """
    path = Path(file) / "results.json" if Path(file).is_dir() else Path(file)
    try:
        rows = json.loads(path.read_bytes())
        base = next(row for row in rows if row["name"] == AS_IS)
        _ = math.log(int(base["n_params"])), len(base["seed"])
        changes = [row for row in rows if row["name"] != AS_IS]
        _ = [(row["verdict"], row["name"], row["difference"]) for row in changes]
    except (OSError, ValueError, KeyError, TypeError, StopIteration) as error:
        raise ConfigError(
            f"{path}: expected results.json as `microgpt ablate` writes it ({error})"
        ) from error
    record = path.parent / RECORD
    if not record.is_file():
        raise ConfigError(f"{record} is not there; expected a whole folder as `microgpt ablate` writes it")
    return Rows(str(path), base, changes, Spec.from_dict(read_json(record)).to_dict())


def table_of(file: str, specs: Mapping[int, dict[str, Any]]) -> Table:
    """What is in a file, or folder, of `ablate`, beside the rung of the nearest size.

    Args:   specs: of rungs by their parameters; that of the nearest size tells whether it is that recipe, for
            rates follow the size.
    Raises: as `read_rows`.
    """
    found = read_rows(file)
    n_params = int(found.base["n_params"])
    nearest = min(specs, key=lambda size: abs(math.log(size / n_params)))
    others = [name for name in differing(found.spec, specs[nearest]) if name not in FREE]
    return Table(found.file, n_params, found.changes, others, len(found.base["seed"]))
