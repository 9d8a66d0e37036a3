"""What a setting may be, and how that is told."""

import dataclasses
import math

import pytest

from microgpt.common.setting import (
    MOST,
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    Range,
    from_to,
    refused,
    session_fields,
    setting,
    unseen,
)

RANGES = [
    (NOT_NEGATIVE, "0 or more", [0, 1, 1e18], [-1, -1e-9, math.nan, math.inf, MOST]),
    (POSITIVE, "above 0", [1e-30, 5], [0, -1, math.nan]),
    (SHARE, "0 to 1", [0, 0.5, 1], [-0.1, 1.1, math.nan]),
    (Range(0, 1), "0 or more, below 1", [0, 0.999], [1, -1, math.nan]),
    (Range(0, 1, is_open=True, most_is_open=False), "above 0, at most 1", [1e-9, 1], [0, 1.01]),
    (from_to(1, 100), "1 to 100", [1, 100], [0, 101]),
]


@pytest.mark.parametrize("within, text, good, bad", RANGES, ids=lambda value: str(value)[:20])
def test_a_range_holds_its_numbers_and_tells_which(within, text, good, bad):
    assert str(within) == text
    assert all(value in within for value in good) and not any(value in within for value in bad)


@dataclasses.dataclass
class Config:
    n: int = setting(3, "how many", within=from_to(1, 9), of_session=True)
    kind: str = setting("a", "which", choices=("a", "b"))
    limit: float | None = setting(None, "none or some", within=POSITIVE, of_session=True)
    past: int = unseen(0, NOT_NEGATIVE)


def test_the_first_value_that_may_not_be_is_told_with_what_may():
    assert refused(Config()) is None
    assert refused(Config(n=10)) == ("n", 10, "1 to 9")
    assert refused(Config(kind="c")) == ("kind", "c", "a or b")
    assert refused(Config(limit=0.0)) == ("limit", 0.0, "above 0")
    assert refused(Config(limit=1e30)) == ("limit", 1e30, "below 9.2e+18")
    assert refused(Config(past=-1)) == ("past", -1, "0 or more")


def test_what_a_session_may_change():
    assert session_fields(Config) == {"n", "limit"}
