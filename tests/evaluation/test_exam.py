"""The exam: right answers are counted by family, and an answer without an end is wrong."""

import dataclasses

from microgpt.corpus.chat import Message
from microgpt.corpus.smalltalk import exam
from microgpt.evaluation.exam import ExamResult, Marked, table, take_exam
from tests.decoding.fakes import ScriptedModel, says

QUESTIONS = exam(1)


def take(tokenizer, *answers, questions=QUESTIONS):
    model = ScriptedModel(tokenizer, says(tokenizer, *answers), seq_len=900)
    heard = []
    return take_exam(model, tokenizer, questions, heard.append, n_rows=1), sum(heard)


def test_a_model_that_knows_everything_has_everything_right(tokenizer):
    result, heard = take(tokenizer, *(question.expected for question in QUESTIONS))
    assert result.correct == heard == len(QUESTIONS) and result.share == 1
    assert set(result.families.values()) == {(1, 1)} and not result.wrong(9)


def test_a_model_that_repeats_the_question_has_nothing_right(tokenizer):
    result, _ = take(tokenizer, *(question.messages[-1].content for question in QUESTIONS))
    assert result.correct == 0 and len(result.wrong(9)) == len(QUESTIONS)


def test_an_answer_that_does_not_end_is_wrong(tokenizer):
    question = dataclasses.replace(QUESTIONS[0], check=lambda text: True)
    endless = (question.expected + " ") * 9
    result, _ = take(tokenizer, endless, questions=[question])
    assert not result.answers[0].correct
    assert len(result.answers[0].text) < len(endless)


def test_answers_that_come_out_of_order_are_marked_by_their_own_question(model, tokenizer):
    """Many at a time, in the order in which they end: each text is the one that its question gets alone."""
    asked = [question for question in QUESTIONS if len(question.messages[-1].content) < 30][:6]
    asked = [dataclasses.replace(q, messages=q.messages[-1:], expected="x" * n) for n, q in enumerate(asked)]
    alone = [take_exam(model, tokenizer, [question], n_rows=1).answers[0] for question in asked]
    assert take_exam(model, tokenizer, asked, n_rows=4).answers == alone and len({a.text for a in alone}) > 3


def result_of(**families):
    """Families of so many right and wrong answers."""
    answers = []
    for family, (right, wrong) in families.items():
        question = QUESTIONS[0].__class__(family, [Message("user", "?")], "yes", "k", lambda text: True)
        answers += [Marked(question, f"{family} {i}", i < right) for i in range(right + wrong)]
    return ExamResult(answers)


def test_counts_are_per_family_and_in_all():
    result = result_of(names=(3, 1), sums=(0, 2))
    assert result.families == {"names": (3, 4), "sums": (0, 2)}
    assert result.to_dict() == {
        "correct": 3,
        "asked": 6,
        "share": 0.5,
        "families": {
            "names": {"correct": 3, "asked": 4, "share": 0.75},
            "sums": {"correct": 0, "asked": 2, "share": 0.0},
        },
    }
    assert [answer.text for answer in result.wrong(1)] == ["names 3", "sums 0"]


def test_the_table_shows_each_family_and_the_total():
    lines = table(result_of(names=(3, 1), sums=(0, 2)))
    assert [line.split()[:5] for line in lines if "-" not in line] == [
        ["names", "3", "of", "4", "75.0%"],
        ["sums", "0", "of", "2", "0.0%"],
        ["all", "3", "of", "6", "50.0%"],
    ]
