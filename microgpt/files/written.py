"""Files that are made for people: written whole, and never over what somebody else made."""

import io
from pathlib import Path
from typing import Any

from microgpt.common.errors import ConfigError

from . import durable

FORMATS = ("png", "svg")  # of pictures
MARK = "made by microgpt"  # stands near the beginning of each
HEAD_BYTES = 4096  # in which it is looked for


def put_file(path: Path, content: bytes, flag: str) -> None:
    """Write a file in the place of none, or of one that microgpt made.

    Args:   flag: that named the file.
    Raises: ConfigError: something else is there, or no folder for it.
    """
    assert MARK.encode() in content[:HEAD_BYTES], "what is written can be known again"
    _refuse_missing_folder(path, flag)
    if path.exists():
        try:
            with durable.open_regular(path) as file:
                is_ours = MARK.encode() in file.read(HEAD_BYTES)
        except OSError:
            is_ours = False
        if not is_ours:
            raise ConfigError(f"{path} is there already and was not made by microgpt; choose another {flag}")
    durable.replace_file(path, [content])


def _refuse_missing_folder(path: Path, flag: str) -> None:
    if not path.parent.is_dir():
        raise ConfigError(f"{flag} {path}: there is no folder {path.parent}")


def kind_of_picture(path: Path, flag: str) -> str:
    """The format that a name tells.  Raises: ConfigError: it tells none that is drawn, or its folder is not
    there."""
    _refuse_missing_folder(path, flag)
    kind = path.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise ConfigError(f"{flag} {path}: expected a name that ends in .{' or .'.join(FORMATS)}")
    return kind


def picture_file(figure: Any, kind: str, **drawing: Any) -> bytes:
    """A figure of matplotlib as a file of that format, which `put_file` knows again."""
    file = io.BytesIO()
    made_by = {"Software": MARK} if kind == "png" else {"Creator": MARK, "Date": None}
    figure.savefig(file, format=kind, metadata=made_by, **drawing)
    return file.getvalue()


def put_picture(path: Path, figure: Any, flag: str) -> None:
    """Write a figure of matplotlib, as `put_file` does.

    Raises: ConfigError: its name tells no format, or something else is there.  OSError: it cannot be written.
    """
    put_file(path, picture_file(figure, kind_of_picture(path, flag)), flag)
