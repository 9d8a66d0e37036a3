"""Other byte-level BPE tokenizers with the GPT-2 pattern, for comparison, as far as they are installed.

Before a peer is timed it must do the same work: learn the same tokens of a text, or give the same ids.
"""

import importlib.util
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from microgpt.common.errors import DataError, MicrogptError
from microgpt.tokenizer import Tokenizer, train
from microgpt.tokenizer.alphabet import to_text

PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""

# No two pairs of it are ever equally frequent: what is learned depends on the pattern only.
UNTIED, UNTIED_MERGES = "11111111\n" * 3 + "aaaa\n" * 2 + "    \n", 6
SAMPLE_LINES = 1000


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
    ours = train([UNTIED], UNTIED_MERGES, specials=()).token_bytes[256:]
    found: dict[str, Callable[[], object]] = {}
    if _has("rustbpe"):
        ranks = _train_rustbpe([UNTIED], UNTIED_MERGES).get_mergeable_ranks()
        words = [bytes(word) for word, _ in sorted(ranks, key=lambda row: row[1])]
        _check_same("rustbpe", words[256:], ours)
        found["rustbpe"] = lambda: _train_rustbpe_on(file, merges)
    if _has("tokenizers"):
        vocabulary = _train_hugging_face(None, UNTIED_MERGES).get_vocab()
        learned = sorted(vocabulary, key=lambda word: vocabulary[word])[256:]
        _check_same("tokenizers", learned, list(map(to_text, ours)))
        found["tokenizers"] = lambda: _train_hugging_face(file, merges)
    return found


def encoders(tokenizer: Tokenizer, lines: Sequence[str]) -> dict[str, Callable[[], object]]:
    """What encodes lines with the merges of `tokenizer`, one thread, by package."""
    found: dict[str, Callable[[], object]] = {}
    sample = lines[:: max(1, len(lines) // SAMPLE_LINES)]
    ours = [ids.tolist() for ids in tokenizer.encode_batch(sample)]
    if _has("tiktoken"):
        tiktoken = _tiktoken(tokenizer)
        _check_same("tiktoken", tiktoken.encode_ordinary_batch(sample), ours)
        found["tiktoken"] = lambda: [tiktoken.encode_ordinary(line) for line in lines]
    if _has("tokenizers"):
        hugging_face = _hugging_face(tokenizer)
        _check_same("tokenizers", [hugging_face.encode(line).ids for line in sample], ours)
        found["tokenizers"] = lambda: [hugging_face.encode(line).ids for line in lines]
    return found


def _check_same(package: str, theirs: list[Any], ours: list[Any]) -> None:
    """Refuse to time a peer that does other work than we do; the answers are compared one by one."""
    if theirs != ours:
        same = [one == other for one, other in zip(theirs, ours, strict=False)]
        place = same.index(False) if False in same else len(same)
        raise MicrogptError(f"{package} does not answer as we do (sample {place}), so it is not timed")


def _train_rustbpe_on(file: Path, merges: int) -> None:
    with open(file, encoding="utf-8", errors="replace") as lines:
        _train_rustbpe(lines, merges)


def _train_rustbpe(lines: Iterable[str], merges: int) -> Any:
    import rustbpe

    peer = rustbpe.Tokenizer()
    peer.train_from_iterator(lines, vocab_size=256 + merges, pattern=PATTERN)  # its own is that of GPT-4
    return peer


def _train_hugging_face(file: Path | None, merges: int) -> Any:
    """Learn from a file, or from UNTIED."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    peer = Tokenizer(models.BPE())
    peer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=256 + merges, initial_alphabet=alphabet, show_progress=False)
    if file is None:
        peer.train_from_iterator([UNTIED], trainer)
    else:
        peer.train([str(file)], trainer)
    return peer


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
