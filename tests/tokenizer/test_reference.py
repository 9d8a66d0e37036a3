"""The reference itself, on examples worked by hand."""

import pytest

from microgpt.tokenizer import reference
from microgpt.tokenizer.alphabet import BYTES, CHARACTERS, tie_rank, to_bytes, to_text

SPLITS = [
    ("", []),
    ("It's 42,  ok", ["It", "'s", " 42", ",", " ", " ok"]),
    ("we'll they'RE 'tis I'd", ["we", "'ll", " they", "'", "RE", " '", "tis", " I", "'d"]),
    ("a  b", ["a", " ", " b"]),
    ("a \n b", ["a", " \n", " b"]),
    ("a\nb", ["a", "\n", "b"]),
    ("a \nb", ["a", " ", "\n", "b"]),
    ("end   ", ["end", "   "]),
    (" ", [" "]),
    ("x\u00a0y\u3000\u3000z", ["x", "\u00a0", "y", "\u3000", "\u3000", "z"]),
    ("a1b22 ½٣", ["a", "1", "b", "22", " ½٣"]),
    ("!?'s '", ["!?'", "s", " '"]),
    ("'s's", ["'s", "'s"]),
    ("e\u0301te", ["e", "\u0301", "te"]),
    ("日本 語!", ["日本", " 語", "!"]),
    ("\x1c\x85", ["\x1c", "\x85"]),
]


@pytest.mark.parametrize("text, chunks", SPLITS)
def test_split(text, chunks):
    assert reference.split(text.encode()) == [chunk.encode() for chunk in chunks]


BROKEN_SPLITS = [
    (b"a\xffb", [b"a", b"\xff", b"b"]),
    (b"!\xff?", [b"!\xff?"]),  # a broken byte is "other", so it joins punctuation
    (b" \xc3 ", [b" \xc3", b" "]),
    (b"\xe3\x80 x", [b"\xe3\x80", b" x"]),  # U+3000 cut off: no white space
    (b"a\xed\xa0\x80b", [b"a", b"\xed\xa0\x80", b"b"]),  # a surrogate
    (b"a\xc1\xa1b", [b"a", b"\xc1\xa1", b"b"]),  # "a" in two bytes: too long
    (b"\xe4\xb8\xad\xe6\x96", [b"\xe4\xb8\xad", b"\xe6\x96"]),
]


@pytest.mark.parametrize("text, chunks", BROKEN_SPLITS)
def test_split_of_invalid_utf8(text, chunks):
    assert reference.split(text) == chunks


def test_train_worked_example():
    """The example of the Wikipedia article on byte-pair encoding: aaabdaaabac -> XdXac."""
    a, b = b"ab"
    merges = reference.train([b"aaabdaaabac"], 3)
    # (a, a) occurs 4 times.  Then (aa, a) and (a, b) occur twice each: bytes rank before merged tokens.
    assert merges == [(a, a), (a, b), (256, 257)]
    assert reference.encode(b"aaabdaaabac", merges) == [258, ord("d"), 258, a, ord("c")]


def test_merge_goes_left_to_right():
    assert reference.merge([1, 1, 1], (1, 1), 2) == [2, 1]
    assert reference.merge([3, 1, 2, 1, 2], (1, 2), 9) == [3, 9, 9]
    assert reference.merge([], (1, 2), 9) == []


def test_ties_go_by_the_character_of_a_byte():
    """A space, written U+0120, ranks after the letters; by its value it would come first."""
    assert reference.train([b" a", b"ab"], 1) == [(ord("a"), ord("b"))]
    assert tie_rank(ord("!")) == 0 and tie_rank(ord("a")) < tie_rank(0xFF) < tie_rank(0) < tie_rank(ord(" "))
    assert tie_rank(300) == 300


def test_encode_takes_the_earliest_merge_first():
    merges = [(ord("b"), ord("c")), (ord("a"), ord("b"))]
    assert reference.encode(b"abc", merges) == [ord("a"), 256]


def test_alphabet_is_gpt2s():
    assert to_text(b" Hi\n\x00\xff") == "ĠHiĊĀÿ"
    assert to_bytes("ĠHiĊĀÿ") == b" Hi\n\x00\xff"
    assert len(CHARACTERS) == len(BYTES) == 256
    assert all(CHARACTERS[BYTES[c]] == c and c.isprintable() for c in BYTES)
