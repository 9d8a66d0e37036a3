"""The configuration of a model: checks that its settings go together, and what follows from them."""

import dataclasses
import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from microgpt.common.errors import ConfigError
from microgpt.common.plain import record_from
from microgpt.common.setting import refused
from microgpt.core.heads import Heads

from .kinds import MIXERS
from .presets import PRESETS, heads_at_width
from .settings import BIASES, ModelSettings

MAX_ROPE = 1 << 22  # of the rotary tables: no line in a file makes them take more than 64 MB while made
RECURRENT = ("rwkv6", "rwkv7", "mamba2")  # mixers and MLPs that have heads of their own
RANK_STEP = 32  # ranks of small networks in RWKV are multiples of it
ATTENTIONS = ("full", "local", "local_global")
LONG = 2048  # tokens, from which on the window of local attention is by another scale
WINDOW_SCALE, WINDOW_SCALE_LONG = 6, 4  # that window in sqrt(seq_len)
POSITIONS = ("rope", "none", "learned")


class Rotation(NamedTuple):
    """How the channels of a head turn by position: of its pairs the first n_pairs, the others not.

    Pair i turns by t / stretch * theta^(-i / n_pairs) at position t, of which there are seq_len.
    """

    seq_len: int
    head_size: int
    theta: float
    n_pairs: int
    stretch: float = 1.0


@dataclass(frozen=True)
class ModelConfig(ModelSettings):
    """Shape and kind of a GPT.

    Raises: ConfigError: values that cannot work together, or a variant that is not built.
    """

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
            for word in getattr(self, name).split() or [""]:
                if missing := [kind for kind in _kinds_of(word) if kind not in known]:
                    have = ", ".join(known)
                    raise ConfigError(f"{name} {missing[0]!r} is not built; this version has {have}")
        self._check_names()
        self._check_together()
        self._check_recurrent()
        if self.n_head % (self.n_kv_head or 1):
            raise ConfigError(f"n_kv_head {self.n_kv_head} must divide n_head {self.n_head}; or 0: as many")

    def _check_names(self) -> None:
        for name, known in (("bias", (*BIASES, "none")), ("positions", POSITIONS)):
            for word in getattr(self, name).split() or [""]:
                if word not in known:
                    raise ConfigError(f"{name} {word!r} is not known; expected {', '.join(known)}")
        for name, alone in (("bias", "none"), ("positions", "learned")):
            if alone in getattr(self, name).split() and getattr(self, name).split() != [alone]:
                raise ConfigError(f"{name} {getattr(self, name)!r}: {alone} stands alone")

    def _check_together(self) -> None:
        """Raises: ConfigError: a setting that another one leaves without use, or makes impossible."""
        turned = self.rotation_of(0).n_pairs or "rope" not in self.positions.split()
        for is_idle, line in (
            (
                self.has_bias("norm") and self.norm == "rmsnorm",
                "bias norm: an rmsnorm has none; take layernorm",
            ),
            (self.has_bias("head") and self.tied, "bias head: a tied head has none; take --no-tied"),
            (
                self.init_head_std and self.tied,
                f"init_head_std {self.init_head_std:g}: a tied head is the embedding; take 0, or --no-tied",
            ),
            (self.qk_norm_after_rope and self.qk_norm == "none", "qk_norm_after_rope: there is no qk_norm"),
            (
                not self.lora_rank and self.base_weights != "fp32",
                f"base_weights {self.base_weights}: only matrices that are not trained are stored so; give a "
                "lora_rank",
            ),
            (self.rope_factor != 1 and self.rope_scaling == "none", "rope_factor: choose a rope_scaling"),
            (
                self.mlp == "moe" and self.top_k > self.n_expert,
                f"top_k {self.top_k}: expected at most n_expert, {self.n_expert}",
            ),
            (
                not turned,
                f"rope_share {self.rope_share:g} of heads of {self.head_size} turns no pair of channels",
            ),
        ):
            if is_idle:
                raise ConfigError(line)

    def _check_recurrent(self) -> None:
        words = [_kinds_of(word) for word in self.mixer.split()]
        for kinds in words:
            if len(kinds) > 2 or len(kinds) != len(set(kinds)):
                word = "+".join(kinds)
                raise ConfigError(f"mixer {word!r}: expected one kind, or two different ones with a plus")
        are_recurrent = not {self.mlp}.union(*words).isdisjoint(RECURRENT)
        if are_recurrent and self.n_embd % self.recurrent_head:
            raise ConfigError(
                f"n_embd {self.n_embd} does not split into heads of recurrent_head {self.recurrent_head}; "
                "change one of them"
            )

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
        scale = WINDOW_SCALE if self.seq_len < LONG else WINDOW_SCALE_LONG
        window = self.window or round(scale * math.sqrt(self.seq_len))
        stride = self.global_stride or round(math.sqrt(self.seq_len))
        return replace(
            self.heads,
            window=0 if kind == "full" else window,
            stride=stride if kind == "local_global" else 0,
        )

    def mixer_of(self, layer: int) -> str:
        """The kind of a layer's mixer: the pattern, over and over."""
        return _tiled(self.mixer, layer)

    def rotation_of(self, layer: int) -> Rotation:
        """How a layer turns queries and keys."""
        kind = _tiled(self.positions, layer)
        n_pairs = int(self.head_size * self.rope_share) // 2 if kind == "rope" else 0
        theta, stretch = self.rope_theta, 1.0
        if self.rope_scaling == "linear":
            stretch = self.rope_factor
        elif self.rope_scaling == "ntk" and n_pairs > 1:  # the slowest pair turns slower by the factor
            theta *= self.rope_factor ** (n_pairs / (n_pairs - 1))
        return Rotation(self.seq_len, self.head_size, theta, n_pairs, stretch)

    def has_value_embedding(self, layer: int) -> bool:
        """Whether a layer's attention has one: the last layer, and each so manieth before it."""
        return bool(self.value_embedding) and (self.n_layer - 1 - layer) % self.value_embedding == 0

    @property
    def drops(self) -> bool:
        """Whether training drops any elements."""
        return bool(self.dropout or (self.lora_rank and self.lora_dropout))

    def has_bias(self, part: str) -> bool:
        """Whether a part, one of BIASES, adds a bias."""
        return part in self.bias.split()

    @property
    def layer_counts(self) -> dict[int, int]:
        """The first layer of each kind, and how many layers are like it."""
        patterns = [getattr(self, name).split() for name in ("mixer", "attention", "positions")]
        lengths = *map(len, patterns), self.value_embedding or 1
        period, alone = math.lcm(*lengths), self.first_with("rwkv7")  # which is like no other
        first: dict[Any, int] = {}
        counts: dict[int, int] = {}
        for layer in range(min(self.n_layer, 2 * period)):
            kinds = self.mixer_of(layer), self.heads_of(layer), layer == alone
            kind = *kinds, self.rotation_of(layer), self.has_value_embedding(layer)
            alike = first.setdefault(kind, layer)
            later = (self.n_layer - 1 - layer) // period if layer >= period else 0
            counts[alike] = counts.get(alike, 0) + 1 + later
        return counts

    def first_with(self, kind: str) -> int:
        """The first layer with a mixer of a kind, also beside another; -1: there is none."""
        words = self.mixer.split()[: self.n_layer]
        return next((layer for layer, word in enumerate(words) if kind in _kinds_of(word)), -1)

    def low_rank(self, factor: float) -> int:
        """Rank of a small network in RWKV, by the root of the channels, as its authors suggest."""
        return max(RANK_STEP, round(factor * math.sqrt(self.n_embd) / RANK_STEP) * RANK_STEP)

    @property
    def std_into_residual(self) -> float:
        """Initial deviation of projections into the residual stream: by default smaller by 1/sqrt(2L), for 2L
        of them add up (Radford et al. 2019, section 2.3)."""
        if self.init_out == "scaled":
            return self.init_std / math.sqrt(2 * self.n_layer)
        return self.init_std if self.init_out == "plain" else 0.0

    @property
    def embedding_std(self) -> float:
        """Initial deviation of embeddings."""
        return self.init_embedding_std or self.init_std

    def to_dict(self) -> dict[str, Any]:
        """Field names and values, for config.json."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ModelConfig":
        """The inverse of to_dict.  Raises ConfigError for unknown or missing fields and wrong types."""
        return record_from(cls, values, "config.json")

    @classmethod
    def from_preset(cls, name: str, vocab_size: int, **overrides: Any) -> "ModelConfig":
        """A preset by name, with some fields changed, as `preset_values` has them."""
        return cls(**{"vocab_size": vocab_size, **preset_values(name, overrides)})


def preset_values(name: str, overrides: dict[str, Any]) -> dict[str, Any]:
    """What a preset says, with some fields changed.

    Heads keep their size: at another width there are as many as fit; and key and value heads keep their
    share of them, or one below it that divides, if they are not among those fields.
    Raises: ConfigError: there is none of that name, or it is made for a head of its own and not for `tied`.
    """
    if name not in PRESETS:
        raise ConfigError(f"unknown preset {name!r}; there are {', '.join(PRESETS)}")
    if overrides.get("tied") and PRESETS[name].get("init_head_std") and "init_head_std" not in overrides:
        raise ConfigError(
            f"--preset {name} --tied: this preset is made for a head of its own; leave --tied out, take "
            "another preset, or give --init-head-std 0, too"
        )
    return {**PRESETS[name], **heads_at_width(PRESETS[name], overrides), **overrides}


def _kinds_of(word: str) -> list[str]:
    """Of the mixers that a word of the pattern names."""
    return word.split("+")


def _tiled(pattern: str, layer: int) -> str:
    """The word of a pattern that a layer has, the pattern being repeated."""
    words = pattern.split()
    return words[layer % len(words)]
