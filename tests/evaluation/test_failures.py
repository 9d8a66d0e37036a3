"""Failures: what is missing in the data is told from what the model cannot do; the worst places are found."""

import math

import numpy as np
import pytest

from microgpt.corpus.chat import Message, render
from microgpt.corpus.smalltalk import Question, generate
from microgpt.corpus.smalltalk.capitals import capital_of
from microgpt.corpus.smalltalk.draw import Draw
from microgpt.corpus.token_file import TokenFile, write_token_file
from microgpt.evaluation.causes import (
    NEVER,
    NO_SUCH,
    READ,
    TOLD,
    UNKNOWN,
    WORKED_OUT,
    Answered,
    Cause,
    causes,
)
from microgpt.evaluation.failures import (
    TokenLosses,
    by_category,
    limitations,
    worst_documents,
    worst_tokens,
)
from microgpt.evaluation.loss import Scored
from microgpt.evaluation.training_text import TrainingText

GAP = ("Oslo", "Norway")  # one capital that no text has


@pytest.fixture(scope="module")
def gapped(tokenizer, tmp_path_factory):
    """The embedded corpus without one capital."""
    path = tmp_path_factory.mktemp("gap") / "tokens"
    whole = [talk for talk in generate(150_000) if not any(word in str(talk) for word in GAP)]
    write_token_file(path, [render(talk, tokenizer) for talk in whole], tokenizer)
    return TrainingText([TokenFile.open(path)], tokenizer)


def wrong(user, expected, answer="", before=()):
    """A wrong answer."""
    messages = [Message(role, text) for role, text in (*before, ("user", user))]
    return Answered("x", Question("x", messages, expected, "", lambda text: False), answer, False)


@pytest.mark.parametrize("is_short", [False, True])
def test_a_planted_gap_is_missing_data_and_its_neighbours_are_not(gapped, is_short):
    made = []
    for country in ("Norway", "Sweden", "Japan"):
        turn = capital_of(Draw("x", held_out=True), country)
        made.append(wrong(turn.user, f"{turn.short}." if is_short else turn.reply, "Rome."))
    gap, *others = causes(made, gapped)
    assert gap == Cause(NEVER, 0)
    assert all(cause.kind == READ and cause.n > 0 for cause in others)
    answered = [one._replace(category="capitals") for one in made]
    worst = {one.kind: one for one in limitations(answered, [gap, *others])}
    assert worst[NEVER].is_missing_data and "Oslo" in worst[NEVER].examples[0][0].question.expected
    assert not worst[READ].is_missing_data and worst[READ].wrong.n == 2 and worst[READ].wrong.of == 3


def test_a_pair_that_no_line_has_is_missing_though_its_words_are_there(gapped):
    (found,) = causes(
        [wrong("What is the capital of Japan?", "The capital of Japan is Paris.", "Rome.")], gapped
    )
    assert found == Cause(NEVER, 0)


@pytest.mark.parametrize(
    ("user", "expected", "answer", "kind"),
    [
        ("My name is Selma. Who am I?", "Your name is Selma.", "Your name is Sel.", TOLD),
        ("My name is Selma. Who am I?", "Your name is Selma.", "", TOLD),
        ("I am Bernd. Bye.", "Goodbye, Bernd!", "Goodbye!", TOLD),  # what it lacks is the name
        ("I am Bernd. Bye.", "Goodbye, Bernd!", "Bernd!", READ),  # what it lacks is the word
        ("What is 7 plus 9?", "That is 9 + 7 = 16.", "That is 9 + 7 = 17.", WORKED_OUT),
        ("Spell cat.", "You spell it C A T.", "You spell it C T.", WORKED_OUT),
        ("Are you Theo?", "No, my name is microgpt.", "Yes, I am Theo.", READ),
        ("My friend Bellamina is ill. What now?", "I think Bellamina should see a doctor.", "Well.", READ),
        ("What is the opposite of hot?", "Cold.", "Warm.", READ),
    ],
)
def test_each_wrong_answer_has_its_cause(user, expected, answer, kind, gapped):
    (found,) = causes([wrong(user, expected, answer)], gapped)
    assert found.kind == kind and (found.n is None) == (kind == TOLD)


def test_what_follows_by_a_rule_is_missing_data_where_no_text_has_its_kind(tokenizer, tmp_path):
    asked = {
        "What is 7 plus 9?": "That is 9 + 7 = 16.",
        "Spell cat.": "You spell it C A T.",
        "Do you know the number after 15?": "The number after 15 is 16.",
    }
    made = [wrong(*one, "Well.") for one in asked.items()]
    for text, kinds in (
        ("The number of the house is large.\nAfter 9 days they left it.\nYou spell it so.", [NO_SUCH] * 3),
        ("The number 7 comes after 6.\n8 + 5 = 13\nYou spell it D O G S.", [WORKED_OUT] * 3),
        ("It has 3 rooms: 4, 5 and 6. We spell: Z O O.", [NO_SUCH, WORKED_OUT, NO_SUCH]),
    ):
        write_token_file(tmp_path / "tokens", [render(text, tokenizer)], tokenizer)
        found = causes(made, TrainingText([TokenFile.open(tmp_path / "tokens")], tokenizer))
        assert [cause.kind for cause in found] == kinds, text
        (tmp_path / "tokens").unlink()


def test_without_the_training_text_it_is_not_guessed():
    cases = [("What is the capital of Japan?", "Tokyo."), ("Say hey.", "Hey."), ("1 + 1?", "2.")]
    assert [cause.kind for cause in causes([wrong(*case) for case in cases], None)] == [
        UNKNOWN,
        TOLD,
        WORKED_OUT,
    ]


def test_what_surely_fails_most_comes_first_with_its_own_counts():
    right = Answered("b", wrong("?", "!").question, "!", True)
    answered = [right._replace(category="a", is_right=False)] * 2 + [right] * 50
    answered += [right._replace(is_right=False)] * 50
    kinds = [Cause(READ, n) for n in (1, 5)] + [Cause(READ, n) for n in range(50)]
    first, second = limitations(answered, kinds)
    assert (first.category, first.wrong.n, first.wrong.of, first.n_lines) == ("b", 50, 100, 25)
    assert (second.category, second.wrong.n, second.wrong.of) == ("a", 2, 2)
    assert len(first.examples) == 1, "the same answer is shown once"


@pytest.fixture
def text(tokenizer, tmp_path):
    """Three documents, and where they lie."""
    path = tmp_path / "tokens"
    write_token_file(path, [render(doc, tokenizer) for doc in ("a" * 30, "b" * 30, "cd")], tokenizer)
    return TokenFile.open(path)


def losses_of(text, **nats_of):
    """A loss for each letter, 1 for all else; the first token of each document is not scored."""
    found = TokenLosses(text)
    ids = np.asarray(text.ids)
    nats = np.array([nats_of.get(chr(i), 1.0) if i < 256 else 1.0 for i in ids])
    places = np.setdiff1d(np.arange(text.n_tokens), text.offsets.astype(int))
    for part in np.array_split(places, 3):
        found(Scored(ids[part], part, np.zeros(len(part)), nats[part], nats[part] < 0))
    return found


def test_the_worst_documents_are_those_of_the_highest_mean_loss(text, tokenizer):
    first, second = worst_documents(losses_of(text, b=3, c=99), tokenizer, 9)
    assert (first.number, first.n_tokens) == (1, 31) and first.loss == pytest.approx((30 * 3 + 1) / 31)
    assert first.text.startswith("<|bos|>bbb") and first.worst == ("b", "<|bos|>", 3.0)
    assert second.number == 0, "one of two tokens is too short to tell"


def test_tokens_are_ranked_by_what_they_add_to_the_loss(text, tokenizer):
    trained = np.arange(tokenizer.vocab_size)
    first, second, *_ = worst_tokens(losses_of(text, a=2, c=40), tokenizer, 9, trained)
    assert (first.text, first.n, first.loss, first.n_trained) == ("a", 30, 2, ord("a"))
    assert second.text == "c" and second.share_of_loss == pytest.approx(40 / (60 + 30 + 40 + 1 + 3))


def test_where_the_second_is_worse_only_that_is_told(text, tokenizer):
    a, b = losses_of(text, a=2, b=5), losses_of(text, a=4, b=1)
    (document,) = worst_documents(a, tokenizer, 9, b)
    assert document.number == 0 and document.other > document.loss and document.worst[0] == "a"
    (token,) = worst_tokens(a, tokenizer, 9, None, b)
    assert (token.text, token.loss, token.other, token.share_of_loss) == ("a", 2, 4, 1)
    assert not worst_documents(a, tokenizer, 9, a) and math.isnan(a.nats[0])


def test_answers_are_compared_by_category():
    one = wrong("?", "!")
    first = [one._replace(category=c, is_right=r) for c, r in (("a", True), ("a", False), ("b", True))]
    second = [other._replace(is_right=True) for other in first]
    assert by_category(first, second) == {"a": (1, 0, 1, 0), "b": (1, 0, 0, 0)}
