"""The configuration of a model, its presets and its parameter count."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from microgpt.common.errors import ConfigError
from microgpt.common.flags import REQUIRED, setting

# Fields of later variants, with the values that are built.
BUILT = {"norm": ("rmsnorm",), "mlp": ("gelu",), "attention": ("full",)}

MAX_ROPE = 1 << 22  # of the rotary tables: no line in a file makes them take more than 64 MB while made
LARGEST = 1e300  # of a number that is computed with


@dataclass(frozen=True)
class ModelConfig:
    """Shape and kind of a GPT.

    Raises: ConfigError: values that cannot work together, or a variant that is not built.
    """

    n_layer: int = setting(REQUIRED, "layers", "count", group="model")
    n_head: int = setting(REQUIRED, "attention heads; must divide n-embd", "count", group="model")
    n_embd: int = setting(REQUIRED, "channels of the residual stream", "count", group="model")
    seq_len: int = setting(REQUIRED, "window: how far the model sees back", "tokens", group="model")
    vocab_size: int = setting(REQUIRED, "size of the vocabulary; the tokenizer's", "tokens", group="model")
    dropout: float = setting(
        0.0, "probability of dropping an element, on embedding and branches", group="model"
    )
    init_std: float = setting(0.02, "standard deviation of the initial weights", group="model")
    rope_theta: float = setting(10000.0, "base of the rotary angles", group="model")
    look_back: int = setting(
        0,
        "earlier tokens whose embeddings are added to that of each token, weighted by channel; with 2 a "
        "small model learns to copy names sooner; 0: none",
        "tokens",
        group="model",
    )
    n_kv_head: int = setting(0, "key and value heads; 0: as many as n-head", "count", group="model")
    norm: str = setting("rmsnorm", "kind of norm", choices=BUILT["norm"], group="model")
    mlp: str = setting("gelu", "kind of MLP", choices=BUILT["mlp"], group="model")
    attention: str = setting(
        "full", "which past positions attention sees", choices=BUILT["attention"], group="model"
    )

    def __post_init__(self) -> None:
        for name in ("n_layer", "n_head", "n_embd", "seq_len", "vocab_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least 1")
        if not 0 <= self.look_back < self.seq_len:
            raise ConfigError(f"look_back is {self.look_back}; expected 0 to {self.seq_len - 1}")
        if self.n_embd % self.n_head or self.head_size % 2:
            raise ConfigError(
                f"n_embd {self.n_embd} does not split into {self.n_head} even heads; change n_embd or n_head"
            )
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout is {self.dropout}; expected 0 <= dropout < 1")
        if self.seq_len * self.head_size > MAX_ROPE:
            raise ConfigError(
                f"seq_len {self.seq_len} with heads of {self.head_size}: their product may be {MAX_ROPE}"
            )
        if not (0 <= self.init_std < LARGEST and 0 < self.rope_theta < LARGEST):
            raise ConfigError(f"init_std {self.init_std} and rope_theta {self.rope_theta} must be positive")
        for name, values in BUILT.items():
            if getattr(self, name) not in values:
                raise ConfigError(
                    f"{name} {getattr(self, name)!r} is not built; this version has {', '.join(values)}"
                )
        if self.n_kv_head not in (0, self.n_head):
            raise ConfigError(
                f"n_kv_head {self.n_kv_head}: grouped heads are not built; leave it at {self.n_head}"
            )

    @property
    def head_size(self) -> int:
        """Channels of one head."""
        return self.n_embd // self.n_head

    @property
    def n_params(self) -> int:
        """Parameters, the tied embedding counted once: 12 L C^2 + (2L+1) C + V C for the default kinds."""
        from .parameters import table

        return sum(parameter.size for parameter in table(self))

    def flop_per_token(self, T: int | None = None) -> float:
        """FLOP of forward and backward for a token: 6 a parameter, and 6 L C T for causal attention."""
        return 6 * self.n_params + 6 * self.n_layer * self.n_embd * (T or self.seq_len)

    def to_dict(self) -> dict[str, Any]:
        """Field names and values, for config.json."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ModelConfig":
        """The inverse of to_dict.  Raises ConfigError for unknown or missing fields and wrong types."""
        kinds = {field.name: field.type for field in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - set(kinds)):
            raise ConfigError(f"unknown model settings {', '.join(unknown)}; made by a newer microgpt?")
        for name, value in values.items():
            good = (int, float) if kinds[name] is float else kinds[name]
            if not isinstance(value, good) or isinstance(value, bool):  # type: ignore[arg-type]
                raise ConfigError(f"model setting {name} is {value!r}; expected {kinds[name].__name__}")  # type: ignore
        try:
            return cls(**values)
        except TypeError as error:
            raise ConfigError(f"model settings are incomplete: {error}") from None

    @classmethod
    def from_preset(cls, name: str, vocab_size: int, **overrides: Any) -> "ModelConfig":
        """A preset by name, with some fields changed."""
        if name not in PRESETS:
            raise ConfigError(f"unknown preset {name!r}; there are {', '.join(PRESETS)}")
        return cls(**{**PRESETS[name], "vocab_size": vocab_size, **overrides})


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
