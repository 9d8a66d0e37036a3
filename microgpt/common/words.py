"""Small things said the same way by every command."""

import os
import shlex
import shutil
import sys


def counted(n: int, what: str) -> str:
    """`1 document`, `2 documents`."""
    return f"{n:,} {what}" + ("" if n == 1 else "s")


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
