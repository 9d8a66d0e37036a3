"""What reaches a terminal cannot control it, whatever a file is called."""

import io
import json
import unicodedata
from typing import NamedTuple

import numpy as np
import pytest

from microgpt.__main__ import main
from microgpt.common.output import escaped, harmless, json_line, show, tell

EVIL = "a\x1b]0;title\x07\x1b[31m\x9b2Jé\x7f漢"


def is_harmless(text):
    """A terminal obeys none of it; it obeys no character without a meaning (Cn) either."""
    return all(c.isprintable() or c in "\n\t" or unicodedata.category(c) == "Cn" for c in text)


def test_control_characters_are_shown_and_all_else_stays():
    assert harmless("plain é 😀\n\t\x1b[m") == "plain é 😀\n\t\ufffd[m"
    assert escaped(EVIL) == r"a\u001b]0;title\u0007\u001b[31m\u009b2Jé\u007f漢"
    assert escaped("two\nlines\tplain 漢字\u3000x") == "two\nlines\tplain 漢字\u3000x"


def test_json_means_the_same_and_is_harmless():
    line = json_line({EVIL: [EVIL, "\n"]})
    assert json.loads(line) == {EVIL: [EVIL, "\n"]}
    assert is_harmless(line) and "漢" in line and "\n" not in line


def test_json_has_null_for_what_is_no_number():
    class Pair(NamedTuple):
        low: float
        high: float

    values = {"a": float("nan"), "b": [Pair(float("-inf"), 1.5)], "c": np.float64("inf"), "d": "NaN", "e": 0}
    assert json_line(values) == '{"a": null, "b": [[null, 1.5]], "c": null, "d": "NaN", "e": 0}'


def test_lines_for_a_person_are_harmless(capsys):
    show(EVIL, "b")
    tell(EVIL)
    out, err = capsys.readouterr()
    assert out == f"{escaped(EVIL)}\nb\n" and err == f"microgpt: {escaped(EVIL)}\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a run of a corpus, and both with names that would colour the screen."""
    folder = tmp_path_factory.mktemp("names")
    (folder / EVIL).write_text("One two three.\n\nFour five.\n\n" * 100)
    return folder


@pytest.mark.parametrize(
    "words",
    [
        ["prepare", EVIL, "--merges", "5"],
        ["prepare", EVIL, "--merges", "5", "--out-dir", f"{EVIL} out", "--json"],
        [
            "train",
            "--data",
            EVIL,
            "--preset",
            "tiny",
            "--merges",
            "5",
            "--max-steps",
            "2",
            "--sample-every",
            "1",
            "--batch-size",
            "1",
            "--threads",
            "1",
            "--out-dir",
            f"{EVIL} run",
        ],
        ["train", "--resume", f"{EVIL} run"],
        ["verify", f"{EVIL} run"],
        ["eval", f"{EVIL} run"],
        ["eval", f"{EVIL} run", "--json"],
        ["sample", f"{EVIL} run", "-n", "1"],
        ["chat", f"{EVIL} run"],
        ["eval", EVIL],
        ["eval", f"--{EVIL}"],
        ["train", EVIL],
        [EVIL],
    ],
)
def test_no_command_lets_a_name_reach_the_terminal_raw(words, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(SystemExit):
        main(words)
    out, err = capsys.readouterr()
    assert is_harmless(err) and (is_harmless(out) or words[0] == "sample")
    assert out + err
