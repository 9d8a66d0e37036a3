"""Priors: rules of thumb that a model's shape is left to, until they become settings of it.

A prior is soft: what a spec names itself comes before it, and where a rule and a width do not go together the
nearest shape is taken.  How far a model is from its priors is told in relative deviations.
"""

import dataclasses
import math
import re
from collections.abc import Collection, Mapping
from typing import Any

from microgpt.common.errors import ConfigError
from microgpt.common.plain import record_from
from microgpt.common.setting import NOT_NEGATIVE, POSITIVE, unseen
from microgpt.core import random
from microgpt.model.config import LONG, WINDOW_SCALE, WINDOW_SCALE_LONG, ModelConfig
from microgpt.model.mlp import ACTIVATIONS, GATED_MULTIPLE, inner_width

TIMES = re.compile(r"(\d+(?:\.\d+)?)\s*x")  # 4x
ROOT = re.compile(r"sqrt\(T\)\s*(?:\*\s*(window_scale|\d+(?:\.\d+)?))?")  # sqrt(T) * window_scale
NUMBER = re.compile(r"\d+(?:\.\d+)?")


@dataclasses.dataclass(frozen=True)
class Priors:
    """Rules of thumb; None: there is none for it.

    head_dim:      channels of a head of attention.
    ffn:           channels inside an MLP, in times n_embd, as "4x"; gated kinds have two thirds of them, for
                   they have three matrices and not two.
    kv_groups:     query heads of each key and value head.
    attention:     which positions layers see, as the setting of that name.
    window, global_stride: "sqrt(T)", T being seq_len, times a number or window_scale.
    window_scale:  None: 6, from T = 2048 on 4.
    rope_theta:    base of the rotary angles; rope_theta_jitter: it is multiplied by exp(u jitter), u between
                   -1 and 1 by the seed of the run.
    norm:          kind of norm.
    tokens_per_param: tokens for each parameter, all counted, above which a plan warns.
    Raises: ConfigError: a rule that cannot be read.
    """

    head_dim: int | None = unseen(None, POSITIVE)
    ffn: str | None = unseen(None)
    kv_groups: int | None = unseen(None, POSITIVE)
    attention: str | None = unseen(None)
    window: str | None = unseen(None)
    window_scale: float | None = unseen(None, POSITIVE)
    global_stride: str | None = unseen(None)
    rope_theta: float | None = unseen(None, POSITIVE)
    rope_theta_jitter: float = unseen(0.0, NOT_NEGATIVE)
    norm: str | None = unseen(None)
    tokens_per_param: float | None = unseen(None, POSITIVE)

    def __post_init__(self) -> None:
        for name, pattern, example in (
            ("ffn", TIMES, "4x"),
            ("window", ROOT, "sqrt(T) * window_scale"),
            ("global_stride", ROOT, "sqrt(T)"),
        ):
            rule = getattr(self, name)
            if rule is not None and not pattern.fullmatch(rule.strip()):
                raise ConfigError(f'priors: {name} is {rule!r:.80}, expected a rule such as "{example}"')
            if rule is not None and 0.0 in map(float, NUMBER.findall(rule)):
                raise ConfigError(f"priors: {name} is {rule!r:.80}, expected a number above 0 in it")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Priors":
        """Of plain values.  Raises: ConfigError: a name that no prior has, or a value of another type."""
        return record_from(cls, dict(values), "priors")


# What scale-policy guides begin with; of Transformers in general.
USUAL = Priors(
    head_dim=64,
    ffn="4x",
    kv_groups=2,
    attention="local_global",
    window="sqrt(T) * window_scale",
    global_stride="sqrt(T)",
    rope_theta=10_000.0,
    norm="layernorm",
    tokens_per_param=4.0,
)
# The setting of the model that each becomes.  Key and value heads come after the heads that they divide.
SETTINGS = {
    "head_dim": "n_head",
    "ffn": "n_inner",
    "kv_groups": "n_kv_head",
    "attention": "attention",
    "window": "window",
    "global_stride": "global_stride",
    "rope_theta": "rope_theta",
    "norm": "norm",
}


def settings_of(priors: Priors, shape: Mapping[str, Any], named: Collection[str] = ()) -> dict[str, Any]:
    """The settings of a model that priors become, by name.

    Args: shape: what they follow: n_embd, n_head and seq_len; mlp, expert and the run's seed, where those
          are not the defaults.  named: settings that are decided already.
    """
    found: dict[str, Any] = {}
    for prior, setting in SETTINGS.items():
        if getattr(priors, prior) is None or setting in named:
            continue
        value = _setting(prior, priors, {**shape, **found})
        if value is not None:
            found[setting] = value
    return found


def _setting(prior: str, priors: Priors, shape: Mapping[str, Any]) -> Any:
    """The value that a prior gives its setting; None: the model has no use for it, or no shape is like it."""
    wanted = getattr(priors, prior)
    if prior == "head_dim":
        C = shape["n_embd"]
        sizes = [C // n for n in range(1, C + 1) if C % n == 0 and C // n % 2 == 0]
        return C // min(sizes, key=lambda size: abs(math.log(size / wanted))) if sizes else None
    if prior == "kv_groups":  # no more query heads share one than is said
        H = shape["n_head"]
        return H // max(n for n in range(1, min(H, wanted) + 1) if H % n == 0)
    if prior == "ffn":
        kind = _inner_kind(shape)
        if kind not in ACTIVATIONS:
            return None
        step = GATED_MULTIPLE if ACTIVATIONS[kind].is_gated else 1
        return math.ceil(_times(wanted) * _share(kind) * shape["n_embd"] / step) * step
    if prior in ("window", "global_stride"):
        return max(1, round(_reach(wanted, priors, shape["seq_len"])))
    if prior == "rope_theta":
        drawn = 2 * random.uniform(random.key(shape.get("seed", 0), "rope_theta prior"), 1)[0] - 1
        return float(f"{wanted * math.exp(priors.rope_theta_jitter * drawn):.6g}")
    return wanted


def _inner_kind(shape: Mapping[str, Any]) -> str:
    """The kind of the MLPs whose width can be set."""
    kind = shape.get("mlp", ModelConfig.mlp)
    return str(shape.get("expert", ModelConfig.expert) if kind == "moe" else kind)


def _times(rule: str) -> float:
    """The 4 of `4x`."""
    return float(rule.strip().removesuffix("x"))


def _share(kind: str) -> float:
    """Of the width of an MLP, by its kind: gated ones have three matrices and so two thirds of it."""
    return 2 / 3 if ACTIVATIONS[kind].is_gated else 1.0


def _reach(rule: str, priors: Priors, T: int) -> float:
    """What a rule with sqrt(T) comes to, not yet rounded."""
    match = ROOT.fullmatch(rule.strip())
    factor = match[1] if match else None
    if factor == "window_scale":
        scale = priors.window_scale or (WINDOW_SCALE if T < LONG else WINDOW_SCALE_LONG)
        return scale * math.sqrt(T)
    return float(factor or 1) * math.sqrt(T)


def shape_of(model: ModelConfig) -> dict[str, float | str]:
    """What a model has where priors say something, in their terms: an MLP's width in times n_embd, as of one
    without gates, windows and strides in sqrt(T).  What it has nothing of is left out."""
    heads = [model.heads_of(layer) for layer in range(model.n_layer)]
    window, stride = max(one.window for one in heads), max(one.stride for one in heads)
    kind, root = _inner_kind(model.to_dict()), math.sqrt(model.seq_len)
    found: dict[str, float | str] = {"head_dim": model.head_size}
    if kind in ACTIVATIONS:
        is_gated = ACTIVATIONS[kind].is_gated
        found["ffn"] = inner_width(model, is_gated) / (_share(kind) * model.n_embd)
    found["kv_groups"] = model.heads.H / model.heads.H_kv
    found["attention"] = " ".join(model.attention.split())
    found |= {"window": window / root} if window else {}
    found |= {"global_stride": stride / root} if stride else {}
    return found | {"rope_theta": model.rope_theta, "norm": model.norm}


def stated(priors: Priors, T: int) -> dict[str, float | str]:
    """The priors that there are, in the same terms, at windows of T tokens."""
    found: dict[str, float | str] = {}
    for name in SETTINGS:
        rule = getattr(priors, name)
        if name == "ffn" and rule:
            found[name] = _times(rule)
        elif name in ("window", "global_stride") and rule:
            found[name] = _reach(rule, priors, T) / math.sqrt(T)
        elif rule is not None:
            found[name] = " ".join(rule.split()) if isinstance(rule, str) else float(rule)
    return found


def deviations(priors: Priors, model: ModelConfig) -> dict[str, float]:
    """How far a model is from each prior that is stated and has to do with it: |has / prior - 1|, and for
    words 0 if they are the same, else 1."""
    has, wanted = shape_of(model), stated(priors, model.seq_len)
    return {name: _deviation(has[name], wanted[name]) for name in wanted if name in has}


def _deviation(has: float | str, wanted: float | str) -> float:
    if isinstance(has, str) or isinstance(wanted, str):
        return float(has != wanted)
    return abs(has / wanted - 1)


def distance(priors: Priors, model: ModelConfig) -> float:
    """The mean of the deviations; 0 where there are none."""
    found = deviations(priors, model)
    return sum(found.values()) / len(found) if found else 0.0
