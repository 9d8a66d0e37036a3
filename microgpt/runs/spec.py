"""What describes a run before it starts."""

import dataclasses
from typing import Any

from microgpt.corpus.prepared.config import DataConfig
from microgpt.model import ModelConfig

from .settings import TrainConfig


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run is asked to be.  `model.vocab_size` is settled by the corpus's tokenizer."""

    model: ModelConfig
    train: TrainConfig
    data: DataConfig
    preset: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for config.json."""
        document: dict[str, Any] = {"format": 1, "preset": self.preset}
        return document | {
            "model": self.model.to_dict(),
            "train": self.train.to_dict(),
            "data": self.data.to_dict(),
        }

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> "Plan":
        """The plan that `to_dict` described."""
        return cls(
            ModelConfig.from_dict(document["model"]),
            TrainConfig.from_dict(document["train"]),
            DataConfig.from_dict(document["data"]),
            str(document.get("preset", "")),
        )
