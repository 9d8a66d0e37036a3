"""Adapters become part of the matrices they lie beside: a model like any other."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

from microgpt.common.errors import ConfigError
from microgpt.core import ops
from microgpt.model import GPT, ModelConfig
from microgpt.model.lora import adapted_in
from microgpt.model.settings import ADAPTER_FIELDS
from microgpt.runs import checkpoint as checkpoints
from microgpt.runs.checkpoint import (
    Snapshot,
    checked_tokenizer,
    find_checkpoint,
    persist,
    read_config,
    read_json,
)
from microgpt.runs.kept import MODEL_FILES
from microgpt.runs.layout import METRICS, RunDirectory, run_of
from microgpt.runs.spec import Plan
from microgpt.training.adam import Adam
from microgpt.training.run import refuse_used


def merged(model: GPT) -> GPT:
    """The model without adapters that computes the same: W + s B A in the place of W.

    Args: model: whose matrices lie in fp32.
    """
    plain = GPT(without_adapters(model.config), model.dtype)
    for name, weight in plain.params.items():
        weight[:] = model.params[name]
    for linear in (one for block in model.blocks for one in adapted_in(block)):
        for one in linear.adapters:
            a, b = model.params[one.a.name], model.params[one.b.name]
            delta = ops.linear_backward_input(b, a)  # B A
            plain.params[linear.name][one.rows] += model.dtype.type(linear.scale) * delta
    return plain


def without_adapters(config: ModelConfig) -> ModelConfig:
    """The configuration of the base alone."""
    fields: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(ModelConfig)}
    return dataclasses.replace(config, **{name: fields[name] for name in ADAPTER_FIELDS})


def merge(name: str, out_dir: Path) -> Path:
    """Write what a run of adapters has learned as a run of a whole model; its checkpoint.

    Raises: ConfigError: the run has no adapters, or the directory holds something.  CheckpointError: its base
            is not where it was.
    """
    source = find_checkpoint(name, MODEL_FILES, best=True)
    plan = Plan.from_dict(read_config(source))
    if not plan.model.lora_rank:
        raise ConfigError(f"{source} has no adapters; it is a whole model already")
    refuse_used(out_dir)
    model = GPT(dataclasses.replace(plan.model, base_weights="fp32"))
    checkpoints.load_base(checkpoints.base_of(plan), model)
    checkpoints.load_weights(source, model)
    whole = merged(model)
    document = dataclasses.replace(plan, model=whole.config).to_dict()
    snapshot = Snapshot(whole, Adam(whole, plan.train), checked_tokenizer(source, plan.model))
    with RunDirectory(out_dir):
        if (log := (run_of(source) or source.parent) / METRICS).exists():
            shutil.copyfile(log, out_dir / METRICS)
        return persist(snapshot.fill(document, read_json(source / checkpoints.STATE)), out_dir, keep=1)
