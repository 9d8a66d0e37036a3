"""C against the reference: the same chunks, counts, merges and ids."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microgpt.tokenizer import TokenizerError, native, reference
from tests.tokenizer import texts as bpe_texts

TEXTS = st.one_of(
    st.binary(max_size=60),
    st.text(max_size=40).map(lambda s: s.encode("utf-8", "surrogatepass")),
    st.text("ab '\n", max_size=60).map(str.encode),
)
# Few letters and no spaces, so that chunks are long and pairs overlap.
CORPORA = st.lists(st.one_of(TEXTS, st.text("ab", max_size=200).map(str.encode)), max_size=6)


def split(text):
    ends = native.split(text)
    return [text[i:j] for i, j in zip([0, *ends], ends, strict=False)]


def count(texts):
    counter = native.Counter(7)
    counter.add(b"".join(texts), [len(text) for text in texts])
    return counter


def train(texts, n_merges, step=5):
    trainer = native.Trainer(count(texts), n_merges)
    merges = []
    while new := trainer.step(step):
        merges += new
    return merges


@given(TEXTS)
@settings(max_examples=150)
def test_split(text):
    assert split(text) == reference.split(text)


def test_split_of_nasty_texts():
    rng = random.Random(1)
    for _ in range(2000):
        text = bpe_texts.broken(rng, rng.randrange(12))
        assert split(text) == reference.split(text), text


def test_a_thread_keeps_little_room():
    work = native.Workspace()
    kept = work.room(2_000_000)
    assert work.room(5) is kept and len(work.room(3_000_000)) == 3_000_000
    assert work.room(5) is kept and kept.nbytes <= 8 << 20


@given(TEXTS.filter(len), st.integers(0, 70))
@settings(max_examples=100)
def test_a_safe_cut_changes_no_chunk(text, at):
    cut = native.safe_cut(text, at)
    assert 0 < cut <= len(text)
    assert reference.split(text[:cut]) + reference.split(text[cut:]) == reference.split(text)


def test_safe_cut_is_near():
    text = b"one two  three " * 10
    for at in range(4, len(text)):
        assert at - 6 <= native.safe_cut(text, at) <= at
    assert native.safe_cut(b"aaaa b", 2) == 4
    assert native.safe_cut(b"aaaa", 2) == 4
    text = "ab\u3000 c".encode()
    assert native.safe_cut(text, 5) == len(text)  # not inside white space: nowhere


@given(CORPORA)
@settings(max_examples=50)
def test_counts(texts):
    wanted = Counter(chunk for text in texts for chunk in reference.split(text) if len(chunk) > 1)
    assert dict(count(texts).items()) == wanted


def test_counters_add_up():
    texts = [text.encode() for text in bpe_texts.languages(200)]
    whole, left, right = count(texts), count(texts[:70]), count(texts[70:])
    left.merge(right)
    assert dict(left.items()) == dict(whole.items())
    assert len(left) == len(whole)


@given(CORPORA, st.integers(0, 60))
@settings(max_examples=60)
def test_train(texts, n_merges):
    assert train(texts, n_merges) == reference.train(texts, n_merges)


def test_train_on_long_runs_and_repeats():
    rng = random.Random(3)
    for alphabet in (b"a", b"ab", b"abc"):
        for n in (1, 2, 3, 50, 400):
            texts = [bytes(rng.choices(alphabet, k=n)) for _ in range(3)] + [b"ab" * n, b"aab" * n]
            assert train(texts, 200) == reference.train(texts, 200), (alphabet, n)


def test_train_on_real_text():
    texts = [text.encode() for text in [*bpe_texts.languages(30), *bpe_texts.code()[:1]]]
    assert train(texts, 150, step=1000) == reference.train(texts, 150)


@given(CORPORA, CORPORA)
@settings(max_examples=100)
def test_encode(corpus, texts):
    merges = reference.train(corpus, 40)
    ids, n_ids = native.Encoder(merges).encode(b"".join(texts), [len(text) for text in texts])
    wanted = [reference.encode(text, merges) for text in texts]
    assert ids.tolist() == [i for one in wanted for i in one]
    assert n_ids.tolist() == [len(one) for one in wanted]


@pytest.mark.parametrize("length", [*range(1, 30), 63, 64, 65, 66, 200])
def test_encode_chunks_of_every_length(length):
    """Around the borders between the cache, short merging and long merging, first seen and seen again."""
    rng = random.Random(length)
    merges = reference.train([bytes(rng.choices(b"abcd", k=300))], 60)
    encoder = native.Encoder(merges)
    for _ in range(20):
        chunk = bytes(rng.choices(b"abcd", k=length))
        for text in (chunk, chunk, b" " + chunk):
            assert encoder.encode(text, [len(text)])[0].tolist() == reference.encode(text, merges)


def test_a_cached_chunk_is_not_taken_for_its_neighbour():
    """Equal up to zero bytes, or to the length."""
    encoder = native.Encoder([(0, 0), (256, 0)])
    for text in (b"\0", b"\0\0", b"\0\0\0", b"\0\0\0\0", b"\0\0", b"\0"):
        assert encoder.encode(text, [len(text)])[0].tolist() == reference.encode(text, [(0, 0), (256, 0)])


@pytest.mark.parametrize("merges", [[(256, 1)], [(-1, 1)], [(1, 2), (1, 2)], [(1, 2), (3, 257)]])
def test_encoder_refuses_bad_merges(merges):
    with pytest.raises(TokenizerError, match="merges"):
        native.Encoder(merges)


def test_encoder_refuses_tokens_longer_than_it_can_count():
    with pytest.raises(TokenizerError, match="too large"):
        native.Encoder([(97, 97)] + [(256 + i, 256 + i) for i in range(31)])
