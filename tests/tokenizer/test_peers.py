"""Against implementations that nobody here wrote: `tokenizers` and `tiktoken`.

TOKENIZER_STRINGS=1000000 makes the comparison of ids as long as you like.
"""

import base64
import json
import os
import random
import re
import unicodedata

import pytest

from microgpt.tokenizer import SPECIALS, Tokenizer, train
from microgpt.tokenizer.alphabet import to_bytes
from tests.tokenizer import texts as bpe_texts

pytestmark = pytest.mark.oracle("tokenizers", "tiktoken")

N_STRINGS = int(os.environ.get("TOKENIZER_STRINGS", "10000"))
GPT2 = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""

CORPORA = {
    "english": bpe_texts.english(),
    "code": bpe_texts.code(),
    "languages": bpe_texts.languages(400),
    "nasty": [bpe_texts.nasty(random.Random(i), 200) for i in range(30)],
    "two letters": ["".join(random.Random(i).choices("ab ", [5, 5, 1], k=400)) for i in range(20)],
}


@pytest.fixture(scope="module")
def hf():
    import tokenizers

    return tokenizers


@pytest.fixture(scope="module")
def strings():
    """Nasty texts, pieces of natural text, and special tokens spelt out; nothing newer than our Unicode."""
    rng = random.Random(11)
    natural = "".join(bpe_texts.english() + bpe_texts.code() + bpe_texts.languages(300))
    texts = []
    while len(texts) < N_STRINGS:
        start = rng.randrange(len(natural))
        texts.append(bpe_texts.nasty(rng, rng.randrange(16)) + natural[start : start + rng.randrange(30)])
    return [text for text in texts if all(unicodedata.category(c) != "Cn" for c in text)]


def plain(hf, path):
    """A tokenizer of `tokenizers` that reads special tokens in text as text, as ours does."""
    other = hf.Tokenizer.from_file(str(path))
    other.encode_special_tokens = True
    return other


@pytest.mark.parametrize("name", CORPORA)
def test_merges_are_those_of_hugging_face(name, hf):
    other = hf.Tokenizer(hf.models.BPE())
    other.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = hf.pre_tokenizers.ByteLevel.alphabet()
    other.train_from_iterator(
        CORPORA[name],
        hf.trainers.BpeTrainer(vocab_size=256 + 1500, initial_alphabet=alphabet, show_progress=False),
    )
    theirs = [tuple(map(to_bytes, pair)) for pair in json.loads(other.to_str())["model"]["merges"]]
    ours = train(CORPORA[name], 1500)
    assert [(ours.token_bytes[a], ours.token_bytes[b]) for a, b in ours.merges] == theirs
    assert len(theirs) > 200


def test_single_digits_are_those_of_hugging_face(hf):
    """Of numbers behind one space: theirs leaves more spaces than one in one chunk."""
    english = [re.sub(r"\d", "", text) for text in bpe_texts.english()]
    texts = [*english, *(f"In {i} it was {i * 7}, {i}th of {i / 7}." for i in range(2000))]
    other = hf.Tokenizer(hf.models.BPE())
    digits, by_bytes = hf.pre_tokenizers.Digits(individual_digits=True), hf.pre_tokenizers.ByteLevel
    other.pre_tokenizer = hf.pre_tokenizers.Sequence([digits, by_bytes(add_prefix_space=False)])
    other.train_from_iterator(
        texts,
        hf.trainers.BpeTrainer(
            vocab_size=256 + 500, initial_alphabet=by_bytes.alphabet(), show_progress=False
        ),
    )
    theirs = [tuple(map(to_bytes, pair)) for pair in json.loads(other.to_str())["model"]["merges"]]
    ours = train(texts, 500, single_digits=True)
    assert [(ours.token_bytes[a], ours.token_bytes[b]) for a, b in ours.merges] == theirs


def test_tokenizers_opens_our_file(tok, hf, tmp_path):
    tok.save(tmp_path / "t.json")
    other = plain(hf, tmp_path / "t.json")
    assert other.get_vocab_size() == tok.vocab_size
    assert [other.token_to_id(name) for name in SPECIALS] == [tok.special_id(name) for name in SPECIALS]
    text = "".join(bpe_texts.english())
    ids = tok.encode(text).tolist()
    assert other.encode(text).ids == ids and other.decode(ids) == text


def test_same_ids_as_tokenizers(tok, hf, strings, tmp_path):
    tok.save(tmp_path / "t.json")
    other = plain(hf, tmp_path / "t.json")
    theirs = other.encode_batch(strings)
    for text, encoding, ours in zip(strings, theirs, tok.encode_batch(strings), strict=True):
        assert encoding.ids == ours.tolist(), text


def test_same_specials_as_tokenizers(tok, hf, strings, tmp_path):
    tok.save(tmp_path / "t.json")
    other = hf.Tokenizer.from_file(str(tmp_path / "t.json"))
    for text in strings[:2000]:
        text = text[:9] + "<|user|>" + text[9:] + "<|end|><|bos|> <|bos|"
        assert other.encode(text).ids == tok.encode(text, specials=SPECIALS).tolist()


def test_a_file_that_tokenizers_wrote_is_read(tok, hf, tmp_path):
    tok.save(tmp_path / "t.json")
    hf.Tokenizer.from_file(str(tmp_path / "t.json")).save(str(tmp_path / "theirs.json"))
    assert Tokenizer.load(tmp_path / "theirs.json") == tok


def test_same_ids_as_tiktoken(tok, strings, tmp_path):
    import tiktoken

    tok.save_tiktoken(tmp_path / "ranks")
    lines = [line.split() for line in (tmp_path / "ranks").read_bytes().splitlines()]
    ranks = {base64.b64decode(token): int(rank) for token, rank in lines}
    other = tiktoken.Encoding("ours", pat_str=GPT2, mergeable_ranks=ranks, special_tokens={})
    theirs = other.encode_ordinary_batch(strings)
    for text, ids, ours in zip(strings, theirs, tok.encode_batch(strings), strict=True):
        assert ids == ours.tolist(), text
