"""What holds a run back: each verdict by the numbers that it takes, and a course by curves that are known."""

import numpy as np
import pytest

from microgpt.evaluation.annealing import FEWEST, areas, course
from microgpt.evaluation.finding import Finding
from microgpt.evaluation.verdict import (
    BUG,
    CAPACITY,
    DATA,
    NOTHING,
    SCHEDULE,
    UNKNOWN,
    Facts,
    judge,
)

N_STEPS = 1000
FALLING = 1e-3 * (1 + np.cos(np.pi * np.arange(N_STEPS) / N_STEPS)) / 2 + 1e-4


def measured(rates, steps, E=1.0, A=0.5, alpha=0.4, G=0.02, noise=0.0, seed=0):
    """Losses after steps, of a run whose course is known."""
    S1, S2 = areas(rates)
    at = np.array(steps) - 1
    noise = noise * np.random.default_rng(seed).standard_normal(len(at))
    return E + A * S1[at] ** -alpha - G * S2[at] + noise


def a_course(gain, error=0.002, n=20):
    """A course on which as much training again would gain this share of the loss."""
    found = course(FALLING, range(50, N_STEPS + 1, 50), measured(FALLING, range(50, N_STEPS + 1, 50)))
    return found._replace(doubling=gain, doubling_low=gain - error, doubling_high=gain + error, n=n)


GOOD = Facts(
    findings=[Finding("shift", True, "foretells the next token")],
    alarms=[],
    n_params=1_000_000,
    tokens=20_000_000,
    end_tokens=20_000_000,
    passes=1.0,
    optimum=20.0,
    rate=1.0,
    moved=1.0,
    course=a_course(0.05),
    gap=0.01,
    above_fit=None,
    above_own=None,
)
TWICE = Finding("shift", False, "the model foretells the one after next", "targets shifted twice")
LONG = {"tokens": 400_000_000, "end_tokens": 400_000_000}


@pytest.mark.parametrize(
    "changes, word",
    [
        ({}, NOTHING),
        ({"findings": [TWICE]}, BUG),
        ({"findings": [TWICE], **LONG, "course": a_course(0.0)}, BUG),  # which looks as a lack of capacity
        ({"above_fit": 1.5}, BUG),
        ({"rate": 0.01, "moved": 0.2}, SCHEDULE),
        ({"rate": 0.01, "moved": 0.2, **LONG, "course": a_course(0.0)}, SCHEDULE),
        ({"rate": 0.01, "moved": 1.0}, NOTHING),  # a low rate that was enough
        ({**LONG, "course": a_course(0.005)}, CAPACITY),
        ({**LONG, "course": a_course(0.05)}, NOTHING),  # much text, but it still gains
        ({**LONG, "course": a_course(0.02, error=0.01)}, UNKNOWN),
        ({"course": a_course(0.005)}, NOTHING),  # still, but not for much text
        ({"course": None}, UNKNOWN),
        ({"gap": 0.3, "passes": 8.0}, DATA),
        ({"gap": 0.3, "passes": 0.5}, NOTHING),  # text that came once cannot be known by heart
        ({"tokens": 2_000_000, "end_tokens": 2_000_000}, DATA),
        ({"tokens": 2_000_000}, NOTHING),  # more of it is to come
        ({"above_own": 0.3}, UNKNOWN),
    ],
)
def test_each_verdict_has_its_numbers(changes, word):
    verdict = judge(GOOD._replace(**changes))
    assert verdict.word == word and verdict.why and verdict.advice


def test_a_wrong_shift_is_named_before_what_follows_from_it():
    others = [Finding(name, False, "too high", "weights") for name in ("first loss", "tokenizer")]
    verdict = judge(GOOD._replace(findings=[others[0], TWICE, others[1]]))
    assert verdict.why.startswith("shift: ") and verdict.advice == TWICE.look


def test_areas_of_a_rate():
    S1, S2 = areas(np.array([0.0, 1.0, 1.0, 0.5, 0.5]))
    assert S1.tolist() == [0.0, 1.0, 2.0, 2.5, 3.0]
    wanted = [0, 0, 0, 0.5, 0.5 + 0.999 * 0.5]  # a rise sets nothing free
    assert list(S2) == pytest.approx(wanted)


def test_a_course_comes_back_from_its_own_numbers():
    steps = range(50, N_STEPS + 1, 50)
    found = course(FALLING, steps, measured(FALLING, steps))
    S1, _ = areas(FALLING)
    assert found.now == pytest.approx(measured(FALLING, [N_STEPS])[0], rel=1e-3)
    assert found.slope == pytest.approx(-0.4 * 0.5 * S1[-1] ** -0.4, rel=0.1)
    assert found.doubling == pytest.approx(0.5 * S1[-1] ** -0.4 * (1 - 2**-0.4) / found.now, rel=0.1)


def test_a_run_in_mid_schedule_is_projected_to_its_end():
    truth = measured(FALLING, [N_STEPS])[0]
    steps = range(25, 701, 25)
    held = 0
    for seed in range(20):
        found = course(FALLING, steps, measured(FALLING, steps, noise=0.003, seed=seed), seed)
        held += found.end_low <= truth <= found.end_high
    assert held >= 14 and found.end == pytest.approx(truth, abs=0.1)
    assert found.end < found.now


def test_too_little_is_no_course():
    steps = range(600, 600 + FEWEST - 1)
    assert course(FALLING, steps, measured(FALLING, steps)) is None
    assert course(FALLING, [], []) is None
