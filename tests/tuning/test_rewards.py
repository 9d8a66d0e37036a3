"""What answers are worth: a text's own marks, questions of the exam, and functions of files."""

import dataclasses
from itertools import pairwise

import pytest

from microgpt.common.errors import ConfigError
from microgpt.corpus.smalltalk import FAMILIES, exam, practice
from microgpt.tuning.rewards import files_of, function_of, text_reward
from microgpt.tuning.rl import Rewarded, recorded, refuse_changed, sha256_of


def test_the_marks_of_a_text():
    good = "The sea is wide and blue and I like to look at it when I walk here."
    words, pairs = 17, 16
    assert (
        text_reward("Do you like the sea?", good)
        == pytest.approx(0.3 + 0.3 * 15 / words + 0.2 + 0.1 * 0.5 + 0.1 * 1)
        and len(good.split()) == words == pairs + 1
    )
    assert text_reward("Hi", "no no no no no no") == pytest.approx(
        0.3 * 0.1 + 0.3 / 6 + 0.2 * (1 - 4 / 5) - 0.05
    )
    assert text_reward("Hi", "") == text_reward("Hi", " ... ") == -1
    assert text_reward("Hi", "Yes.") == pytest.approx(-0.3 + 0.3 + 0.2 + 0.05)
    lengths = [text_reward("", " ".join(map(str, range(n)))) for n in (5, 10, 15, 80, 100, 120, 121)]
    assert [round((one - 0.45) / 0.3, 6) for one in lengths] == [0, 0.5, 1, 1, 0.5, 0, -0.5]


def test_what_is_practised_is_in_no_exam():
    examined = {tuple(question.messages) for question in exam(20)}
    for family in FAMILIES:
        made = [practice(family, 0, index) for index in range(12)]
        assert all(one.family == family and one.is_correct(one.expected) for one in made)
        assert not examined & {tuple(one.messages) for one in made}
        assert made[3].messages == practice(family, 0, 3).messages
        assert any(a.messages != b.messages for a, b in pairwise(made))


def test_a_file_of_a_function_may_be_any_file(tmp_path):
    """With annotations that a dataclass reads, a file beside it, numbers of NumPy; no number is a line."""
    (tmp_path / "marks.py").write_text("import numpy as np\nGOOD = np.bool_(True)\n")
    file = tmp_path / "mine.py"
    file.write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\nimport marks\n"
        "@dataclass\nclass A:\n    b: int = 3\n"
        "def good(prompt, answer):\n    return marks.GOOD\n"
        "def huge(prompt, answer):\n    return 10**400\n"
        "def odd(prompt, answer):\n    return 1j\n"
    )
    assert function_of(f"{file}:good")("", "") == 1.0
    for name in ("huge", "odd"):
        with pytest.raises(ConfigError, match="expected a finite number"):
            function_of(f"{file}:{name}")("", "")
    file.write_text("raise SystemExit(0)\n")
    with pytest.raises(ConfigError, match="SystemExit"):
        function_of(f"{file}:good")


def test_files_that_a_reward_imports_are_part_of_it(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "import numpy\nfrom marks import GOOD\ndef worth(p, a):\n    import late\n    return GOOD\n"
    )
    assert list(sha256_of(f"{file}:worth")) == ["mine.py"], "it stands alone"
    for name, text in (
        ("marks", "import os.path, deep, random"),
        ("late", ""),
        ("deep", "import mine"),
        ("other", ""),
        ("random", ""),  # of the standard library is the one that is imported
    ):
        (tmp_path / f"{name}.py").write_text(text + "\n")
    assert set(sha256_of(f"{file}:worth")) == {"mine.py", "marks.py", "late.py", "deep.py"}
    (tmp_path / "deep.py").write_text("not Python\n")
    assert len(files_of(file)) == 4


def test_the_file_that_changed_on_the_way_is_named(tmp_path):
    file, helper = tmp_path / "mine.py", tmp_path / "helper.py"
    file.write_text("import helper\n")
    helper.write_text("X = 1\n")
    began = Rewarded(f"{file}:worth", **recorded(f"{file}:worth"))
    earlier = dataclasses.replace(began, beside=None)  # when files beside it were not looked at
    refuse_changed(began)
    for change in (lambda: helper.write_text("X = 2\n"), helper.unlink):
        change()
        with pytest.raises(ConfigError, match=r"helper\.py: not the file that the run began with"):
            refuse_changed(began)
        refuse_changed(earlier)
    file.write_text("import helper \n")
    for one in (began, earlier):
        with pytest.raises(ConfigError, match=r"mine\.py: not the file"):
            refuse_changed(one)
