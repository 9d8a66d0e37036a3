"""A table of runs in a file: parameters, tokens and loss of each, as others publish them."""

import csv
from collections.abc import Sequence
from pathlib import Path

from microgpt.common.errors import DataError
from microgpt.evaluation.law_runs import Showed

NAMES = (("N", "D", "loss"), ("params", "tokens", "loss"))  # of columns, in any case of letters


def read_table(path: Path, columns: Sequence[str] | None = None) -> list[Showed]:
    """The rows of a .csv file.

    Args:   columns: names of those that hold parameters, tokens and loss; None: as in NAMES.
    Raises: DataError: no such columns, or what is no number above 0.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            chosen = _chosen(path, [*(reader.fieldnames or [])], columns)
            rows = [_read(path, reader.line_num, row, chosen) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path}: {getattr(error, 'strerror', None) or error}; expected a .csv file"
        ) from error
    if not rows:
        raise DataError(f"{path}: no row below the names of columns")
    return rows


def _chosen(path: Path, have: list[str], wanted: Sequence[str] | None) -> list[str]:
    by_name = {name.strip().lower(): name for name in have}
    for names in [wanted] if wanted else NAMES:
        if all(name.lower() in by_name for name in names):
            return [by_name[name.lower()] for name in names]
    expected = " or ".join(",".join(names) for names in ([wanted] if wanted else NAMES))
    raise DataError(f"{path}: columns {','.join(have)}; expected {expected}, or name three with --columns")


def _read(path: Path, line: int, row: dict[str, str], columns: list[str]) -> Showed:
    values: list[float] = []
    for name in columns:
        try:
            values.append(float(row[name] or ""))
        except (TypeError, ValueError):
            values.append(0.0)
        if not 0 < values[-1] < float("inf"):
            raise DataError(f"{path}, line {line}: {name} is {row[name]!r}; expected a number above 0")
    return Showed(f"{path.name}:{line}", values[0], values[1], values[2])
