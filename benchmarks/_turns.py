"""Training in turns: each contestant is a process of its own, which trains for so many seconds when told to.

What a contestant prints is one JSON object a line: {"ready": ...}, then points of its curve, after each turn
{"turn": seconds}, at last {"end": ...}.  The seconds are those of training alone.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from microgpt.common.errors import MicrogptError


class TurnClock:
    """Seconds of training: time passes inside steps alone, from `start` to `stop`.

    With `step_s`, what a step took where nothing else was running, each step counts as that long once it has
    begun, times what `start` says it costs, however long it takes: a machine with other work on it then
    changes nothing.
    """

    def __init__(self, step_s: float | None = None) -> None:
        self.step_s = step_s
        self.until_s = self._before_s = self._counted_s = 0.0
        self._cost = 1.0
        self._started: float | None = None

    def now(self) -> float:
        """Seconds of training so far; the time that `train_run` goes by."""
        if self._started is None:
            return self._before_s
        known = self.step_s and self.step_s * self._cost
        return self._before_s + (known or time.monotonic() - self._started)

    def start(self, cost: float = 1.0) -> None:
        """A step begins, or goes on, that costs so many times a usual one."""
        if self._started is None:
            self._started, self._cost = time.monotonic(), cost

    def stop(self) -> None:
        """A step ends."""
        if self._started is not None:
            self._before_s, self._started = self.now(), None

    def count(self, seconds: float) -> None:
        """What was done before the first step, but is training."""
        self._counted_s += seconds
        self._before_s += seconds

    def ready(self, **facts: Any) -> None:
        """What was done so far, but for what was counted, was preparation and is forgotten; wait for the
        first turn."""
        self._before_s, self._started = self._counted_s, None
        say(ready=True, **facts)
        self._wait()

    def after_step(self) -> None:
        """A step is done: if the turn is over, wait for the next one."""
        self.stop()
        if self._before_s >= self.until_s:
            say(turn=round(self._before_s, 3))
            self._wait()

    def _wait(self) -> None:
        line = sys.stdin.readline()
        if not line:
            raise SystemExit(1)
        self.until_s = self._before_s + float(line)


def say(**facts: Any) -> None:
    """One line for whoever gives the turns."""
    print(json.dumps(facts), flush=True)


class Contestant:
    """A process that trains in turns, seen from outside.  A context manager: the process ends with it."""

    def __init__(self, name: str, module: str, job: dict[str, Any]) -> None:
        self.name = name
        self.points: list[dict[str, Any]] = []
        self.facts: dict[str, Any] = {}
        pipe = subprocess.PIPE
        command = [sys.executable, "-m", module, json.dumps(job)]
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)

    def get_ready(self) -> None:
        """Wait until it could train."""
        for line in self._lines():
            if "ready" in line:
                self.facts = line
                return

    def turn(self, seconds: float) -> bool:
        """Let it train for so long.  Returns whether it has more to do."""
        assert self._process.stdin
        print(seconds, file=self._process.stdin, flush=True)
        for line in self._lines():
            if "turn" in line:
                return True
            if "end" in line:
                return False
            self.points.append(line)
        return False

    def _lines(self) -> Iterator[dict[str, Any]]:
        assert self._process.stdout
        for text in self._process.stdout:
            yield json.loads(text)
        if self._process.wait():
            raise MicrogptError(
                f"{self.name} ended with exit code {self._process.returncode}; its error is above"
            )

    def __enter__(self) -> "Contestant":
        return self

    def __exit__(self, *error: Any) -> None:
        self._process.kill()
        self._process.communicate()


def in_turns(contestants: Sequence[Contestant], seconds: float) -> Iterator[None]:
    """Let all train, `seconds` at a time, until all are done; yields after each round."""
    for contestant in contestants:
        contestant.get_ready()
    training = list(contestants)
    while training:
        training = [contestant for contestant in training if contestant.turn(seconds)]
        yield
