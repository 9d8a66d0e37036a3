"""How many threads: what a user says (`--threads N|auto`, MICROGPT_THREADS), what the machine allows."""

import math
import os
from pathlib import Path

from microgpt.common.errors import ConfigError
from microgpt.common.flags import Parser
from microgpt.common.output import tell
from microgpt.common.words import counted

from .cgroups import MOUNT, PROC, folders, words

VARIABLE = "MICROGPT_THREADS"
AUTO = "auto"
MOST = 256  # what the pool holds


def add_threads_flag(flags: Parser) -> None:
    """--threads of a command that does not train; `thread_count` reads it."""
    flags.add_argument(
        "--threads",
        metavar="NUMBER",
        help=f"CPU threads, 1 to {MOST}; auto: all CPUs that this process may use "
        f"[default {VARIABLE}, else auto]",
    )


def check_threads(text: str, source: str = "--threads") -> int | None:
    """The number that a flag or the variable gives; None for `auto`.

    Raises: ConfigError, naming the source.
    """
    if text == AUTO:
        return None
    number = int(text) if text.isdecimal() and len(text) < 9 else 0
    if not 1 <= number <= MOST:
        raise ConfigError(f"{source} {text}: expected a number from 1 to {MOST}, or {AUTO}")
    return number


def threads_from_environment() -> str | None:
    """What MICROGPT_THREADS says, checked; None if it is not set."""
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return None
    check_threads(text, VARIABLE)
    return text


def thread_count(flag: str | None = None) -> int:
    """The number of threads where nothing is probed: of the flag, else of the variable, else all CPUs."""
    text = flag if flag is not None else threads_from_environment() or AUTO
    return check_threads(text) or available_cpus()


def wanted_threads(flag: str | None) -> int:
    """`thread_count` of what a command was given; more than there are CPUs is told."""
    n = thread_count(flag)
    if note := too_many_note(n):
        tell(note)
    return n


def too_many_note(n: int) -> str:
    """What to tell where threads have to share CPUs; "" where they do not."""
    cpus = available_cpus()
    if n <= cpus:
        return ""
    return f"threads: {n} on {counted(cpus, 'CPU')}; more threads than CPUs are slower, take {cpus} or {AUTO}"


# ---- the machine ---------------------------------------------------------------------------------


def available_cpus() -> int:
    """CPUs that this process may use: its affinity, and the time its control group grants."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(cpus, granted_cpus(), MOST)))


def granted_cpus(proc: Path = PROC, mount: Path = MOUNT) -> float:
    """CPUs' worth of time that control groups grant; infinite without a limit."""
    return min((_limit(folder) for folder in folders("cpu", proc, mount)), default=math.inf)


def _limit(folder: Path) -> float:
    """CPUs that one group grants."""
    found = words(folder / "cpu.max") or (
        words(folder / "cpu.cfs_quota_us") + words(folder / "cpu.cfs_period_us")
    )
    try:
        quota, period = (float(word) for word in found)
    except ValueError:  # "max", or no such file
        return math.inf
    return quota / period if quota > 0 and period > 0 else math.inf
