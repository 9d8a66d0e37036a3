"""Lines for the person who started a command.  A screen or a pipe that has gone never ends the work."""

import contextlib
import io
import json
import math
import os
import re
import sys
from typing import Any, TextIO

# Everything that could move the cursor or change colours; only line breaks and tabs pass.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def harmless(text: str) -> str:
    """Text that cannot control a terminal; control characters show as U+FFFD."""
    return CONTROL.sub("\ufffd", text)


def escaped(text: str) -> str:
    """The same for names, whose every character matters: control characters as JSON has them, `\\u001b`."""
    return CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def json_line(value: Any) -> str:
    """A value as JSON that people can read and no terminal obeys.

    Numbers that are none, and infinite ones, are null: JSON knows no NaN, and readers refuse it.
    """
    return escaped(json.dumps(_known(value), ensure_ascii=False, allow_nan=False))


def _known(value: Any) -> Any:
    """The same with None in place of numbers that are not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _known(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_known(one) for one in value]
    return value


class Lasting:
    """A stream that outlives its reader: when nobody takes what is written, it goes nowhere from then on.

    `microgpt train | head`, a terminal that was closed, a full disk behind `> log`: the run goes on.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, as the stream does."""
        with self._survived():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, as the stream does."""
        with self._survived():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextlib.contextmanager
    def _survived(self) -> Any:
        try:
            yield
        except (OSError, ValueError):  # ValueError: the stream is closed
            drop(self._stream)


def open_streams() -> None:
    """Have the streams of a process take whatever is written.

    stdout escapes what it cannot hold, as stderr does: a name that is no UTF-8, a letter in ASCII.  In the
    place of a closed stderr comes one that goes nowhere, because Python would print on stdout instead; and
    the numbers of closed streams are taken, because the next open file would get what is meant for them.
    """
    while (nowhere := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    if sys.stderr is None:
        sys.stderr = os.fdopen(nowhere, "w", encoding="utf-8")
    else:
        os.close(nowhere)
    stream = sys.stdout
    if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
        stream.reconfigure(errors="backslashreplace")


def drop(stream: TextIO) -> None:
    """Send what a stream still holds, and all that follows, to nowhere."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def tell(*lines: str) -> None:
    """Lines for a person, on stderr."""
    _print(sys.stderr, *(f"microgpt: {line}" for line in lines))


def show(*lines: str) -> None:
    """Lines on stdout."""
    _print(sys.stdout, *lines)


def _print(stream: TextIO | None, *lines: str) -> None:
    """Lines on a stream, unless it is closed; a name in them cannot control a terminal."""
    if lines and stream is not None:
        print(*map(escaped, lines), sep="\n", file=Lasting(stream), flush=True)  # type: ignore[arg-type]
