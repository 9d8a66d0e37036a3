"""How much memory a process may take: what the machine has free, what control groups and limits leave."""

import contextlib
import math
import os
import resource
import sys
from pathlib import Path

from .cgroups import MOUNT, PROC, folders, words

NO_LIMIT = 1 << 60  # bytes: what version 1 of control groups says without one
MEMINFO = Path("/proc/meminfo")


def available_memory(meminfo: Path = MEMINFO, proc: Path = PROC, mount: Path = MOUNT) -> float:
    """Bytes that this process can still get."""
    in_groups = (_room(folder) for folder in folders("memory", proc, mount))
    return min(_free(meminfo), _address_space(), *in_groups)


def group_limit(proc: Path = PROC, mount: Path = MOUNT) -> float | None:
    """Bytes that the tightest control group allows; None without a limit."""
    limits = (
        _number(folder / "memory.max", folder / "memory.limit_in_bytes")
        for folder in folders("memory", proc, mount)
    )
    return min((limit for limit in limits if limit is not None and limit < NO_LIMIT), default=None)


def _free(meminfo: Path) -> float:
    """Bytes that the machine has free, or can free without swapping; all it has where it does not tell."""
    lines = (line.split() for line in words(meminfo, "\n"))
    for name, number, *_ in (line for line in lines if len(line) > 1):
        if name == "MemAvailable:" and number.isdecimal():
            return 1024.0 * int(number)
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (ValueError, OSError):
        return math.inf


def _address_space() -> float:
    """Bytes that `ulimit -v` leaves."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return math.inf
    pages = words(Path("/proc/self/statm"))[:1]
    return limit - (int(pages[0]) * os.sysconf("SC_PAGE_SIZE") if pages else 0)


def _room(folder: Path) -> float:
    """Bytes that one control group leaves; what it holds of files gives way."""
    limit = _number(folder / "memory.max", folder / "memory.limit_in_bytes")
    used = _number(folder / "memory.current", folder / "memory.usage_in_bytes")
    if limit is None or used is None:
        return math.inf
    stat = dict(zip(*[iter(words(folder / "memory.stat"))] * 2, strict=False))
    files = stat.get("file") or stat.get("cache") or "0"
    return limit - used + (int(files) if files.isdecimal() else 0)


def _number(*paths: Path) -> int | None:
    """The number in the first of these files that has one."""
    for path in paths:
        for word in words(path)[:1]:
            if word.isdecimal():
                return int(word)
    return None


def peak_memory() -> float:
    """Most bytes that this process has held so far."""
    with contextlib.suppress(OSError, IndexError):  # Linux; getrusage there counts the parent's memory too
        status = Path("/proc/self/status").read_text()
        return 1024 * float(status.split("VmHWM:")[1].split()[0])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak if sys.platform == "darwin" else 1024 * peak)
