"""N-gram baselines: against their formula in a few lines, against NLTK, and whatever the text is cut into."""

import math
from collections import Counter, defaultdict

import numpy as np
import pytest

from microgpt.corpus.token_file import TokenFile, write_token_file
from microgpt.evaluation import ngrams
from microgpt.evaluation.loss import Scored
from microgpt.evaluation.ngrams import Baselines, NGrams, count_tokens, estimated_discount, sample

V = 9


class Plain:
    vocab_size, sha256 = V, "00" * 32
    byte_lengths = np.ones(V, np.int32)


def documents(n, seed, length=12):
    """A text in which what follows depends on the two tokens before."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(n):
        ids = [0]
        for _ in range(int(rng.integers(1, length))):
            like = (3 * ids[-1] + 5 * (ids[-2] if len(ids) > 1 else 0) + 1) % (V - 1)
            ids.append(like if rng.random() < 0.6 else int(rng.integers(V - 1)))  # the last token never comes
        made.append(ids)
    return made


def ids_of(documents):
    """Documents back to back, and where each begins."""
    lengths = np.array([len(document) for document in documents])
    is_first = np.zeros(lengths.sum(), bool)
    is_first[np.cumsum(lengths) - lengths] = True
    return np.concatenate(documents), is_first


def told(document, i, length):
    """The n-gram that ends at token i; what lies before the document has an id of its own."""
    return tuple(([-1] * length + document)[i + 1 : i + 1 + length])


class Formula:
    """Interpolated Kneser-Ney as the module's docstring says it, by dictionaries."""

    def __init__(self, training, order, D):
        self.order, self.D = order, D
        grams = {n: [told(d, i, n) for d in training for i in range(len(d))] for n in range(1, order + 1)}
        self.c = {order: Counter(grams[order])}
        for n in range(1, order):
            self.c[n] = Counter(gram[1:] for gram in set(grams[n + 1]))
        self.by_context = {n: defaultdict(list) for n in self.c}
        for n, counts in self.c.items():
            for gram, count in counts.items():
                self.by_context[n][gram[:-1]].append(count)

    def p(self, gram):
        n = len(gram)
        if n == 1:
            return (self.c[1][gram] + 1) / (sum(self.c[1].values()) + V)
        shorter, counts = self.p(gram[1:]), self.by_context[n].get(gram[:-1])
        if not counts:
            return shorter
        D = self.D or estimated_discount(np.array(list(self.c[n].values())))
        return (max(self.c[n][gram] - D, 0) + D * len(counts) * shorter) / sum(counts)


@pytest.mark.parametrize("discount", [None, 0.4])
def test_bigram_and_5_gram_are_the_formula(discount):
    training, text = documents(60, 0), [*documents(20, 1), [8, 8, 1]]
    found = NGrams(*ids_of(training), V, discount=discount).nats(*ids_of(text))
    for order, name in ((2, "bigram"), (5, "5-gram")):
        formula = Formula(training, order, discount)
        wanted = [-math.log(formula.p(told(d, i, order))) for d in text for i in range(len(d))]
        np.testing.assert_allclose(found[name], wanted, rtol=1e-6)
    counts = Counter(i for d in training for i in d)
    n = sum(counts.values())
    wanted = [math.log((n + V) / (counts[i] + 1)) for d in text for i in d]
    np.testing.assert_allclose(found["unigram"], wanted, rtol=1e-12)
    assert (found["uniform"] == math.log(V)).all()


@pytest.mark.parametrize("order", [2, 5])
def test_probabilities_add_up_to_one(order):
    model = NGrams(*ids_of(documents(60, 0)), V, order)
    for context in ([0], [0, 3, 3], [0, 1, 2, 3, 4, 5], []):
        rows = [[*context, i] for i in range(V)]
        for name, nats in model.nats(*ids_of(rows)).items():
            assert np.exp(-nats[len(context) :: len(context) + 1]).sum() == pytest.approx(1), name


@pytest.mark.oracle("nltk")
@pytest.mark.parametrize("order", [2, 5])
def test_the_same_as_nltk(order):
    lm = pytest.importorskip("nltk.lm")
    D, training, text = 0.6, documents(40, 2), documents(8, 3)
    peer = lm.KneserNeyInterpolated(order, discount=D)
    peer.vocab.update(map(str, range(-1, V)))
    grams = [told(d, i, n) for n in range(1, order + 1) for d in training for i in range(len(d))]
    # One more different token before each of the vocabulary, as our lowest order has it.
    grams += [(-2, i) for i in range(V)]
    peer.counts.update([[tuple(map(str, gram)) for gram in grams]])
    wanted = []
    for d in text:
        for i in range(len(d)):
            *context, word = map(str, told(d, i, order))
            wanted.append(-peer.logscore(word, context) * math.log(2))
    found = NGrams(*ids_of(training), V, order, D).nats(*ids_of(text))[ngrams.name_of(order)]
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


@pytest.fixture
def token_file(tmp_path):
    def token_file(docs, name="t.tokens"):
        write_token_file(tmp_path / name, [np.array(d, np.int32) for d in docs], Plain())
        return TokenFile.open(tmp_path / name)

    return token_file


def test_batches_of_any_places_lose_what_the_whole_text_loses(token_file):
    training, text = documents(60, 0), documents(30, 1)
    tokens = token_file(text)
    ids, is_first = ids_of(text)
    model = NGrams(*ids_of(training), V)
    wanted, owners = model.nats(ids, is_first), np.cumsum(is_first) - 1
    baselines = Baselines(model, tokens)
    places = np.random.default_rng(0).permutation(len(ids))[: len(ids) // 2]
    for part in np.array_split(places, 7):
        nothing = np.zeros(len(part))
        baselines(Scored(ids[part], part.astype(np.uint64), owners[part], nothing, nothing))
    for name, nats in baselines.nats.items():
        sums = np.bincount(owners[places], wanted[name][places], tokens.n_documents)
        np.testing.assert_allclose(nats, sums, rtol=1e-9)


def test_a_long_corpus_is_counted_in_stretches(token_file, monkeypatch):
    tokens = token_file(documents(200, 0))
    assert count_tokens(tokens).tolist() == np.bincount(tokens.ids, minlength=V).tolist()
    ids, is_first = sample(tokens)
    assert (ids == tokens.ids).all() and np.flatnonzero(is_first).tolist() == tokens.offsets.tolist()
    monkeypatch.setattr(ngrams, "_STRETCH", 50)
    ids, is_first = sample(tokens, 210)
    firsts = np.linspace(0, tokens.n_tokens - 50, 4).astype(int)
    assert len(ids) == 200 and (ids == np.concatenate([tokens.ids[f : f + 50] for f in firsts])).all()
    wanted = [
        i for k, f in enumerate(firsts) for i in range(50) if i == 0 or f + i in tokens.offsets.tolist()
    ]
    assert is_first.sum() == len(wanted)
