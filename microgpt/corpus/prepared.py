"""A corpus as `prepare` leaves it: one folder with all that training reads.

    tokenizer.json   train.tokens   val.tokens   meta.json, which is written last
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from microgpt.common.errors import DataError
from tokenizer import Tokenizer, TokenizerError

from .token_file import TokenFile

META = "meta.json"
TOKENIZER = "tokenizer.json"
SIDES = {False: "train", True: "val"}  # by whether it is held out
FILES = {META, TOKENIZER, *(f"{side}.tokens" for side in SIDES.values())}


@dataclass(frozen=True)
class Prepared:
    """A corpus ready for training.  `meta` holds the counts that meta.json holds."""

    directory: Path
    tokenizer: Tokenizer
    train: TokenFile
    val: TokenFile
    meta: dict[str, Any]


def is_prepared(directory: Path) -> bool:
    """Whether a folder looks like a prepared corpus, sound or damaged."""
    return all((directory / name).is_file() for name in (META, f"{SIDES[False]}.tokens"))


def open_prepared(directory: Path) -> Prepared:
    """The corpus in a folder.

    Raises:   DataError: a file is missing or damaged, or they are not of one tokenizer.
    """
    meta = read_meta(directory)
    if meta is None:
        raise DataError(f"{directory / META}: not the description of a prepared corpus; prepare it again")
    try:
        tokenizer = Tokenizer.load(directory / TOKENIZER)
    except (TokenizerError, OSError) as error:
        raise DataError(f"{error}; prepare the corpus again") from error
    train, val = (
        TokenFile.open(directory / f"{side}.tokens", tokenizer.sha256) for side in SIDES.values()
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


def read_meta(directory: Path, key: str | None = None) -> dict[str, Any] | None:
    """meta.json of a finished folder, of this very corpus if a key is given, else None."""
    try:
        meta = json.loads((directory / META).read_text("utf-8"))
        return meta if isinstance(meta["key"], str) and key in (None, meta["key"]) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def open_side(path: Path, tokenizer: Tokenizer) -> TokenFile | None:
    """A token file of this tokenizer, or None if it is missing or damaged."""
    try:
        return TokenFile.open(path, tokenizer.sha256)
    except DataError:
        return None
