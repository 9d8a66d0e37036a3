"""Files of judgements are read as they were written and otherwise refused; what they say is counted."""

import json

import pytest

from benchmarks import judges
from microgpt.common.errors import DataError
from microgpt.evaluation.judgements import COLUMNS, Judgement, header, read_judgements, row
from microgpt.evaluation.preference import verdict


def judgement(pair=1, choice="a", rater="r", first="a", category="facts", marks=None):
    texts = category, f'prompt {pair}, "so"', f"one\nof {pair}", f"two of {pair}", "x", "y"
    return Judgement(pair, *texts, first, rater, choice, marks or {})


@pytest.fixture
def file(write):
    def file(*judgements, name="j.csv", change=lambda text: text):
        return write(name, change(header() + "".join(map(row, judgements))))

    return file


def test_what_was_written_is_read(file):
    found = [judgement(marks={"coherence_a": 5, "safety_b": 1}), judgement(2, "tie", first="b")]
    path = file(*found)
    assert read_judgements([path]) == found
    assert path.read_text().splitlines()[0].split(",")[:10] == list(COLUMNS[:10])
    saved = file(*found, name="k.csv", change=lambda text: "\ufeff" + text.replace("facts,", '"facts",'))
    assert read_judgements([saved]) == found, "as spreadsheets save it"


def test_chosen_and_rejected_are_what_one_trains_on():
    a, b, tie = (judgement(choice=choice) for choice in ("a", "b", "tie"))
    assert (a.chosen, a.rejected) == (b.rejected, b.chosen) == ("one\nof 1", "two of 1")
    assert tie.chosen is tie.rejected is None


@pytest.mark.parametrize(
    "change, told",
    [
        (lambda text: text.replace("choice", "better", 1), "no file of judgements"),
        (lambda text: text.replace(",a,r,a,", ",a,r,c,"), "row 2: choice is 'c', expected a, b, tie"),
        (lambda text: text.replace(",a,r,a,", ",c,r,a,"), "row 2: first is 'c'"),
        (lambda text: text.replace("\n1,", "\n-1,"), "pair is '-1'"),
        (lambda text: text.rstrip() + "6\n", "safety_b is '6', expected 1 to 5"),
        (lambda text: text.rstrip() + ",,,\n", f"expected {len(COLUMNS)} fields"),
        (lambda text: text.replace("facts", '"facts'), "not readable as CSV"),
        (lambda text: "", "no file of judgements"),
    ],
)
def test_what_is_no_file_of_judgements_is_refused(file, change, told):
    with pytest.raises(DataError) as error:
        read_judgements([file(judgement(), change=change)])
    assert told in str(error.value)


def test_files_must_be_of_one_comparison(file, tmp_path):
    one = file(judgement())
    with pytest.raises(DataError, match="other texts"):
        read_judgements([one, file(judgement(rater="s"), name="b", change=lambda t: t.replace("two", "2"))])
    with pytest.raises(DataError, match="of x and z, the rows before of others"):
        read_judgements([one, file(judgement(), name="c", change=lambda text: text.replace(",y,", ",z,"))])
    with pytest.raises(DataError, match="r judges pair 1 again"):
        read_judgements([one, one])
    with pytest.raises(DataError, match="No such file"):
        read_judgements([tmp_path / "missing.csv"])


def many(counts, raters="r", **others):
    """Judgements: so many pairs for a, for b, and ties, by each rater."""
    choices = ["a"] * counts[0] + ["b"] * counts[1] + ["tie"] * counts[2]
    return [judgement(n, choice, rater, **others) for n, choice in enumerate(choices) for rater in raters]


def test_ties_are_told_and_not_tested():
    found = verdict(many((20, 40, 30))).preference
    assert (found.n, found.ties, found.share_b.of) == (90, 30, 60)
    assert found.p == pytest.approx(0.0135, abs=1e-4) and found.better == "b"
    assert verdict(many((6, 14, 30))).preference.p == pytest.approx(0.1153183, abs=1e-7)


def test_fifty_pairs_make_a_preference():
    assert verdict(many((0, 49, 0))).preference.better is None
    assert verdict(many((0, 50, 0))).preference.better == "b"
    assert verdict(many((50, 0, 0))).preference.better == "a"
    assert verdict(many((30, 20, 0))).preference.better is None, "as chance would have it"


def test_a_pair_counts_once_however_many_judge_it():
    split = [judgement(1, choice, rater) for choice, rater in (("a", "q"), ("b", "r"), ("b", "s"))]
    even = [judgement(2, choice, rater) for choice, rater in (("a", "q"), ("b", "r"), ("tie", "s"))]
    found = verdict(split + even)
    assert found.preference[:3] == (0, 1, 1)
    assert found.raters == {"q": 2, "r": 2, "s": 2}
    assert found.first.value == pytest.approx(2 / 5), "of those that are no ties"


def test_a_hundred_pairs_and_three_raters_make_agreement():
    assert verdict(many((40, 40, 20), "rst")).is_agreement_enough
    assert not verdict(many((40, 40, 19), "rst")).is_agreement_enough
    assert not verdict(many((40, 40, 20), "rs")).is_agreement_enough
    assert verdict(many((40, 40, 20))).fleiss is None
    apart = [*many((3, 0, 0), "r"), judgement(9, "a", "s")]
    assert verdict(apart).fleiss is None and not verdict(apart).kappas


def test_marks_are_compared_by_pair():
    marks = [{"style_a": 2, "style_b": 4}, {"style_a": 3, "style_b": 4}, {"style_a": 1}]
    found = verdict([judgement(n, marks=one) for n, one in enumerate(marks)]).marks
    assert set(found) == {"style"} and found["style"][:4] == (2, 2.5, 4.0, 1.5)
    assert found["style"].agreement is None and found["style"].low < 1.5 < found["style"].high
    two = [judgement(n, rater=rater, marks=marks[n]) for n in (0, 1) for rater in "rs"]
    assert verdict(two).marks["style"].agreement.value == 1
    json.dumps(verdict(two[:1]).to_dict(), allow_nan=False)


def test_by_category():
    found = verdict([*many((1, 2, 0)), judgement(9, "tie", category="stories")]).categories
    assert {name: one[:3] for name, one in found.items()} == {"facts": (1, 2, 0), "stories": (0, 0, 1)}


def test_the_interval_of_a_preference_holds_the_truth():
    found = judges.coverage("preference", 60)
    assert found.share >= 0.88 and found.mean == pytest.approx(found.truth, abs=0.03)
