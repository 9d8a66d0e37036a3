"""Screen and keyboard of a chat: prompts, streamed text, notes, and a Ctrl-C that stops only an answer."""

import contextlib
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, TextIO

from microgpt.common.output import harmless

PROMPT = "> "
CYAN, GREY, PLAIN = "\033[36m", "\033[90m", "\033[0m"


def encodable(text: str) -> str:
    """Text with a replacement for what is not a character, such as the bytes of a broken argument."""
    return text.encode("utf-8", "replace").decode("utf-8")


def forgiving(stream: TextIO | None) -> TextIO:
    """A standard stream that replaces what it cannot read or show instead of failing; closed, it is empty."""
    if stream is None:
        return io.StringIO()
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="replace")
    return stream


class Interrupt:
    """While the block runs, Ctrl-C sets `hit` instead of ending the program."""

    def __init__(self) -> None:
        self.hit = False
        self._previous: Any = None

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._caught)
        return self

    def __exit__(self, *_: object) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)

    def _caught(self, _number: int, _frame: FrameType | None) -> None:
        self.hit = True


class Terminal:
    """Reads messages and writes answers.

    `interactive`: a person types.  Otherwise every line of stdin is a message, shown again on stdout so that
    the output reads as a conversation.
    """

    def __init__(self) -> None:
        self._in, self._out = forgiving(sys.stdin), forgiving(sys.stdout)
        self.interactive = self._in.isatty()
        plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
        self._colours = self._out.isatty() and not plain
        self._in_line = False  # whether a line of an answer is open
        self._readline: Any = None
        if self.interactive:
            with contextlib.suppress(ImportError):
                import readline

                self._readline = readline

    def messages(self) -> Iterator[str]:
        """What the person says, line by line, until they leave."""
        lines = self._typed() if self.interactive else self._piped()
        return (line.strip() for line in lines if line.strip())

    def write(self, text: str) -> None:
        """Show a piece of an answer at once."""
        self._show(harmless(text))
        self._in_line = not text.endswith("\n")

    def end_line(self) -> None:
        """Go to a new line unless this one is empty."""
        if self._in_line:
            self.write("\n")

    def note(self, text: str) -> None:
        """A line beside the conversation: on the screen, or on stderr where the output is no terminal."""
        self.end_line()
        if self._out.isatty():
            self._show(self._painted(harmless(text), GREY) + "\n")
        else:
            print(harmless(text), file=sys.stderr, flush=True)

    def _show(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()

    def _painted(self, text: str, colour: str) -> str:
        return f"{colour}{text}{PLAIN}" if self._colours else text

    def _typed(self) -> Iterator[str]:
        while True:
            try:
                yield input(self._prompt())
            except EOFError:
                self.write("\n")
                return
            except KeyboardInterrupt:
                self.write("\n")
                if not (self._readline and self._readline.get_line_buffer()):
                    raise

    def _prompt(self) -> str:
        """The prompt; line editing must know which of its characters take no room."""
        if self._colours and self._readline:
            return f"\001{CYAN}\002{PROMPT}\001{PLAIN}\002"
        return self._painted(PROMPT, CYAN)

    def _piped(self) -> Iterator[str]:
        for line in self._in:
            if line.strip():
                self.write(PROMPT + line.strip() + "\n")
            yield line
