"""The texts that taught a model: of its run, and of all runs that it goes on from."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from microgpt.common.errors import DataError
from microgpt.corpus.prepared.config import DataConfig
from microgpt.corpus.prepared.folder import Known, Prepared, is_prepared, open_prepared
from microgpt.corpus.prepared.make import find_kept, find_same
from microgpt.corpus.token_file import TokenFile
from microgpt.runs.checkpoint import corpus_key, read_config
from microgpt.runs.lineage import plans
from microgpt.runs.spec import Plan
from microgpt.tokenizer import Tokenizer

from .training_text import TrainingText


def text_that_taught(
    checkpoint: Path, tokenizer: Tokenizer, own: TokenFile | None = None
) -> TrainingText | None:
    """What a checkpoint was trained on, as it was prepared for that, its run's own text first, each text
    once; None: nothing of it is there any more.  What `teach` was told is not among it.

    Args: own: the text of its run, where it is open already.
    """
    line = list(plans(Plan.from_dict(read_config(checkpoint))))
    places = [checkpoint, *(Path(plan.parent.place) for plan in line if plan.parent)]
    found = {} if own is None else {own.path: own}
    is_all = line[-1].parent is None
    for place, plan in zip(places, line, strict=False):
        for text in _texts(place, plan.data, tokenizer, is_open=place == checkpoint and own is not None):
            if text is None:
                is_all = False
            else:
                found.setdefault(text.path, text)
    return TrainingText(list(found.values()), tokenizer, is_all) if found else None


def _texts(place: Path, data: DataConfig, tokenizer: Tokenizer, is_open: bool) -> Iterator[TokenFile | None]:
    """The corpus of a run, unless it is open, and the texts beside it; None for each that is gone."""
    if not is_open:
        known = Known(corpus_key(place), tokenizer)
        yield text_of_run(known, data.located(known))
    for beside in data.beside:
        yield _as_prepared(beside, tokenizer)


def text_of_run(known: Known, data: DataConfig) -> TokenFile | None:
    """What a run was trained on, as it was prepared for it; None: that is gone."""
    own = find_kept(known.key)
    if own is None and len(data.data) == 1 and is_prepared(Path(data.data[0])):
        with contextlib.suppress(DataError):
            own = open_prepared(Path(data.data[0]))
    if own is not None and _ids(own) == (known.key, known.tokenizer.sha256):
        return own.train
    return _as_prepared(data, known.tokenizer)


def _as_prepared(data: DataConfig, tokenizer: Tokenizer) -> TokenFile | None:
    """What is kept of a corpus with a tokenizer, under whatever key, if its sources are there."""
    if data.missing() is not None:
        return None
    with contextlib.suppress(DataError):
        if same := find_same(data.data, tokenizer, **data.how):
            return same.train
    return None


def _ids(prepared: Prepared) -> tuple[str, str]:
    return prepared.meta["key"], prepared.tokenizer.sha256
