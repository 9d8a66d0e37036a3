"""A corpus as `prepare` leaves it: one folder with all that training reads.

tokenizer.json   train.tokens   val.tokens   meta.json, which is written last
"""

import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from microgpt.common.errors import CheckpointError, ConfigError, DataError
from microgpt.common.flags import flag_name
from microgpt.corpus.reading.files import META, TOKEN_FILES
from microgpt.corpus.reading.options import Skipped
from microgpt.corpus.token_file import TokenFile, has_magic
from microgpt.files.records import read_json
from microgpt.tokenizer import Tokenizer, TokenizerError

from .split import Split, proportions_note, share_note

TOKENIZER = "tokenizer.json"
SIDES = {False: "train", True: "val"}  # by whether it is held out
PARTS = {False: "training", True: "held-out"}  # the same, for people
Names = Sequence[str | os.PathLike]
MAX_META_BYTES, MAX_META_PARTS = 8 << 20, 1000  # bounds of the memory that parsing takes
ADVICE = "prepare the corpus again"
FILES = {META, TOKENIZER, *TOKEN_FILES}
READING = 1  # in meta.json: raise it when some files are read in another way; the hash stays, for old runs


class Known(NamedTuple):
    """What is remembered of a corpus that was prepared before: its key, and the tokenizer it got."""

    key: str
    tokenizer: Tokenizer


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

    @property
    def share_note(self) -> str | None:
        """What to tell where far more is held out than was to be, or of one part than of another."""
        if "held_out" in self.meta:
            return None
        if shares := self.meta.get("held_out_shares"):
            return proportions_note(shares, self.meta.get("is_share_even", False))
        n_bytes, n_documents = (
            getattr(self.train, n) + getattr(self.val, n) for n in ("n_bytes", "n_documents")
        )
        return share_note(Split(**self.meta.get("split", {})), n_bytes, self.val.n_bytes, n_documents)


def tokens_path(directory: Path, held_out: bool) -> Path:
    """Where the tokens of a side lie."""
    return directory / TOKEN_FILES[held_out]


def is_prepared(directory: Path) -> bool:
    """Whether a folder looks like a prepared corpus, sound, damaged or with files missing."""
    has_tokens = any(os.path.isfile(tokens_path(directory, side)) for side in SIDES)  # never raises
    return has_tokens or read_meta(directory) is not None


def is_made_here(directory: Path) -> bool:
    """Whether some file in a folder can only be of a prepared corpus."""
    return read_meta(directory) is not None or any(has_magic(tokens_path(directory, side)) for side in SIDES)


def refuse_settled(sources: Iterable[str | os.PathLike], settings: Collection[str]) -> None:
    """Refuse settings, by field name, where a prepared corpus among the sources has settled them already."""
    folder = next((name for name in sources if is_prepared(Path(name))), None)
    if settings and folder is not None:
        raise ConfigError(
            f"{', '.join(map(flag_name, settings))}: {folder} is prepared already, none of that applies; "
            "leave it out, or name the files that the folder was made of"
        )


def open_prepared(directory: Path) -> Prepared:
    """The corpus in a folder, every file of it checked.

    Raises:   DataError: a file is missing or damaged, or they are not of one tokenizer.
    """
    try:
        return _opened(directory, _description(directory), [directory])
    except DataError as error:
        raise DataError(f"{error}; {ADVICE}") from error


def find_prepared(directory: Path, key: str, sources: Names | None = None) -> Prepared:
    """The corpus of this key.  sources: what a person calls its text; None: as when it was prepared.

    Raises:   DataError: there is none, another one or a damaged one.
    """
    meta = _description(directory, key)
    return _opened(directory, meta, sources or meta["sources"])


def find_held_out(directory: Path, key: str, tokenizer: Tokenizer, sources: Names) -> TokenFile:
    """The held-out side of the corpus of this key, which may be all that there is of it.

    Raises:   DataError: as `find_prepared`.
    """
    _description(directory, key)
    return _side(directory, True, tokenizer, _named(sources))


def _opened(directory: Path, meta: dict[str, Any], sources: Names) -> Prepared:
    try:
        tokenizer = Tokenizer.load(directory / TOKENIZER)
    except TokenizerError as error:
        raise DataError(str(error)) from error
    train, val = (
        _side(directory, side, tokenizer, f"the {part} part of {_named(sources)}")
        for side, part in PARTS.items()
    )
    return Prepared(directory, tokenizer, train, val, meta)


def _side(directory: Path, held_out: bool, tokenizer: Tokenizer, name: str) -> TokenFile:
    tokens = TokenFile.open(tokens_path(directory, held_out), tokenizer.sha256, name)
    tokens.verify()
    return tokens


def description(directory: Path) -> dict[str, Any]:
    """meta.json of a finished folder.

    Raises:   DataError: it is missing or damaged.
    """
    try:
        return _description(directory)
    except DataError as error:
        raise DataError(f"{error}; {ADVICE}") from error


def _description(directory: Path, key: str | None = None) -> dict[str, Any]:
    """The same, of this very corpus if a key is given."""
    meta = read_meta(directory)
    if meta is None:
        raise DataError(f"{directory / META}: not the description of a prepared corpus")
    if key not in (None, meta["key"]):
        raise DataError(f"{directory}: the corpus that was prepared there, {made_of(meta)}, is another one")
    if key is not None and meta.get("reading") != READING:
        raise DataError(f"{directory}: another version read the corpus that was prepared there")
    return meta


def made_of(meta: dict[str, Any]) -> str:
    """What a prepared corpus was made of, for people."""
    return f"of {_named(meta['sources'])}"


def _named(sources: Names) -> str:
    """The sources of a corpus, for people."""
    return str(sources[0]) if len(sources) == 1 else f"{len(sources)} sources"


def read_meta(directory: Path) -> dict[str, Any] | None:
    """meta.json of a finished folder, else None."""
    try:
        meta = read_json(directory / META, MAX_META_BYTES, MAX_META_PARTS)
        return meta if _is_sound(meta) else None
    except (CheckpointError, KeyError, TypeError, AttributeError):
        return None


def _is_sound(meta: dict[str, Any]) -> bool:
    """Whether what others read in a meta.json is of the kind they expect; a missing key is a KeyError."""
    skipped = Skipped(**meta["skipped"])
    lists = meta["sources"], skipped.examples
    counts = skipped.parts, meta.get("left_out", {})
    texts = [meta["key"], *lists[0], *lists[1]]
    split = vars(Split(**meta.get("split", {})))
    return (
        type(skipped.lines) is type(skipped.files) is int
        and all(isinstance(values, list) for values in lists)
        and all(type(n) is int for count in counts for n in count.values())
        and bool(skipped.lines or skipped.files) == bool(skipped.examples)
        and all(isinstance(text, str) for text in texts)
        and all(type(where) in (int, float) for where in split.values())
    )
