"""What a run is trained on."""

import dataclasses
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from microgpt.common.errors import ConfigError, DataError
from microgpt.common.flags import flag_name
from microgpt.common.output import tell
from microgpt.common.plain import record_from
from microgpt.common.setting import Range, from_to, refused, setting, unseen
from microgpt.corpus.reading.options import ReadOptions
from microgpt.tokenizer import MAX_MERGES, MERGES, Tokenizer

from .corpus import SMALLTALK, SMALLTALK_BYTES
from .folder import Known, Prepared
from .make import find_kept, is_known, prepare
from .split import HeldOutWanted

NEAR = 1e-6  # how far shares may miss 1 together
MOST_BYTES = 10**12  # of a corpus that is made here: it lies on the disk


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The corpus of a run.  `data` and `held_out` hold absolute paths or the name of the embedded corpus.

    mixed, replay: places of texts that are trained on beside it, each a corpus of its own that is read with
    the same options; shares: of `data` and of each of `mixed`, what is left beside `replay_share`.

    They say where to look first: what the corpus is, its content decides, not its place.
    """

    data: tuple[str, ...] = (SMALLTALK,)
    merges: int = setting(
        MERGES,
        "pairs that the tokenizer merges beyond the 256 bytes",
        "merges",
        group="data",
        within=from_to(0, MAX_MERGES),
    )
    single_digits: bool = setting(
        False, "make every digit a token of its own: numbers are then learned by their digits", group="data"
    )
    smalltalk_bytes: int = setting(
        SMALLTALK_BYTES,
        "length of the embedded corpus",
        "bytes",
        group="data",
        within=from_to(1, MOST_BYTES),
    )
    bad_lines: str = ReadOptions.bad_lines
    text_documents: str = ReadOptions.text_documents
    suffix: str | None = ReadOptions.suffix
    keys: str | None = ReadOptions.keys
    held_out: tuple[str, ...] = ()
    held_out_share: float = HeldOutWanted.held_out_share
    mixed: tuple[str, ...] = ()
    shares: tuple[float, ...] = ()
    replay: tuple[str, ...] = ()
    replay_share: float = unseen(0.0, Range(0, 1))

    def __post_init__(self) -> None:
        if bad := refused(self):
            raise ConfigError("{} {}: expected {}".format(flag_name(bad[0]), *bad[1:]))
        if bool(self.mixed) != bool(self.shares) or (self.shares and len(self.shares) != 1 + len(self.mixed)):
            raise ConfigError("--data: give each of several texts its share, as in a.jsonl=0.9 b.txt=0.1")
        if self.shares and not (all(share > 0 for share in self.shares) and abs(sum(self.shares) - 1) < NEAR):
            told = " ".join(f"{share:g}" for share in self.shares)
            raise ConfigError(f"--data: shares {told}: expected numbers above 0 that add up to 1")
        if bool(self.replay) != bool(self.replay_share):
            raise ConfigError(
                "--replay and --replay-share belong together: what is replayed, and how much of it"
            )
        _ = self.reading, self.wanted

    @property
    def reading(self) -> ReadOptions:
        """How files become documents."""
        return ReadOptions(
            bad_lines=self.bad_lines, text_documents=self.text_documents, suffix=self.suffix, keys=self.keys
        )

    @property
    def wanted(self) -> HeldOutWanted:
        """Which part is held out."""
        return HeldOutWanted(self.held_out, self.held_out_share)

    @property
    def beside(self) -> "list[DataConfig]":
        """The texts beside `data`, one corpus each, in the order of `all_shares`."""
        alone: dict[str, Any] = {"mixed": (), "shares": (), "replay": (), "replay_share": 0.0, "held_out": ()}
        sources = [*((name,) for name in self.mixed), *([self.replay] if self.replay else [])]
        return [dataclasses.replace(self, data=source, **alone) for source in sources]

    @property
    def all_shares(self) -> list[float]:
        """The share of `data` in the windows that are trained on, and of each text beside it."""
        own = [share * (1 - self.replay_share) for share in self.shares or (1.0,)]
        return own + ([self.replay_share] if self.replay else [])

    @property
    def how(self) -> dict[str, Any]:
        """How `prepare` and its kin are to read the sources and divide them."""
        return {
            "options": self.reading,
            "smalltalk_bytes": self.smalltalk_bytes,
            "wanted": self.wanted,
            "merges": self.merges,
            "single_digits": self.single_digits,
        }

    def located(self, known: Known) -> "DataConfig":
        """The same corpus where its files are now: a project that was moved as a whole brought them along.

        Only what has the right content is taken for it.
        """
        if self.missing() is None:
            return self
        moved = dataclasses.replace(self, data=_found(self.data), held_out=_found(self.held_out))
        return moved if is_corpus_of(moved, known) else self

    def missing(self) -> str | None:
        """The first source that is not there."""
        sources = (*self.data, *self.held_out)
        return next((name for name in sources if name != SMALLTALK and not os.path.exists(name)), None)

    def refuse_missing(self) -> None:
        """Refuse sources that are not there, of texts beside the corpus, too, before any of it is read."""
        for name in (name for one in (self, *self.beside) for name in (*one.data, *one.held_out)):
            try:
                if name != SMALLTALK:
                    os.stat(name)
            except OSError as error:
                raise DataError(
                    f"{name}: cannot read this corpus file ({error.strerror}); check the path"
                ) from error

    def to_dict(self) -> dict[str, Any]:
        """Plain values for config.json."""
        values = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "DataConfig":
        """The config that `to_dict` described."""
        if not values.get("data"):
            raise ConfigError(f"config.json: data is {values.get('data')!r}, expected a list of files")
        return record_from(cls, values, "config.json")


def weighted(words: Sequence[str]) -> dict[str, Any]:
    """Settings of sources as they are typed: names alone, or each with its share, as in a=0.9 b=0.1.

    Raises: ConfigError: only some have a share.
    """
    pairs = [_share_of(word) for word in words]
    if all(share is None for _, share in pairs):
        return {"data": list(words)}
    names, shares = [name for name, _ in pairs], [share for _, share in pairs if share is not None]
    if len(shares) < len(names) or len(names) < 2:
        raise ConfigError(
            f"--data {' '.join(words)}: give each of several texts its share, as in a=0.9 b=0.1"
        )
    return {"data": names[:1], "mixed": names[1:], "shares": shares}


def _share_of(word: str) -> tuple[str, float | None]:
    """A name and its share; a file that is called so has none."""
    name, equals, number = word.rpartition("=")
    if not equals or os.path.exists(word):
        return word, None
    try:
        return name, float(number)
    except ValueError:
        return word, None


def source_place(name: str | os.PathLike) -> str:
    """A source as a DataConfig holds it."""
    return SMALLTALK if str(name) == SMALLTALK else os.path.abspath(name)


def _found(places: Iterable[str]) -> tuple[str, ...]:
    return tuple(name if name == SMALLTALK else _moved(name) for name in places)


def _moved(place: str) -> str:
    """A path that exists: this one, or the end of it below the current folder; else this one all the same."""
    parts = Path(place).parts[1:]
    ends = (os.path.abspath(Path(*parts[i:])) for i in range(len(parts)))
    return next((path for path in (place, *ends) if os.path.exists(path)), place)


def prepared(data: DataConfig, threads: int, tokenizer: Tokenizer | None = None) -> Prepared:
    """A corpus as token files; prepared now unless it was before."""
    return prepare(data.data, tokenizer=tokenizer, threads=threads, **data.how)


def prepared_again(data: DataConfig, known: Known, threads: int, root: Path | None = None) -> Prepared:
    """The corpus of a run, known by its content; another one if that is what is there now.

    Args:     root: where it is prepared; None: where training prepares, to be kept.

    Raises:   ConfigError: its files are gone, and what was prepared of them as well.
    """
    gone = data.missing()
    if gone is None:
        return prepare(data.data, known=known, threads=threads, root=root, **data.how)
    if kept := find_kept(known.key):
        tell(f"{gone} is not there any more; going by what was prepared of it, {kept.directory}")
        return kept
    raise ConfigError(f"{gone}: not there any more; name with --data where the text of the run is now")


def is_corpus_of(data: DataConfig, known: Known) -> bool:
    """Whether this is the corpus of a run by its content, wherever it lies."""
    return data.missing() is None and is_known(data.data, known, **data.how)
