"""Files that are made for people: written whole, and never over what somebody else made."""

from pathlib import Path

from microgpt.common.errors import ConfigError
from microgpt.files import durable

MARK = "made by microgpt"  # stands near the beginning of each
HEAD_BYTES = 4096  # in which it is looked for


def put_file(path: Path, content: bytes, flag: str) -> None:
    """Write a file in the place of none, or of one that microgpt made.

    Args:   flag: that named the file.
    Raises: ConfigError: something else is there, or the content cannot be told from such.
    """
    assert MARK.encode() in content[:HEAD_BYTES], "what is written can be known again"
    if path.exists():
        try:
            with durable.open_regular(path) as file:
                is_ours = MARK.encode() in file.read(HEAD_BYTES)
        except OSError:
            is_ours = False
        if not is_ours:
            raise ConfigError(f"{path} is there already and was not made by microgpt; choose another {flag}")
    durable.replace_file(path, [content])
