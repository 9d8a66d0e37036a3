"""Checkpoints: save a run so that any crash leaves the old or the new one; load only what proves to be whole.

    step_00001000/  model.safetensors  optimizer.safetensors  config.json  tokenizer.json  state.json
                    manifest.json

`snapshot` copies the state in memory; `persist` writes a snapshot and touches nothing else, so that it can
run beside training.  The manifest holds size and SHA-256 of the other files; it is written last, then the
directory gets its name.  Nothing is read before `verify` agreed with it.
"""

import contextlib
import dataclasses
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from microgpt.common.errors import CheckpointError
from microgpt.model import GPT, ModelConfig
from tokenizer import Tokenizer

from . import storage
from .optim import Adam
from .rundir import STEP_NAME, checkpoint_name, checkpoints, newest_run

FORMAT = 1
WEIGHTS, MOMENTS = "model.safetensors", "optimizer.safetensors"
CONFIG, TOKENIZER, STATE, MANIFEST = "config.json", "tokenizer.json", "state.json", "manifest.json"
ALL_FILES = (WEIGHTS, MOMENTS, CONFIG, TOKENIZER, STATE)
MODEL_FILES = (WEIGHTS, CONFIG, TOKENIZER, STATE)  # all that inference reads
LARGEST_JSON = 16 << 20  # bytes; ours are a few thousand

Say = Callable[[str], None]


def to_stderr(text: str) -> None:
    """The default way to tell a person about a skipped checkpoint."""
    print(f"microgpt: {text}", file=sys.stderr)


# -------------------------------------------------------------------------------- save


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A run at one step, sharing no memory with it."""

    step: int
    weights: dict[str, np.ndarray]
    moments: dict[str, np.ndarray]
    config: dict[str, Any]
    state: dict[str, Any]
    tokenizer: Tokenizer


def snapshot(
    model: GPT, adam: Adam, tokenizer: Tokenizer, config: dict[str, Any], state: dict[str, Any]
) -> Snapshot:
    """Copy all that `persist` needs.  Refuses weights or moments that are not finite."""
    for what, arena in (("weights", model.params), ("first moments", adam.m1), ("second moments", adam.m2)):
        if not np.isfinite(arena.flat).all():
            raise CheckpointError(f"not saved: some {what} are not finite; resume from the last checkpoint")
    moments = _copy(adam.m1, "m1.") | _copy(adam.m2, "m2.")
    state = {"format": FORMAT, **state}
    return Snapshot(state["step"], _copy(model.params), moments, config, state, tokenizer)


def _copy(arena: Any, prefix: str = "") -> dict[str, np.ndarray]:
    """Named arrays with the content of an arena."""
    copy = arena.zeros_like()
    copy.flat[:] = arena.flat
    return {prefix + name: view for name, view in copy.items()}


def persist(snap: Snapshot, run: Path, keep: int) -> Path:
    """Write a snapshot into a run directory; older checkpoints beyond `keep` go once it has been read back.

    Returns:  the checkpoint's path; it survives a power cut from now on.
    Raises:   CheckpointError: it could not be written; the older checkpoints are untouched.
    """
    target = run / checkpoint_name(snap.step)
    temporary = run / f".tmp_{target.name}_{os.getpid()}"
    try:
        temporary.mkdir()
        _write(snap, temporary)
        if target.exists():  # a damaged one that was skipped
            storage.remove_directory(target)
        storage.rename(temporary, target)
    except (OSError, safetensors.SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"cannot save {target}: {reason}; earlier checkpoints are intact") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    verify(target)
    _prune(run, snap.step, keep)
    return target


def _write(snap: Snapshot, directory: Path) -> None:
    storage.write_tensors(directory / WEIGHTS, snap.weights)
    storage.write_tensors(directory / MOMENTS, snap.moments)
    storage.write_bytes(directory / CONFIG, _json_bytes(snap.config))
    storage.write_bytes(directory / STATE, _json_bytes(snap.state))
    snap.tokenizer.save(directory / TOKENIZER)
    storage.sync_file(directory / TOKENIZER)
    files = {name: _describe(directory / name) for name in ALL_FILES}
    storage.write_bytes(directory / MANIFEST, _json_bytes({"format": FORMAT, "files": files}))
    storage.sync_directory(directory)


def _describe(path: Path) -> dict[str, Any]:
    return {"size": path.stat().st_size, "sha256": storage.sha256_of(path)}


def _json_bytes(document: dict[str, Any]) -> bytes:
    return (json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _prune(run: Path, step: int, keep: int) -> None:
    older = [path for number, path in checkpoints(run) if number < step]
    for path in older[keep - 1 :]:
        with contextlib.suppress(OSError):
            storage.remove_directory(path)


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


def newest_valid(run: Path, names: Iterable[str] = ALL_FILES, say: Say = to_stderr) -> Path:
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


def find_checkpoint(path: str | Path | None, names: Iterable[str] = ALL_FILES, say: Say = to_stderr) -> Path:
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


def load_model(path: str | Path | None, say: Say = to_stderr) -> tuple[GPT, Tokenizer, dict[str, Any]]:
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
    model = GPT(config)
    load_weights(checkpoint, model)
    return model, tokenizer, read_json(checkpoint / STATE)


def load_tokenizer(checkpoint: Path) -> Tokenizer:
    """The tokenizer a checkpoint was trained with."""
    return Tokenizer.load(checkpoint / TOKENIZER)


def load_weights(checkpoint: Path, model: GPT) -> None:
    """Copy a verified checkpoint's weights into a model of the same shape."""
    _fill(checkpoint / WEIGHTS, {"": model.params})


def load_moments(checkpoint: Path, adam: Adam) -> None:
    """Copy a verified checkpoint's moments into an optimizer of the same shape."""
    _fill(checkpoint / MOMENTS, {"m1.": adam.m1, "m2.": adam.m2})


def _fill(path: Path, arenas: dict[str, Any]) -> None:
    """Copy tensors into arenas, all or nothing: names, shapes and dtypes are compared first."""
    try:
        tensors = safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, OSError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error})") from error
    wanted = {prefix + name: view for prefix, arena in arenas.items() for name, view in arena.items()}
    for name in sorted(set(wanted) ^ set(tensors)):
        problem = "missing" if name in wanted else "not part of this model"
        raise CheckpointError(f"{path}: tensor {name} is {problem}")
    for name, view in wanted.items():
        got = tensors[name]
        if got.shape != view.shape or got.dtype != view.dtype:
            raise CheckpointError(
                f"{path}: {name} is {got.dtype} {got.shape}, this model needs {view.dtype} {view.shape}"
            )
    for name, view in wanted.items():
        view[...] = tensors[name]


def read_config(checkpoint: Path) -> dict[str, Any]:
    """config.json: the dictionaries `model`, `train` and `data`."""
    document = read_json(checkpoint / CONFIG)
    for part in ("model", "train", "data"):
        if not isinstance(document.get(part), dict):
            raise CheckpointError(f"{checkpoint / CONFIG}: no {part!r} section; microgpt train writes one")
    return document


def read_json(path: Path) -> dict[str, Any]:
    """A small JSON file that holds an object."""
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise CheckpointError(f"{path}: larger than {LARGEST_JSON >> 20} MB; not one of our files")
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(document, dict):
        raise CheckpointError(f"{path}: expected a JSON object, got {type(document).__name__}")
    return document
