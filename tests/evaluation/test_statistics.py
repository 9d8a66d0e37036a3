"""Counts and how far chance moves them: worked examples to their digits, intervals that hold the truth."""

import numpy as np
import pytest

from microgpt.evaluation.statistics import Gain, Paired, gain, holm, paired, share, sign_test


@pytest.mark.parametrize(
    ("count", "of", "low", "high"),
    [  # those of 10 and 100 as scipy and statsmodels have them, then statsmodels' own test and Newcombe 1998
        (0, 10, 0, 0.27753280),
        (1, 10, 0.01787621, 0.40415003),
        (7, 10, 0.39677815, 0.89220873),
        (58, 100, 0.48206487, 0.67201617),
        (0, 100, 0, 0.03699350),
        (19, 38, 0.348499283643951, 0.651500716356049),
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_intervals_are_those_of_worked_examples(count, of, low, high):
    found = share(count, of)
    digits = max(len(f"{x}".partition(".")[2]) for x in (low, high))
    assert found.low == pytest.approx(low, abs=0.51 * 10.0**-digits)
    assert found.high == pytest.approx(high, abs=0.51 * 10.0**-digits)
    assert found.value == count / of


def test_intervals_stay_within_the_possible_and_of_nothing_nothing_is_known():
    assert share(38, 38).high == 1 and share(0, 77).low == 0 and share(38, 38).low < 1 < 1 + share(0, 77).high
    assert (share(0, 0).low, share(0, 0).high, share(0, 0).value) == (0, 1, 0)


@pytest.mark.parametrize(
    ("wins", "losses", "p"), [(8, 2, 0.109375), (1, 9, 0.021484375), (14, 6, 0.1153183), (60, 40, 0.0568879)]
)
def test_the_sign_test_is_exact_and_both_ways(wins, losses, p):
    assert sign_test(wins, losses) == pytest.approx(p, abs=5e-8) == sign_test(losses, wins)


def test_no_falls_say_nothing():
    assert sign_test(0, 0) == 1


def test_mcnemar_looks_at_what_only_one_had_right():
    assert Paired(0, 5, 15, 0).p == Paired(700, 5, 15, 300).p == pytest.approx(0.0413895, abs=5e-8)


def test_pairs_are_counted_by_who_was_right():
    assert paired([1, 1, 1, 0, 0, 0, 0], [1, 1, 0, 1, 1, 1, 0]) == Paired(2, 1, 3, 1)
    with pytest.raises(ValueError):
        paired([True], [])


def test_the_gain_is_that_of_the_published_example():
    """Newcombe 1998, table II: 36 both, 12 and 2 only one, none neither."""
    found = gain(Paired(36, 2, 12, 0))
    assert found == pytest.approx((0.2, 0.0569, 0.3404), abs=5e-5)
    assert gain(Paired(36, 12, 2, 0)) == pytest.approx((-found.value, -found.high, -found.low))
    assert gain(Paired(20, 2, 12, 16)) == pytest.approx((0.2, 0.0562, 0.3292), abs=5e-5)  # go along


def test_of_two_that_never_differ_the_gain_is_not_known_to_be_nothing():
    found = gain(Paired(30, 0, 0, 10))
    assert found.value == 0 and found.low < -0.01 and found.high > 0.01
    assert gain(Paired(0, 0, 0, 0)) == Gain(0, -1, 1)


def test_the_interval_of_a_gain_holds_the_truth_as_often_as_it_says():
    rng, held, n = np.random.default_rng(4), 0, 200
    shares = np.array([0.55, 0.08, 0.17, 0.20])
    for counts in rng.multinomial(100, shares, size=n):
        found = gain(Paired(*map(int, counts)))
        held += found.low <= 0.09 <= found.high
    assert 0.91 * n <= held <= 0.99 * n


def test_many_tests_are_judged_together():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1, 1] and holm([]) == []
