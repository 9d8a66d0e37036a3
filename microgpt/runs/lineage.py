"""Whose weights a run begins with, and the adapters that lie beside them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from microgpt.common.errors import CheckpointError, ConfigError, MicrogptError
from microgpt.files import tensors
from microgpt.model import GPT, ModelConfig
from microgpt.runs.state import TrainState
from microgpt.tokenizer import Tokenizer

from . import checkpoint as checkpoints
from .checkpoint import STATE, WEIGHTS, checked_tokenizer, find_checkpoint, read_config, read_json
from .kept import MODEL_FILES, weights_sha256
from .spec import Parent, Plan

FIELDS = ("lora_rank", "lora_alpha", "lora_targets")  # of a model's configuration, in a file of adapters
BASE = "base_sha256"


class Begin(NamedTuple):
    """What a run begins with: a checkpoint, what its run was, and its tokenizer."""

    parent: Parent
    plan: Plan
    checkpoint: Path
    tokenizer: Tokenizer


def begin_with(name: str) -> Begin:
    """The checkpoint that a name means, of a run the best where that is clearly better, to be trained on.

    Raises: ConfigError: it is of adapters alone.  CheckpointError: there is none.
    """
    checkpoint = find_checkpoint(name, MODEL_FILES, best=True)
    plan = Plan.from_dict(read_config(checkpoint))
    if plan.model.lora_rank:
        raise ConfigError(
            f"{checkpoint} holds adapters; `microgpt merge {name} --out-dir DIR` makes a model of it"
        )
    state = TrainState.from_dict(read_json(checkpoint / STATE))
    before = plan.parent.tokens if plan.parent else 0
    place, sha256 = str(checkpoint.resolve()), weights_sha256(checkpoint)
    parent = Parent(place, sha256, state.step, before + state.tokens)
    return Begin(parent, plan, checkpoint, checked_tokenizer(checkpoint, plan.model))


def plans(plan: Plan) -> Iterator[Plan]:
    """A plan, that of the run it begins with, and so on, as far as their checkpoints are where they were.

    What has other weights took the place of one, and is no parent.
    """
    while True:
        yield plan
        if plan.parent is None:
            return
        place = Path(plan.parent.place)
        try:
            if weights_sha256(place) != plan.parent.sha256:
                return
            plan = Plan.from_dict(read_config(place))
        except MicrogptError:  # gone or damaged
            return


def fill(model: GPT, plan: Plan, seed: int) -> None:
    """Give a model its first weights: random ones, or those of its parent."""
    model.init(seed)
    if plan.parent is not None:
        checkpoints.load_base(checkpoints.base_of(plan), model)


# ---- files of adapters ------------------------------------------------------------------------------


def about(plan: Plan) -> dict[str, str]:
    """What goes with the weights of a run in their file: of adapters, all that is needed to use them."""
    if not plan.model.lora_rank or plan.parent is None:
        return {}
    return {name: str(getattr(plan.model, name)) for name in FIELDS} | {BASE: plan.parent.sha256}


def adapter_file(name: str) -> Path:
    """The file of adapters that a name means: itself, or that of a run or checkpoint."""
    path = Path(name)
    return path if path.is_file() else find_checkpoint(name, (WEIGHTS,), best=True) / WEIGHTS


def load_adapted(
    checkpoint: Path, name: str, precision: str = "fp32"
) -> tuple[GPT, Tokenizer, dict[str, Any]]:
    """A model with adapters beside it.

    Args:    checkpoint: verified, of the model.  name: of the adapters, a file or a run.
    Returns: as of `load_model`.
    Raises:  CheckpointError: they were made beside other weights, or do not fit.
    """
    file = adapter_file(name)
    told, sha256 = tensors.about(file), weights_sha256(checkpoint)
    if BASE not in told:
        raise CheckpointError(
            f"{file}: no file of adapters, it names no base; expected a run with --lora-rank"
        )
    if told[BASE] != sha256:
        raise CheckpointError(
            f"{file}: made beside the weights {told[BASE][:16]}, those of {checkpoint} are {sha256[:16]} "
            "(SHA-256); name the model that they were made with"
        )
    base = Plan.from_dict(read_config(checkpoint)).model
    config = adapted_config(base, told, file)
    checkpoints.check_shapes(
        file, tensors.shapes_in(file), {p.name: p.shape for p in checkpoints.stored(config)}
    )
    model = GPT(config, precision=precision)
    checkpoints.load_base(checkpoint, model)
    tensors.read_into(file, {p.name: model.params[p.name] for p in checkpoints.stored(config)})
    return model, checked_tokenizer(checkpoint, base), read_json(checkpoint / STATE)


def adapted_config(base: ModelConfig, told: Mapping[str, str], file: Path) -> ModelConfig:
    """The configuration of a model with the adapters that a file tells of."""
    kinds = {"lora_rank": int, "lora_alpha": float, "lora_targets": str}
    try:
        values = {name: kinds[name](told[name]) for name in FIELDS}
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            f"{file}: it does not tell {', '.join(FIELDS)} as a file of adapters does"
        ) from error
    return ModelConfig.from_dict(base.to_dict() | values)
