"""A corpus as `prepare` leaves it: one folder with all that training reads.

    tokenizer.json   train.tokens   val.tokens   meta.json, which is written last
"""

import json
import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from microgpt.common.errors import ConfigError, DataError
from microgpt.common.flags import flag_name
from tokenizer import Tokenizer, TokenizerError

from .reading import Skipped
from .sources import META, TOKENS_SUFFIX
from .token_file import TokenFile

TOKENIZER = "tokenizer.json"
SIDES = {False: "train", True: "val"}  # by whether it is held out
FILES = {META, TOKENIZER, *(side + TOKENS_SUFFIX for side in SIDES.values())}


@dataclass(frozen=True)
class Prepared:
    """A corpus ready for training.  `meta` holds the counts that meta.json holds."""

    directory: Path
    tokenizer: Tokenizer
    train: TokenFile
    val: TokenFile
    meta: dict[str, Any]

    @property
    def sides(self) -> dict[str, TokenFile]:
        """Both token files by name."""
        return {SIDES[False]: self.train, SIDES[True]: self.val}


def tokens_path(directory: Path, held_out: bool) -> Path:
    """Where the tokens of a side lie."""
    return directory / f"{SIDES[held_out]}{TOKENS_SUFFIX}"


def is_prepared(directory: Path) -> bool:
    """Whether a folder looks like a prepared corpus, sound or damaged."""
    return (directory / META).is_file() and tokens_path(directory, False).is_file()


def refuse_settled(sources: Iterable[str | os.PathLike], settings: Collection[str]) -> None:
    """Refuse settings, by field name, where a prepared corpus among the sources has settled them already."""
    folder = next((name for name in sources if is_prepared(Path(name))), None)
    if settings and folder is not None:
        raise ConfigError(
            f"{', '.join(map(flag_name, settings))}: {folder} is prepared already, none of that applies; "
            "leave it out, or name the files that the folder was made of"
        )


def open_prepared(directory: Path) -> Prepared:
    """The corpus in a folder.

    Raises:   DataError: a file is missing or damaged, or they are not of one tokenizer.
    """
    meta = description(directory)
    try:
        tokenizer = Tokenizer.load(directory / TOKENIZER)
    except (TokenizerError, OSError) as error:
        raise DataError(f"{error}; prepare the corpus again") from error
    train, val = (
        TokenFile.open(tokens_path(directory, side), tokenizer.sha256) for side in SIDES
    )
    return Prepared(directory, tokenizer, train, val, meta)


def find_prepared(directory: Path, key: str) -> Prepared | None:
    """The corpus of this key, or None if there is none, another one or a damaged one."""
    if read_meta(directory, key) is None:
        return None
    try:
        return open_prepared(directory)
    except DataError:
        return None


def description(directory: Path) -> dict[str, Any]:
    """meta.json of a finished folder.

    Raises:   DataError: it is missing or damaged.
    """
    meta = read_meta(directory)
    if meta is None:
        raise DataError(f"{directory / META}: not the description of a prepared corpus; prepare it again")
    return meta


def read_meta(directory: Path, key: str | None = None) -> dict[str, Any] | None:
    """meta.json of a finished folder, of this very corpus if a key is given, else None."""
    try:
        meta = json.loads((directory / META).read_text("utf-8"))
        return meta if _is_sound(meta) and key in (None, meta["key"]) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _is_sound(meta: dict[str, Any]) -> bool:
    """Whether what others read in a meta.json is of the kind they expect; a missing key is a KeyError."""
    skipped = Skipped(**meta["skipped"])
    lists = meta["sources"], skipped.examples
    texts = [meta["key"], *lists[0], *lists[1]]
    return (
        type(skipped.lines) is int
        and all(isinstance(values, list) for values in lists)
        and bool(skipped.lines) == bool(skipped.examples)
        and all(isinstance(text, str) for text in texts)
    )


def open_side(path: Path, tokenizer: Tokenizer) -> TokenFile | None:
    """A token file of this tokenizer, or None if it is missing or damaged."""
    try:
        return TokenFile.open(path, tokenizer.sha256)
    except DataError:
        return None
