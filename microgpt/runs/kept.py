"""The checkpoints that a run keeps: which are whole, which is the best, which one a name means.

A name that a person types is a path, or else that of a run below runs/; what follows an @ chooses one of
the checkpoints that are kept:

  mine   runs/mine   runs/mine/step_00001000      a run, or one checkpoint of it
  mine@best   mine@newest   mine@1000             by held-out loss, by age, by step
  @best                                           of the run that saved last
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from microgpt.common.errors import CheckpointError
from microgpt.common.output import tell
from microgpt.files import durable
from microgpt.files.records import read_json
from microgpt.tokenizer import Tokenizer

from .layout import RUNS, STEP_NAME, checkpoints, newest_run

FORMAT = 1
WEIGHTS, MOMENTS = "model.safetensors", "optimizer.safetensors"
MEMORY = "memory.safetensors"  # only of runs that carry on what layers remember
CONFIG, TOKENIZER, STATE, MANIFEST = "config.json", "tokenizer.json", "state.json", "manifest.json"
ALL_FILES = (WEIGHTS, MOMENTS, CONFIG, TOKENIZER, STATE)  # that every checkpoint has
MODEL_FILES = (WEIGHTS, CONFIG, TOKENIZER, STATE)  # all that inference reads

BRANCH = "branch_of"  # in config.json: the checkpoint of another run that this one went on from

BEST, NEWEST = "best", "newest"
CLEARLY_WORSE = 1.01  # times the loss of the best: chat and sample take that one instead of the newest
WANTED = "a run (runs/NAME) or its checkpoint"

Say = Callable[[str], None]


# -------------------------------------------------------------------------------- one checkpoint


def verify(path: Path, names: Iterable[str] | None = None) -> None:
    """Check every file's size, and the SHA-256 of the named ones, None: of all, against the manifest."""
    files = _manifest(path)
    for name, entry in files.items():
        try:
            size = (path / name).stat().st_size
        except OSError as error:
            raise CheckpointError(f"{path / name}: {error.strerror}, but the manifest lists it") from error
        if size != entry["size"]:
            raise CheckpointError(f"{path / name}: {size} bytes, the manifest says {entry['size']}")
    for name in files if names is None else names:
        try:
            digest = durable.sha256_of(path / name)
        except OSError as error:
            raise CheckpointError(f"{path / name}: {error.strerror}") from error
        if digest != files[name]["sha256"]:
            raise CheckpointError(f"{path / name}: damaged or changed; its SHA-256 is not the manifest's")


def weights_sha256(path: Path) -> str:
    """The SHA-256 of a checkpoint's weights, once they agree with it."""
    verify(path, (WEIGHTS,))
    return str(_manifest(path)[WEIGHTS]["sha256"])


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
    if not isinstance(files, dict) or set(files) - {MEMORY} != set(ALL_FILES):
        raise CheckpointError(f"{path / MANIFEST}: does not list exactly {', '.join(ALL_FILES)}")
    for name, entry in files.items():
        kinds = [type(entry.get(key)) for key in ("size", "sha256")] if isinstance(entry, dict) else []
        if kinds != [int, str]:
            raise CheckpointError(f"{path / MANIFEST}: no size and SHA-256 of {name}")
    return files


def is_checkpoint(place: Path) -> bool:
    """Whether a directory is, or was meant to be, a checkpoint rather than a run."""
    return (place / MANIFEST).exists() or STEP_NAME.fullmatch(place.name) is not None


def held_out_loss(state: dict[str, Any]) -> float | None:
    """The loss of the very step that a state is of, if it was measured then."""
    return _measured(state, "val_loss") if _metrics(state).get("val_step") == state.get("step") else None


def is_calm(state: dict[str, Any]) -> bool:
    """Whether a run may go back to a state: no step was being skipped then."""
    setbacks = state.get("setbacks", {})
    return isinstance(setbacks, dict) and not setbacks.get("bad_steps")


def _metrics(state: dict[str, Any]) -> dict[str, Any]:
    metrics = state.get("metrics")
    return metrics if isinstance(metrics, dict) else {}


def _measured(state: dict[str, Any], name: str) -> float | None:
    value = _metrics(state).get(name)
    return value if isinstance(value, float) else None  # "nan" and "inf" are text in JSON


# -------------------------------------------------------------------------------- those of a run


class Kept(NamedTuple):
    """A checkpoint that looks whole, and what its state.json says."""

    step: int
    path: Path
    state: dict[str, Any]

    @property
    def loss(self) -> float | None:
        """Held-out loss of this very step, if it was measured."""
        return held_out_loss(self.state)

    @property
    def last_loss(self) -> float | None:
        """Held-out loss as it was measured last, at this step or before."""
        return _measured(self.state, "val_loss")

    @property
    def last_bpb(self) -> float | None:
        """The same in bits per byte of text."""
        return _measured(self.state, "val_bpb")

    @property
    def measured_at(self) -> int | None:
        """The step at which held-out text was measured last."""
        step = _metrics(self.state).get("val_step")
        return step if isinstance(step, int) else None


def kept(run: Path) -> list[Kept]:
    """The checkpoints of a run whose files have their sizes and whose state.json is right, newest first."""
    return [Kept(step, path, state) for step, path in checkpoints(run) if (state := _state(path)) is not None]


def _state(checkpoint: Path) -> dict[str, Any] | None:
    """state.json of a checkpoint that looks whole: what it says is right, and every file has its size."""
    try:
        verify(checkpoint, (STATE,))
        return read_json(checkpoint / STATE)
    except CheckpointError:
        return None


def origin_of(config: dict[str, Any]) -> str | None:
    """Where a run came from that was not begun from nothing, in words, by the config.json of it."""
    if config.get(BRANCH):
        return f"went on from {config[BRANCH]}"
    parent = config.get("parent")
    return f"began with the weights of {parent['place']}" if parent else None


def best_of(those: Iterable[Kept]) -> Kept | None:
    """The one of least held-out loss, the oldest of equals; None: not one was measured at its step."""
    losses = [(one.loss, one.step, one) for one in those if one.loss is not None]
    return min(losses, key=lambda item: item[:2])[2] if losses else None


def better_than(checkpoint: Path) -> Kept | None:
    """What its run keeps that is better on held-out text than a checkpoint; None: nothing is known to be."""
    those = kept(checkpoint.parent)
    mine = next((one for one in those if one.path.name == checkpoint.name), None)
    best = best_of(those)
    if mine is None or best is None or best is mine or best.loss is None or mine.last_loss is None:
        return None
    return best if best.loss < mine.last_loss else None


def newest_valid(run: Path, names: Iterable[str] | None = None, say: Say = tell) -> Path:
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
    for path in _valid(run, None, say):
        newest = newest or path
        state = _state(path)
        if state is not None and is_calm(state):
            return path
    return newest


def _valid(run: Path, names: Iterable[str] | None, say: Say) -> Iterator[Path]:
    """The checkpoints of a run that pass `verify`, newest first."""
    for _, path in checkpoints(run):
        try:
            verify(path, names)
        except CheckpointError as error:
            say(f"skipping a checkpoint: {error}")
        else:
            yield path


# -------------------------------------------------------------------------------- by name


def place_of(name: str | Path | None, wanted: str = WANTED) -> Path:
    """The run or checkpoint that a name means, unverified; None means the run that saved last.

    Raises:  CheckpointError: there is no such place, or no such checkpoint in it.
    """
    if name is None:
        return newest_run()
    place = _named(Path(name))
    run, at, which = str(name).rpartition("@")
    if at and "/" not in which and not place.exists():
        return _chosen(place_of(run or None), which)
    if not place.is_dir():
        problem = "not a directory" if place.exists() else "no such directory"
        raise CheckpointError(f"{place}: {problem}; expected {wanted}; `microgpt runs` lists the runs")
    return place


def _named(path: Path) -> Path:
    """A path, or what is called so below runs/; of two that exist, the one that holds a model."""
    found = [place for place in (path, RUNS / path) if place.exists()]
    return next((place for place in found if is_checkpoint(place) or checkpoints(place)), (*found, path)[0])


def _chosen(run: Path, which: str) -> Path:
    """The checkpoint of a run that what follows the @ chooses."""
    if is_checkpoint(run):
        raise CheckpointError(f"{run}: a checkpoint already; leave @{which} out or name its run")
    if which == NEWEST:
        return newest_valid(run)
    those = kept(run)
    best = best_of(those)
    if which == BEST and best is not None:
        return best.path
    digits = which.replace(",", "")
    step = int(digits) if digits.isascii() and digits.isdigit() else None
    for one in those:
        if one.step == step:
            return one.path
    raise CheckpointError(f"{run}@{which}: {_missing(which, step)}; kept are {_listed(those, best)}")


def _missing(which: str, step: int | None) -> str:
    if which == BEST:
        return "none of its checkpoints was measured on held-out text"
    return f"expected @{BEST}, @{NEWEST} or @STEP" if step is None else f"no checkpoint of step {step:,}"


def _listed(those: list[Kept], best: Kept | None) -> str:
    """`@20, @10 (best)`."""
    words = [f"@{one.step}" + (f" ({BEST})" if one is best else "") for one in those]
    return ", ".join(words) or "none"


def find_checkpoint(
    name: str | Path | None, names: Iterable[str] | None = None, say: Say = tell, best: bool = False
) -> Path:
    """The verified checkpoint that a name means; of a run the newest valid one.

    Args:  best: of a run, take the best on held-out text where the newest is clearly worse.
    """
    place = place_of(name)
    if is_checkpoint(place):
        verify(place, names)
        return place
    newest = newest_valid(place, names, say)
    return _best_if_clear(newest, names, say) if best else newest


def _best_if_clear(newest: Path, names: Iterable[str] | None, say: Say) -> Path:
    """The best of a run if its newest is clearly worse as measured last, and the best can be used."""
    better = better_than(newest)
    last = next((one.last_loss for one in kept(newest.parent) if one.path == newest), None)
    if better is None or better.loss is None or last is None or last <= CLEARLY_WORSE * better.loss:
        return newest
    try:
        verify(better.path, names)
    except CheckpointError as error:
        say(f"skipping the best checkpoint: {error}")
        return newest
    return better.path


def tokenizer_named(name: str) -> Tokenizer:
    """The tokenizer that a name means: a file, or that of a prepared corpus, a checkpoint or a run.

    Raises:  CheckpointError: there is no such place, or what lies there cannot be looked at.
    """
    wanted = f"a {TOKENIZER}, a prepared corpus, or a run"
    try:
        return Tokenizer.load(_tokenizer_file(Path(name), wanted))
    except OSError as error:  # such as a name that is too long
        raise CheckpointError(f"{name}: {error.strerror}; expected {wanted}") from error


def _tokenizer_file(place: Path, wanted: str) -> Path:
    """Where the tokenizer of a place lies, which may be that file."""
    if place.is_file() or place == Path(TOKENIZER):
        return place
    folder = place.parent if place.name == TOKENIZER else place  # RUN/tokenizer.json lies in its checkpoints
    if not (folder / TOKENIZER).exists():
        folder = find_checkpoint(place_of(str(folder), wanted), (TOKENIZER,))
    return folder / TOKENIZER


def choice_notes(checkpoint: Path) -> list[str]:
    """What speaks for another checkpoint of its run: a better one is kept, or one that is newer but worse."""
    run, those = checkpoint.parent, kept(checkpoint.parent)
    if better := better_than(checkpoint):
        bpb = f", {better.last_bpb:.3f} bits per byte" if better.last_bpb is not None else ""
        return [f"better on held-out text: step {better.step:,}{bpb}; {run}@best takes it"]
    best = best_of(those)
    is_best = best is not None and best.path.name == checkpoint.name
    if is_best and better_than(those[0].path):
        bpb = f", {those[0].last_bpb:.3f} bits per byte" if those[0].last_bpb is not None else ""
        return [f"newer but worse on held-out text: step {those[0].step:,}{bpb}; {run}@newest takes it"]
    return []
