"""The sampler against sums done by hand, and against frequencies."""

import numpy as np
import pytest

from microgpt.common.errors import ConfigError, MicrogptError
from microgpt.core import random
from microgpt.decoding.sampler import GREEDY, SamplerConfig, candidates, log_softmax, next_token, penalised

PLAIN = SamplerConfig(temperature=1, top_k=0, top_p=1, penalty=1)
LOGITS = np.log(np.array([0.1, 0.4, 0.2, 0.3])).astype(np.float32)


def config(**changes):
    return SamplerConfig(**{"temperature": 1, "top_k": 0, "top_p": 1, "penalty": 1, **changes})


def frequencies(logits, settings, n=6_000, recent=()):
    """Share of each id over many draws."""
    draws = random.uniform(random.key(1, "test"), n)
    counts = np.bincount([next_token(logits, settings, u, recent) for u in draws], minlength=len(logits))
    return counts / n


def softmax(logits):
    p = np.exp(np.asarray(logits, np.float64) - np.max(logits))
    return p / p.sum()


@pytest.mark.parametrize(
    "settings, expected",
    [
        (config(), [0.1, 0.4, 0.2, 0.3]),
        (config(temperature=0.5), np.array([1, 16, 4, 9]) / 30),
        (config(temperature=2), np.sqrt([1, 4, 2, 3]) / np.sqrt([1, 4, 2, 3]).sum()),
        (config(top_k=2), [0, 4 / 7, 0, 3 / 7]),
        (config(top_k=1), [0, 1, 0, 0]),
        (config(top_k=9), [0.1, 0.4, 0.2, 0.3]),
        (config(top_p=0.3), [0, 1, 0, 0]),
        (config(top_p=0.5), [0, 4 / 7, 0, 3 / 7]),
        (config(top_p=0.75), [0, 4 / 9, 2 / 9, 3 / 9]),
        (config(top_k=3, top_p=0.7), [0, 4 / 7, 0, 3 / 7]),
        (config(temperature=0.5, top_p=0.6), [0, 16 / 25, 0, 9 / 25]),
    ],
)
def test_the_probabilities_are_those_of_the_definition(settings, expected):
    ids, probs = candidates(log_softmax(LOGITS), settings)
    np.testing.assert_allclose(np.bincount(ids, probs, minlength=4), expected, atol=1e-6)
    spread = 4 * np.sqrt(0.25 / 6_000)
    np.testing.assert_allclose(frequencies(LOGITS, settings), expected, atol=spread)


def test_frequencies_of_a_large_vocabulary():
    logits = random.normal(random.key(2, "logits"), 300).astype(np.float32) * 2
    np.testing.assert_allclose(frequencies(logits, PLAIN), softmax(logits), atol=0.02)


def test_each_number_belongs_to_one_token():
    """Likeliest first: [0, 0.4) is id 1, [0.4, 0.7) id 3, [0.7, 0.9) id 2, [0.9, 1) id 0."""
    draws = [0, 0.39, 0.41, 0.69, 0.71, 0.89, 0.91, 1 - 2**-53]
    assert [next_token(LOGITS, PLAIN, u) for u in draws] == [1, 1, 3, 3, 2, 2, 0, 0]
    assert next_token(np.zeros(4, np.float32), PLAIN, 0.5) == 2  # a border belongs to what is above it


def test_temperature_zero_takes_the_likeliest_and_of_equals_the_first():
    logits = np.array([1, 3, 3, 2], np.float32)
    assert {next_token(logits, GREEDY, u) for u in (0, 0.5, 0.99)} == {1}


def test_equals_at_the_edge_of_top_k_are_kept_by_id():
    ids, _ = candidates(np.array([-2.0, -1, -2, -1, -2]), config(top_k=3))
    assert ids.tolist() == [1, 3, 0]


def test_the_penalty_multiplies_log_probabilities_once_each():
    scores = penalised(np.log([0.5, 0.25, 0.25]), [1, 1, 0], 2.0)
    np.testing.assert_allclose(scores, np.log([0.25, 0.0625, 0.25]))
    expected = np.array([0.25, 0.0625, 0.25]) / 0.5625
    logits = np.log(np.array([0.5, 0.25, 0.25], np.float32)) + 30  # a shift of all logits changes nothing
    np.testing.assert_allclose(frequencies(logits, config(penalty=2), recent=[0, 1]), expected, atol=0.025)


def test_temperature_zero_has_no_penalty_unless_one_is_named():
    recent = [1]  # the likeliest: 0.4 becomes 0.4 ** 1.4, less than 0.3
    assert next_token(LOGITS, SamplerConfig(temperature=0), recent=recent) == 1
    assert next_token(LOGITS, SamplerConfig(temperature=0, penalty=1.4), recent=recent) == 3
    assert SamplerConfig().penalty_used > 1 == SamplerConfig(penalty=1).penalty_used


def test_a_certain_token_survives_the_penalty():
    logits = np.array([20, 0, 0], np.float32)
    assert next_token(logits, SamplerConfig(temperature=0, penalty=1.3), recent=[0]) == 0


def test_the_input_is_left_alone():
    logits = LOGITS.copy()
    next_token(logits, SamplerConfig(penalty=1.5), 0.5, [1, 2])
    np.testing.assert_array_equal(logits, LOGITS)


@pytest.mark.parametrize("settings", [PLAIN, SamplerConfig(penalty=5), config(top_k=3), GREEDY])
def test_an_impossible_token_never_comes(settings):
    logits = np.array([0, -np.inf, 1, -np.inf], np.float32)
    drawn = {next_token(logits, settings, u, [0, 1]) for u in np.linspace(0, 1 - 1e-9, 50)}
    assert drawn <= {0, 2}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_broken_model_is_named(bad):
    with pytest.raises(MicrogptError, match="not finite"):
        next_token(np.array([0, bad, 1], np.float32), PLAIN, 0.5)
    with pytest.raises(MicrogptError, match="not finite"):
        next_token(np.full(3, -np.inf, np.float32), PLAIN, 0.5)


@pytest.mark.parametrize(
    "field, value",
    [
        ("temperature", -1),
        ("temperature", np.nan),
        ("top_k", -1),
        ("top_p", 0),
        ("top_p", 1.1),
        ("penalty", 0.5),
        ("penalty", np.inf),
    ],
)
def test_settings_outside_their_range_are_refused_by_name(field, value):
    with pytest.raises(ConfigError, match=field.replace("_", "-")):
        SamplerConfig(**{field: value})


def test_the_smallest_temperature_is_as_good_as_none():
    with np.errstate(over="raise"):
        assert next_token(LOGITS, config(temperature=5e-324), 0.99) == 1
