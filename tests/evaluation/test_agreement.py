"""Kappas are those of published examples, to their digits, and intervals hold the truth."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import judges
from microgpt.common.errors import MicrogptError
from microgpt.evaluation.agreement import LINEAR, cohen, fleiss, jackknife, mean_weighted, table_of

# 30 subjects, 6 raters, 5 diagnoses: Fleiss 1971, as in statsmodels' tests (BSD-3).
DIAGNOSES = Path(__file__).with_name("fleiss1971_counts.csv")
FOURTEEN = """0 0 0 0 14 | 0 2 6 4 2 | 0 0 3 5 6 | 0 3 9 2 0 | 2 2 8 1 1 | 7 7 0 0 0 | 3 2 6 3 0 | 2 5 3 2 2
| 6 5 2 1 0 | 0 2 2 3 7"""  # 14 raters, of Wikipedia's page on Fleiss' kappa


def test_fleiss_of_published_examples():
    counts = np.genfromtxt(DIAGNOSES, delimiter=",", skip_header=1)
    counts = counts[:, -5:]
    found = fleiss(counts)
    assert found.value == pytest.approx(0.43024452006014074, rel=1e-12)
    assert (found.n_items, found.n_raters) == (30, 6) and found.low < 0.43 < found.high
    counts = np.array([[int(n) for n in row.split()] for row in FOURTEEN.split("|")])
    assert fleiss(counts).value == pytest.approx(0.20993070442195522, rel=1e-12)
    assert fleiss(np.array([[7, 1], [3, 5]])).value == pytest.approx(0.161905, abs=1e-6)


def test_cohen_of_published_examples():
    found = cohen(np.array([[20, 5], [10, 15]]))
    assert [round(x, 4) for x in found[:3]] == [0.4, 0.1511, 0.6489] and found.n_items == 50
    assert cohen(np.array([[45, 15], [25, 15]])).value == pytest.approx(0.1304348, abs=1e-7)
    assert cohen(np.array([[25, 35], [5, 35]])).value == pytest.approx(0.2592593, abs=1e-7)
    sas = np.array([[0, 4, 1], [0, 8, 0], [0, 1, 5]])
    assert [round(x, 4) for x in cohen(sas)[:3]] == [0.4842, 0.2137, 0.7547]
    assert round(cohen(sas, LINEAR).value, 4) == 0.4701
    table = table_of([2, 0, 2, 2, 0, 1], [0, 0, 2, 2, 0, 2], 3)
    assert cohen(table).value == pytest.approx(0.4285714, abs=1e-7)


def test_two_raters_have_another_fleiss_than_cohen():
    marks = np.array([[0, 0]] * 20 + [[0, 1]] * 5 + [[1, 0]] * 10 + [[1, 1]] * 15)
    of_fleiss = fleiss(np.stack([(marks == k).sum(1) for k in range(2)], 1)).value
    of_cohen = cohen(table_of(marks[:, 0], marks[:, 1], 2)).value
    assert of_cohen == pytest.approx(0.4) and of_fleiss == pytest.approx(0.393939, abs=1e-6)


def test_where_nothing_could_disagree_there_is_no_kappa():
    assert math.isnan(fleiss(np.array([[7, 0], [7, 0]])).value)
    assert math.isnan(cohen(np.array([[9, 0], [0, 0]])).value)
    assert cohen(np.array([[0, 9], [0, 0]])).value == 0, "always apart, as chance has it"
    assert math.isnan(mean_weighted(np.ones((5, 3), int), 5).value)


def test_weights_count_near_marks_less():
    near, far = (np.array([[0, 0], [2, 2], [4, 4], [2, other]] * 5) for other in (3, 0))
    assert mean_weighted(near, 5).value > mean_weighted(far, 5).value > 0
    pairs = mean_weighted(np.concatenate([near, near[:, :1]], 1), 5)
    assert pairs.n_raters == 3 and pairs.value > mean_weighted(near, 5).value


def test_the_jackknife_of_a_mean_is_its_standard_error():
    rows = np.array([0.1, 0.5, 0.2, 0.9, 0.4])
    found = jackknife(lambda rows: float(rows.mean()), rows, 2)
    half = 2.7764451 * rows.std(ddof=1) / math.sqrt(5)
    assert (found.value, found.high) == (pytest.approx(0.42), pytest.approx(0.42 + half))


def test_without_statsmodels_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "statsmodels.stats.inter_rater", None)
    with pytest.raises(MicrogptError, match=r"pip install microgpt-cpu\[stats\]"):
        fleiss(np.array([[2, 1], [1, 2]]))


@pytest.mark.parametrize("name", ["Cohen's kappa", "Fleiss' kappa", "marks"])
def test_intervals_hold_the_truth(name):
    """The benchmark counts 1,000 trials of each."""
    found = judges.coverage(name, 50)
    assert found.share >= 0.86
    assert found.mean == pytest.approx(found.truth, abs=0.03)
