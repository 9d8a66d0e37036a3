"""What probes of the number of threads found, kept in the user's cache directory.

The file may vanish, be damaged or be unwritable at any time: then the probe is made again.
"""

import contextlib
import dataclasses
import os
from pathlib import Path
from typing import Any

from microgpt.common.errors import CheckpointError
from microgpt.files import durable
from microgpt.files.records import json_bytes, read_json

FORMAT = 1
MOST_ENTRIES = 200  # the newest


@dataclasses.dataclass(frozen=True)
class Finding:
    """The number of threads that was chosen, and the seconds of a step on each number that was timed.

    steady: whether it will hold: no other work was on the CPUs.
    """

    threads: int
    seconds: dict[int, float] = dataclasses.field(default_factory=dict)
    steady: bool = False


def cache_file() -> Path | None:
    """microgpt/threads.json under XDG_CACHE_HOME or ~/.cache; None for a user who has no home."""
    home = os.environ["HOME"] if "HOME" in os.environ else os.path.expanduser("~")  # "~": not known
    places = (os.environ.get("XDG_CACHE_HOME", ""), os.path.join(home, ".cache"))
    place = next(filter(os.path.isabs, places), None)
    return None if place is None else Path(place, "microgpt", "threads.json")


def recall(key: dict[str, Any]) -> Finding | None:
    """What was found under a key, if it was."""
    found = [entry for entry in _entries() if entry["key"] == key]
    with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError):
        seconds = {int(count): float(taken) for count, taken in found[-1]["seconds"].items()} if found else {}
        if seconds and found[-1]["threads"] in seconds:
            return Finding(found[-1]["threads"], seconds, True)
    return None


def remember(key: dict[str, Any], finding: Finding) -> None:
    """Keep a finding, in place of an older one under its key; where nothing can be written, do nothing."""
    file = cache_file()
    if file is None:
        return
    entries = [entry for entry in _entries() if entry["key"] != key]
    entries.append({"key": key, "threads": finding.threads, "seconds": finding.seconds})
    with contextlib.suppress(OSError):
        durable.make_directory(file.parent)
        durable.replace_file(file, [json_bytes({"format": FORMAT, "entries": entries[-MOST_ENTRIES:]})])


def _entries() -> list[dict[str, Any]]:
    """All that is kept; nothing if the file is missing, damaged or of another format."""
    file = cache_file()
    if file is None:
        return []
    try:
        document = read_json(file)
        if document["format"] != FORMAT:
            return []
        return [entry for entry in document["entries"] if isinstance(entry["key"], dict)]
    except (CheckpointError, KeyError, TypeError):
        return []
