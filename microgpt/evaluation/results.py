"""Results as files that others read: JSON, written whole, never in the place of another."""

from pathlib import Path
from typing import Any

from microgpt.common.errors import ConfigError
from microgpt.files.durable import write_file
from microgpt.files.records import json_bytes


def refuse_taken(path: Path | None) -> None:
    """Raises ConfigError: there is something already, or no folder for it.  To be asked before long work."""
    if path is not None and path.exists():
        raise ConfigError(f"--out {path}: is there already; name a new file")
    if path is not None and not path.parent.is_dir():
        raise ConfigError(f"--out {path}: there is no folder {path.parent}; make it first")


def write_result(path: Path, result: dict[str, Any]) -> None:
    """Write a result.  Raises ConfigError: it cannot be written there."""
    try:
        write_file(path, [json_bytes(result)])
    except OSError as error:
        raise ConfigError(f"--out {path}: cannot be written ({error.strerror}); name another file") from error
