"""Which preset is chosen: by runs that were measured, and nothing beyond them."""

import math

import pytest

from microgpt.common.errors import ConfigError
from microgpt.common.words import parse_bytes
from microgpt.planning.choice import Measured, choose, expected, kinds, measured, presets_of, told
from microgpt.planning.facts import facts_of
from microgpt.planning.rehearsal import Rehearsal
from microgpt.runs.spec import Spec
from microgpt.training.horizon import Timing

ROWS = [
    Measured("talk", "1m", 10**6, 1000, 2.0),
    Measured("talk", "1m", 10**6, 1000, 2.2),  # of another seed
    Measured("talk", "1m", 10**6, 100_000, 1.0),
    Measured("talk", "tiny", 40_000, 1000, 1.9),
    Measured("talk", "tiny", 40_000, 100_000, 1.5),
    Measured("code", "1m", 10**6, 1000, 3.0),
]


def rehearsal(name, micro_s, max_steps=50):
    plan = Spec.of(name, batch_size=1, max_steps=max_steps, eval_every=0, sample_every=0, save_every=0).plan()
    return Rehearsal(plan, facts_of(plan), Timing(micro_s, 0.0, 0.0, 0.0), True)


def test_between_two_lengths_the_end_lies_on_a_line_over_the_logarithm_of_tokens():
    assert expected("talk", "1m", 1000, ROWS)[0] == pytest.approx(2.1), "the mean of two seeds"
    assert expected("talk", "1m", 10_000, ROWS)[0] == pytest.approx((2.1 + 1.0) / 2)
    assert expected("talk", "1m", 100_000, ROWS)[0] == 1.0


@pytest.mark.parametrize(
    "kind, preset, tokens",
    [
        ("talk", "1m", 999),
        ("talk", "1m", 100_001),
        ("code", "tiny", 1000),
        ("code", "1m", 2000),
        (None, "1m", 1000),
    ],
)
def test_outside_of_what_was_measured_nothing_is_known(kind, preset, tokens):
    bpb, why = expected(kind, preset, tokens, ROWS)
    assert bpb is None and "not known" in why


def test_the_preset_that_ends_lowest_in_the_time_comes_first():
    found = [rehearsal("tiny", 0.064), rehearsal("1m", 0.256)]  # 1,000 tokens a second each
    slow = choose(found, "talk", ROWS, 2.0, None)
    assert [choice.preset for choice in slow] == ["tiny", "1m"]
    assert all(0.9 < choice.tokens / 1920 <= 1 for choice in slow), "as many steps as are planned for a time"
    quick = choose(found, "talk", ROWS, 60.0, None)
    assert [choice.preset for choice in quick] == ["1m", "tiny"]
    assert quick[0].bpb < quick[1].bpb
    assert "1m ends lowest" in told(quick, "talk")[-1] and "not of" not in told(quick, "talk")[-1]


def test_a_model_that_counting_equals_is_told_so():
    found = choose([rehearsal("tiny", 0.064)], "talk", ROWS, 2.0, None)
    lines = told(found, "talk", {"unigram": 3.5, "bigram": 1.5})
    assert lines[-1] == "floors   unigram 3.500, bigram 1.500 bits per byte of this text, by counting alone"
    assert lines[2].endswith("no better than bigram counts of this text")
    assert "no better" not in "".join(told(found, "talk", {"unigram": 3.5, "bigram": 1.95}))


def test_what_is_not_known_is_last_and_said():
    lines = told(choose([rehearsal("10m", 0.1), rehearsal("tiny", 0.01)], "talk", ROWS, 5.0, None), "talk")
    assert lines[-1].endswith("of those that are known; not of 10m") and "tiny ends lowest" in lines[-1]
    assert "no run of it" in "".join(lines)
    lines = told(choose([rehearsal("tiny", 0.01)], None, ROWS, 5.0, None), None)
    assert lines[-1].strip() == "which ends lowest is not known"
    assert "not one step fits" in "".join(
        told(choose([rehearsal("tiny", 9.0)], "talk", ROWS, 5.0, None), "talk")
    )


def test_what_is_too_large_is_said_with_the_flags_that_make_it_fit():
    one = rehearsal("10m", 0.1, 4)
    plan = one.plan.with_train(batch_size=8)
    one = Rehearsal(plan, facts_of(plan), one.timing, True)
    choice = choose([one], "talk", ROWS, None, 0.99 * one.facts.needs.total)[0]
    assert choice.bpb is None and "--grad-accum" in choice.note and "fits" in choice.note
    assert choose([one], "talk", ROWS, None, 9e9)[0].tokens == 4 * 8 * 256, "as long as its plan"


def test_published_fits_are_used_in_their_range_alone():
    large = rehearsal("125m", 0.001, 600_000)
    choices = choose([large, rehearsal("350m", 0.001, 600_000)], None, [], None, 1e12)
    assert "350m ends lowest by published fits" in told(choices, None)[-1]
    short = choose([rehearsal("125m", 0.001, 100), large], None, [], None, 1e12)
    assert "not known" in told(short, None)[-1]


def test_the_table_that_is_shipped_can_be_read():
    rows = measured()
    for kind in kinds(rows):
        for preset in presets_of(kind, rows):
            ends = [row for row in rows if (row.kind, row.preset) == (kind, preset)]
            assert all(0 < row.bpb < 8 and row.tokens > 0 and math.isfinite(row.bpb) for row in ends)
    sizes = [next(row.params for row in rows if row.preset == name) for name in presets_of("smalltalk", rows)]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("text, n", {"8GB": 8e9, "500MB": 5e8, "1.5g": 1.5e9, "64k": 64e3, "7b": 7e0}.items())
def test_sizes_of_memory(text, n):
    assert parse_bytes(text) == n


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "many"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ConfigError, match="--memory"):
        parse_bytes(text)
