"""Checkpoints: save a run so that any crash leaves the old or the new one; load only what proves to be whole.

    step_00001000/  model.safetensors  optimizer.safetensors  config.json  tokenizer.json  state.json
                    manifest.json

A Snapshot copies the state in memory; `persist` writes a snapshot and touches nothing else, so that it can
run beside training.  The manifest holds size and SHA-256 of the other files; it is written last, then the
directory gets its name.  Nothing is read before `verify` agreed with it.
"""

import contextlib
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from microgpt.common.errors import CheckpointError
from microgpt.common.output import tell
from microgpt.model import GPT, ModelConfig
from microgpt.model.architecture import table
from microgpt.tokenizer import Tokenizer, TokenizerError

from . import storage
from .documents import json_bytes, read_json
from .optim import Adam
from .rundir import STEP_NAME, checkpoint_name, checkpoints, newest_run, remove_leftovers
from .tensors import check_shapes, header, read_into, shapes_in, write_tensors

FORMAT = 1
WEIGHTS, MOMENTS = "model.safetensors", "optimizer.safetensors"
CONFIG, TOKENIZER, STATE, MANIFEST = "config.json", "tokenizer.json", "state.json", "manifest.json"
ALL_FILES = (WEIGHTS, MOMENTS, CONFIG, TOKENIZER, STATE)
MODEL_FILES = (WEIGHTS, CONFIG, TOKENIZER, STATE)  # all that inference reads
LEFTOVERS = ".tmp_[sr]*"  # .tmp_step_... and .tmp_removed_...
COPY_ITEMS = 1 << 16  # a piece of an arena that is copied, then checked while it is in the cache

Say = Callable[[str], None]
Value = TypeVar("Value")


# -------------------------------------------------------------------------------- save


class Snapshot:
    """A run at one step, in memory of its own that is taken once and filled again for each save.

    `in_use` is held while somebody writes from that memory; `fill` waits for it.
    """

    def __init__(self, model: GPT, adam: Adam, tokenizer: Tokenizer) -> None:
        self._arenas = {"weights": model.params, "first moments": adam.m1, "second moments": adam.m2}
        self._copies = {what: arena.zeros_like() for what, arena in self._arenas.items()}
        for tensors in (self.weights, self.moments):
            header(tensors)  # refuses what could not be read again, before a step is taken
        for copy in self._copies.values():
            copy.flat[:] = 0  # take the memory now, so that the first save does not wait for it
        self.tokenizer = tokenizer
        self.in_use = threading.Lock()
        self.step = -1  # -1: holds nothing that may be saved
        self.documents: dict[str, bytes] = {}

    def fill(self, config: dict[str, Any], state: dict[str, Any]) -> "Snapshot":
        """Copy all that `persist` needs.  Refuses weights or moments that are not finite."""
        with self.in_use:
            self.step = -1
            for what, arena in self._arenas.items():
                if not _copy_finite(self._copies[what].flat, arena.flat):
                    raise CheckpointError(
                        f"not saved: some {what} are not finite; resume from the last checkpoint"
                    )
            state = {"format": FORMAT, **state}
            self.documents = {CONFIG: json_bytes(config), STATE: json_bytes(state)}
            self.step = state["step"]
        return self

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """What model.safetensors holds."""
        return dict(self._copies["weights"])

    @property
    def moments(self) -> dict[str, np.ndarray]:
        """What optimizer.safetensors holds."""
        return by_moment(self._copies["first moments"], self._copies["second moments"])


def by_moment(first: Mapping[str, Value], second: Mapping[str, Value]) -> dict[str, Value]:
    """What belongs to each weight's first and second moment, by the names that optimizer.safetensors uses."""
    both = {"m1.": first, "m2.": second}
    return {prefix + name: value for prefix, values in both.items() for name, value in values.items()}


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
        remove_leftovers(run, LEFTOVERS)
        _write_beside(snap, target)
    except (OSError, TokenizerError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"cannot save {target}: {reason}; earlier checkpoints are intact") from error
    try:
        verify(target)
    except CheckpointError as error:
        with contextlib.suppress(OSError):
            storage.remove_directory(target)
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
            storage.remove_directory(target)
        storage.rename(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write(snap: Snapshot, directory: Path) -> None:
    files = {
        WEIGHTS: write_tensors(directory / WEIGHTS, snap.weights),
        MOMENTS: write_tensors(directory / MOMENTS, snap.moments),
    }
    for name, content in snap.documents.items():
        files[name] = storage.write_file(directory / name, [content])
    snap.tokenizer.save(directory / TOKENIZER)
    files[TOKENIZER] = storage.describe(directory / TOKENIZER)
    listed = {name: files[name]._asdict() for name in ALL_FILES}
    storage.write_file(directory / MANIFEST, [json_bytes({"format": FORMAT, "files": listed})])
    storage.sync_directory(directory)


def _prune(run: Path, step: int, keep: int, say: Say) -> None:
    """Remove checkpoints before this step, but for the newest, the best, and the newest to go back to.

    A damaged one counts as none of them; it goes once there are enough newer ones.
    """
    found = [(number, path) for number, path in checkpoints(run) if number <= step]
    states = {number: state for number, path in found if (state := _state(path)) is not None}
    losses = {number: loss for number, state in states.items() if (loss := held_out_loss(state)) is not None}
    newest = list(states)[:keep]
    best = min(losses, key=lambda number: (losses[number], number), default=None)
    calm = next((number for number, state in states.items() if is_calm(state)), None)
    for number, path in found:
        if len(newest) < keep or number >= newest[-1] or number in (best, calm):
            continue
        try:
            storage.remove_directory(path)
        except OSError as error:
            say(f"cannot remove the older checkpoint {path}: {error.strerror}")


def _state(checkpoint: Path) -> dict[str, Any] | None:
    """state.json of a checkpoint that looks whole: what it says is right, and every file has its size."""
    try:
        verify(checkpoint, (STATE,))
        return read_json(checkpoint / STATE)
    except CheckpointError:
        return None


def held_out_loss(state: dict[str, Any]) -> float | None:
    """The loss of the very step that a state is of, if it was measured then."""
    metrics = state.get("metrics")
    if not isinstance(metrics, dict) or metrics.get("val_step") != state.get("step"):
        return None
    loss = metrics.get("val_loss")
    return loss if isinstance(loss, float) else None


def is_calm(state: dict[str, Any]) -> bool:
    """Whether a run may go back to a state: no step was being skipped then."""
    setbacks = state.get("setbacks", {})
    return isinstance(setbacks, dict) and not setbacks.get("bad_steps")


# -------------------------------------------------------------------------------- find


def verify(path: Path, names: Iterable[str] = ALL_FILES) -> None:
    """Check every file's size, and the SHA-256 of the named ones, against the manifest."""
    files = _manifest(path)
    for name, entry in files.items():
        try:
            size = (path / name).stat().st_size
        except OSError as error:
            raise CheckpointError(f"{path / name}: {error.strerror}, but the manifest lists it") from error
        if size != entry["size"]:
            raise CheckpointError(f"{path / name}: {size} bytes, the manifest says {entry['size']}")
    for name in names:
        try:
            digest = storage.sha256_of(path / name)
        except OSError as error:
            raise CheckpointError(f"{path / name}: {error.strerror}") from error
        if digest != files[name]["sha256"]:
            raise CheckpointError(f"{path / name}: damaged or changed; its SHA-256 is not the manifest's")


def is_valid(path: Path) -> bool:
    """Whether a checkpoint is there and passes verification."""
    try:
        verify(path)
    except CheckpointError:
        return False
    return True


def _manifest(path: Path) -> dict[str, dict[str, Any]]:
    document = read_json(path / MANIFEST)
    if document.get("format") != FORMAT:
        got = document.get("format")
        raise CheckpointError(f"{path}: checkpoint format {got!r}, this microgpt reads {FORMAT}")
    files = document.get("files")
    if not isinstance(files, dict) or set(files) != set(ALL_FILES):
        raise CheckpointError(f"{path / MANIFEST}: does not list exactly {', '.join(ALL_FILES)}")
    for name, entry in files.items():
        kinds = [type(entry.get(key)) for key in ("size", "sha256")] if isinstance(entry, dict) else []
        if kinds != [int, str]:
            raise CheckpointError(f"{path / MANIFEST}: no size and SHA-256 of {name}")
    return files


def newest_valid(run: Path, names: Iterable[str] = ALL_FILES, say: Say = tell) -> Path:
    """The newest checkpoint of a run that passes `verify`; `say` hears about each newer one that does not."""
    for path in _valid(run, names, say):
        return path
    what = "no checkpoint in it can be used" if checkpoints(run) else "no checkpoint in it"
    raise CheckpointError(f"{run}: {what}; expected a run directory with step_... or one such checkpoint")


def newest_calm(run: Path, say: Say = tell) -> Path | None:
    """The checkpoint for a run to go back to: the newest valid one that no skipped steps led to.

    Returns:  without such a one, the newest valid one; None: there is none at all.
    """
    newest = None
    for path in _valid(run, ALL_FILES, say):
        newest = newest or path
        state = _state(path)
        if state is not None and is_calm(state):
            return path
    return newest


def _valid(run: Path, names: Iterable[str], say: Say) -> Iterator[Path]:
    """The checkpoints of a run that pass `verify`, newest first."""
    for _, path in checkpoints(run):
        try:
            verify(path, names)
        except CheckpointError as error:
            say(f"skipping a checkpoint: {error}")
        else:
            yield path


def expect_directory(place: Path, wanted: str = "a run (runs/NAME) or its checkpoint") -> None:
    """Refuse a path that is no directory."""
    if not place.is_dir():
        problem = "not a directory" if place.exists() else "no such directory"
        raise CheckpointError(f"{place}: {problem}; expected {wanted}")


def find_checkpoint(path: str | Path | None, names: Iterable[str] = ALL_FILES, say: Say = tell) -> Path:
    """The verified checkpoint that `path` stands for.

    A checkpoint directory stands for itself, a run directory for its newest valid checkpoint, None for the
    newest run.
    """
    place = newest_run() if path is None else Path(path)
    expect_directory(place)
    if is_checkpoint(place):
        verify(place, names)
        return place
    return newest_valid(place, names, say)


def is_checkpoint(place: Path) -> bool:
    """Whether a directory is, or was meant to be, a checkpoint rather than a run."""
    return (place / MANIFEST).exists() or STEP_NAME.fullmatch(place.name) is not None


# -------------------------------------------------------------------------------- load


def load_model(path: str | Path | None, say: Say = tell) -> tuple[GPT, Tokenizer, dict[str, Any]]:
    """Load a model for use from a run or checkpoint directory (`find_checkpoint`).

    Returns:  the model with its weights, its tokenizer, and state.json's content.
    """
    checkpoint = find_checkpoint(path, MODEL_FILES, say)
    config = ModelConfig.from_dict(read_config(checkpoint)["model"])
    tokenizer = checked_tokenizer(checkpoint, config)
    check_fit(checkpoint, config)
    model = GPT(config)
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
    check_shapes(path, shapes_in(path), {parameter.name: parameter.shape for parameter in table(config)})


def load_weights(checkpoint: Path, model: GPT) -> None:
    """Copy a verified checkpoint's weights into a model of the same shape."""
    read_into(checkpoint / WEIGHTS, model.params)


def load_moments(checkpoint: Path, adam: Adam) -> None:
    """Copy a verified checkpoint's moments into an optimizer of the same shape."""
    read_into(checkpoint / MOMENTS, by_moment(adam.m1, adam.m2))


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
