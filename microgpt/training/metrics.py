"""metrics.jsonl: one JSON object a line for each thing measured, written at once and never twice."""

import json
import math
from pathlib import Path
from typing import Any

from microgpt.common.errors import CheckpointError


class MetricsLog:
    """Appends events to a file, once what an interrupted session wrote past its checkpoint is cut off."""

    def __init__(self, path: Path, keep_bytes: int = 0) -> None:
        self.path = path
        try:
            self._file = open(path, "a+b")  # noqa: SIM115
            self._cut(keep_bytes)
        except OSError as error:
            raise self._failed(error) from error

    def write(self, event: str, step: int, **values: Any) -> None:
        """Append one event with the step after which it happened."""
        line = {"event": event, "step": step} | {name: plain(value) for name, value in values.items()}
        try:
            self._file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise self._failed(error) from error

    @property
    def n_bytes(self) -> int:
        """Length of the file now."""
        return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _failed(self, error: OSError) -> CheckpointError:
        return CheckpointError(f"cannot write {self.path}: {error.strerror}; checkpoints so far are intact")

    def _cut(self, keep_bytes: int) -> None:
        """Keep whole lines of the first `keep_bytes` bytes."""
        self._file.seek(0)
        kept = self._file.read(keep_bytes)
        self._file.truncate(kept.rfind(b"\n") + 1)
        self._file.seek(0, 2)


def plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: write them as text.  Round floats to what they mean."""
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else str(value)
    return value


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All events of a metrics file, in order."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
