import itertools

import pytest

from microgpt.common.errors import ConfigError, DataError
from microgpt.corpus.chat import Message
from microgpt.corpus.prepared import split as rule
from microgpt.corpus.prepared.split import (
    EVERYTHING,
    HeldOutWanted,
    Split,
    Survey,
    cut_tail,
    place,
    share_note,
)


def choose(documents):
    survey = Survey()
    for document in documents:
        survey.add(document)
    return survey.choose()


def held_out(documents):
    split = choose(documents)
    return [part for document in documents for side, part in split.sides(document, place(document)) if side]


def many(n, words=20):
    return [f"document {i} " + "word " * words for i in range(n)]


def test_the_place_is_fixed_for_ever():
    # Computed once by hand from the hash's definition; another value would move every document.
    assert place("hello") == 15290000527570283352
    assert place([Message("user", "hello")]) == 14047387584722116856


def test_the_place_depends_on_roles_and_borders():
    variants = [
        "ab",
        [Message("user", "ab")],
        [Message("assistant", "ab")],
        [Message("user", "a"), Message("user", "b")],
        [Message("user", "a"), Message("user", "b ")],
        "4,2|userab",
        "user4ab",
    ]
    assert len({place(variant) for variant in variants}) == len(variants)


def test_about_one_percent_of_a_large_corpus():
    documents = many(60_000, words=5)
    assert 500 < len(held_out(documents)) < 700
    assert choose(documents) == Split()
    assert [d for d in documents if place(d) < rule.PLACES // 100] == held_out(documents)


@pytest.mark.parametrize(
    ("n", "share"), [(30_000, 0.02), (12_000, 0.05), (7_000, 0.1), (400, 0.1), (30, 0.1)]
)
def test_more_of_a_small_corpus_so_that_there_are_500_documents_but_a_tenth_at_most(n, share):
    assert choose(many(n)) == Split(0, int(share * rule.PLACES))


def test_of_shares_that_are_too_little_the_largest_that_leaves_half_the_text():
    small = next(d for d in many(2000) if place(d) < 0.05 * rule.PLACES)
    rest = [d for d in many(60) if place(d) > 0.1 * rule.PLACES]
    giants = (f"giant {i} " + "word " * 5000 for i in range(500))
    giant = next(d for d in giants if 0.05 < place(d) / rule.PLACES < 0.1)
    assert choose([small, *rest, giant]) == Split(0, int(0.05 * rule.PLACES))


def test_copies_of_a_document_stay_together():
    documents = many(3000)
    out = held_out(documents + documents)
    assert 0 < len(out) == 2 * len(set(out))


def test_order_does_not_matter():
    documents = many(700)
    assert sorted(held_out(documents)) == sorted(held_out(documents[::-1]))


@pytest.mark.parametrize("n", [1, 2, 3, 5, 10, 30, 100, 300, 1000])
@pytest.mark.parametrize("words", [2, 200])
def test_a_corpus_of_any_size_has_both_sides(n, words):
    documents = many(n, words)
    out = held_out(documents)
    total = sum(map(len, documents))
    assert 0 < sum(map(len, out)) <= total / 2
    if total > 20 * rule.MIN_HELD_OUT:
        assert sum(map(len, out)) >= rule.MIN_HELD_OUT


def test_a_giant_document_is_not_held_out():
    for i, j in itertools.product(range(12), range(12)):
        giant, small = f"giant {i} " * 5000, f"small {j}"
        assert held_out([giant, small]) == [small]
        assert sum(map(len, held_out([giant, *many(40, 3)]))) < len(giant) / 2


def test_one_document_many_times_is_one_document():
    text = "a line of words\n" * 50
    assert choose([text] * 5).tail
    train, val = cut_tail(text)
    assert train + val == text
    assert 0.05 < len(val) / len(text) < 0.15
    assert train.endswith("\n")


def test_a_single_line_is_cut_at_a_word_and_a_single_word_anywhere():
    assert cut_tail("ab cd ef gh ij kl mn op qr st")[1] == "st"
    assert "".join(cut_tail("x" * 100)) == "x" * 100


def test_a_single_chat_is_cut_at_a_question():
    chat = [Message("user" if i % 2 == 0 else "assistant", str(i)) for i in range(20)]
    train, val = cut_tail(chat)
    assert train + val == chat
    assert val[0].role == "user"
    assert len(val) == 2


@pytest.mark.parametrize("document", ["x", [Message("user", "q"), Message("assistant", "a")]])
def test_what_cannot_be_divided_is_refused(document):
    with pytest.raises(DataError, match="held out"):
        held_out([document])


def test_an_empty_corpus_is_refused():
    with pytest.raises(DataError, match="no document"):
        Survey().choose()


def test_everything_can_be_held_out():
    assert all(side for document in many(99) for side, _ in EVERYTHING.sides(document, place(document)))


def test_a_share_of_ones_own_choice():
    documents = many(3000)
    survey = Survey(0.2)
    for document in documents:
        survey.add(document)
    split = survey.choose()
    out = [document for document in documents if split.holds(place(document))]
    assert 0.17 < len(out) / 3000 < 0.23
    assert set(held_out(documents)) < set(out), "documents below a limit are below a higher one"


@pytest.mark.parametrize("share, words", [(1e-9, "none"), (0.999999, "all")])
def test_a_share_that_leaves_a_side_empty_is_refused(share, words):
    survey = Survey(share)
    for document in many(5):
        survey.add(document)
    with pytest.raises(DataError, match=f"holds out {words} of the corpus's 5 documents"):
        survey.choose()


def test_a_share_of_a_single_document_is_its_end():
    survey, text = Survey(0.25), "a line of words\n" * 100
    where = survey.add(text)
    (_, train), (_, val) = survey.choose().sides(text, where)
    assert train + val == text
    assert 0.23 < len(val) / len(text) < 0.26


@pytest.mark.parametrize("share", [-0.1, 1, float("nan")])
def test_a_share_is_a_share(share):
    with pytest.raises(ConfigError, match="--held-out-share"):
        HeldOutWanted(held_out_share=share)


@pytest.mark.parametrize(
    "split, held_out, begins",
    [
        (Split(), 149, None),
        (Split(), 151, "1.5% of the text is held out, 1% was to be: it has 800 documents, "),
        (Split(), 1400, "14% of the text is held out, 1% was to be: "),
        (Split(0, rule.PLACES // 5), 2900, None),
        (Split(7, 8), 1400, None),
        (Split(7, 8), 3300, "33% of the text is held out, 10% was to be: "),
        (Split(tail=0.01), 200, "2% of the text is held out, 1% was to be: "),
    ],
)
def test_far_more_than_was_to_be_held_out_is_told_however_little_was_to_be(split, held_out, begins):
    note = share_note(split, 10_000, held_out, 800)
    assert note is None if begins is None else note.startswith(begins)


def test_a_share_and_files_contradict_each_other():
    with pytest.raises(ConfigError, match="give one of the two"):
        HeldOutWanted(held_out=("x.txt",), held_out_share=0.1)
