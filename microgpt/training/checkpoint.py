"""Checkpoints: save a run so that any crash leaves the old or the new one; load only what proves to be whole.

    step_00001000/  model.safetensors  optimizer.safetensors  config.json  tokenizer.json  state.json
                    manifest.json

A Snapshot copies the state in memory; `persist` writes a snapshot and touches nothing else, so that it can
run beside training.  The manifest holds size and SHA-256 of the other files; it is written last, then the
directory gets its name.  Nothing is read before `verify` agreed with it.
"""

import os
import shutil
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from microgpt.common.errors import CheckpointError
from microgpt.common.output import tell
from microgpt.model import GPT, ModelConfig
from microgpt.model.parameters import table
from tokenizer import Tokenizer, TokenizerError

from . import storage
from .documents import json_bytes, read_json
from .optim import Adam
from .rundir import STEP_NAME, checkpoint_name, checkpoints, newest_run, remove_leftovers
from .tensors import check_shapes, read_into, shapes_in, write_tensors

FORMAT = 1
WEIGHTS, MOMENTS = "model.safetensors", "optimizer.safetensors"
CONFIG, TOKENIZER, STATE, MANIFEST = "config.json", "tokenizer.json", "state.json", "manifest.json"
ALL_FILES = (WEIGHTS, MOMENTS, CONFIG, TOKENIZER, STATE)
MODEL_FILES = (WEIGHTS, CONFIG, TOKENIZER, STATE)  # all that inference reads
LEFTOVERS = ".tmp_[sr]*"  # .tmp_step_... and .tmp_removed_...
COPY_ITEMS = 1 << 16  # a piece of an arena that is copied, then checked while it is in the cache

Say = Callable[[str], None]


# -------------------------------------------------------------------------------- save


class Snapshot:
    """A run at one step, in memory of its own that is taken once and filled again for each save.

    `in_use` is held while somebody writes from that memory; `fill` waits for it.
    """

    def __init__(self, model: GPT, adam: Adam, tokenizer: Tokenizer) -> None:
        self._arenas = {"weights": model.params, "first moments": adam.m1, "second moments": adam.m2}
        self._copies = {what: arena.zeros_like() for what, arena in self._arenas.items()}
        for copy in self._copies.values():
            copy.flat[:] = 0  # take the memory now, so that the first save does not wait for it
        self.tokenizer = tokenizer
        self.in_use = threading.Lock()
        self.step: int | None = None  # None: holds nothing that may be saved
        self.documents: dict[str, bytes] = {}

    def fill(self, config: dict[str, Any], state: dict[str, Any]) -> "Snapshot":
        """Copy all that `persist` needs.  Refuses weights or moments that are not finite."""
        with self.in_use:
            self.step = None
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
        both = {"m1.": self._copies["first moments"], "m2.": self._copies["second moments"]}
        return {prefix + name: view for prefix, copy in both.items() for name, view in copy.items()}


def snapshot(
    model: GPT, adam: Adam, tokenizer: Tokenizer, config: dict[str, Any], state: dict[str, Any]
) -> Snapshot:
    """A snapshot for one save only."""
    return Snapshot(model, adam, tokenizer).fill(config, state)


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

    The newest `keep` stay, and the best by held-out loss; `say` hears about one that cannot be removed.

    Returns:  the checkpoint's path; it survives a power cut from now on.
    Raises:   CheckpointError: it could not be written; the older checkpoints are untouched.
    """
    if snap.step is None:
        raise CheckpointError("not saved: the snapshot holds no finite state")
    target = run / checkpoint_name(snap.step)
    try:
        remove_leftovers(run, LEFTOVERS)
        if is_valid(target):
            storage.sync_directory(run)
        else:
            _write_beside(snap, target)
    except (OSError, TokenizerError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"cannot save {target}: {reason}; earlier checkpoints are intact") from error
    try:
        verify(target)
    except CheckpointError as error:
        raise CheckpointError(f"not saved, what was written reads back wrong: {error}") from error
    _prune(run, snap.step, keep, say)
    return target


def _write_beside(snap: Snapshot, target: Path) -> None:
    """Write a checkpoint under another name and move it to its own; a damaged one that has it goes."""
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
    """Remove checkpoints before this step, but for the newest and the best."""
    found = [path for number, path in checkpoints(run) if number <= step]
    losses = {path: loss for path in found if (loss := held_out_loss(path)) is not None}
    best = min(losses, key=lambda path: (losses[path], path.name), default=None)
    for path in found[keep:]:
        if path == best:
            continue
        try:
            storage.remove_directory(path)
        except OSError as error:
            say(f"cannot remove the older checkpoint {path}: {error.strerror}")


def held_out_loss(checkpoint: Path) -> float | None:
    """The loss that a checkpoint's state recorded, if any."""
    try:
        metrics = read_json(checkpoint / STATE).get("metrics")
    except CheckpointError:
        return None
    loss = metrics.get("val_loss") if isinstance(metrics, dict) else None
    return loss if isinstance(loss, float) else None


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
    found = checkpoints(run)
    for _, path in found:
        try:
            verify(path, names)
            return path
        except CheckpointError as error:
            say(f"skipping a damaged checkpoint: {error}")
    what = "every checkpoint is damaged" if found else "no checkpoint in it"
    raise CheckpointError(f"{run}: {what}; expected a run directory with step_... or one such checkpoint")


def find_checkpoint(path: str | Path | None, names: Iterable[str] = ALL_FILES, say: Say = tell) -> Path:
    """The verified checkpoint that `path` stands for.

    A checkpoint directory stands for itself, a run directory for its newest valid checkpoint, None for the
    newest run.
    """
    place = newest_run() if path is None else Path(path)
    if not place.is_dir():
        raise CheckpointError(f"{place}: no such directory; expected a run (runs/NAME) or its checkpoint")
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
    tokenizer = load_tokenizer(checkpoint)
    config = ModelConfig.from_dict(read_config(checkpoint)["model"])
    if config.vocab_size != tokenizer.vocab_size:
        raise CheckpointError(
            f"{checkpoint}: the model has {config.vocab_size} tokens, its tokenizer {tokenizer.vocab_size}"
        )
    check_fit(checkpoint, config)
    model = GPT(config)
    load_weights(checkpoint, model)
    return model, tokenizer, read_json(checkpoint / STATE)


def load_tokenizer(checkpoint: Path) -> Tokenizer:
    """The tokenizer a checkpoint was trained with."""
    return Tokenizer.load(checkpoint / TOKENIZER)


def check_fit(checkpoint: Path, config: ModelConfig) -> None:
    """Refuse a model config that is not that of the weights, before memory is taken for the model."""
    path = checkpoint / WEIGHTS
    check_shapes(path, shapes_in(path), {parameter.name: parameter.shape for parameter in table(config)})


def load_weights(checkpoint: Path, model: GPT) -> None:
    """Copy a verified checkpoint's weights into a model of the same shape."""
    read_into(checkpoint / WEIGHTS, model.params)


def load_moments(checkpoint: Path, adam: Adam) -> None:
    """Copy a verified checkpoint's moments into an optimizer of the same shape."""
    both = {"m1.": adam.m1, "m2.": adam.m2}
    read_into(
        checkpoint / MOMENTS,
        {prefix + name: view for prefix, arena in both.items() for name, view in arena.items()},
    )


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
