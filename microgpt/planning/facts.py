"""What a plan amounts to, by counting alone: parameters, memory, disk, FLOP, tokens."""

import math
from typing import Any, NamedTuple

from microgpt.model import ModelConfig, count_layer_parameters, count_parameters, flop_per_token
from microgpt.model.architecture import count_active_parameters, parameter_groups
from microgpt.runs.spec import Plan
from microgpt.training.needs import Needs, checkpoint_bytes, needs_of

BEYOND_KEPT = 2  # checkpoints beside the newest: the best, and one that is being written
PARTS = {"wte": "embedding", "wpe": "positions", "attn": "attention", "ln": "norms"}  # names for people


class Facts(NamedTuple):
    """A plan by its numbers.

    params, in_layers, in_products, active: parameters; those of the layers alone, without embedding and head;
        these with the head's matrix; and those that one token has to do with.
    parts:      parameters by part of the model.
    needs:      bytes of memory by what they are for.
    checkpoint: bytes of one; disk: of as many as a run has at once, at most.
    flop:       of training on a token, forward and backward.
    tokens:     in all steps; 0: their number is not known yet.  epochs: how often the corpus comes in them.
    """

    preset: str
    params: int
    in_layers: int
    in_products: int
    active: int
    parts: dict[str, int]
    needs: Needs
    checkpoint: int
    disk: int
    flop: float
    tokens_per_step: int
    steps: int
    tokens: int
    epochs: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, units in the names."""
        memory = {name: round(value) for name, value in self.needs._asdict().items()}
        values = self._asdict() | {"memory_bytes": {**memory, "total": round(self.needs.total)}}
        del values["needs"]
        for name, unit in (("checkpoint", "bytes"), ("disk", "bytes"), ("flop", "per_token")):
            values[f"{name}_{unit}"] = values.pop(name)
        return values


def facts_of(plan: Plan, n_windows: int | None = None) -> Facts:
    """The numbers of a plan.  n_windows: of the corpus, where that was read."""
    model, train = plan.model, plan.train
    saved, in_layers = checkpoint_bytes(model, train), count_layer_parameters(model)
    return Facts(
        preset=plan.preset,
        params=count_parameters(model),
        in_layers=in_layers,
        in_products=in_layers + model.vocab_size * model.n_embd,
        active=count_active_parameters(model),
        parts=parts_of(model),
        needs=needs_of(model, train),
        checkpoint=saved,
        disk=(train.keep + BEYOND_KEPT) * saved,
        flop=flop_per_token(model),
        tokens_per_step=plan.tokens_per_step,
        steps=train.max_steps,
        tokens=plan.planned_tokens,
        epochs=None if n_windows is None else train.max_steps * train.windows_per_step / n_windows,
    )


def parts_of(model: ModelConfig) -> dict[str, int]:
    """Parameters by what they belong to, equal parts of all layers together."""
    parts: dict[str, int] = {}
    for parameters, n in parameter_groups(model):
        for parameter in parameters:
            name = _part(parameter.name)
            parts[name] = parts.get(name, 0) + n * math.prod(parameter.shape)
    return parts


def _part(name: str) -> str:
    """`h.3.attn.qkv.weight` -> `attention`."""
    words = name.split(".")
    word = words[2] if words[0] == "h" and len(words) > 2 else words[0]
    return PARTS.get(word.split("_")[0], word)
