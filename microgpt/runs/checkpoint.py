"""Checkpoints: save a run so that any crash leaves the old or the new one; load only what proves to be whole.

    step_00001000/  model.safetensors  optimizer.safetensors  config.json  tokenizer.json  state.json
                    manifest.json  (memory.safetensors: what recurrent layers carry on, if they do)

A Snapshot copies the state in memory; `persist` writes a snapshot and touches nothing else, so that it can
run beside training.  The manifest holds size and SHA-256 of the other files; it is written last, then the
directory gets its name.  Nothing is read before `verify` agreed with it.
"""

import contextlib
import os
import shutil
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

import numpy as np

from microgpt.common.errors import CheckpointError
from microgpt.common.output import tell
from microgpt.corpus.prepared.folder import Known
from microgpt.files import durable
from microgpt.files.records import json_bytes, read_json
from microgpt.files.tensors import check_shapes, header, read_into, shapes_in, write_tensors
from microgpt.model import GPT, Arena, ModelConfig
from microgpt.model.architecture import memory_shapes, stored, table
from microgpt.model.lora import is_adapter, saved
from microgpt.tokenizer import Tokenizer, TokenizerError

from .kept import (
    ALL_FILES,
    CONFIG,
    FORMAT,
    MANIFEST,
    MEMORY,
    MODEL_FILES,
    MOMENTS,
    STATE,
    TOKENIZER,
    WEIGHTS,
    Say,
    best_of,
    find_checkpoint,
    is_calm,
    kept,
    verify,
    weights_sha256,
)
from .kinds import OPTIMIZERS
from .layout import checkpoint_name, checkpoints, remove_leftovers
from .spec import Plan

NOTHING: Mapping[str, np.ndarray] = MappingProxyType({})
COPY_ITEMS = 1 << 16  # a piece of an arena that is copied, then checked while it is in the cache

Value = TypeVar("Value")


# -------------------------------------------------------------------------------- save


class Optimizer(Protocol):
    """What a checkpoint knows of an optimizer: the arrays that it keeps beside the weights, by name."""

    slots: dict[str, Arena]


class Snapshot:
    """A run at one step, in memory of its own that is taken once and filled again for each save.

    `in_use` is held while somebody writes from that memory; `fill` waits for it.  Of an adapted model the
    adapters are saved alone.

    Args: about: what goes with the weights in their file, texts by name.
    """

    def __init__(
        self,
        model: GPT,
        optimizer: Optimizer,
        tokenizer: Tokenizer,
        about: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._params, self._slots, self.about = model.params, dict(optimizer.slots), about
        self._weights = Arena(saved(model.params.parameters), model.params.flat.dtype)
        self._copies = {name: slot.zeros_like() for name, slot in self._slots.items()}
        for tensors in (self.weights, self.moments):
            header(tensors, about)  # refuses what could not be read again, before a step is taken
        for copy in (self._weights, *self._copies.values()):
            copy.flat[:] = 0  # take the memory now, so that the first save does not wait for it
        self.tokenizer = tokenizer
        self.in_use = threading.Lock()
        self.step = -1  # -1: holds nothing that may be saved
        self.documents: dict[str, bytes] = {}
        self.memory: dict[str, np.ndarray] = {}  # what memory.safetensors holds; {}: there is none

    def fill(
        self, config: dict[str, Any], state: dict[str, Any], memory: Mapping[str, np.ndarray] = NOTHING
    ) -> "Snapshot":
        """Copy all that `persist` needs.  Refuses weights or moments that are not finite.

        Args: memory: of the source; these arrays are never changed, so they need no copy.
        """
        with self.in_use:
            self.step = -1
            slots = [(name, self._copies[name], slot.flat) for name, slot in self._slots.items()]
            weights = self._params.flat[-self._weights.flat.size :]  # adapters lie behind what is not saved
            for what, copy, flat in [("weights", self._weights, weights), *slots]:
                if not _copy_finite(copy.flat, flat):
                    raise CheckpointError(
                        f"not saved: some {what} are not finite; resume from the last checkpoint"
                    )
            state = {"format": FORMAT, **state}
            self.memory = dict(memory)
            self.documents = {CONFIG: json_bytes(config), STATE: json_bytes(state)}
            self.step = state["step"]
        return self

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """What model.safetensors holds."""
        return dict(self._weights)

    @property
    def moments(self) -> dict[str, np.ndarray]:
        """What optimizer.safetensors holds."""
        return by_slot(self._copies)


def by_slot(slots: Mapping[str, Mapping[str, Value]]) -> dict[str, Value]:
    """What belongs to each weight in each slot, by the names that optimizer.safetensors uses."""
    return {f"{slot}.{name}": value for slot, values in slots.items() for name, value in values.items()}


def shapes_of_slots(names: Iterable[str], plan: Plan) -> dict[str, tuple[int, ...]]:
    """What optimizer.safetensors must hold, by the names that it has: of the parameters that are named there,
    which are those that are trained, what the optimizer keeps; of all of them where none is named."""
    parameters = table(plan.model)
    named = {name.partition(".")[2] for name in names} & {parameter.name for parameter in parameters}
    trained = [p for p in parameters if p.trainable and (p.name in named or not named)]
    slots = OPTIMIZERS[plan.train.optimizer].parameters_of_slots(trained)
    return by_slot({slot: {p.name: p.shape for p in those} for slot, those in slots.items()})


def _copy_finite(target: np.ndarray, source: np.ndarray) -> bool:
    """Copy a flat array; whether all of the copy is finite."""
    is_finite = True
    for start in range(0, source.size, COPY_ITEMS):
        part = slice(start, start + COPY_ITEMS)
        target[part] = source[part]
        is_finite &= bool(np.isfinite(target[part]).all())
    return is_finite


def persist(snap: Snapshot, run: Path, keep: int, say: Say = tell) -> Path:
    """Write a snapshot into a run directory; once it has been read back, older checkpoints go.

    Which ones stay is up to `_prune`; `say` hears about one that cannot be removed.

    Returns:  the checkpoint's path; it survives a power cut from now on.
    Raises:   CheckpointError: it could not be written; the older checkpoints are untouched.
    """
    if snap.step < 0:
        raise CheckpointError("not saved: the snapshot holds no finite state")
    target = run / checkpoint_name(snap.step)
    try:
        remove_leftovers(run)
        _write_beside(snap, target)
    except (OSError, TokenizerError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"cannot save {target}: {reason}; earlier checkpoints are intact") from error
    try:
        verify(target)
    except CheckpointError as error:
        with contextlib.suppress(OSError):
            durable.remove_directory(target)
        raise CheckpointError(f"not saved, what was written reads back wrong: {error}") from error
    _prune(run, snap.step, keep, say)
    return target


def _write_beside(snap: Snapshot, target: Path) -> None:
    """Write a checkpoint under another name and move it to its own; an older one that has it goes."""
    temporary = target.with_name(f".tmp_{target.name}_{os.getpid()}")
    try:
        temporary.mkdir()
        _write(snap, temporary)
        if target.exists():
            durable.remove_directory(target)
        durable.rename(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write(snap: Snapshot, directory: Path) -> None:
    files = {
        WEIGHTS: write_tensors(directory / WEIGHTS, snap.weights, snap.about),
        MOMENTS: write_tensors(directory / MOMENTS, snap.moments),
    }
    if snap.memory:
        files[MEMORY] = write_tensors(directory / MEMORY, snap.memory)
    for name, content in snap.documents.items():
        files[name] = durable.write_file(directory / name, [content])
    snap.tokenizer.save(directory / TOKENIZER)
    files[TOKENIZER] = durable.describe(directory / TOKENIZER)
    listed = {name: files[name]._asdict() for name in (*ALL_FILES, MEMORY) if name in files}
    durable.write_file(directory / MANIFEST, [json_bytes({"format": FORMAT, "files": listed})])
    durable.sync_directory(directory)


def _prune(run: Path, step: int, keep: int, say: Say) -> None:
    """Remove checkpoints before this step, but for the newest, the best, and the newest to go back to.

    A damaged one counts as none of them; it goes once there are enough newer ones.
    """
    whole = [one for one in kept(run) if one.step <= step]
    newest, best = whole[:keep], best_of(whole)
    calm = next((one for one in whole if is_calm(one.state)), None)
    stay = {one.step for one in (*newest, best, calm) if one is not None}
    for number, path in checkpoints(run):
        if len(newest) < keep or number >= newest[-1].step or number in stay:
            continue
        try:
            durable.remove_directory(path)
        except OSError as error:
            say(f"cannot remove the older checkpoint {path}: {error.strerror}")


# -------------------------------------------------------------------------------- load


def load_model(
    path: str | Path | None, say: Say = tell, precision: str = "fp32"
) -> tuple[GPT, Tokenizer, dict[str, Any]]:
    """Load a model for use from a run or checkpoint directory (`find_checkpoint`).

    Args:     precision: of its matrix products, fp32 or bf16.
    Returns:  the model with its weights, its tokenizer, and state.json's content.
    """
    return load_verified(find_checkpoint(path, MODEL_FILES, say), precision)


def load_verified(checkpoint: Path, precision: str = "fp32") -> tuple[GPT, Tokenizer, dict[str, Any]]:
    """The same of a checkpoint that `find_checkpoint` gave: it is not read a second time to be verified."""
    plan = Plan.from_dict(read_config(checkpoint))
    tokenizer = checked_tokenizer(checkpoint, plan.model)
    check_fit(checkpoint, plan.model)
    model = GPT(plan.model, precision=precision)
    if plan.model.lora_rank:
        load_base(base_of(plan), model)
    load_weights(checkpoint, model)
    return model, tokenizer, read_json(checkpoint / STATE)


def load_tokenizer(checkpoint: Path) -> Tokenizer:
    """The tokenizer a checkpoint was trained with."""
    return Tokenizer.load(checkpoint / TOKENIZER)


def checked_tokenizer(checkpoint: Path, config: ModelConfig) -> Tokenizer:
    """The same, of as many tokens as the model has."""
    tokenizer = load_tokenizer(checkpoint)
    if config.vocab_size != tokenizer.vocab_size:
        raise CheckpointError(
            f"{checkpoint}: the model has {config.vocab_size} tokens, its tokenizer {tokenizer.vocab_size}"
        )
    return tokenizer


def check_fit(checkpoint: Path, config: ModelConfig) -> None:
    """Refuse a model config that is not that of the weights, before memory is taken for the model."""
    path = checkpoint / WEIGHTS
    check_shapes(path, shapes_in(path), {parameter.name: parameter.shape for parameter in stored(config)})


def load_weights(checkpoint: Path, model: GPT) -> None:
    """Copy a verified checkpoint's weights into a model of the same shape, rounded to its types; of an
    adapted model the adapters."""
    _load(checkpoint, model, [parameter.name for parameter in saved(model.params.parameters)])


def load_base(checkpoint: Path, model: GPT) -> None:
    """Copy a verified checkpoint's weights into a model that may have adapters beside them."""
    _load(checkpoint, model, [p.name for p in model.params.parameters if not is_adapter(p)])


def _load(checkpoint: Path, model: GPT, names: Iterable[str]) -> None:
    params = {name: model.params[name] for name in names}
    rounded = {name: np.empty(x.shape, np.float32) for name, x in params.items() if x.dtype == np.uint16}
    read_into(checkpoint / WEIGHTS, {**params, **rounded})
    for name, values in rounded.items():
        model.params.put(name, values)


def base_of(plan: Plan) -> Path:
    """The verified checkpoint that a run's adapters lie beside.

    Raises: CheckpointError: it is gone, or other weights are there now.
    """
    assert plan.parent is not None, "a plan with adapters has a parent"
    base = Path(plan.parent.place)
    try:
        if weights_sha256(base) != plan.parent.sha256:
            raise CheckpointError(f"{base}: other weights are there now")
    except CheckpointError as error:
        raise CheckpointError(
            f"{error}; these adapters belong to the weights with SHA-256 {plan.parent.sha256[:16]}: bring "
            "them back there, or name a copy of them and these as --adapter"
        ) from error
    return base


def load_moments(checkpoint: Path, optimizer: Optimizer) -> None:
    """Copy a verified checkpoint's moments into an optimizer of the same shape."""
    read_into(checkpoint / MOMENTS, by_slot(optimizer.slots))


def load_memory(checkpoint: Path, like: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What recurrent layers remembered at a verified checkpoint, in new arrays; {} where `like` is."""
    memory = {name: np.empty_like(rows) for name, rows in like.items()}
    if memory:
        read_into(checkpoint / MEMORY, memory)
    return memory


def memory_shapes_of(plan: Plan) -> dict[str, tuple[int, ...]]:
    """What memory.safetensors must hold: of each micro-batch of a step, what is remembered of its rows."""
    if not plan.train.carry_state:
        return {}
    of_rows = {name: (plan.train.batch_size, *shape) for name, shape in memory_shapes(plan.model).items()}
    return by_slot({str(number): of_rows for number in range(plan.train.grad_accum)})


def read_config(checkpoint: Path) -> dict[str, Any]:
    """config.json: the dictionaries `model`, `train` and `data`; of no more layers than there are weights."""
    document = read_json(checkpoint / CONFIG)
    for part in ("model", "train", "data"):
        if not isinstance(document.get(part), dict):
            raise CheckpointError(f"{checkpoint / CONFIG}: no {part!r} section; microgpt train writes one")
    n_layer, n_tensors = document["model"].get("n_layer"), len(shapes_in(checkpoint / WEIGHTS))
    if isinstance(n_layer, int) and n_layer > n_tensors:  # before anyone makes a table of that length
        raise CheckpointError(
            f"{checkpoint / CONFIG}: {n_layer} layers, but there are only {n_tensors} tensors of weights"
        )
    return document


def known_corpus(checkpoint: Path) -> Known:
    """What a checkpoint remembers of the corpus it was trained on."""
    return Known(corpus_key(checkpoint), load_tokenizer(checkpoint))


def corpus_key(checkpoint: Path) -> str:
    """The key of the corpus that a checkpoint was trained on."""
    return str(read_json(checkpoint / STATE).get("corpus"))
