"""Which share of information suits a model, its data and the task: the guide's table, and your own rows."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from microgpt.common.errors import ConfigError
from microgpt.runs.spec_file import read_toml

LEAST = 0.001  # a target below says nothing: S is then less than its own noise


class Size(NamedTuple):
    """Models below so many parameters, and the target for them."""

    below: float
    target_s: float


@dataclasses.dataclass(frozen=True)
class Table:
    """Targets by size of the model, and what is added to them for little data and for a task."""

    sizes: Mapping[str, Size]
    tokens: Mapping[float, float]  # below so many: what is added
    tasks: Mapping[str, float]


GUIDE = Table(
    {
        "micro": Size(100e6, 0.005),
        "tiny": Size(500e6, 0.01),
        "small": Size(1e9, 0.015),
        "medium": Size(3e9, 0.02),
        "large": Size(7e9, 0.03),
        "xlarge": Size(math.inf, 0.04),
    },
    {1e6: -0.01, 10e6: -0.005},
    {"general": 0.0, "code": 0.005, "math": 0.005, "domain": -0.005},
)


def table_from(path: Path | None) -> Table:
    """The guide's table, with the rows of a TOML file over it.

    [sizes] name = {below = 2e6, target_s = 0.002}   [tasks] name = -0.002

    Raises: ConfigError: it cannot be read, or has something else in it.
    """
    if path is None:
        return GUIDE
    document = read_toml(path)
    if unknown := sorted(set(document) - {"sizes", "tasks"}):
        raise ConfigError(f"{path}: unknown table {unknown[0]}, expected sizes or tasks")
    try:
        sizes = {
            name: Size(float(row["below"]), float(row["target_s"]))
            for name, row in document.get("sizes", {}).items()
        }
        tasks = {name: float(value) for name, value in document.get("tasks", {}).items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{path}: expected [sizes] name = {{below = 2e6, target_s = 0.002}} and [tasks] name = -0.002"
        ) from error
    return Table({**GUIDE.sizes, **sizes}, GUIDE.tokens, {**GUIDE.tasks, **tasks})


def chosen(n_params: int, n_tokens: int, task: str, table: Table = GUIDE) -> tuple[float, str]:
    """The target, and how it came about, for a person.  Raises ConfigError: no such task."""
    if task not in table.tasks:
        raise ConfigError(f"--scu-task {task}: expected {' or '.join(table.tasks)}")
    below = sorted(table.sizes.items(), key=lambda row: row[1].below)
    size, row = next((size for size in below if n_params < size[1].below), below[-1])
    for_data = next((change for most, change in sorted(table.tokens.items()) if n_tokens < most), 0.0)
    wanted = row.target_s + for_data + table.tasks[task]
    target = max(LEAST, wanted)
    told = (
        f"--scu auto: target {target:.2%} = {row.target_s:.2%} ({size}, {n_params:,} parameters) "
        f"{for_data:+.2%} ({n_tokens:,} tokens) {table.tasks[task]:+.2%} ({task})"
    )
    if target > wanted:
        told += f"; that is {wanted:.2%}, which no adapter could hold: {LEAST:.2%} is taken"
    return target, told
