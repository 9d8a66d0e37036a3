"""Pairs are blind, drawn for each rater, and judged in the terminal or on a page."""

import base64
import io
import json
import re
from collections import Counter

import pytest

from microgpt.common.errors import DataError
from microgpt.decoding.sampler import GREEDY, SamplerConfig
from microgpt.evaluation.judgements import COLUMNS
from microgpt.research.asking import ask
from microgpt.research.blind import (
    BUILTIN,
    Pair,
    Prompt,
    answers_of,
    left_over,
    pairs_of,
    prompts_of,
    shown,
)
from microgpt.research.page import page

PAIRS = [Pair(n, Prompt("facts", f"question {n}"), (f"a{n}", f"b{n}")) for n in range(1, 41)]
MODELS = ("runs/x", "runs/y")


def test_our_prompts_are_twenty_in_each_of_twelve_categories():
    found = prompts_of(BUILTIN)
    assert Counter(Counter(prompt.category for prompt in found).values()) == {20: 12}
    assert len({prompt.text for prompt in found}) == 240


def test_prompts_of_a_file(write):
    text = '# maths\nWhat is 1 + 1?\n\n{"prompt": "Why?\\nSay.", "category": "why"}\n{"prompt": "#1"}\n'
    found = prompts_of(str(write("p.txt", text)))
    assert found == [Prompt("maths", "What is 1 + 1?"), Prompt("why", "Why?\nSay."), Prompt("", "#1")]
    bad = {
        "# a\n": "no prompt",
        '{"prompt": 1}': "line 1",
        "{": "JSON",
        '{"a":' + "[" * 100_000: "JSON",
        b"\xff": "UTF-8",
    }
    for content, told in bad.items():
        with pytest.raises(DataError, match=told):
            prompts_of(str(write("q.txt", content)))
    marked = write("r.txt", '\ufeff# a\n{"prompt": "b\u2028c"}\n'.encode())
    assert prompts_of(str(marked)) == [Prompt("", "b\u2028c")]
    with pytest.raises(DataError, match="No such file"):
        prompts_of("missing.txt")


def test_answers_follow_from_the_seed(model, tokenizer):
    prompts = [Prompt("", "hello"), Prompt("", "how are you? " * 30)]
    how = SamplerConfig(temperature=1)
    once, again, other = (answers_of(model, tokenizer, prompts, how, seed, 8) for seed in (0, 0, 1))
    assert once == again != other
    heard = []
    plain = answers_of(model, tokenizer, prompts, GREEDY, 0, 8, True, heard.append)
    assert heard == [1, 1] and plain != answers_of(model, tokenizer, prompts, GREEDY, 0, 8)


def test_pairs_without_a_difference_are_left_out():
    found = pairs_of([pair.prompt for pair in PAIRS[:3]], ["x", "y", "z"], ["x", "z", "z"])
    assert [(pair.number, pair.answers) for pair in found] == [(2, ("y", "z"))]


def test_each_rater_has_an_order_and_sides_of_their_own():
    one, again, other = shown(PAIRS, "ann"), shown(PAIRS, "ann"), shown(PAIRS, "bob")
    assert one == again != other and sorted(s.pair.number for s in one) == [*range(1, 41)]
    assert [s.pair.number for s in one] != [s.pair.number for s in other] != [*range(1, 41)]
    first = {s.pair.number: s.first for s in one}
    assert 8 < Counter(first.values())["a"] < 32
    assert sum(first[s.pair.number] == s.first for s in other) not in (0, 40)
    for s in one:
        assert s.answers[0] == f"{s.first}{s.pair.number}"


def asked(keys, pairs=PAIRS, rater="ann"):
    """Judgements of what somebody types, and what they saw."""
    typed, out = iter(keys), io.StringIO()

    def read(prompt):
        try:
            return next(typed)
        except StopIteration:
            raise EOFError from None

    return list(ask(shown(pairs, rater), MODELS, rater, read, out)), out.getvalue()


def test_what_is_typed_is_judged_as_it_is_meant():
    found, text = asked(["1", "43545", "11111", "2", "", "", "=", "", ""])
    order = shown(PAIRS, "ann")
    other = {"a": "b", "b": "a"}
    assert [one.choice for one in found] == [order[0].first, other[order[1].first], "tie"]
    assert [one.pair for one in found] == [s.pair.number for s in order[:3]]
    side = order[0].first
    assert found[0].marks[f"accuracy_{side}"] == 3 and found[0].marks[f"safety_{side}"] == 5
    assert {found[0].marks[f"{name}_{other[side]}"] for name in ("coherence", "style")} == {1}
    assert not found[1].marks and (found[0].model_a, found[0].rater) == ("runs/x", "ann")
    assert "runs/" not in text, "nobody is told whose answer it is"


def test_what_is_no_answer_is_asked_again():
    found, text = asked(["3", "one", "1", "4354", "66666", "", ""])
    assert len(found) == 1 and text.count("Which answer is better?") == 5
    assert not asked(["q"])[0] and not asked([])[0] and not asked(["1", "43545"])[0]


def test_later_is_asked_at_the_end():
    found, _ = asked(["s", "1", "", "", "2", "", ""], PAIRS[:2])
    assert [one.pair for one in found] == [s.pair.number for s in shown(PAIRS[:2], "ann")][::-1]


def test_lines_fit_the_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    long = [Pair(1, Prompt("", "why? " * 40), ("word " * 90, "a\n\nb" + chr(27) + "[2J" + "x" * 200))]
    _, text = asked(["q"], long)
    above, below = (part.splitlines() for part in text.split("-- 1 of 1"))
    assert (
        max(map(len, above)) <= 80
        and max(map(len, below)) <= 60
        and chr(27) not in text
        and "    a" not in text
    )


def test_what_is_judged_is_not_asked_again():
    found, _ = asked(["1", "", "", "2", "", ""])
    rest = left_over(shown(PAIRS, "ann"), found, "ann")
    assert len(rest) == 38 and not {s.pair.number for s in rest} & {one.pair for one in found}
    assert len(left_over(shown(PAIRS, "bob"), found, "bob")) == 40
    with pytest.raises(DataError, match="judged with other answers"):
        changed = [pair._replace(answers=("new", "b")) for pair in PAIRS]
        left_over(shown(changed, "ann"), found, "ann")


def test_a_page_holds_all_and_gives_nothing_away():
    wild = Pair(41, Prompt("facts", "</script><b>"), ("<!-- &", "two\u2028lines"))
    text = page([*PAIRS, wild], MODELS, 0)
    assert "runs/" not in text and text.count("</script>") == 1 and not re.search(r"https?://|src=", text)
    about = json.loads(re.search(r"^const about = (.*);$", text, re.M)[1])
    assert about["pairs"][-1]["answers"] == ["<!-- &", "two\u2028lines"]
    assert json.loads(base64.b64decode(about["models"])) == [*MODELS] and about["columns"] == [*COLUMNS]
    others = [page(PAIRS[:-1], MODELS, 0), page(PAIRS, MODELS, 1)]
    ids = {json.loads(re.search(r"about = (.*);$", one, re.M)[1])["id"] for one in (text, *others)}
    assert len(ids) == 3, "what a browser keeps belongs to these pairs"
