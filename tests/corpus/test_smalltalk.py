"""The embedded corpus: same bytes everywhere, held-out content kept apart, and an exam that marks fairly."""

import hashlib
import json
import re
from collections import Counter
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import pytest

from microgpt.corpus.smalltalk import (
    FAMILIES,
    arithmetic,
    capitals,
    checks,
    conversation,
    exam,
    generate,
    names,
    opposites,
    order,
    sample_text,
    spelling,
    things,
)
from microgpt.corpus.smalltalk.dialogues import exam_of, turns_of
from microgpt.corpus.smalltalk.draw import Draw

MEGABYTE = 1_000_000
# Of the first megabyte of seed 0, in the form of `_canonical`.
GOLDEN_SHA256 = "f5ca3eccff3f23c289fa3307fff32365767c1e056948b587aa2bd95f895a5452"
N_DIALOGUES = 6000
N_QUESTIONS = 40


def _canonical(dialogues):
    return "".join(json.dumps(dialogue, ensure_ascii=True) + "\n" for dialogue in dialogues).encode()


@lru_cache
def _megabyte():
    return list(generate(MEGABYTE))


@lru_cache
def _training_turns():
    return [turn for index in range(N_DIALOGUES) for turn in turns_of(0, index)]


@lru_cache
def _exam():
    return exam(N_QUESTIONS, seed=3)


def _questions(family):
    asked = [question for question in _exam() if question.family == family]
    assert asked, family
    return asked


def test_first_megabyte_is_golden():
    assert hashlib.sha256(_canonical(_megabyte())).hexdigest() == GOLDEN_SHA256


def test_seed_and_side_matter_and_nothing_else():
    first, again = _canonical(generate(20_000)), _canonical(generate(20_000))
    assert first == again
    assert first != _canonical(generate(20_000, seed=1))
    assert first != _canonical(generate(20_000, held_out=True))
    assert _canonical(generate(40_000)).startswith(first)


def test_volume():
    sizes = [sum(len(message.content.encode()) for message in dialogue) for dialogue in _megabyte()]
    assert MEGABYTE <= sum(sizes) < MEGABYTE + max(sizes)


def test_dialogues_are_well_formed():
    lengths = []
    for dialogue in _megabyte():
        assert [message.role for message in dialogue] == ["user", "assistant"] * (len(dialogue) // 2)
        assert all(
            message.content.isprintable() and message.content.strip() == message.content
            for message in dialogue
        )
        assert not any(
            re.search(r"[{}]|  |\ba [aeiou]\w|\ban [^aeiou]", message.content) for message in dialogue
        )
        lengths.append(len(dialogue) // 2)
    assert min(lengths) >= 2 and max(lengths) <= 12
    assert 3 <= sum(lengths) / len(lengths) <= 5


def test_every_family_is_practised():
    seen = {turn.family for turn in _training_turns()}
    assert set(FAMILIES) <= seen
    assert len(FAMILIES) >= 12


def test_dialogues_vary():
    turns = _training_turns()
    assert len({turn.user for turn in turns}) > len(turns) / 3


# Held out


def test_exam_keys_never_occur_in_training():
    trained = {turn.key for turn in _training_turns() if turn.key}
    asked = {question.key for question in _exam()}
    assert asked and not asked & trained
    held_out = {
        turn.key for index in range(N_DIALOGUES) for turn in turns_of(0, index, held_out=True) if turn.key
    }
    assert not held_out & trained


def test_held_out_names_never_occur_in_training():
    """Looked for in the text itself, whole and by their parts, in any case."""
    text = " ".join(f"{turn.user} {turn.reply}" for turn in _training_turns())
    words = set(re.findall(r"[^\W\d_]+", text.lower()))
    held_out = {names.person(Draw(f"name {i}", held_out=True)) for i in range(4000)}
    assert len(held_out) > 1000 and held_out > {"Olivia", "Jean-Luc", "Juan Carlos", "Łukasz", "İbrahim"}
    for name in held_out | set(names.REAL):
        parts = re.findall(r"[^\W\d_]+", name.lower())
        assert not words.issuperset(parts), name


def test_every_word_of_a_training_name_is_odd_and_no_real_one_is():
    """So that names which nobody thought of are held out as well."""
    trained = [names.person(Draw(f"name {i}")) for i in range(4000)]
    assert len(set(trained)) > 3800
    for name in trained:
        assert all(names.is_odd(word) for word in re.split("[-' ]", name)), name
    for name in names.REAL:
        assert not any(names.is_odd(word) for word in re.split("[-' ]", name)), name


def test_training_names_have_every_letter_and_every_form_that_people_type():
    trained = [names.person(Draw(f"name {i}")) for i in range(6000)]
    assert set(names.LETTERS + names.FOREIGN) <= set("".join(trained).lower())
    assert {mark for name in trained for mark in name if not mark.isalpha()} == set("-' ")
    assert {*range(2, 16)} <= set(map(len, trained))
    assert any(re.search("[a-z][A-Z]", name) for name in trained)


@pytest.mark.parametrize("family", ["name", "two_facts", "corrections"])
def test_the_exam_asks_real_names_and_made_up_ones(family):
    asked = [q.expected for q in exam_of(family, 100, seed=5) if re.search(" is .*[A-Z]", q.expected)]
    real = [answer for answer in asked if any(f" {name}." in answer for name in names.REAL)]
    assert len(asked) > len(real) > len(asked) / 3


def test_the_sample_conversation_has_new_names_for_each_seed_and_accepts_good_answers():
    first, again, other = conversation(1), conversation(1), conversation(2)
    assert [q.messages for q in first] == [q.messages for q in again]
    assert first[0].messages != other[0].messages and first[2].messages != other[2].messages
    for question in first:
        assert question.is_correct(question.expected)
        assert not any(question.is_correct(wrong) for wrong in ("", "Okay.", question.messages[-1].content))
    for question in (first[4], first[5]):
        assert not question.is_correct(question.expected[:-2] + ".")  # the last letter of the name is missing


def test_held_out_questions_about_facts_never_occur_in_training():
    """Looked for as text: the single questions of the exam are new word for word."""
    trained = {turn.user for turn in _training_turns()}
    for family in ("arithmetic", "capitals", "opposites", "order", "persona", "things"):
        for question in _questions(family):
            assert question.messages[-1].content not in trained


def test_held_out_sums_never_occur_in_training_but_their_sisters_do():
    said = {match for turn in _training_turns() for match in re.findall(r"\d+ [-+] \d+ = \d+", turn.reply)}
    asked = {turn.key for turn in _training_turns()}
    for a, op, b in arithmetic.HELD_OUT:
        result = a + b if op == "+" else a - b
        assert f"{a} {op} {b} = {result}" not in said and f"sum|{a} {op} {b}" not in asked
        big, parts = (result, (a, b)) if op == "+" else (a, (b, result))
        group = {
            (parts[0], "+", parts[1]),
            (parts[1], "+", parts[0]),
            (big, "-", parts[0]),
            (big, "-", parts[1]),
        }
        assert len(group & set(arithmetic.HELD_OUT)) == 1


def test_held_out_letter_questions_are_new_but_every_word_is_spelled():
    asked = {turn.key for turn in _training_turns()}
    for word, task in spelling.HELD_OUT:
        assert f"{task} letter of {word}" not in asked
    said = {turn.reply for turn in _training_turns()}
    assert all(any(f" {spelling.spelled(word)}" in reply for reply in said) for word in spelling.WORDS)


def test_every_fact_is_trained():
    """What cannot be worked out is told in training, in other wordings than the exam's."""
    said = " ".join(turn.reply for turn in _training_turns())
    for country, city in capitals.CAPITALS.items():
        assert (
            f"The capital of {country} is {city}." in said and f"{city} is the capital of {country}." in said
        )
    for word, opposite in opposites.OPPOSITE.items():
        assert f"he opposite of {word} is {opposite}." in said
    for thing, colour in things.COLOUR_OF.items():
        assert f"{thing[1:]} is {colour}." in said


def test_held_out_conversations_are_new_and_few_of_their_exchanges_are_not():
    """Greetings cannot be new, nor questions about what was just said; `SEEN` says how many there are."""
    trained = {(turn.user, turn.reply) for turn in _training_turns()}
    held_out = [turn for index in range(600) for turn in turns_of(0, index, held_out=True)]
    assert 0.02 < sum((turn.user, turn.reply) in trained for turn in held_out) / len(held_out) < 0.12
    conversations = {tuple(turn.user for turn in turns_of(0, index)) for index in range(N_DIALOGUES)}
    begun = {said[:n] for said in conversations for n in range(1, len(said) + 1)}
    asked = {tuple(m.content for m in q.messages if m.role == "user") for q in _exam()}
    assert asked and not asked & begun


# True answers


@pytest.mark.parametrize("held_out", [False, True])
def test_every_reply_passes_its_own_check(held_out):
    for index in range(1500):
        for turn in turns_of(7, index, held_out):
            assert turn.check is None or turn.check(turn.reply), turn


def test_sums_counts_and_spellings_are_true():
    seen = Counter()
    for turn in _training_turns():
        for a, op, b, result in re.findall(r"(\d+) ([-+]) (\d+) = (\d+)", turn.reply):
            assert int(result) == (int(a) + int(b) if op == "+" else int(a) - int(b))
            assert max(int(a), int(b), int(result)) <= 20
            seen["sum"] += 1
        if match := re.search(r"[Cc]ount .*from (\d+) to (\d+)", turn.user):
            said = [int(number) for number in re.findall(r"\d+", turn.reply)]
            assert (said[0], said[-1]) == tuple(map(int, match.groups()))
            assert {abs(b - a) for a, b in pairwise(said)} == {1}
            seen["count"] += 1
        if match := re.search(r"\b(?:S|s)pell (?:the word )?(\w+)[.?]", turn.user):
            assert match[1].upper() == re.sub(r"[^A-Z]|^You", "", turn.reply)
            seen["spelling"] += 1
    assert all(seen[what] > 100 for what in ("sum", "count", "spelling")), seen


def test_order_of_days_and_months_is_true():
    for kind, items in (("day", order.DAYS), ("month", order.MONTHS)):
        for item, following in zip(items, (*items[1:], items[0]), strict=True):
            assert order.neighbour_of(Draw("x"), kind, item, "after").short == following
            assert order.neighbour_of(Draw("x"), kind, following, "before").short == item


# Marking


def test_exam_has_n_different_questions_of_each_family():
    asked = _exam()
    assert [question.family for question in asked] == [
        family for family in FAMILIES for _ in range(N_QUESTIONS)
    ]
    assert len({tuple(question.messages) for question in asked}) == len(asked)
    assert _exam() != exam(N_QUESTIONS, seed=4)


def test_question_ends_with_the_user():
    for question in _exam():
        roles = [message.role for message in question.messages]
        assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]


@pytest.mark.parametrize("family", FAMILIES)
def test_expected_answer_is_accepted(family):
    for question in _questions(family):
        assert question.is_correct(question.expected), question


@pytest.mark.parametrize("family", FAMILIES)
def test_silence_echo_and_noise_are_rejected(family):
    for question in _questions(family):
        said = " ".join(message.content for message in question.messages)
        for wrong in (
            "",
            " ",
            ".",
            question.messages[-1].content,
            said,
            "I do not know.",
            "Okay.",
            "the the the",
        ):
            assert not question.is_correct(wrong), (question, wrong)


@pytest.mark.parametrize("family", FAMILIES)
def test_all_answers_at_once_are_rejected(family):
    expected = sorted({question.expected for question in _questions(family)})
    for question in _questions(family):
        assert not question.is_correct(" ".join(expected)), question


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_to_other_questions_are_rejected(family):
    """A few agree by chance (two questions about the same city, two times No); most must not."""
    questions = _questions(family)
    verdicts = [
        question.is_correct(other.expected)
        for question in questions
        for other in questions
        if question.expected != other.expected
    ]
    assert sum(verdicts) <= 0.05 * len(verdicts)


def test_checks():
    assert checks.says("cold", ["hot", "warm"])("It is COLD!")
    assert not checks.says("cold", ["warm"])("cold or warm")
    assert not checks.says("cold")("colder")
    assert checks.names_only("Mara")("Your name is Mara.")
    assert not checks.names_only("Mara")("Your name is Mara or Tolo.")
    assert not checks.names_only("Mara")("Your name is Maralo.")
    assert not checks.names_only("Mara")("Your name is Mara-Lo.")
    assert not checks.names_only("Mara")("Your name is Mará.")
    assert checks.names_only("Jean-Luc O'Neil")("Your name is Jean-Luc O'Neil.")
    assert not checks.names_only("Jean-Luc")("Your name is Jean.")
    assert checks.names_only("Ólafur", "Şebnem")("Okay, your cat is Ólafur and your dog is Şebnem.")
    assert not checks.names_only("Ólafur", "Şebnem")("Okay, your cat is Ólafur and your dog is Ólafur.")
    assert not checks.names_only("Mara")("Your name is Mara Élodie.")
    assert checks.number_is(12, (7, 5))("7 + 5 = 12.")
    assert not checks.number_is(12, (7, 5))("7 + 5 = 12 or 13.")
    assert not checks.number_is(12, (7, 5))("It is 12, no, 7.")
    assert checks.spells("cat")("You spell it C A T.") and checks.spells("cat")("C-A-T")
    assert not checks.spells("cat")("C A T S") and not checks.spells("cat")("CAT")
    assert checks.letter_is("A", "ant")("We write A N T, so it starts with A.")
    assert checks.letter_is("C", "cat")("I think it is C.")
    assert not checks.letter_is("C", "cat")("We write C A T, so it starts with A.")
    assert not checks.letter_is("C", "cat")("C A T") and not checks.letter_is("C", "cat")("C or A.")
    assert checks.letters_are(3, "cat")("C A T has 3.") and not checks.letters_are(3, "cat")("D O G has 3.")
    assert checks.counts([2, 3, 4])("Okay: 2, 3, 4.") and not checks.counts([2, 3, 4])("2, 3, 4, 5")
    assert checks.decides("no")("No, never.") and not checks.decides("no")("Yes and no.")
    assert checks.is_one_word("Paris")("Paris.") and not checks.is_one_word("Paris")("It is Paris.")
    assert checks.is_twice("Paris")("Paris. Paris.") and not checks.is_twice("Paris")("Paris.")
    assert not checks.is_twice("Paris")("Paris. Rome.")


def test_standing_instructions_are_checked_to_the_letter():
    for question in exam_of("instructions", 60, seed=9):
        plain = question.expected.split(",")[0].split(".")[0].capitalize() + "."
        obeyed = question.key.startswith("one word") or (
            question.key.startswith("capitals") and plain[0].isdigit()
        )
        assert question.is_correct(plain) == obeyed, (question, plain)


def test_sample_is_jsonl_of_the_first_dialogues():
    lines = sample_text(3).splitlines()
    dialogues = [dialogue for dialogue, _ in zip(generate(10_000), range(3), strict=False)]
    assert [json.loads(line)["messages"] for line in lines] == [
        [message._asdict() for message in dialogue] for dialogue in dialogues
    ]


def test_committed_sample_is_what_the_generator_makes():
    sample = Path(__file__).parents[2] / "data" / "smalltalk_sample.jsonl"
    assert sample.read_text(encoding="utf-8") == sample_text(180)
    assert sample.stat().st_size < 100_000
