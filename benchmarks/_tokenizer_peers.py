"""Other byte-level BPE tokenizers with the GPT-2 pattern, for comparison, as far as they are installed."""

import importlib.util
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from microgpt.common.errors import DataError
from tokenizer import Tokenizer
from tokenizer.alphabet import to_text

PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""

os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")


def _has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def trainers(file: Path, merges: int) -> dict[str, Callable[[], object]]:
    """What learns `merges` merges from a file, by package.

    Raises:   DataError: the file is not UTF-8, which Hugging Face's trainer does not read.
    """
    try:
        with open(file, encoding="utf-8") as lines:
            for _ in lines:
                pass
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: {error}; --peers needs UTF-8") from None
    found: dict[str, Callable[[], object]] = {}
    if _has("rustbpe"):
        found["rustbpe"] = lambda: _train_rustbpe(file, merges)
    if _has("tokenizers"):
        found["tokenizers"] = lambda: _train_hugging_face(file, merges)
    return found


def encoders(tokenizer: Tokenizer, lines: Sequence[str]) -> dict[str, Callable[[], object]]:
    """What encodes lines with the merges of `tokenizer`, one thread, by package."""
    found: dict[str, Callable[[], object]] = {}
    if _has("tiktoken"):
        tiktoken = _tiktoken(tokenizer)
        found["tiktoken"] = lambda: [tiktoken.encode_ordinary(line) for line in lines]
    if _has("tokenizers"):
        hugging_face = _hugging_face(tokenizer)
        found["tokenizers"] = lambda: [hugging_face.encode(line).ids for line in lines]
    return found


def _train_rustbpe(file: Path, merges: int) -> None:
    import rustbpe

    with open(file, encoding="utf-8", errors="replace") as lines:
        rustbpe.Tokenizer().train_from_iterator(lines, vocab_size=256 + merges)


def _train_hugging_face(file: Path, merges: int) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    peer = Tokenizer(models.BPE())
    peer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    peer.train([str(file)], trainers.BpeTrainer(
        vocab_size=256 + merges, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    ))  # fmt: skip


def _hugging_face(tokenizer: Tokenizer) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = [to_text(word) for word in tokenizer.token_bytes[: 256 + len(tokenizer.merges)]]
    pairs = [(words[left], words[right]) for left, right in tokenizer.merges]
    peer = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, pairs))
    peer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return peer


def _tiktoken(tokenizer: Tokenizer) -> Any:
    import tiktoken

    ranks = {word: i for i, word in enumerate(tokenizer.token_bytes[: 256 + len(tokenizer.merges)])}
    return tiktoken.Encoding("peer", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})
