"""Control groups of Linux, versions 1 and 2: where a process stands, and what the files there say."""

from collections.abc import Iterator
from pathlib import Path

PROC, MOUNT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def folders(controller: str, proc: Path = PROC, mount: Path = MOUNT) -> Iterator[Path]:
    """The folders of this process's groups and of all groups around them: the tightest limit counts."""
    for line in words(proc, "\n"):
        _, controllers, place = [*line.split(":", 2), "", ""][:3]
        if controllers and controller not in controllers.split(","):
            continue
        top = mount / controllers if controllers else mount
        if not top.is_dir():
            top = mount / controller
        parts = [part for part in place.split("/") if part not in ("", "..")]
        yield from (top.joinpath(*parts[:depth]) for depth in range(len(parts) + 1))


def words(path: Path, separator: str | None = None) -> list[str]:
    """A file's words; none if it cannot be read."""
    try:
        return path.read_text().strip().split(separator)
    except (OSError, UnicodeDecodeError):
        return []
