"""Errors that a user can cause or cure.  Each message is one line: what, got, expected, what to do."""

LONGEST = 500  # characters of a message, the advice at its end included


class MicrogptError(Exception):
    """Base of all errors that end a command with one clear line and exit code 2.

    A message may quote names and values out of any file: what cannot be printed is escaped, and of what is
    too long the middle is left out.
    """

    def __str__(self) -> str:
        text = _short(super().__str__())
        return _short("".join(c if c.isprintable() else ascii(c)[1:-1] for c in text))


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 110]} ... {text[-90:]}"


class ConfigError(MicrogptError):
    """A setting has a value that cannot work, alone or together with another."""


class DataError(MicrogptError):
    """A corpus or token file is missing, empty, damaged, or does not fit the model."""


class CheckpointError(MicrogptError):
    """A checkpoint is missing, damaged, or of another model."""


class ShapeError(MicrogptError):
    """An array has the wrong shape, type or layout for an operation."""


class NativeError(MicrogptError):
    """The C extension or the BLAS library is missing or refused a call."""
