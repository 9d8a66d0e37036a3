"""metrics.jsonl: one JSON object a line for each thing measured, written at once and never twice."""

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from microgpt.common.errors import CheckpointError
from microgpt.common.output import tell

from .events import Event, Trained

HELD_OUT_FACTS = "held_out_"  # how facts are called that were measured on what is held out
# A step that has such facts is written whatever its number, so that means over steps are true.
KEPT_FACTS = (HELD_OUT_FACTS, "reward")


class MetricsLog:
    """Appends events to a file, once what an interrupted session wrote past its checkpoint is cut off.

    A run is worth more than its log: an event that cannot be written is lost, which `say` hears of once.

    Args: every: of the trained steps, the first and each of this number are written, and those whose facts
          tell of something held out, or of rewards.
    """

    def __init__(
        self, path: Path, keep_bytes: int = 0, say: Callable[[str], None] = tell, every: int = 1
    ) -> None:
        self.path, self.say, self.every = path, say, every
        self.n_bytes = 0  # length of the file
        self._is_told = False
        try:
            self._file = open(path, "a+b", buffering=0)  # noqa: SIM115
            self._cut(keep_bytes)
        except OSError as error:
            raise CheckpointError(
                f"cannot write {path}: {error.strerror}; checkpoints so far are intact"
            ) from error

    def hear(self, event: Event) -> None:
        """Write an event that belongs into the log."""
        if event.name and self._is_due(event):
            self.write(event.name, event.step, **event.values())

    def _is_due(self, event: Event) -> bool:
        if not isinstance(event, Trained) or event.step == 1 or event.step % self.every == 0:
            return True
        return any(name.startswith(KEPT_FACTS) for name in event.facts or ())

    def write(self, event: str, step: int, **values: Any) -> None:
        """Append one event with the step after which it happened."""
        line = {"event": event, "step": step} | {name: plain(value) for name, value in values.items()}
        try:
            self._append(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        except OSError as error:
            self._lost(error)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _append(self, line: bytes) -> None:
        """Write a line whole or, on a full disk, not at all."""
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError:
            os.ftruncate(self._file.fileno(), self.n_bytes)
            raise
        self.n_bytes += len(line)

    def _lost(self, error: OSError) -> None:
        if not self._is_told:
            self._is_told = True
            self.say(f"warning: cannot write {self.path}: {error.strerror}; training goes on without it")

    def _cut(self, keep_bytes: int) -> None:
        """Keep whole lines of the first `keep_bytes` bytes."""
        self._file.seek(0)
        kept = self._file.read(min(keep_bytes, self.path.stat().st_size)) or b""
        self.n_bytes = kept.rfind(b"\n") + 1
        self._file.truncate(self.n_bytes)


def plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: write them as text.  Round floats to what they mean."""
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else str(value)
    return value


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All events of a metrics file, in order."""
    lines = path.read_text(encoding="utf-8").split("\n")  # U+2028 is text
    return [json.loads(line) for line in lines if line]
