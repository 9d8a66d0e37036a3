"""What fuzzing does with the trainer and the encoder: cases, and what must hold for each.

A case is JSON, its bytes written as the characters U+0000 to U+00FF.
"""

import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from microgpt.tokenizer import Tokenizer, TokenizerError, model, native, pieces, reference, train

from . import texts

Merges = list[tuple[int, int]]

SMALL_BYTES = 800  # what the reference trains on in a few milliseconds
HUGE_BYTES = 300_000


# ---- cases -----------------------------------------------------------------------------------------------


def make_trainer_case(rng: random.Random) -> bytes:
    """Texts, how many merges to learn, and in how many parts and threads."""
    huge = rng.random() < 0.004
    largest = HUGE_BYTES if huge else SMALL_BYTES // 2 if rng.random() < 0.9 else 20_000
    documents = [texts.text(rng, largest) for _ in range(rng.randrange(5))]
    if rng.random() < 0.2:
        documents *= rng.randrange(2, 6)
    return _packed(texts=documents, n_merges=texts.size(rng, 400 if huge else 40), **_work(rng, huge))


def make_encoder_case(rng: random.Random) -> bytes:
    """Merges, learnt or not, and texts, some of which the merges come from."""
    huge = rng.random() < 0.004
    largest = HUGE_BYTES if huge else 200 if rng.random() < 0.9 else 2000
    documents = [texts.text(rng, largest) for _ in range(rng.randrange(1, 6))]
    source = [document[:300] for document in documents[: rng.randrange(len(documents) + 1)]]
    merges = random_merges(rng, source, texts.size(rng, 60))
    if rng.random() < 0.1:
        merges = _with_foreign(rng, merges)
    if rng.random() < 0.3:
        documents += documents[:2]  # a second time: from the cache
    return _packed(texts=documents, merges=merges, **_work(rng, huge))


def _work(rng: random.Random, huge: bool) -> dict[str, int]:
    """How the work is cut up."""
    block = texts.size(rng, 1 << 16 if huge else 64) + 1000 * huge
    return {"block": max(block, 1), "threads": rng.choice([1, 1, 2, 3]), "step": rng.randrange(1, 9)}


def random_merges(rng: random.Random, source: Sequence[bytes], n: int) -> Merges:
    """Merges as training makes them, but of any pair rather than the most frequent one."""
    chunks = {chunk[:60] for document in source for chunk in reference.split(document)}
    words = [list(chunk) for chunk in sorted(chunks)]
    merges: Merges = []
    while len(merges) < n and (words := [word for word in words if len(word) > 1]):
        word = rng.choice(words)
        i = rng.randrange(len(word) - 1)
        merges.append((word[i], word[i + 1]))
        words = [reference.merge(word, merges[-1], 255 + len(merges)) for word in words]
    return merges


def _with_foreign(rng: random.Random, merges: Merges) -> Merges:
    """Merges with pairs at the end that no text asked for; a token may come twice, a pair may not."""
    made = list(merges)
    for _ in range(rng.randrange(1, 20)):
        pair = rng.randrange(97, 256 + len(made)), rng.randrange(97, 256 + len(made))
        made += [pair] if pair not in made else []
    return made


def _packed(texts: Sequence[bytes], **numbers: Any) -> bytes:
    return json.dumps({"texts": [text.decode("latin-1") for text in texts], **numbers}).encode()


def _unpacked(data: bytes) -> Any:
    case = json.loads(data)
    case["texts"] = [text.encode("latin-1") for text in case["texts"]]
    case["merges"] = [(left, right) for left, right in case.get("merges", [])]
    return case


# ---- the trainer -----------------------------------------------------------------------------------------


def check_trainer(data: bytes) -> None:
    """The reference's merges and counts, however the work is cut up."""
    case = _unpacked(data)
    documents, n_merges = case["texts"], case["n_merges"]
    counter = _counted(documents)
    wanted = _learnt(counter, n_merges, max(n_merges, 1))
    if sum(map(len, documents)) <= SMALL_BYTES:
        chunks = Counter(chunk for text in documents for chunk in reference.split(text) if len(chunk) > 1)
        _same("counts", dict(counter.items()), chunks)
        _same("merges", wanted, reference.train(documents, n_merges))
    _same("merges by steps", _learnt(counter, n_merges, case["step"]), wanted)
    halves = _counted(documents[::2]), _counted(documents[1::2])
    halves[0].merge(halves[1])
    _same("merges of two counters", _learnt(halves[0], n_merges, case["step"]), wanted)
    with _blocks_of(case["block"]):
        made = train(documents[::-1], n_merges, threads=case["threads"])
    _same("merges by blocks and threads", list(made.merges), wanted)


def _counted(documents: Sequence[bytes]) -> native.Counter:
    counter = native.Counter(len(documents))
    counter.add(_exact(b"".join(documents)), [len(document) for document in documents])
    return counter


def _learnt(counter: native.Counter, n_merges: int, step: int) -> Merges:
    trainer = native.Trainer(counter, n_merges)
    merges: Merges = []
    while new := trainer.step(step):
        merges += new
    return merges


# ---- the encoder -----------------------------------------------------------------------------------------


def check_encoder(data: bytes) -> None:
    """The reference's chunks and ids, all texts back exactly, however the work is cut up."""
    case = _unpacked(data)
    documents, merges = case["texts"], case["merges"]
    encoder = native.Encoder(merges)
    alone = [encoder.encode(_exact(text), [len(text)])[0].tolist() for text in documents]
    if max(map(len, documents)) <= 5000:
        _same("ids", alone, [reference.encode(text, merges) for text in documents])
        for text in documents:
            _check_split(text, case["block"])
    for _ in range(2):
        ids, n_ids = encoder.encode(_exact(b"".join(documents)), [len(text) for text in documents])
        ends = np.cumsum(n_ids).tolist()
        parts = [ids[start:end].tolist() for start, end in zip([0, *ends], ends, strict=False)]
        _same("ids of a batch", [*parts, len(ids)], [*alone, sum(map(len, alone))])
    try:
        tokenizer = Tokenizer(merges, ["<|end|>"])
    except TokenizerError:
        return  # merges that make a token twice, which only the C half takes
    with _blocks_of(case["block"]):
        batch = [ids.tolist() for ids in tokenizer.encode_batch(documents, case["threads"])]
        _same("ids by blocks and threads", batch, alone)
    for text, found in zip(documents, alone, strict=True):
        _check_decoding(tokenizer, text, found)


def _check_split(text: bytes, at: int) -> None:
    """The reference's chunks, also of the two parts at a safe cut."""
    chunks = reference.split(text)
    _same("chunks", _chunks(text), chunks)
    if text:
        cut = native.safe_cut(_exact(text), at)
        _same("a cut in the text", 0 < cut <= len(text), True)
        _same("chunks of two parts", _chunks(text[:cut]) + _chunks(text[cut:]), chunks)


def _chunks(text: bytes) -> list[bytes]:
    ends = native.split(_exact(text))
    return [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _check_decoding(tokenizer: Tokenizer, text: bytes, ids: list[int]) -> None:
    """The text again: at once, id by id, and where special tokens are read as such."""
    _same("decoded text", tokenizer.decode(ids), text)
    stream = tokenizer.stream()
    streamed = "".join(map(stream.push, ids)) + stream.flush()
    _same("streamed text", streamed, text.decode("utf-8", "replace"))
    special = tokenizer.encode(text, ["<|end|>"])
    _same("text with specials", tokenizer.decode(special, show_specials=True), text)
    _same("number of specials", special.tolist().count(tokenizer.vocab_size - 1), text.count(b"<|end|>"))


# ---- both ------------------------------------------------------------------------------------------------


def _exact(data: bytes) -> memoryview:
    """A copy that ends where the data ends: `bytes` hold a zero more, which would hide a read beyond."""
    return np.frombuffer(data, np.uint8).copy().data


@contextmanager
def _blocks_of(n: int) -> Iterator[None]:
    """Work in units of about n bytes instead of a megabyte."""
    before = pieces.BLOCK_BYTES
    pieces.BLOCK_BYTES = model.BLOCK_BYTES = n
    try:
        yield
    finally:
        pieces.BLOCK_BYTES = model.BLOCK_BYTES = before


def _same(what: str, got: object, wanted: object) -> None:
    if got != wanted:
        raise AssertionError(f"{what}: got {got!r:.200}, expected {wanted!r:.200}")
