"""Canaries: items that can be marked, asked step by step, where they fit and the corpus has their kind."""

import numpy as np
import pytest

from microgpt.common.errors import ConfigError
from microgpt.corpus.chat import Message, render
from microgpt.corpus.smalltalk import Question, generate
from microgpt.corpus.token_file import TokenFile, write_token_file
from microgpt.evaluation import canaries
from microgpt.evaluation.canaries import (
    NO_CONVERSATION,
    Asked,
    Report,
    answers_of,
    ask,
    ask_fitting,
    counted,
    guessed,
    run_canaries,
    versus,
)
from microgpt.evaluation.canary_items import CANARIES, CATEGORIES, Canary, Room, Step, items_of
from microgpt.evaluation.training_text import TrainingText, lines_with
from tests.decoding.fakes import ScriptedModel
from tests.decoding.fakes import says as scripted

BY_NAME = {canary.name: canary for canary in CANARIES}


def knows(questions):
    """Answers everything as expected."""
    return ((number, question.expected) for number, question in enumerate(questions))


def names_known(text):
    return lambda answer: text in answer


@pytest.fixture(scope="module")
def room(tokenizer):
    return Room(tokenizer, 900)


@pytest.mark.parametrize("canary", CANARIES, ids=lambda canary: canary.name)
def test_items_are_answered_by_what_is_expected_and_hardly_by_the_answers_of_others(canary, room):
    items = items_of(canary, 30, room)
    assert len({str([step[:2] for step in steps]) for steps in items}) == 30
    assert all(outcome.is_right for outcome in ask(items, knows))
    assert sum(outcome.is_right for outcome in ask(items, guessed())) < 25
    assert not any(
        o.is_right for o in ask(items, lambda qs: ((i, q.messages[-1].content) for i, q in enumerate(qs)))
    )


def test_nobody_guesses_the_answer_of_the_question_itself():
    items = [[Step(f"{i}?", f"{i}", names_known(f"{i}"))] for i in range(5)]
    for seed in range(20):
        assert not any(outcome.is_right for outcome in ask(items, guessed(seed)))
        assert [outcome.answer for outcome in ask(items[:2], guessed(seed))] == ["1", "0"]
    assert len({outcome.answer for outcome in ask(items * 9, guessed())}) == 5


def test_items_follow_from_the_seed(room):
    canary = BY_NAME["C1d"]
    told = [[[step[:2] for step in steps] for steps in items_of(canary, 5, room, seed)] for seed in (0, 0, 1)]
    assert told[0] == told[1] != told[2]


def test_more_items_than_there_are_different_ones_are_refused(room):
    few = BY_NAME["C1a"]._replace(make=lambda draw, room: [Step(draw.pick(("one", "two", "three")), "")])
    assert len(items_of(few, 3, room)) == 3 and items_of(few, 0, room) == []
    with pytest.raises(ConfigError, match="C1a, a fact, at once: holds only 3 different items, 4 are wanted"):
        items_of(few, 4, room)


def test_there_are_all_categories_with_enough_items_of_several_wordings(room):
    assert {canary.category for canary in CANARIES} == set(CATEGORIES)
    for name in CATEGORIES:
        assert canaries.N_ITEMS * sum(canary.category == name for canary in CANARIES) >= 400
    for name in ("C1a", "C3a", "C6b"):
        asked = {steps[-1].user for steps in items_of(BY_NAME[name], 40, room)}
        assert len({text.split()[0] for text in asked}) >= 3


def test_so_many_exchanges_stand_between_a_fact_and_its_question(room):
    for name, n in (("C1a", 0), ("C1b", 5), ("C1c", 10), ("C3a", 4)):
        assert {len(steps) for steps in items_of(BY_NAME[name], 5, room)} == {n + 2}


@pytest.mark.parametrize(("name", "place"), [("C2a", 0), ("C2b", 0.5), ("C2c", 1), ("C2d", 0)])
def test_a_long_context_fills_the_window_and_holds_the_fact_where_it_says(name, place, tokenizer):
    room = Room(tokenizer, 1500)
    for steps in items_of(BY_NAME[name], 4, room):
        assert 1500 - 120 < room.needed(steps) <= 1500
        last = steps[-1].reply.rstrip(".!").split(" ")[-1]  # of the name, its last word
        at = next(i for i, step in enumerate(steps) if last in step.user)
        assert abs(at / (len(steps) - 2) - place) < 0.2


def test_what_is_needed_is_the_longest_prompt_with_its_answer(tokenizer, room):
    steps = [Step("Hello.", "Hi!"), Step("Who am I?", "Nobody.", names_known("Nobody"))]
    talk = [Message("user", "Hello."), Message("assistant", "Hi!"), Message("user", "Who am I?")]
    prompt = len(render(talk, tokenizer)) + 1
    assert room.needed(steps) == prompt + len(tokenizer.encode("Nobody.")) + canaries.SPARE_TOKENS
    assert room.needed([*steps, Step("Hi.", "Hi!", names_known("Hi"), who=1)]) == room.needed(steps)


TWO = [Step("ay", "A", names_known("A")), Step("bee", "B"), Step("see", "C", names_known("C"))]


def test_a_model_goes_on_from_its_own_answers_and_is_not_asked_on_when_one_is_wrong():
    heard = []

    def answers(questions):
        heard.append([[message.content for message in q.messages] for q in questions])
        return reversed([*((i, "A a" if q.expected == "A" else "C c") for i, q in enumerate(questions))])

    told = []
    (first, second) = ask([TWO, [Step("ex", "X", names_known("X")), *TWO]], answers, told.append)
    assert first.is_right and not second.is_right and second.question.messages[-1].content == "ex"
    assert heard == [[["ay"], ["ex"]], [["ay", "A a", "bee", "B", "see"]]] and told == [1, 1]


def test_an_answer_that_did_not_end_is_wrong():
    (found,) = ask([TWO], lambda questions: [(0, None)])
    assert not found.is_right


def test_conversations_know_nothing_of_each_other():
    seen = []

    def answers(questions):
        seen.extend([message.content for message in question.messages] for question in questions)
        return knows(questions)

    ok = names_known("")
    ask([[Step("ay", "A", ok), Step("bee", "B", ok, 1), Step("see", "C", ok)]], answers)
    assert seen == [["ay"], ["bee"], ["ay", "A", "see"]]


def test_the_model_answers_by_number_whatever_ends_first(tokenizer):
    model = ScriptedModel(tokenizer, scripted(tokenizer, "A", "C"), seq_len=64)
    (found,) = ask([TWO], answers_of(model, tokenizer, n_rows=1))
    assert found.is_right and found.answer == "C"


def test_an_answer_that_has_not_ended_when_its_limit_comes_is_none(tokenizer, trained):
    question = Question("", [Message("user", "ay")], "A", "", names_known("A"))
    for said, answer in (("A", "A"), ("A" * 99, None)):
        model = ScriptedModel(tokenizer, scripted(tokenizer, said), seq_len=200)
        assert dict(answers_of(model, tokenizer, n_rows=1)([question])) == {0: answer}
    endless = trained(*[("ab?", "xxxxxxxx")] * 5)
    assert dict(counted(endless.files[0], tokenizer)(["one"])) == {0: None}, "after an x comes an x"


def test_what_has_no_room_is_wrong_and_does_not_stop_the_others(tokenizer):
    model = ScriptedModel(tokenizer, scripted(tokenizer, "A"), seq_len=20)
    long, short = [Step("x" * 40, "A", names_known("A"))], [Step("ay", "A", names_known("A"))]
    outcomes = ask([long, short], answers_of(model, tokenizer, n_rows=1))
    assert [outcome.is_right for outcome in outcomes] == [False, True]


def canary_of(steps, name="C1a", signs=("fact",)):
    return Canary(name, "a test", 0.9, signs, lambda draw, room: steps)


def test_items_that_do_not_fit_are_not_asked(tokenizer):
    canary = canary_of(TWO)
    longer = [Step("x" * 400, "A", names_known("A"))]
    room = Room(tokenizer, 60)
    heard = []
    some = ask_fitting(canary, [TWO] * 40 + [longer], room, knows, heard.append)
    assert some.share.of == some.share.n == 40 and some.outcomes[-1] is None and sum(heard) == 41
    assert some.to_dict()["items"] == "1" * 40 + "-"
    none = ask_fitting(canary, [TWO] * 10 + [longer] * 30, room, knows, heard.append)
    assert "does not fit" in none.why_not and not none.right and none.verdict == ""


def test_the_mark_is_met_where_the_whole_interval_is_above_it():
    def verdict(right, of):
        outcomes = ask([TWO] * of, knows)
        return Asked(canary_of(TWO), [o._replace(is_right=i < right) for i, o in enumerate(outcomes)]).verdict

    assert [verdict(n, 100) for n in (100, 90, 50)] == ["met", "open", "not met"]


def report_of(*rights, steps=TWO):
    """Reports of one canary each: marks as a string."""
    items = [[*steps, Step(f"{i}", "A", names_known("A"))] for i in range(len(rights[0]))]
    outcomes = ask(items, knows)
    for marks in rights:
        found = [
            None if mark == "-" else o._replace(is_right=mark == "1")
            for o, mark in zip(outcomes, marks, strict=True)
        ]
        yield Report([Asked(canary_of(TWO), found)], {})


def test_two_models_are_compared_on_the_items_that_both_were_asked():
    a, b = report_of("110010-0", "111101-1")
    (found,) = versus(a, b)
    assert found.counts == (2, 1, 4, 0) and found.gain.value == pytest.approx(3 / 7)
    assert found.p == pytest.approx(0.375)
    (other,) = report_of("11110111", steps=TWO[1:])
    assert versus(a, other) == []


def test_the_score_is_the_mean_over_categories_and_gates_read_it():
    (a,) = report_of("1110")
    (b,) = report_of("10000000")
    both = Report([*a.asked, Asked(canary_of(TWO, "C6a"), b.asked[0].outcomes)], {})
    told = both.to_dict()
    assert told["score"] == pytest.approx((0.75 + 0.125) / 2) and told["stopped_by"] == ["C6"]
    assert told["gates"] == {"minimal": False, "standard": False, "extended": False}


@pytest.fixture
def trained(tokenizer, tmp_path):
    """Training text of some conversations."""

    def make(*conversations):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.tokens"
        talks = [
            [Message(role, text) for role, text in zip(["user", "assistant"] * 9, texts, strict=False)]
            for texts in conversations
        ]
        write_token_file(path, [render(talk, tokenizer) for talk in talks], tokenizer)
        return TrainingText([TokenFile.open(path)], tokenizer)

    return make


def test_counting_pairs_gives_the_likeliest_answer_to_everything(tokenizer, trained):
    tokens = trained(*[("ab?", "xy")] * 5, ("cd?", "xz"))
    found = dict(counted(tokens.files[0], tokenizer)(["one", "another"]))
    assert found == {0: "xy", 1: "xy"}


def test_a_canary_of_whose_kind_the_training_text_has_nothing_is_not_asked(
    tokenizer, model, trained, monkeypatch
):
    tokens = trained(*[("Who am I?", "A FACT, no fiction.")] * 10)
    kinds = [canary_of(TWO[:1], "C1a"), canary_of(TWO[:1], "C1b", ("a fiction",))]
    heard = []
    found = run_canaries(model, tokenizer, tokens, True, 1, 0, heard.append, kinds)
    assert [bool(one.why_not) for one in found.asked] == [False, True] and sum(heard) == 2
    assert "'a fiction'" in found.asked[1].why_not and set(found.baselines) == {"random", "bigram"}
    assert found.to_dict()["canaries"]["C1a"]["random"] == 0, "there is no other item to guess from"


def test_a_model_of_plain_text_is_not_asked(tokenizer, model, trained, monkeypatch):
    found = run_canaries(model, tokenizer, trained(("a", "b")), False, 2)
    assert all(one.why_not == NO_CONVERSATION for one in found.asked) and found.score is None


def test_text_is_searched_by_words_without_case(tokenizer, trained):
    text = trained(
        ("What is the capital of Norway?", "The capital of Norway is Oslo."),
        ("Oslo", "Norway, a country.\nOslo, its capital"),
    )
    groups = [
        ["oslo"],
        ["Oslo", "norway"],
        ["slo"],
        ["the capital of norway"],
        ["Norway is"],
        [],
        ["Norway a"],
    ]
    assert text.counts(groups) == [3, 1, 0, 2, 1, 0, 1]


def test_text_is_searched_in_blocks_that_begin_with_documents(tokenizer, trained, monkeypatch):
    monkeypatch.setattr("microgpt.evaluation.training_text._BLOCK", 7)
    talks = [tuple(message.content for message in talk) for talk in generate(3000)]
    text = trained(*talks)
    assert text.n_blocks == len(talks)
    lines = [line for talk in talks for line in talk[:18]]
    words = ["is", "name"]
    wanted = [sum(f" {w} " in f" {' '.join(line.lower().split())} " for line in lines) for w in words]
    heard = []
    found = text.counts([[word] for word in words], heard.append)
    few: list[int] = []
    assert min(text.counts([[word] for word in words], few.append, 2)) >= 2 and sum(few) < len(talks)
    assert sum(heard) == len(talks) and np.all(np.array(found) >= wanted) and min(found) > 3


def test_a_line_counts_once_however_often_it_says_it():
    assert lines_with("\n a b a \n b \n a a \n", [" a "]) == 2
    assert lines_with("\n a b \n b \n a \n", [" a ", " b "]) == 1
