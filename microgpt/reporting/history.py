"""What a run wrote down, as series of numbers; read anew at any time, also while the run goes on."""

import dataclasses
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from microgpt.common.errors import CheckpointError
from microgpt.common.words import command_line
from microgpt.evaluation.loss import half_width
from microgpt.files.records import parse_json
from microgpt.runs.kept import place_of
from microgpt.runs.layout import METRICS, RUNS, is_log, run_of, state_of_run

TRAINED = ("step", "loss_nats", "lr", "grad_norm", "tokens", "tok_per_s", "elapsed_s", "left_s")
EVALUATED = ("step", "loss_nats", "bpb", "elapsed_s")
MEASURED = ("train", "eval", "sample", "empty", "skip", "spike")  # what is not so any more after going back
NEAR = 0.01  # of the last held-out loss: from there on little was gained


class Interval(NamedTuple):
    """Held-out losses, and how far the truth may be from each in 95 of 100 cases; NaN: not known."""

    loss_nats: np.ndarray
    half_width: np.ndarray


@dataclasses.dataclass(frozen=True)
class History:
    """The events of a run, in order, those left out that it went back before."""

    name: str
    events: Sequence[dict[str, Any]]

    def of(self, *names: str) -> list[dict[str, Any]]:
        """The events of these names."""
        return [event for event in self.events if event["event"] in names]

    @cached_property
    def trained(self) -> dict[str, np.ndarray]:
        """What was logged of steps: an array of each number."""
        return _columns(self.of("train"), TRAINED)

    @cached_property
    def evaluated(self) -> dict[str, np.ndarray]:
        """What was measured on held-out text, and the training tokens seen by then."""
        found = _columns(self.of("eval"), EVALUATED)
        steps, tokens = (np.append(0.0, self.trained[name]) for name in ("step", "tokens"))
        return found | {"tokens": np.interp(found["step"], steps, tokens)}

    @cached_property
    def held_out(self) -> Interval:
        """Held-out losses with their intervals."""
        halves = [half_width(event["error_nats"], event["documents"]) for event in self.of("eval")]
        numbers = np.array([np.nan if half is None else half for half in halves], np.float64)
        return Interval(self.evaluated["loss_nats"], numbers)

    @cached_property
    def sessions(self) -> list[dict[str, Any]]:
        """How each session began."""
        return self.of("start", "resume")

    @property
    def max_steps(self) -> int:
        """Steps that the run is planned for, as it was said last."""
        return int(self.of("start", "resume", "plan")[-1]["max_steps"])

    @property
    def shallow_steps(self) -> int:
        """Those of the first blocks alone, as it was said last."""
        told = (event.get("shallow_steps") for event in self.of("start", "resume", "plan"))
        return next((int(steps) for steps in reversed([*told]) if steps), 0)

    @property
    def step(self) -> int:
        """The last step that is told of."""
        return max((int(event["step"]) for event in self.events), default=0)

    @property
    def tokens(self) -> float:
        """Tokens seen by the last step that is told of."""
        steps, tokens = self.trained["step"], self.trained["tokens"]
        return float(tokens[-1] * max(1.0, self.step / steps[-1])) if len(steps) else 0.0

    @property
    def elapsed_s(self) -> float:
        """Seconds of training, as told last."""
        return max((_number(event["elapsed_s"]) for event in self.of("train", "eval")), default=0.0)

    @property
    def peak_tok_per_s(self) -> float:
        """Tokens a second if all that the CPUs did were large matrix products, as the last session measured
        it; or of its fastest step, if that is faster, for other work was on the CPUs then."""
        session = self.sessions[-1]
        return max([session["peak_flop_per_s"] / session["flop_per_token"], *self._speeds])

    @property
    def share_of_peak(self) -> float | None:
        """The speed of the last step, as a share of that; None: the last session has not logged one yet."""
        return self._speeds[-1] / self.peak_tok_per_s if self._speeds else None

    @property
    def _speeds(self) -> list[float]:
        """Tokens a second of the steps of the last session that trained all blocks."""
        since = self.events[self.events.index(self.sessions[-1]) :]
        whole = (event for event in since if event["event"] == "train" and not event.get("blocks"))
        return [_number(event["tok_per_s"]) for event in whole]

    @property
    def near_the_end(self) -> int | None:
        """The step from which on all held-out losses were within 1 % of the last; None: too few to tell."""
        losses = self.evaluated["loss_nats"]
        if len(losses) < 2 or not np.isfinite(losses[-1]):
            return None
        far = np.flatnonzero(~(np.abs(losses - losses[-1]) <= NEAR * losses[-1]))
        return int(self.evaluated["step"][far[-1] + 1 if len(far) else 0])


def run_named(name: str | None) -> Path:
    """The run that a name means (`runs/kept.py`); None: that under runs/ which wrote its log last.

    Raises: CheckpointError: there is none.
    """
    if name is not None:
        place = place_of(name)
        return run_of(place) or place
    logs = [path for path in RUNS.glob(f"*/{METRICS}") if is_log(path)]
    if not logs:
        raise CheckpointError(f"no run under {RUNS}/; train one ({command_line('train')}) or name one")
    return max(logs, key=lambda path: path.stat().st_mtime).parent


def state_of(run: Path, history: History) -> str:
    """Whether a run is running, finished or stopped."""
    return state_of_run(run, history.step, history.max_steps)


def read_history(run: Path) -> History:
    """The history of a run's directory.

    Raises: CheckpointError: there is no log of a run, or a line of it cannot be read.
    """
    path = run / METRICS
    if not is_log(path):
        raise CheckpointError(f"{run}: no log of a run in it ({METRICS}); `microgpt runs` lists the runs")
    events: list[dict[str, Any]] = []
    for event in _events(path):
        if event["event"] == "rollback":
            events = [one for one in events if one["event"] not in MEASURED or one["step"] <= event["to"]]
        events.append(event)
    if not any(event["event"] in ("start", "resume") for event in events):
        raise CheckpointError(f"{path}: tells of no session; was it begun by an older microgpt?")
    return History(run.resolve().name, events)


def _events(path: Path) -> Iterator[dict[str, Any]]:
    """The events of a log; what is being written at its end is left for later."""
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        event = parse_json(line, path.with_name(f"{path.name}, line {number}"))
        if not {"event", "step"} <= set(event):
            raise CheckpointError(f"{path}, line {number}: no event with a step")
        yield event


def _columns(events: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, np.ndarray]:
    return {
        name: np.array([_number(event.get(name, "nan")) for event in events], np.float64) for name in names
    }


def _number(value: Any) -> float:
    return float(value)  # "nan" and "inf" are text in JSON


def smoothed(values: np.ndarray, width: int) -> np.ndarray:
    """Means of each value and up to `width` - 1 before it, as far as they are finite."""
    good = np.isfinite(values)
    sums, counts = (np.cumsum(np.append(0.0, x)) for x in (np.where(good, values, 0.0), good))
    first = np.maximum(np.arange(1, len(values) + 1) - width, 0)
    last = np.arange(1, len(values) + 1)
    with np.errstate(invalid="ignore"):
        return (sums[last] - sums[first]) / (counts[last] - counts[first])
