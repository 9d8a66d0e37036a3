"""What a ladder has stated and done so far, on disk: it says what goes on, and what came before what.

<folder>/ladder.json         each rung as it was begun: hypothesis, gates, what was foretold; what was forced
<folder>/RUNG-seedN/         the runs
<folder>/evidence/*.json     what was measured, each file written once

Everything is written whole, so a ladder that was killed at any moment goes on from here.
"""

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from microgpt.common.errors import ConfigError
from microgpt.common.plain import record_from
from microgpt.files import durable
from microgpt.files.records import json_bytes, read_json

from .rungs import Gates, Ladder, Rung

RECORD, EVIDENCE = "ladder.json", "evidence"
FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Begun:
    """A rung as it was when it began.

    spec: of its runs.  gates: the thresholds then.  foretold: by the law of the rungs below, before any run
    of it; {"why_not": ...}: nothing could be.  began: date and time.  forced: gates that it did not pass, and
    was left all the same.
    """

    name: str
    n_params: int
    spec: dict[str, Any]
    hypothesis: str
    gates: dict[str, Any]
    foretold: dict[str, Any]
    began: str
    forced: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A ladder made to fit into a time: seconds asked for and expected, and the steps of each rung."""

    budget_s: float
    expected_s: float
    share: float
    steps: dict[str, Any]


class State:
    """The record of a ladder in its folder.

    Attributes: begun: rungs in the order in which they began.  fitted: to a time; None: it was not.
    """

    def __init__(self, folder: Path, begun: list[Begun], fitted: Fitted | None) -> None:
        self.folder, self.begun, self.fitted = folder, begun, fitted

    @classmethod
    def read(cls, folder: Path) -> "State":
        """What is there; nothing, where no ladder was begun.

        Raises: ConfigError: the folder holds something else.
        """
        record = folder / RECORD
        if not record.exists():
            if not durable.is_unused(folder):
                raise ConfigError(f"{folder} is there already and holds no ladder; choose another --out-dir")
            return cls(folder, [], None)
        document = read_json(record)
        if document.get("format") != FORMAT:
            raise ConfigError(
                f"{record}: of another format than {FORMAT}; was it written by a newer microgpt?"
            )
        begun = [record_from(Begun, one, str(record)) for one in document["rungs"]]
        fitted = document.get("fitted")
        return cls(folder, begun, None if fitted is None else record_from(Fitted, fitted, str(record)))

    def write(self) -> None:
        """Put it on disk in the place of what was there."""
        document = {
            "format": FORMAT,
            "fitted": self.fitted and dataclasses.asdict(self.fitted),
            "rungs": [dataclasses.asdict(one) for one in self.begun],
        }
        durable.replace_file(self.folder / RECORD, [json_bytes(jsonable(document))])

    def of(self, name: str) -> Begun | None:
        """A rung; None: it has not begun."""
        return next((one for one in self.begun if one.name == name), None)

    def begin(self, rung: Begun) -> None:
        """Record a rung before it is trained."""
        self.begun.append(rung)
        self.write()

    def force(self, name: str, gates: tuple[str, ...]) -> None:
        """Record that a rung is left though it has not passed these gates."""
        self.begun = [
            dataclasses.replace(one, forced=tuple(sorted({*one.forced, *gates}))) if one.name == name else one
            for one in self.begun
        ]
        self.write()

    def refuse_another(self, ladder: Ladder) -> None:
        """Refuse a file in which the rungs that were begun are not the first ones."""
        for number, one in enumerate(self.begun):
            names = [rung.name for rung in ladder.rungs]
            if names[number : number + 1] != [one.name]:
                raise ConfigError(
                    f"rung {one.name} was begun as number {number + 1} and is not that in the file any more; "
                    f"no rung is skipped or put below one that was begun (a new ladder needs a new --out-dir)"
                )

    def run(self, name: str, seed: int) -> Path:
        """Where the run of a rung and a seed lies."""
        return self.folder / f"{name}-seed{seed}"

    def evidence(self, *names: object) -> Path:
        """The file of something that was measured."""
        return self.folder / EVIDENCE / ("-".join(map(str, names)) + ".json")


def changed_gates(begun: Begun, gates: Gates) -> list[str]:
    """Thresholds that are not what they were when a rung began."""
    now = dataclasses.asdict(gates)
    return sorted(name for name in now if begun.gates.get(name) != now[name])


def as_stated(begun: Begun, rung: Rung) -> Rung:
    """A rung with the hypothesis that stood there before it was trained."""
    return dataclasses.replace(rung, hypothesis=begun.hypothesis)


def measured(path: Path, key: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What was measured of something, by its file; measured now, if it was not or of something else.

    Args: key: tells what it is of, such as the hash of the weights.
    """
    known = known_of(path, key)
    if known is not None:
        return known
    durable.make_directory(path.parent)
    durable.replace_file(path, [json_bytes({"key": key, "found": jsonable(make())})])
    found = known_of(path, key)
    assert found is not None, "it was just written"
    return found


def known_of(path: Path, key: str | None = None) -> dict[str, Any] | None:
    """What a file holds; None: nothing was measured, or that of something else.  key: None: of anything."""
    if not path.is_file():
        return None
    document = read_json(path)
    return document["found"] if key in (None, document.get("key")) else None


def jsonable(value: Any) -> Any:
    """Records, arrays and tuples as JSON has them; what is no number is null."""
    if isinstance(value, dict):
        return {str(name): jsonable(one) for name, one in value.items()}
    if hasattr(value, "_asdict"):
        return jsonable(value._asdict())
    if isinstance(value, np.generic | np.ndarray):
        return jsonable(value.tolist())
    if isinstance(value, list | tuple):
        return [jsonable(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return json.loads(json.dumps(value))
