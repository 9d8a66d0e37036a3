"""What decides the bits of a run, and whether a resume that differs in some of it may go on."""

import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import microgpt
from microgpt.batches.packing import DOCUMENTS, STREAM
from microgpt.common.errors import CheckpointError
from microgpt.core import native
from microgpt.corpus.prepared.folder import Prepared
from microgpt.model import ModelConfig
from microgpt.model.kinds import MIXERS
from microgpt.runs.kinds import SOURCES
from microgpt.runs.settings import TrainConfig

# Raised whenever the same run would come out with other bits.  1: dropout and prompt loss by micro-batch,
# each micro-batch's mean; 2: by window, one mean over all scored targets of a step; 3, where windows are of
# documents: a document does not see the one before it.  A source raises its own, and so does a mixer.
ARITHMETIC = {STREAM: 2, DOCUMENTS: 3}
CHANGED = {  # what a resumed run differs in, where its name is no word for a person
    "arithmetic_of_source": "batches were made by version {} of the arithmetic of their source, now by {}",
    "arithmetic_of_mixers": "layers were computed by version {} of the arithmetic of their mixers, now by {}",
}


def identity(config: TrainConfig, prepared: Prepared, model: ModelConfig) -> dict[str, Any]:
    """What state.json records beside the counters: all that decides a result, and what computed it."""
    versions = {
        "microgpt": microgpt.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    of_source = getattr(SOURCES.get(config.source), "arithmetic", 1)
    mixers = model.mixer.replace("+", " ").split()
    of_mixers = max(getattr(MIXERS[name], "arithmetic", 1) for name in mixers)
    return {
        "seed": config.seed,
        "arithmetic": ARITHMETIC[config.packing],
        **({"arithmetic_of_source": of_source} if of_source > 1 else {}),
        **({"arithmetic_of_mixers": of_mixers} if of_mixers > 1 else {}),
        **native.info(config.precision),
        **_corpus_identity(prepared),
        "versions": versions,
    }


def keys_of(texts: Sequence[Prepared]) -> dict[str, str]:
    """What state.json records of the texts beside the corpus."""
    return {"beside": " ".join(one.meta["key"] for one in texts)} if texts else {}


def _corpus_identity(prepared: Prepared) -> dict[str, str]:
    return {"corpus": prepared.meta["key"], "tokenizer": prepared.tokenizer.sha256}


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What makes a resumed run differ from a straight one, by two state.json, as words for a person."""
    names = (
        "tokenizer",
        "corpus",
        "arithmetic",
        "arithmetic_of_source",
        "arithmetic_of_mixers",
        "precision",
        "isa",
        "gemm",
        "blas_core",
        "blas",
        "microgpt",
    )
    first = {"arithmetic": 1, "arithmetic_of_source": 1, "arithmetic_of_mixers": 1}
    old, new = first | _flat(before), first | _flat(now)
    changed = [(name, old.get(name), new.get(name)) for name in names if old.get(name) != new.get(name)]
    return [
        CHANGED.get(name, f"{name} was {{!s:.16}}, is {{!s:.16}}").format(*both) for name, *both in changed
    ]


def _flat(state: dict[str, Any]) -> dict[str, Any]:
    """state.json with the versions beside the rest."""
    versions = state.get("versions")
    return {**versions, **state} if isinstance(versions, dict) else state


def accept(source: Path, changes: list[str], say: Callable[[str], object], allow_inexact: bool) -> None:
    """Refuse a resume that is not exact, unless it is allowed; then say what it lacks."""
    if changes and not allow_inexact:
        raise CheckpointError(
            f"{source}: going on would not equal a run that was never stopped: {'; '.join(changes)}; "
            "set that back, or accept it with --allow-inexact"
        )
    for change in changes:
        say(f"warning: not the same run to the last bit: {change}")
