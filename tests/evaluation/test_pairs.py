"""Two models on the same documents: the interval of their difference, and what may be compared at all."""

import numpy as np
import pytest

from microgpt.common.errors import DataError
from microgpt.evaluation import pairs
from microgpt.evaluation.loss import Documents
from microgpt.evaluation.pairs import Side, compare, difference, unlike


def side(nats, tokens, name="a", **others):
    zeros = np.zeros(len(tokens))
    documents = Documents(np.asarray(nats, float), np.asarray(tokens, float), 3.0 * np.asarray(tokens), zeros)
    return Side(
        **{"name": name, "documents": documents, "tokenizer": "t", "corpus": "c", "policy": "p"} | others
    )


def simulated(rng, n):
    """Tokens of n documents, and what two models lose on each: on the mean 0.03 nats a token apart."""
    tokens = rng.integers(5, 200, n)
    hardness = rng.gamma(4, 0.5, n)
    gain = rng.normal(-0.03, 0.2, n) + 0.1 * (hardness - 2)  # the harder a document, the less is gained
    return tokens, tokens * hardness, tokens * (hardness + gain)


def of_unlike_sizes(rng, n):
    """The same of documents of which a few are much longer than the others; what is gained is chance."""
    tokens = np.ceil(rng.lognormal(4, 1.2, n))
    return tokens, 2 * tokens, tokens * (2 + rng.normal(-0.03, 0.2, n))


@pytest.mark.parametrize("pairs_of", [simulated, of_unlike_sizes])
def test_the_interval_holds_the_truth_in_95_of_100_of_2000_pairs(pairs_of):
    rng, n_held = np.random.default_rng(1), 0
    for _ in range(2000):
        tokens, a, b = pairs_of(rng, 50)
        found = difference(b - a, tokens, seed=0, n_draws=300)
        n_held += found.low <= -0.03 <= found.high
    assert 0.94 <= n_held / 2000 <= 0.96  # its own standard error: 0.005


def test_of_documents_that_are_nearly_all_alike_the_interval_is_not_too_narrow():
    above = np.array([1.0, *[0.0] * 9])  # a third of the draws are of zeros alone, without any error
    found = difference(above, np.full(10, 10.0), seed=0)
    assert found.low <= 0.01 - 2.262 * 0.01 and np.isfinite(found.high)
    assert np.isnan(difference(np.full(3, np.nan), np.full(3, 10.0), seed=0).high)
    for n, error in ((1, 0.0), (2, 0.25)):
        found = difference(np.arange(float(n)), np.full(n, 2.0), seed=0)
        assert found.high - found.value == pytest.approx(12.706 * error, rel=1e-3)


def test_pairing_tells_apart_what_two_intervals_do_not():
    tokens, a, b = simulated(np.random.default_rng(0), 1600)
    found = compare(side(a, tokens), side(b, tokens, "b"))
    assert found.loss.is_clear and found.loss.high < 0 and found.n_documents == 1600
    alone = difference(a, tokens, 0)
    assert found.loss.high - found.loss.low < 0.3 * (alone.high - alone.low)
    assert found.bpb.value == pytest.approx(found.loss.value / 3 / np.log(2))


def test_equal_seeds_give_equal_numbers_and_equal_models_no_difference():
    tokens, a, b = simulated(np.random.default_rng(0), 60)
    assert compare(side(a, tokens), side(b, tokens), 7) == compare(side(a, tokens), side(b, tokens), 7)
    assert compare(side(a, tokens), side(b, tokens), 7) != compare(side(a, tokens), side(b, tokens), 8)
    same = compare(side(a, tokens), side(a, tokens)).loss
    assert same[:3] == (0, 0, 0) and not same.is_clear


def test_many_documents_are_drawn_in_groups_with_the_same_spread(monkeypatch):
    tokens, a, b = simulated(np.random.default_rng(3), 2000)
    whole = difference(b - a, tokens, 0)
    monkeypatch.setattr(pairs, "N_CLUSTERS", 200)
    grouped = difference(b - a, tokens, 0)
    assert grouped.value == whole.value
    assert grouped.high - grouped.low == pytest.approx(whole.high - whole.low, rel=0.2)


@pytest.mark.parametrize("what", ["tokenizer", "corpus", "policy"])
def test_unlike_sides_are_told_and_compared_by_bits_per_byte_alone(what):
    tokens, a, b = simulated(np.random.default_rng(0), 60)
    one, other = side(a, tokens), side(b, tokens, "b", **{what: "other"})
    assert len(unlike(one, other)) == 1 and unlike(one, one) == []
    found = compare(one, other)
    assert found.loss is None and found.bpb == compare(one, side(b, tokens)).bpb


def test_other_documents_are_refused_and_those_of_one_side_left_out():
    tokens, a, b = simulated(np.random.default_rng(0), 60)
    with pytest.raises(DataError, match="name one text"):
        compare(side(a, tokens), side(b[:-1], tokens[:-1]))
    with pytest.raises(DataError, match="not measured on the same documents"):
        compare(side(a, tokens), side(b, tokens[::-1]))
    is_scored = np.arange(60) % 2 > 0
    part = compare(side(a * is_scored, tokens * is_scored), side(b, tokens))
    assert part == compare(side(a[is_scored], tokens[is_scored]), side(b[is_scored], tokens[is_scored]))
