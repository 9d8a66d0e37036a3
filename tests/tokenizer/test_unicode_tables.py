"""The generated tables: up to date, and what their source says."""

import unicodedata

import numpy as np
import pytest

from microgpt.tokenizer import native, reference, unicode_tables
from microgpt.tokenizer.unicode_classes import LETTERS, NUMBERS
from microgpt.tokenizer.unicode_tables import LETTER, NUMBER, OTHER, SPACE

CLASSES = unicode_tables.classes_from_ranges(LETTERS, NUMBERS)


def test_both_files_are_what_the_script_writes():
    assert unicode_tables.PYTHON_FILE.read_text() == unicode_tables.python_text(CLASSES)
    assert unicode_tables.C_FILE.read_text() == unicode_tables.c_text(CLASSES)


@pytest.mark.oracle("unicodedata2")
def test_tables_agree_with_a_database_of_the_version():
    import unicodedata2

    assert unicodedata2.unidata_version == unicode_tables.VERSION
    assert unicode_tables.classes_of_version() == CLASSES


def test_tables_extend_the_database_of_this_python():
    """Unicode adds characters but hardly ever moves one; whatever this Python knows must be there."""
    kinds = {"L": LETTER, "N": NUMBER}
    categories = {c: unicodedata.category(chr(c)) for c in range(0, unicode_tables.END, 7)}
    known = {c: name for c, name in categories.items() if name not in ("Cn", "Cs") and CLASSES[c] != SPACE}
    assert len(known) > 10_000
    for c, name in known.items():
        assert CLASSES[c] == kinds.get(name[0], OTHER), hex(c)


def test_white_space_is_the_property():
    spaces = {c for c in range(unicode_tables.END) if CLASSES[c] == SPACE}
    assert spaces == {c for c in range(0x110000) if chr(c).isspace()} - {0x1C, 0x1D, 0x1E, 0x1F}


@pytest.mark.parametrize("kind, before", [(LETTER, "a"), (NUMBER, "1"), (OTHER, "!")])
def test_native_tables_agree_for_every_code_point(kind, before):
    """A character joins the letter, digit or sign before it only if it is of that class."""
    points = np.array([c for c in range(0x110000) if not 0xD800 <= c < 0xE000])
    # "\0a" ends each probe in another class than the next begins with.
    ends = native.split("".join([f"{before}{chr(c)}\0a" for c in points.tolist()]).encode())
    widths = 4 + (points > 0x7F) + (points > 0x7FF) + (points > 0xFFFF)
    cut_after = np.cumsum(widths) - widths + 1
    is_cut = np.zeros(ends[-1] + 1, bool)
    is_cut[ends] = True
    classes = np.full(0x110000, OTHER)
    classes[: len(CLASSES)] = CLASSES
    assert np.array_equal(~is_cut[cut_after], classes[points] == kind)


def test_classes_at_borders():
    assert reference._kind(ord("z")) == LETTER and reference._kind(ord("{")) == OTHER
    assert reference._kind(0x323AF) == LETTER and reference._kind(0x323B0) == OTHER
    assert reference._kind(0x10FFFF) == OTHER and reference._kind(0x3000) == SPACE
