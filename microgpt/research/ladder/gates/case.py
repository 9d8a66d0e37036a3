"""What a gate reads, all that is known of a rung, and what it says: a verdict, why, and what comes next."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..evidence import mean, points
from ..people import Judged, Table
from ..rungs import Gates, Rung

PASS, FAIL, OPEN, NONE = "pass", "fail", "not enough evidence", "not asked"
EXTEND, CHANGE, STOP = "extend", "change", "stop"
FEWEST_SEEDS = 2


class Said(NamedTuple):
    """A verdict before its gate has a name."""

    verdict: str
    text: str
    step: str = ""
    advice: str = ""


class Case(NamedTuple):
    """All that is known of a rung.

    runs: what each seed showed; None: it diverged.  size: what was looked at once.  canaries: of each seed;
    None: it was not asked.  foretold: before it was trained.  below: the rung below, if one is.
    """

    rung: Rung
    gates: Gates
    n_params: int
    runs: list[dict[str, Any] | None]
    size: dict[str, Any]
    canaries: list[dict[str, Any] | None]
    foretold: dict[str, Any]
    judged: Judged | None
    tables: list[Table]
    below: "Case | None"

    @property
    def whole(self) -> list[dict[str, Any]]:
        """Of the runs that came to their end."""
        return [run for run in self.runs if run is not None]

    @property
    def asked(self) -> list[dict[str, Any]]:
        """Canaries of the seeds that were asked."""
        return [one for one in self.canaries if one is not None]

    @property
    def upwards(self) -> list["Case"]:
        """All rungs from the first to this one."""
        return [*(self.below.upwards if self.below else []), self]

    @property
    def bpb(self) -> float:
        """Mean over seeds of held-out bits per byte."""
        return mean(points(self.whole))


def extend(text: str, advice: str) -> Said:
    """Evidence is missing."""
    return Said(OPEN, text, EXTEND, advice)


def listed(values: Sequence[float], digits: int = 4) -> str:
    """Numbers in a row, or that there are none."""
    return " ".join(f"{value:.{digits}f}" for value in values) or "no"
