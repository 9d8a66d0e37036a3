import time

import pytest

from microgpt.corpus.reading.detokenize import detokenize

LINES = [
    ("It ' s late , isn ' t it ?", "It's late, isn't it?"),
    ("They ’ re home and I ’ m not .", "They're home and I'm not."),
    ("I don't mind , we'll walk .", "I don't mind, we'll walk."),
    ("I ' Ve lost it . You ’ Ve found it !", "I've lost it. You've found it!"),
    ("Come at nine o ' clock , ma ' am .", "Come at nine o'clock, ma'am."),
    ("Mr . O ' Brien is out .", "Mr. O'Brien is out."),
    ("The boys ' room is upstairs .", "The boys' room is upstairs."),
    ("She said ' never again ! ' and left .", "She said 'never again!' and left."),
    ("It is ' Blue Moon ' they play .", "It is 'Blue Moon' they play."),
    ("I'll take ' em all .", "I'll take 'em all."),
    ('We sang " Green Leaves " twice .', 'We sang "Green Leaves" twice.'),
    ("He calls it ” dinner ” .", 'He calls it "dinner".'),
    ("He fell off a ladder 。 ", "He fell off a ladder."),
    ("You are right.But where is it ?", "You are right. But where is it?"),
    ("Fine.I agree.It ' s late .", "Fine. I agree. It's late."),
    ("We waited there.because it rained .", "We waited there. because it rained."),
    ("Room 12.The key is here .", "Room 12. The key is here."),
    ("It costs $ 3.50 or 10 % more .", "It costs $3.50 or 10% more."),
    ("That is 5 , 000 or 1,200 a year .", "That is 5,000 or 1,200 a year."),
    ("At 9 : 30 p . m . in the U . S . , then .", "At 9:30 p.m. in the U.S., then."),
    ("Look at www . apples.com or shop.net now .", "Look at www.apples.com or shop.net now."),
    ("Well . . . let me see ... maybe .", "Well... let me see... maybe."),
    ("( laughs ) No , really !", "(laughs) No, really!"),
    ("A 15 - inch screen - and cheap .", "A 15-inch screen - and cheap."),
    ("He / she likes R & B .", "He/she likes R&B."),
    ("It is spelled H - U - A .", "It is spelled H-U-A."),
    ("What ? ! No !", "What?! No!"),
    ("odd\x7f control\tsigns", "odd control signs"),
    ("Ｗｈａｔ 　is  this ?", "Ｗｈａｔ is this?"),
    ("", ""),
    (" ' ", "'"),
    (' " " ', '""'),
]


@pytest.mark.parametrize("line, expected", LINES)
def test_detokenize(line, expected):
    assert detokenize(line) == expected


@pytest.mark.parametrize("text", [expected for _, expected in LINES])
def test_plain_writing_is_left_alone(text):
    assert detokenize(text) == text


def test_no_letter_is_lost_or_made():
    for line, expected in LINES:
        assert [c.lower() for c in expected if c.isalnum()] == [c.lower() for c in line if c.isalnum()]


@pytest.mark.parametrize("unit", ["' ", "'", "'a", "a ' ", ' " ', " . "])
def test_time_is_linear_in_hostile_marks(unit):
    """Of sixteen times the text, quadratic work would take 256 times as long."""

    def cpu_s(length):
        text, started = unit * (length // len(unit)) + " x.yes", time.process_time()
        detokenize(text)
        return time.process_time() - started

    assert min(cpu_s(640_000) for _ in range(2)) < 50 * min(cpu_s(40_000) for _ in range(3))
