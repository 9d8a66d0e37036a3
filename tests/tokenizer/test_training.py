"""Training as a whole: the result depends on the documents and on nothing else."""

import random

import pytest

from microgpt.tokenizer import Tokenizer, TokenizerError, reference, train
from tests.tokenizer import texts as bpe_texts

DOCUMENTS = [*bpe_texts.languages(150), *bpe_texts.code()]


@pytest.fixture(scope="module")
def expected():
    return train(DOCUMENTS, 500)


def test_a_small_corpus_against_the_reference():
    texts = bpe_texts.languages(20)
    assert train(texts, 80).merges == tuple(reference.train([text.encode() for text in texts], 80))


def test_single_digits_stay_apart():
    texts = [*bpe_texts.languages(20), "In 1999 there were 1999 of 19.5, 4x4 or 12th; ²3⁄₄." * 9]
    apart = train(texts, 300, single_digits=True)
    assert apart.merges == tuple(reference.train([text.encode() for text in texts], 300, single_digits=True))
    assert apart.merges != train(texts, 300).merges
    assert not [word for word in apart.token_bytes if len(word) > 1 and set(word) & set(b"0123456789")]
    assert [apart.token_bytes[i] for i in apart.encode(" 1999")] == [b" ", b"1", b"9", b"9", b"9"]


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("block_bytes", [1, 300, 1 << 20])
def test_threads_and_chunking_do_not_matter(threads, block_bytes, expected, monkeypatch):
    monkeypatch.setattr("microgpt.tokenizer.pieces.BLOCK_BYTES", block_bytes)
    documents = DOCUMENTS if block_bytes > 1 else DOCUMENTS[:10]
    wanted = expected if block_bytes > 1 else train(documents, 500)
    assert train(documents, 500, threads=threads) == wanted


def test_neither_do_order_kind_and_source(expected):
    documents = [text.encode() for text in DOCUMENTS]
    random.Random(1).shuffle(documents)
    assert train((bytearray(text) for text in documents), 500) == expected


def test_fewer_merges_extend_to_more(expected):
    assert train(DOCUMENTS, 100).merges == expected.merges[:100]


def test_nothing_to_learn():
    for documents in ([], [""], ["a", "b", " "]):
        assert train(documents, 10).merges == ()
    assert train(["abab"], 0).merges == ()
    assert len(train(["abab"], 100).merges) == 2


def test_a_megabyte_of_one_letter():
    tokenizer = train(["a" * 1_000_000], 100)
    assert max(map(len, tokenizer.token_bytes)) == 1_000_000
    assert tokenizer.decode(tokenizer.encode("a" * 999_999)) == b"a" * 999_999


def test_progress_is_told():
    calls = []
    train(DOCUMENTS, 100, progress=lambda *call: calls.append(call))
    size = sum(len(text.encode()) for text in DOCUMENTS)
    assert ("count", size, None) in calls
    assert calls[-1] == ("merge", 100, 100)
    merges = [done for stage, done, _ in calls if stage == "merge"]
    assert merges == sorted(merges) and len(merges) > 3


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("stage", ["count", "merge"])
def test_an_interrupt_gets_out(threads, stage):
    def progress(now, done, total):
        if now == stage:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(DOCUMENTS, 500, threads=threads, progress=progress)


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_of_the_source_gets_out(threads):
    def documents():
        yield "abc"
        raise OSError("disk gone")

    with pytest.raises(OSError, match="disk gone"):
        train(documents(), 10, threads=threads)


@pytest.mark.parametrize(
    "arguments, word",
    [
        ({"documents": "text"}, "one text"),
        ({"documents": [1]}, "str or bytes"),
        ({"threads": 0}, "threads"),
        ({"n_merges": -1}, "n_merges"),
        ({"n_merges": 2**30}, "n_merges"),
        ({"specials": ["a"]}, "taken"),
        ({"specials": ["ab"]}, "taken"),
    ],
)
def test_bad_arguments_are_refused(arguments, word):
    with pytest.raises(TokenizerError, match=word):
        train(**{"documents": ["ab ab"]} | arguments)


def test_specials_are_those_asked_for():
    assert train(["ab"], 1, specials=["<s>"]).specials == ("<s>",)
    assert train(["ab"], 1, specials=()) == Tokenizer([(97, 98)], ())
