"""Probes of what a run is trained and measured on, of what belongs together, and of the disk."""

import math
import os
import tempfile
from pathlib import Path

import numpy as np

from microgpt.common.words import counted
from microgpt.corpus.prepared.fingerprints import fingerprints
from microgpt.corpus.token_file import TokenFile
from microgpt.files.tensors import read_into, write_tensors
from microgpt.model import GPT, IGNORED, Arena, Batch
from microgpt.model.parameters import Parameter
from microgpt.tokenizer import Tokenizer

from .finding import Finding

MOST_DUPLICATES = 0.5  # of held-out documents


def targets(batch: Batch) -> Finding:
    """Whether each target of a batch is the id that follows."""
    follows = batch.targets[:, :-1] == batch.ids[:, 1:]
    wrong = ~follows & (batch.targets[:, :-1] != IGNORED)
    if wrong.any():
        text = f"{wrong.mean():.0%} of targets are not the token that follows"
        return Finding("targets", False, text, "the shift in batches")
    if not follows.any():
        return Finding("targets", False, "no target is scored", "masks of targets, --prompt-loss-weight")
    return Finding("targets", True, "each target is the token that follows")


def duplicates(trained: np.ndarray, held_out: TokenFile) -> Finding:
    """How many held-out documents are in the training text as well, word for word.

    Args: trained: fingerprints of the documents that are trained on.
    """
    n = int(np.isin(fingerprints(held_out), trained).sum())
    share = n / held_out.n_documents
    text = (
        f"{n:,} of {counted(held_out.n_documents, 'held-out document')} are trained on as well ({share:.1%})"
    )
    look = "how the corpus is divided: no number measured on them means anything"
    return Finding("duplicates", share <= MOST_DUPLICATES, text, look)


def sizes(train: TokenFile, held_out: TokenFile) -> Finding:
    """Whether no more is held out than trained on."""
    text = f"{train.n_bytes:,} bytes to train on, {held_out.n_bytes:,} held out"
    look = "--held-out and --held-out-share, which may have exchanged the sides"
    return Finding("sizes", train.n_bytes >= held_out.n_bytes, text, look)


def agreement(model: GPT, tokenizer: Tokenizer, files: list[TokenFile]) -> Finding:
    """Whether model, tokenizer and token files belong together: sizes, hashes, and bytes counted again."""
    look = "the tokenizer beside the data, the tokenizer of the checkpoint"
    for file in files:
        if file.tokenizer_sha256 != tokenizer.sha256:
            text = f"{file.path.name} was made by another tokenizer ({file.tokenizer_sha256[:12]})"
            return Finding("tokenizer", False, text, look)
        if not model.config.vocab_size == tokenizer.vocab_size == file.vocab_size:
            V = f"{model.config.vocab_size:,}, {tokenizer.vocab_size:,} and {file.vocab_size:,}"
            return Finding("tokenizer", False, f"model, tokenizer and data have {V} tokens", look)
    n_bytes = sum(
        int(tokenizer.byte_lengths[files[-1].ids[first : first + (1 << 22)]].sum(dtype=np.int64))
        for first in range(0, files[-1].n_tokens, 1 << 22)
    )
    if n_bytes != files[-1].n_bytes:
        text = f"the tokens stand for {n_bytes:,} bytes, the text had {files[-1].n_bytes:,}"
        return Finding("tokenizer", False, text, look)
    return Finding("tokenizer", True, "model, tokenizer and data have the same tokens")


def saved(model: GPT, tokenizer: Tokenizer, folder: Path, most_bytes: float = math.inf) -> Finding:
    """Whether weights and tokenizer come back from the disk as they were, where checkpoints will lie.

    Args: most_bytes: of weights; what does not fit is left out.
    """
    if model.dtype != np.float32:
        return Finding("save", None, "checkpoints hold float32")
    chosen = fitting(model.params, most_bytes)
    try:
        with tempfile.TemporaryDirectory(prefix=".tmp_probe_", dir=folder) as place:
            stored = {p.name: model.params[p.name] for p in chosen}
            write_tensors(Path(place, "model.safetensors"), stored)
            tokenizer.save(Path(place, "tokenizer.json"))
            again = Arena(chosen)
            read_into(Path(place, "model.safetensors"), again)
            same = all(np.array_equal(_bits(again[name]), _bits(value)) for name, value in stored.items())
            same &= Tokenizer.load(Path(place, "tokenizer.json")).sha256 == tokenizer.sha256
    except OSError as error:
        return Finding("save", False, f"{folder}: {os.strerror(error.errno or 0)}", "room and rights there")
    text = "weights and tokenizer come back from the disk to the bit" if same else "they come back changed"
    return Finding("save", same, text, f"the disk of {folder}")


def fitting(arena: Arena, most_bytes: float) -> list[Parameter]:
    """Parameters that have no more bytes together, in order; those that do not fit are passed over."""
    chosen, n_bytes = [], 0
    for parameter in arena.in_flat:
        if n_bytes + arena[parameter.name].nbytes <= most_bytes:
            chosen.append(parameter)
            n_bytes += arena[parameter.name].nbytes
    return chosen


def _bits(values: np.ndarray) -> np.ndarray:
    """To compare even what is no number."""
    return values.reshape(-1).view(np.uint8)


def probe_data(train: TokenFile, held_out: TokenFile) -> list[Finding]:
    """Whether the held-out part can measure anything."""
    return [sizes(train, held_out), duplicates(fingerprints(train), held_out)]
