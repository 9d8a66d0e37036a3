"""The configuration of a model, and its presets."""

import dataclasses
import math
from dataclasses import dataclass, replace
from typing import Any

from microgpt.common.errors import ConfigError
from microgpt.common.plain import record_from
from microgpt.common.setting import NOT_NEGATIVE, REQUIRED, Range, refused, setting
from microgpt.core.heads import Heads

from .kinds import MIXERS, MLPS, NORMS

MAX_ROPE = 1 << 22  # of the rotary tables: no line in a file makes them take more than 64 MB while made
LARGEST = 1e300  # of a number that is computed with
ATTENTIONS = ("full", "local", "local_global")
LONG = 2048  # tokens, from which on the window of local attention is 4 and not 6 sqrt(seq_len)
COUNT = Range(1, 1 << 31)  # of layers, heads, channels, positions, tokens


@dataclass(frozen=True)
class ModelConfig:
    """Shape and kind of a GPT.

    Raises: ConfigError: values that cannot work together, or a variant that is not built.
    """

    n_layer: int = setting(REQUIRED, "layers", "count", group="model", within=COUNT)
    n_head: int = setting(
        REQUIRED, "attention heads; must divide n-embd", "count", group="model", within=COUNT
    )
    n_embd: int = setting(REQUIRED, "channels of the residual stream", "count", group="model", within=COUNT)
    seq_len: int = setting(
        REQUIRED, "window: how far the model sees back", "tokens", group="model", within=COUNT
    )
    vocab_size: int = setting(
        REQUIRED, "size of the vocabulary; the tokenizer's", "tokens", group="model", within=COUNT
    )
    dropout: float = setting(
        0.0,
        "probability of dropping an element, on embedding and branches",
        group="model",
        within=Range(0, 1),
    )
    init_std: float = setting(
        0.02, "standard deviation of the initial weights", group="model", within=Range(0, LARGEST)
    )
    rope_theta: float = setting(
        10000.0, "base of the rotary angles", group="model", within=Range(0, LARGEST, is_open=True)
    )
    look_back: int = setting(
        0,
        "earlier tokens whose embeddings are added to that of each token, weighted by channel; with 2 a "
        "small model learns to copy names sooner; 0: none",
        "tokens",
        group="model",
        within=NOT_NEGATIVE,
    )
    n_kv_head: int = setting(
        0, "key and value heads; 0: as many as n-head", "count", group="model", within=NOT_NEGATIVE
    )
    norm: str = setting("rmsnorm", "kind of norm", choices=NORMS, group="model")
    mlp: str = setting("gelu", "kind of MLP", choices=MLPS, group="model")
    attention: str = setting(
        "full",
        "which past positions the layers' attention sees, the first layer's first, and over again: full, "
        "all; local, a window; local_global, a window and every stride-th position before it",
        "names",
        group="model",
    )
    window: int = setting(
        0,
        "positions that local attention sees, its own among them; 0: 6 sqrt(seq-len), 4 sqrt from 2048 on",
        "tokens",
        group="model",
        within=NOT_NEGATIVE,
    )
    global_stride: int = setting(
        0,
        "steps between the positions of a document that local_global attention sees from afar; "
        "0: sqrt(seq-len)",
        "tokens",
        group="model",
        within=NOT_NEGATIVE,
    )
    mixer: str = setting(
        "attention",
        "kinds of the layers through which positions see each other, the first layer's first, and over again",
        "names",
        group="model",
    )

    def __post_init__(self) -> None:
        if bad := refused(self):
            name, value, expected = bad
            raise ConfigError(f"{name} is {value}; expected {expected}")
        if self.look_back >= self.seq_len:
            raise ConfigError(f"look_back is {self.look_back}; expected 0 to {self.seq_len - 1}")
        if self.n_embd % self.n_head or self.head_size % 2:
            raise ConfigError(
                f"n_embd {self.n_embd} does not split into {self.n_head} even heads; change n_embd or n_head"
            )
        if self.seq_len * self.head_size > MAX_ROPE:
            raise ConfigError(
                f"seq_len {self.seq_len} with heads of {self.head_size}: their product may be {MAX_ROPE}"
            )
        for name, known in (("mixer", MIXERS), ("attention", ATTENTIONS)):
            for kind in getattr(self, name).split() or [""]:
                if kind not in known:
                    raise ConfigError(f"{name} {kind!r} is not built; this version has {', '.join(known)}")
        if self.n_head % (self.n_kv_head or 1):
            raise ConfigError(f"n_kv_head {self.n_kv_head} must divide n_head {self.n_head}; or 0: as many")

    @property
    def head_size(self) -> int:
        """Channels of one head."""
        return self.n_embd // self.n_head

    @property
    def heads(self) -> Heads:
        """How attention's channels split."""
        return Heads(self.n_head, self.n_kv_head or self.n_head, self.head_size)

    def heads_of(self, layer: int) -> Heads:
        """The same, and which positions attention of this layer sees."""
        kind = _tiled(self.attention, layer)
        window = self.window or round((6 if self.seq_len < LONG else 4) * math.sqrt(self.seq_len))
        stride = self.global_stride or round(math.sqrt(self.seq_len))
        return replace(
            self.heads,
            window=0 if kind == "full" else window,
            stride=stride if kind == "local_global" else 0,
        )

    def mixer_of(self, layer: int) -> str:
        """The kind of a layer's mixer: the pattern, over and over."""
        return _tiled(self.mixer, layer)

    @property
    def layer_counts(self) -> dict[int, int]:
        """The first layer of each kind, and how many layers are like it."""
        period = min(self.n_layer, math.lcm(len(self.mixer.split()), len(self.attention.split())))
        rounds, rest = divmod(self.n_layer, period)
        first: dict[tuple[str, Heads], int] = {}
        counts: dict[int, int] = {}
        for layer in range(period):
            alike = first.setdefault((self.mixer_of(layer), self.heads_of(layer)), layer)
            counts[alike] = counts.get(alike, 0) + rounds + (layer < rest)
        return counts

    @property
    def std_into_residual(self) -> float:
        """Initial deviation of projections into the residual stream, smaller by 1/sqrt(2L), for 2L of them
        add up (Radford et al. 2019, section 2.3)."""
        return self.init_std / math.sqrt(2 * self.n_layer)

    def to_dict(self) -> dict[str, Any]:
        """Field names and values, for config.json."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ModelConfig":
        """The inverse of to_dict.  Raises ConfigError for unknown or missing fields and wrong types."""
        return record_from(cls, values, "config.json")

    @classmethod
    def from_preset(cls, name: str, vocab_size: int, **overrides: Any) -> "ModelConfig":
        """A preset by name, with some fields changed."""
        if name not in PRESETS:
            raise ConfigError(f"unknown preset {name!r}; there are {', '.join(PRESETS)}")
        return cls(**{**PRESETS[name], "vocab_size": vocab_size, **overrides})


def _tiled(pattern: str, layer: int) -> str:
    kinds = pattern.split()
    return kinds[layer % len(kinds)]


def _preset(n_embd: int, n_layer: int, n_head: int, seq_len: int, **others: Any) -> dict[str, Any]:
    return {"n_embd": n_embd, "n_layer": n_layer, "n_head": n_head, "seq_len": seq_len, **others}


# Named by what they count to, within 5 %, with a vocabulary of 4261 (10m: 2188, where it is 10,003,712;
# 1m: 1361; the quickstart has 1261).
_ROAD = {"dropout": 0.1}
PRESETS: dict[str, dict[str, Any]] = {
    "tiny": _preset(32, 2, 2, 64),
    "1m": _preset(128, 4, 4, 256),
    "3.5m": _preset(192, 6, 6, 256),
    "8m": _preset(256, 9, 8, 256),
    "10m": _preset(256, 12, 8, 256, **_ROAD),
    "25m": _preset(384, 13, 12, 512, **_ROAD),
    "30m": _preset(384, 16, 12, 512, **_ROAD),
    "34m": _preset(384, 18, 12, 512, **_ROAD),
    "125m": _preset(768, 17, 12, 1024, dropout=0.1),
    "350m": _preset(1024, 28, 16, 1024, dropout=0.1),
}
