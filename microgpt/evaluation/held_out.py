"""Held-out text: which it is for a checkpoint, and how well a model predicts it."""

import dataclasses
import os
import tempfile
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from microgpt.batches.batches import EvalWindows, eval_windows
from microgpt.batches.carried import EvalInOrder
from microgpt.common.errors import CheckpointError, ConfigError, DataError
from microgpt.common.flags import flag_name
from microgpt.corpus.prepared.config import DataConfig, is_corpus_of, prepared_again
from microgpt.corpus.prepared.corpus import SMALLTALK, source_names
from microgpt.corpus.prepared.fingerprints import fingerprints
from microgpt.corpus.prepared.folder import (
    Known,
    Prepared,
    description,
    is_prepared,
    refuse_settled,
)
from microgpt.corpus.prepared.make import prepare_held_out
from microgpt.corpus.prepared.split import HeldOutWanted
from microgpt.corpus.token_file import TokenFile
from microgpt.model import GPT
from microgpt.runs.checkpoint import corpus_key, read_config
from microgpt.runs.settings import TrainConfig
from microgpt.runs.trained_on import trained_documents
from microgpt.tokenizer import Tokenizer

from .loss import Evaluation, Observer, evaluate
from .taught import text_of_run

TOKENS_AT_ONCE = 4096  # of one batch: its activations stay small


class HeldOut(NamedTuple):
    """Text to measure on.  names: of its sources.  part: which part of them it is, for people.

    is_own: it is the held-out part of the run's corpus, and measured in whole, as in training.
    is_trained: of each document, whether the run was trained on it; None: that cannot be told.
    training: what the run was trained on; None: it is not there any more.
    """

    tokens: TokenFile
    names: list[str]
    part: str
    is_own: bool
    is_trained: np.ndarray | None
    training: TokenFile | None

    @property
    def n_trained(self) -> int:
        """How many of its documents were trained on, as far as that can be told."""
        return 0 if self.is_trained is None else int(self.is_trained.sum())

    @property
    def is_scored(self) -> np.ndarray | None:
        """Which documents are measured; None: all."""
        return None if self.is_own or not self.n_trained else ~self.is_trained  # type: ignore[operator]

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
    """What to measure on: the held-out part of the run's own corpus, or the files named.

    Its own corpus is known by its content, wherever it lies; of other files, documents that the run was
    trained on are not measured: only what it never saw is worth measuring.

    Args:     reading: fields of ReadOptions that are to be other than in training, for files named.
              root: where it is prepared; None: where training prepares, to be kept.
    Raises:   CheckpointError: its own corpus is not any more what it was trained on.
              DataError: the run was trained on every document of the files.
              ConfigError: `reading` is settled for the text to be measured on.
    """
    known = Known(corpus_key(checkpoint), tokenizer)
    data = DataConfig.from_dict(read_config(checkpoint)["data"]).located(known)
    names = sorted(set(map(_real, data.data if files is None else source_names(files))))
    refuse_settled(names, reading)
    named = data if files is None else dataclasses.replace(data, data=tuple(names))
    is_embedded = names == [SMALLTALK] and (files is not None or data.wanted == HeldOutWanted())
    if is_embedded or not (files is None or is_corpus_of(named, known)):
        return _other_text(checkpoint, known, data, names, threads, reading, root)
    if any(getattr(data.reading, name) != value for name, value in reading.items()):
        flags = ", ".join(map(flag_name, reading))
        raise ConfigError(f"{flags}: a run's own corpus is read as it was for training; leave it out")
    return _own_part(checkpoint, prepared_again(named, known, threads, root), known, names)


def _other_text(
    checkpoint: Path,
    known: Known,
    data: DataConfig,
    names: list[str],
    threads: int,
    reading: dict[str, Any],
    root: Path | None,
) -> HeldOut:
    """Text that is not the whole corpus of a run; of the embedded corpus its held-out part."""
    trained = trained_documents(checkpoint, known)
    if trained is None:
        _refuse_trained(_with_sources(names), _with_sources(sorted(set(map(_real, data.data)))))
    options = dataclasses.replace(data.reading, **reading)
    how: dict[str, Any] = {"smalltalk_bytes": data.smalltalk_bytes, "threads": threads, "root": root}
    tokens = prepare_held_out(names, known.tokenizer, options=options, **how)
    is_trained = None if trained is None else np.isin(fingerprints(tokens), trained)
    if is_trained is not None and is_trained.all():
        raise DataError(
            f"{' '.join(names)}: the run was trained on every document of it; without --data the held-out "
            "part of its corpus is measured, or name text that it never saw"
        )
    return HeldOut(tokens, names, _part(names), names == [SMALLTALK], is_trained, text_of_run(known, data))


def _own_part(checkpoint: Path, prepared: Prepared, known: Known, names: list[str]) -> HeldOut:
    """The held-out part of what should be a run's own corpus."""
    if (known.key, known.tokenizer.sha256) != (prepared.meta["key"], prepared.tokenizer.sha256):
        raise CheckpointError(
            f"{checkpoint}: the corpus is not any more what it was trained on, so no part of it is held out; "
            "restore the files or name others with --data"
        )
    trained = trained_documents(checkpoint, known, prepared)
    is_trained = None if trained is None else np.isin(fingerprints(prepared.val), trained)
    return HeldOut(prepared.val, names, "the held-out part", True, is_trained, prepared.train)


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


def carries_state(checkpoint: Path) -> bool:
    """Whether recurrent layers of the run that made a checkpoint carry on from window to window."""
    return TrainConfig.from_dict(read_config(checkpoint)["train"]).carry_state


def refuse_long_stride(stride: int | None, seq_len: int) -> None:
    """Raises: ConfigError: windows that slide by so many tokens would leave some out, or stand still."""
    if stride is not None and not 1 <= stride <= seq_len:
        raise ConfigError(f"--stride {stride}: expected 1 to {seq_len}, the window of the model")


def windows_of(
    held_out: HeldOut,
    tokenizer: Tokenizer,
    seq_len: int,
    max_tokens: int | None,
    packing: str,
    stride: int | None = None,
    is_carried: bool = False,
) -> EvalWindows:
    """The windows to score: all, or evenly spread ones of about max_tokens.

    Args:   is_carried: they follow on each other, so that recurrent layers carry on what they remember.
    Raises: ConfigError: stride is no step within a window.  DataError: nothing is left to score.
    """
    refuse_long_stride(stride, seq_len)
    if stride is not None and is_carried:
        raise ConfigError(
            f"--stride {stride}: windows follow on each other, as the run had them with --carry-state; leave "
            "the stride out, or say --no-carry-state"
        )
    how = held_out.tokens, seq_len, tokenizer.byte_lengths, max_tokens, packing, held_out.is_scored
    windows = EvalInOrder(*how) if is_carried else eval_windows(*how, stride)
    if not windows.n_tokens:
        raise DataError(f"--max-tokens {max_tokens}: all of that was trained on; give more, or other text")
    return windows


def score(
    model: GPT,
    windows: EvalWindows,
    progress: Callable[[int], Any] = lambda n: None,
    observers: Sequence[Observer] = (),
) -> Evaluation:
    """Loss and bits per byte; `progress` hears the number of windows done after each batch."""
    batch_size = max(1, TOKENS_AT_ONCE // windows.seq_len)
    measured = evaluate(model, windows, batch_size, progress=progress, observers=observers)
    assert measured is not None, "nothing can stop it"
    return measured
