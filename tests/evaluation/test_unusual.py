"""Unusual text: noise that changes what it says it changes, on documents that the model never saw."""

from types import SimpleNamespace

import numpy as np
import pytest

from microgpt.corpus.chat import Message, render
from microgpt.corpus.token_file import TokenFile, write_token_file
from microgpt.evaluation.held_out import HeldOut
from microgpt.evaluation.prose import PROSE
from microgpt.evaluation.unusual import (
    CLEAN,
    N_UNUSUAL,
    _mistyped,
    changed,
    document_of,
    documents_of,
    unusual,
    with_typos,
)

TALK = [Message("system", "Be kind."), Message("user", "Hello, Þóra!\n"), Message("assistant", "")]


@pytest.mark.parametrize("document", [TALK, "Plain text.\n\nOf two paragraphs.", TALK[1:]])
def test_documents_come_back_from_their_ids(document, tokenizer):
    assert document_of(render(document, tokenizer), tokenizer) == document


def held_out(tokenizer, tmp_path, is_trained=None):
    path = tmp_path / "tokens"
    documents = [f"Document number {i} of many." for i in range(40)]
    write_token_file(path, [render(document, tokenizer) for document in documents], tokenizer)
    return HeldOut(TokenFile.open(path), ["own.txt"], "all of it", False, is_trained, None)


def test_only_what_was_not_trained_on_is_taken_evenly(tokenizer, tmp_path):
    is_trained = np.arange(40) % 4 != 1
    found = documents_of(held_out(tokenizer, tmp_path, is_trained), tokenizer, most=4)
    assert [int(text.split()[2]) for text in found] == [1, 13, 25, 37]


def test_typos_change_as_many_letters_as_they_say_and_nothing_else():
    text = "The quick brown fox, 12 dogs & Þóra. " * 200
    letters = with_typos(0, 100)("abcdefgh" * 100)
    assert all(kind in letters for kind in ("ba", "aa", "sb"))  # swapped, doubled, a neighbour's key
    noisy = with_typos(0)(text)
    assert noisy == with_typos(0)(text) != with_typos(1)(text)
    strange = [c for c in noisy if not c.isalpha()]
    assert sorted(strange) == sorted(c for c in text if not c.isalpha())
    words = [(a, b) for a, b in zip(text.split(), noisy.split(), strict=False) if a.strip(",.") and a != b]
    assert 0.5 * 0.05 * 5400 < len(words) < 1.5 * 0.05 * 5400


def test_a_letter_is_swapped_left_out_doubled_or_taken_for_a_neighbour_in_its_case():
    def mistyped(kind):
        draw = SimpleNamespace(below=lambda n: kind, pick=lambda letters: letters[0])
        return "".join(_mistyped(draw, ["A", "b"]))

    assert [mistyped(kind) for kind in range(4)] == ["bA", "b", "AAb", "Sb"]


def test_a_document_is_changed_in_its_words_alone():
    assert changed(TALK, str.upper) == [(role, text.upper()) for role, text in TALK]
    assert changed("Abc.", str.lower) == "abc."


def test_each_text_is_measured_by_its_own_bytes_and_told_in_those_of_the_clean_one(
    tokenizer, model, tmp_path
):
    own, heard = held_out(tokenizer, tmp_path), []
    found = unusual(model, tokenizer, own, "documents", own._replace(names=["x.txt"]), heard.append)
    assert sum(heard) == len(found) == N_UNUSUAL + 1
    by_name = {one.name: one for one in found}
    assert found[0].name == CLEAN and found[0].times == 1 and by_name["x.txt"].times == 1
    assert by_name["prose"].n_documents == len(PROSE) > 10
    for one in found:
        assert one.times == pytest.approx(one.quality.bpb.value / found[0].quality.bpb.value)
    assert by_name["in capitals"].quality != by_name["in lower case"].quality != found[0].quality
