"""What a run is trained on."""

import dataclasses
from typing import Any

from microgpt.common.errors import ConfigError
from microgpt.common.flags import setting
from microgpt.corpus.corpora import SMALLTALK, SMALLTALK_BYTES
from microgpt.corpus.reading import ReadOptions
from microgpt.tokenizer import MAX_MERGES, MERGES

from .config import config_from

MOST_BYTES = 10**12  # of a corpus that is made here: it lies on the disk


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The corpus of a run.  `data` holds absolute paths or the name of the embedded corpus."""

    data: tuple[str, ...] = (SMALLTALK,)
    merges: int = setting(
        MERGES, "pairs that the tokenizer merges beyond the 256 bytes", "merges", group="data"
    )
    smalltalk_bytes: int = setting(SMALLTALK_BYTES, "length of the embedded corpus", "bytes", group="data")
    bad_lines: str = ReadOptions.bad_lines
    text_documents: str = ReadOptions.text_documents
    suffix: str | None = ReadOptions.suffix
    keys: str | None = ReadOptions.keys

    def __post_init__(self) -> None:
        if not 0 <= self.merges <= MAX_MERGES:
            raise ConfigError(f"--merges {self.merges}: expected 0 to {MAX_MERGES}")
        if not 0 < self.smalltalk_bytes <= MOST_BYTES:
            raise ConfigError(f"--smalltalk-bytes {self.smalltalk_bytes}: expected 1 to {MOST_BYTES}")
        _ = self.reading

    @property
    def reading(self) -> ReadOptions:
        """How files become documents."""
        return ReadOptions(
            bad_lines=self.bad_lines, text_documents=self.text_documents, suffix=self.suffix, keys=self.keys
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for config.json."""
        return dataclasses.asdict(self) | {"data": list(self.data)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "DataConfig":
        """The config that `to_dict` described."""
        data = values.get("data")
        if not isinstance(data, list) or not data or not all(isinstance(name, str) for name in data):
            raise ConfigError(f"config.json: data is {data!r}, expected a list of files")
        return config_from(cls, values | {"data": tuple(data)})
