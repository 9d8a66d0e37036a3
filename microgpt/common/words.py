"""Small things said the same way by every command."""

import difflib
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterable, Sequence

from .errors import ConfigError

BYTES = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt])?b?")
ENOUGH = 3  # letters of a word that was cut off
ALIKE = 0.65  # of the letters of two words, to take one for the other
BYTE_UNITS = {None: 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}


def counted(n: int, what: str) -> str:
    """`1 document`, `2 documents`."""
    return f"{n:,} {what}" + ("" if n == 1 else "s")


def did_you_mean(word: object, known: Iterable[object]) -> str:
    """` (did you mean train?)`: known words that begin so, else the one most like it; nothing where none is.

    What all flags begin with makes none of them alike.
    """
    said, names = str(word).lstrip("-"), {str(one).lstrip("-"): str(one) for one in known}
    begun = sorted((name for name in names if name.startswith(said)), key=len) if len(said) >= ENOUGH else []
    near = begun or difflib.get_close_matches(said, names, n=1, cutoff=ALIKE)
    return f" (did you mean {' or '.join(names[name] for name in near[:3])}?)" if near else ""


def command_line(*words: object) -> str:
    """The `microgpt` command of these words as a shell here takes it."""
    return shlex.join([*_program(), *map(str, words)])


def _program() -> list[str]:
    """How a shell in this folder starts this microgpt with this Python."""
    scripts = os.path.dirname(sys.executable)
    for words in (["microgpt"], ["python", "-m", "microgpt"]):
        if shutil.which(words[0]) == os.path.join(scripts, words[0]):
            return words
    place = os.path.relpath(sys.executable)
    return [sys.executable if place.startswith(os.pardir) else place, "-m", "microgpt"]


def short_number(n: float) -> str:
    """`987`, `1.4k`, `17k`, `1.2M`."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if n >= size:
            return f"{n / size:.{1 if n < 10 * size else 0}f}{letter}"
    return f"{n:.0f}"


MOST_S = 10 * 365.25 * 86_400  # of --max-time


UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}
AMOUNT = re.compile(r"(\d+(?:\.\d+)?(?:e\d+)?)([kmbt]?)")
MOST_AMOUNT = 1e30
DURATION = re.compile(
    r"(?:(\d+(?:\.\d+)?)d)?(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?"
)


def parse_duration(text: str, flag: str = "--max-time") -> float:
    """Seconds of `90s`, `10m`, `1h30m`, `7d`, `45` (seconds)."""
    match = DURATION.fullmatch(text.strip().lower())
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups()) if match else (0.0,) * 4
    total = 86_400 * days + 3600 * hours + 60 * minutes + seconds
    if not 0 < total < MOST_S:
        bound = "above 0" if total <= 0 else "below ten years"
        raise ConfigError(f"{flag} {text!r}: expected a time {bound} such as 90s, 10m or 1h30m")
    return total


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of columns, the first flush left, the others flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows
    ]


def format_duration(seconds: float) -> str:
    """`75` -> `1m15s`; below ten seconds with one decimal, below one in milliseconds."""
    if seconds < 1:
        return f"{1000 * seconds:.{1 if seconds < 0.1 else 0}f}ms"
    if seconds < 10:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"


def parse_amount(text: str) -> float:
    """`950k`, `3.5m`, `1.3B`, `2e9` as a number, above 0."""
    match = AMOUNT.fullmatch(text.strip().lower())
    value = float(match[1]) * UNITS[match[2]] if match else 0.0
    if not 0 < value < MOST_AMOUNT:
        raise ConfigError(f"{text!r}: expected an amount such as 950k, 3.5M or 1.3B")
    return value


def format_amount(n: float) -> str:
    """`950`, `950k`, `3.5M`, `1.3B`, `14T`."""
    for unit in ("t", "b", "m", "k"):
        if n >= 0.9995 * UNITS[unit]:
            return f"{n / UNITS[unit]:.3g}{unit if unit == 'k' else unit.upper()}"
    return f"{n:.3g}"


def parse_count(text: str, flag: str = "--tokens", such: str = "20k, 400M or 1.5B") -> int:
    """A whole number of things, as a flag has it: `400M`, `1_000_000`."""
    try:
        number = parse_amount(text.replace("_", ""))
    except ConfigError:
        number = 0.0
    if not 1 <= number < 1 << 63:
        raise ConfigError(f"{flag} {text!r:.80}: expected a number from 1 up such as {such}")
    return round(number)


def parse_bytes(text: str, flag: str = "--memory") -> float:
    """`24GB`, `800 MB` as bytes, by thousands.  Raises: ConfigError: no amount above 0."""
    match = BYTES.fullmatch(text.strip().lower())
    value = float(match[1]) * BYTE_UNITS[match[2]] if match else 0.0
    if value <= 0:
        raise ConfigError(f"{flag} {text!r:.80}: expected an amount such as 8GB or 500MB")
    return value
