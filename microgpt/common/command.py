"""How a command runs as a process: signals, one-line errors, exit codes."""

import sys
from collections.abc import Callable, Iterable
from typing import NoReturn

from .errors import MicrogptError
from .output import drop, open_streams, tell
from .signals import let_die, raise_stopped, signal_of


def run_command(main: Callable[[], int | None], errors: Iterable[type[Exception]] = ()) -> NoReturn:
    """Run a command's main: a mistake of the user or a refusal of the machine is one line on stderr and exit
    code 2; a signal is 128 + its number, as shells have it.

    `errors` names further exception classes, of rooms that do not know MicrogptError, to be treated alike.
    """
    raise_stopped()
    open_streams()
    try:
        code = main() or 0
        if sys.stdout is not None:
            sys.stdout.flush()
    except BaseException as error:
        let_die()  # nothing more is to be saved, and another signal need not wait
        code = _exit_code(error, (MicrogptError, *errors))
    let_die()
    sys.exit(code)


def _exit_code(error: BaseException, known: tuple[type[Exception], ...]) -> int:
    """Tell what ended a command, in one line; what nobody foresaw is raised again."""
    if number := signal_of(error):
        tell("stopped")
        return 128 + number
    if isinstance(error, BrokenPipeError):  # the reader of our output is gone (`| head`)
        drop(sys.stdout)
        return 141
    if isinstance(error, known):
        tell(str(error))
    elif isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        tell(str(MicrogptError(f"{place}{error.strerror or error}")))
    elif isinstance(error, MemoryError):
        tell(f"out of memory; take a smaller model or batch. {error}".rstrip())
    else:
        raise error
    return 2
