"""The command that trains a run again."""

import dataclasses
from pathlib import Path
from typing import Any

from microgpt.common.flags import flag_name
from microgpt.corpus.prepared.config import DataConfig
from microgpt.corpus.prepared.corpus import SMALLTALK
from microgpt.runs.kept import CONFIG
from microgpt.runs.spec import DEFAULT_PRESET, DEFAULT_RECIPE, SECTIONS, Plan, Spec

# What the words behind a command say in a way of their own, or need not: the vocabulary follows from the
# corpus, the time is said in steps, and threads change no result.
APART = (
    *("data", "mixed", "shares", "replay", "replay_share", "held_out"),
    *("recipe", "lr", "max_steps", "vocab_size", "max_time", "threads"),
)


def command_words(plan: Plan, checkpoint: Path) -> list[str]:
    """The words behind `microgpt` that start a run of this plan: its length, and what its preset and recipe
    would not have set.

    Args: checkpoint: of the run, whose settings say all of it where it began with the weights of another or
          replayed text, for which `train` has no flag.
    """
    if plan.parent is not None or plan.data.replay:
        return ["train", "--spec", str(checkpoint / CONFIG)]
    preset, train, data = plan.preset or DEFAULT_PRESET, plan.train, plan.data
    found = ["train", "--preset", preset]
    for name, places in (("data", _sources(data)), ("held_out", data.held_out)):
        if places and places != (SMALLTALK,):
            found += [flag_name(name), *places]
    if train.recipe != DEFAULT_RECIPE:
        found += _flag("recipe", train.recipe)
    found += _flag("max_steps", train.max_steps)
    usual = Spec.of(preset, recipe=train.recipe).plan(plan.model.vocab_size)
    if train.lr != usual.train.lr:
        found += _flag("lr", train.lr)
    as_named = Spec.of(preset, recipe=train.recipe, lr=train.lr).plan(plan.model.vocab_size)
    for section in SECTIONS:
        ours, theirs = getattr(plan, section), getattr(as_named, section)
        for field in dataclasses.fields(ours):
            value = getattr(ours, field.name)
            is_flag = "help" in field.metadata or not field.metadata
            if is_flag and field.name not in APART and value not in (None, getattr(theirs, field.name)):
                found += _flag(field.name, value)
    return found


def _sources(data: DataConfig) -> tuple[str, ...]:
    """What is trained on as it is typed: names, or each with its share of the windows."""
    if not data.mixed:
        return data.data
    pairs = zip((*data.data, *data.mixed), data.shares, strict=True)
    return tuple(f"{name}={share}" for name, share in pairs)


def _flag(name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [flag_name(name if value else f"no_{name}")]
    return [flag_name(name), str(value)]
