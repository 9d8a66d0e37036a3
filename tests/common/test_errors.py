"""Errors are one line that can be printed, whatever they quote."""

from microgpt.common.errors import LONGEST, DataError


def test_a_message_quotes_anything_in_one_printable_line():
    said = str(DataError("/a\udce9/\x1b[2J\n\t\u2028é漢: bad; mend it"))
    assert said == "/a\\udce9/\\x1b[2J\\n\\t\\u2028é漢: bad; mend it"
    assert said.encode("utf-8").decode() == said


def test_a_message_is_short_and_keeps_its_advice():
    said = str(DataError(f"config.json: keep is {'9' * 10**6}, expected int; mend it"))
    assert said.startswith("config.json: keep is 999") and said.endswith("9, expected int; mend it")
    assert max(len(said), len(str(DataError("\0" * 10**6)))) <= LONGEST
    assert str(DataError("a short one; mend it")) == "a short one; mend it"
