"""Held-out text: which it is for a checkpoint, and how well a model predicts it."""

import dataclasses
import os
import tempfile
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from microgpt.common.errors import CheckpointError, ConfigError, DataError
from microgpt.common.flags import flag_name
from microgpt.corpus.batches import EvalWindows, eval_windows
from microgpt.corpus.corpora import SMALLTALK, source_names
from microgpt.corpus.prepare import prepare, prepare_held_out
from microgpt.corpus.prepared import description, is_prepared, refuse_settled
from microgpt.corpus.token_file import TokenFile
from microgpt.model import GPT
from microgpt.tokenizer import Tokenizer
from microgpt.training.checkpoint import STATE, read_config, read_json
from microgpt.training.config import TrainConfig
from microgpt.training.data import DataConfig
from microgpt.training.evaluate import Evaluation, evaluate

TOKENS_AT_ONCE = 4096  # of one batch: its activations stay small


class HeldOut(NamedTuple):
    """Text to measure on.  names: of its sources.  part: which part of them it is, for people."""

    tokens: TokenFile
    names: list[str]
    part: str

    @property
    def has_exam(self) -> bool:
        """Whether the embedded corpus, which brings its own questions, is in it."""
        return SMALLTALK in self.names


def held_out_text(
    checkpoint: Path,
    tokenizer: Tokenizer,
    files: Sequence[str] | None,
    threads: int,
    reading: dict[str, Any],
    *,
    root: Path | None = None,
) -> HeldOut:
    """What to measure on: the files named, in whole, or the held-out part of the run's own corpus.

    All files that the run was trained on count as its own corpus: only what it never saw is worth measuring.

    Args:     reading: fields of ReadOptions that are to be other than in training, for files named.
              root: where it is prepared; None: where training prepares, to be kept.
    Raises:   CheckpointError: its own corpus is not any more what it was trained on.
              DataError: the files are a part of what it was trained on.
              ConfigError: `reading` is settled for the text to be measured on.
    """
    data = DataConfig.from_dict(read_config(checkpoint)["data"])
    own = sorted(set(map(_real, data.data)))
    names = own if files is None else sorted(set(map(_real, source_names(files))))
    refuse_settled(names, reading)
    options = dataclasses.replace(data.reading, **reading)
    how: dict[str, Any] = {
        "options": options, "smalltalk_bytes": data.smalltalk_bytes, "threads": threads, "root": root,
    }  # fmt: skip
    if names != own or names == [SMALLTALK]:
        _refuse_trained(_with_sources(names), _with_sources(own))
        return HeldOut(prepare_held_out(names, tokenizer, **how), names, _part(names))
    if options != data.reading:
        flags = ", ".join(map(flag_name, reading))
        raise ConfigError(f"{flags}: a run's own corpus is read as it was for training; leave it out")
    prepared = prepare(data.data, merges=data.merges, **how)
    before = (read_json(checkpoint / STATE).get("corpus"), tokenizer.sha256)
    if before != (prepared.meta["key"], prepared.tokenizer.sha256):
        raise CheckpointError(
            f"{checkpoint}: the corpus is not any more what it was trained on, so no part of it is held out; "
            "restore the files or name others with --data"
        )
    return HeldOut(prepared.val, names, "the held-out part")


def text_to_measure(*args: Any) -> HeldOut:
    """`held_out_text`, for the moment only where nothing can be kept: measuring changes no folder."""
    try:
        return held_out_text(*args)
    except DataError as error:
        if not isinstance(error.__cause__, OSError):
            raise
    with tempfile.TemporaryDirectory(prefix="microgpt-eval-") as root:  # the files stay open when it goes
        return held_out_text(*args, root=Path(root))


def _real(name: str | os.PathLike) -> str:
    return SMALLTALK if str(name) == SMALLTALK else os.path.realpath(name)


def _with_sources(names: Sequence[str]) -> list[str]:
    """The names and what the prepared corpora among them were made of."""
    folders = [Path(name) for name in names if is_prepared(Path(name))]
    return [*names, *(_real(name) for folder in folders for name in description(folder)["sources"])]


def _refuse_trained(names: Sequence[str], own: Sequence[str]) -> None:
    """Refuse files and folders that hold or lie in something a run was trained on."""
    for name, trained in product(names, own):
        if SMALLTALK not in (name, trained) and os.path.commonpath([name, trained]) in (name, trained):
            raise DataError(
                f"{name}: the run was trained on {trained}; without --data the held-out part of its corpus "
                "is measured, or name text that it never saw"
            )


def _part(names: Sequence[str]) -> str:
    """What `prepare_held_out` takes of a corpus."""
    if SMALLTALK not in names:
        return "the held-out part" if is_prepared(Path(names[0])) else "all of it"
    return "the held-out part" if len(names) == 1 else "all of it, of smalltalk the held-out part"


def packing_of(checkpoint: Path) -> str:
    """How the run that made a checkpoint packed its windows."""
    return TrainConfig.from_dict(read_config(checkpoint)["train"]).packing


def windows_of(
    held_out: HeldOut, tokenizer: Tokenizer, seq_len: int, max_tokens: int | None, packing: str
) -> EvalWindows:
    """The windows to score: all, or evenly spread ones of about max_tokens."""
    return eval_windows(held_out.tokens, seq_len, tokenizer.byte_lengths, max_tokens, packing)


def score(model: GPT, windows: EvalWindows, progress: Callable[[int], Any] = lambda n: None) -> Evaluation:
    """Loss and bits per byte; `progress` hears the number of windows done after each batch."""
    batch_size = max(1, TOKENS_AT_ONCE // windows.seq_len)
    measured = evaluate(model, windows, batch_size, progress=progress)
    assert measured is not None, "nothing can stop it"
    return measured
