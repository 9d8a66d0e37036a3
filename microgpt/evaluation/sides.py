"""One of two models that are to be compared: measured on held-out text, document by document."""

from pathlib import Path

from microgpt.common.bars import progress_bar
from microgpt.model import GPT
from microgpt.runs.checkpoint import corpus_key
from microgpt.tokenizer import Tokenizer

from .held_out import HeldOut, score, windows_of
from .measure import context_policy
from .pairs import Side


def side_of(
    checkpoint: Path,
    model: GPT,
    tokenizer: Tokenizer,
    held_out: HeldOut,
    max_tokens: int | None,
    packing: str,
    stride: int | None,
    is_carried: bool,
) -> Side:
    """Measure the model of a checkpoint, with a bar on a terminal; see `windows_of`."""
    seq_len = model.config.seq_len
    windows = windows_of(held_out, tokenizer, seq_len, max_tokens, packing, stride, is_carried)
    with progress_bar("scoring", windows.n_windows, "window") as progress:
        documents = score(model, windows, progress.update).documents
    assert documents is not None
    policy = context_policy(packing, seq_len, stride, windows.n_stretches)
    return Side(str(checkpoint), documents, tokenizer.sha256, corpus_key(checkpoint), policy)
