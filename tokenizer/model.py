"""The tokenizer: merges and special tokens, and what follows from them."""

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from microgpt.tokenizer import file_format
from microgpt.tokenizer.alphabet import to_text
from microgpt.tokenizer.errors import TokenizerError
from microgpt.tokenizer.native import MAX_MERGES, Encoder
from microgpt.tokenizer.pieces import BLOCK_BYTES, Text, all_bytes, as_bytes, blocks, map_threads, pieces
from microgpt.tokenizer.streaming import StreamDecoder

SPECIALS = ("<|bos|>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>")

MAX_TOKEN_BYTES = 1 << 26  # of all tokens together: each may be twice as long as the one before

Ids = NDArray[np.int32]


class Tokenizer:
    """Text to ids and back.  Immutable; any number of threads may use one.

    Ids: the bytes 0..255, then merge i is 256+i, then the special tokens.  Any bytes come back exactly:
    decode(encode(x)) == x.
    """

    def __init__(self, merges: Iterable[Sequence[int]], specials: Sequence[str] = SPECIALS) -> None:
        self.merges = tuple((int(left), int(right)) for left, right in merges)
        self.specials = tuple(specials)
        words = _token_bytes(self.merges)
        _check_specials(self.specials, words)
        self.token_bytes: list[bytes] = words + [b""] * len(self.specials)
        self.byte_lengths = np.array([len(word) for word in self.token_bytes], np.int32)
        self.byte_lengths.flags.writeable = False
        self._special_ids = {name: len(words) + i for i, name in enumerate(self.specials)}
        self._encoder = Encoder(self.merges)

    def __repr__(self) -> str:
        return f"Tokenizer({len(self.merges)} merges, {len(self.specials)} specials, {self.sha256[:12]})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokenizer) and self.__reduce__() == other.__reduce__()

    def __hash__(self) -> int:
        return hash((self.merges, self.specials))

    def __reduce__(self) -> tuple[Any, ...]:
        return Tokenizer, (self.merges, self.specials)

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        return len(self.token_bytes)

    @cached_property
    def sha256(self) -> str:
        """Hash of the content: that of the file which `save` writes."""
        return hashlib.sha256(self._file_text().encode("utf-8")).hexdigest()

    def special_id(self, name: str) -> int:
        """Id of a special token."""
        try:
            return self._special_ids[name]
        except KeyError:
            known = " ".join(self.specials) or "none"
            raise TokenizerError(f"no special token {name!r} in this tokenizer; it has {known}") from None

    # ---- text to ids ----

    def encode(self, text: Text, specials: Collection[str] = ()) -> Ids:
        """Ids of a text, which never include special tokens but those named in `specials`."""
        if specials:
            return self._encode_with(text, specials)
        data = as_bytes(text)
        if len(data) <= BLOCK_BYTES:
            return self._encoder.encode(data, [len(data)])[0]
        return np.concatenate([self._encoder.encode(piece, [len(piece)])[0] for piece in pieces(data)])

    def encode_batch(self, texts: Iterable[Text], threads: int = 1) -> list[Ids]:
        """Ids of every text, in order, by several threads."""
        return list(self.encode_each(texts, threads))

    def encode_each(self, texts: Iterable[Text], threads: int = 1) -> Iterator[Ids]:
        """The same one after the other, so that neither the texts nor all ids need to be in memory."""
        refuse_one_text(texts)
        for arrays in map_threads(self._encode_block, blocks(texts), threads):
            yield from arrays

    def encode_packed(self, texts: Sequence[Text]) -> tuple[Ids, NDArray[np.int64]]:
        """Ids of all texts back to back, and how many belong to each."""
        refuse_one_text(texts)
        data = all_bytes(texts)
        return self._encoder.encode(b"".join(data), list(map(len, data)))

    def _encode_block(self, block: list[Text]) -> list[Ids]:
        """Ids of a few texts."""
        if len(block) == 1:
            return [self.encode(block[0])]
        ids, n_ids = self.encode_packed(block)
        ends = np.cumsum(n_ids).tolist()
        return [ids[start:end] for start, end in zip([0, *ends], ends, strict=False)]

    def _encode_with(self, text: Text, specials: Collection[str]) -> Ids:
        """Ids of a text in which some special tokens are read as such; where two match, the longer wins."""
        ids = {name.encode("utf-8"): self.special_id(name) for name in specials}
        pattern = b"|".join(re.escape(name) for name in sorted(ids, key=len, reverse=True))
        parts = re.split(b"(" + pattern + b")", bytes(as_bytes(text)))  # text, special, text, ..., text
        return np.concatenate(
            [np.array([ids[part]], np.int32) if k % 2 else self.encode(part) for k, part in enumerate(parts)]
        )

    # ---- ids to text ----

    def decode(self, ids: ArrayLike, show_specials: bool = False) -> bytes:
        """Bytes of a sequence of ids.  Special tokens give none, or their names if show_specials."""
        array = np.asarray(ids)
        if array.size == 0:
            return b""
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise TokenizerError(f"ids must be one row of integers, got {array.dtype} of shape {array.shape}")
        low, high = int(array.min()), int(array.max())
        if low < 0 or high >= self.vocab_size:
            wrong = low if low < 0 else high
            raise TokenizerError(f"id {wrong} is not in the vocabulary of {self.vocab_size}")
        words = self.token_bytes
        if show_specials:
            words = words[: 256 + len(self.merges)] + [name.encode("utf-8") for name in self.specials]
        return b"".join([words[i] for i in array.tolist()])

    def stream(self) -> StreamDecoder:
        """A decoder for ids that come one by one."""
        return StreamDecoder(self.token_bytes)

    # ---- files ----

    def _file_text(self) -> str:
        return file_format.to_json(self.merges, self.token_bytes, self.specials)

    def save(self, path: str | Path) -> None:
        """Write `tokenizer.json`, which Hugging Face `tokenizers` opens too."""
        file_format.write(path, self._file_text())

    def save_tiktoken(self, path: str | Path) -> None:
        """Write the rank file of `tiktoken`: bytes and merges; special tokens are no part of that format."""
        file_format.write(path, file_format.to_tiktoken(self.token_bytes[: 256 + len(self.merges)]))

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """Read a `tokenizer.json` of this layout, whoever wrote it."""
        merges, specials = file_format.read(path)
        try:
            return cls(merges, specials)
        except TokenizerError as error:
            raise TokenizerError(f"{path}: {error}") from error


def _token_bytes(merges: Sequence[tuple[int, int]]) -> list[bytes]:
    """The bytes of every id that is not special."""
    if len(merges) > MAX_MERGES:
        raise TokenizerError(f"{len(merges)} merges, at most {MAX_MERGES} are supported")
    words = [bytes([b]) for b in range(256)]
    known = set(words)
    room = MAX_TOKEN_BYTES
    for i, (left, right) in enumerate(merges):
        if not (0 <= left < 256 + i and 0 <= right < 256 + i):
            raise TokenizerError(f"merge {i} joins ids {left} and {right}; only 0..{255 + i} exist by then")
        room -= len(words[left]) + len(words[right])
        if room < 0:
            raise TokenizerError(f"merge {i}: the tokens up to here take more than {MAX_TOKEN_BYTES} bytes")
        words.append(words[left] + words[right])
        if words[-1] in known:
            raise TokenizerError(f"merge {i} makes a token that exists already: {words[-1][:40]!r}")
        known.add(words[-1])
    return words


def _check_specials(specials: Sequence[str], words: Sequence[bytes]) -> None:
    """Names that a file can hold: not empty, not twice, not spelt like an ordinary token."""
    taken = set(map(to_text, words))
    for name in specials:
        if not isinstance(name, str) or not name or not name.isprintable():
            raise TokenizerError(f"special token {name!r:.60}: must be text of printable characters")
        if name in taken:
            raise TokenizerError(f"special token {name!r:.60}: taken already; choose a form like <|name|>")
        taken.add(name)


def refuse_one_text(texts: object) -> None:
    """A text is a sequence too, of characters, but never meant as one where several are expected."""
    if isinstance(texts, Text):
        raise TokenizerError("expected a sequence of texts, got one text; write [text]")
