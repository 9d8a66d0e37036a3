"""Priors become settings, softly, and tell how far a model is from them."""

import math

import pytest

from microgpt.common.errors import ConfigError
from microgpt.model.presets import PRESETS
from microgpt.runs.priors import USUAL, Priors, deviations, distance
from microgpt.runs.spec import Spec

ALL = {
    "head_dim": 64,
    "ffn": "4x",
    "kv_groups": 2,
    "attention": "local_global",
    "window": "sqrt(T) * window_scale",
    "global_stride": "sqrt(T)",
    "rope_theta": 10_000,
    "norm": "layernorm",
    "tokens_per_param": 4,
}


def model_of(preset="10m", priors=ALL, **settings):
    return Spec.of(preset, priors=priors, **settings).plan().model


def test_the_usual_ones_are_those_of_the_guide_and_a_model_by_them_is_at_no_distance():
    assert Priors.from_dict(ALL) == USUAL
    model = model_of(seq_len=1024)
    assert (model.n_head, model.n_kv_head, model.n_inner, model.norm) == (4, 2, 1024, "layernorm")
    assert (model.attention, model.window, model.global_stride) == ("local_global", 192, 32)
    assert model.rope_theta == 10_000 and distance(USUAL, model) == 0
    assert len(deviations(USUAL, model)) == 8


@pytest.mark.parametrize(
    "settings, name, value",
    [
        ({"n_embd": 192}, "n_head", 3),
        ({"n_embd": 200}, "n_head", 4),  # heads of 50, for 64 does not go in
        ({"n_embd": 32}, "n_head", 1),
        ({"n_embd": 192}, "n_kv_head", 3),  # of three heads no two share one
        ({"n_embd": 512}, "n_kv_head", 4),
        ({"n_head": 2}, "n_kv_head", 1),
        ({"mlp": "swiglu"}, "n_inner", 704),  # 8/3 x 256, whole vectors
        ({"mlp": "moe", "expert": "swiglu"}, "n_inner", 704),
        ({"mlp": "rwkv7"}, "n_inner", 0),  # has a width of its own
        ({"seq_len": 2047}, "window", round(6 * math.sqrt(2047))),
        ({"seq_len": 2048}, "window", round(4 * math.sqrt(2048))),
        ({"seq_len": 2048}, "global_stride", 45),
        ({"seq_len": 2048}, "seq_len", 2048),
    ],
)
def test_rules_follow_width_and_window_and_what_is_named_comes_before_them(settings, name, value):
    assert getattr(model_of(**settings), name) == value


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_can_be_left_to_them(preset):
    model = model_of(preset)
    assert 0 <= distance(USUAL, model) < 0.2
    if model.mlp in ("gelu", "swiglu"):  # the width is what it was
        width = 4 * model.n_embd if model.mlp == "gelu" else -(-8 * model.n_embd // 192) * 64
        assert model.n_inner == width


def test_only_what_is_stated_changes_and_another_preset_gets_its_own_shape():
    spec = Spec.of("10m", priors={"kv_groups": 2})
    assert spec.resolved().model == {"n_kv_head": 4} and spec.resolved().priors == {}
    assert Spec.of("34m").over(spec).plan().model.n_kv_head == 6
    assert Spec.of("10m").resolved() == Spec.of("10m")
    assert Spec.from_dict(spec.to_dict()) == spec


def test_scales_and_jitter():
    rules = {"window": "sqrt(T) * window_scale", "window_scale": 3, "global_stride": "sqrt(T) * 0.5"}
    model = model_of("1m", rules | {"rope_theta": 100.0, "rope_theta_jitter": 0.5})
    assert (model.window, model.global_stride) == (48, 8)
    thetas = [
        model_of("1m", {"rope_theta": 100.0, "rope_theta_jitter": 0.5}, seed=seed).rope_theta
        for seed in range(40)
    ]
    assert thetas[0] == model.rope_theta and len(set(thetas)) == 40
    assert 100 / math.exp(0.5) < min(thetas) < 70 < 140 < max(thetas) < 100 * math.exp(0.5)


def test_deviations_are_relative_and_their_mean_is_the_distance():
    priors = Priors(head_dim=64, ffn="4x", kv_groups=2, window="sqrt(T)", attention="local", norm="rmsnorm")
    model = model_of("1m", None, n_inner=256, attention="local local_global", window=20)
    assert deviations(priors, model) == pytest.approx(
        {"head_dim": 0.5, "ffn": 0.5, "kv_groups": 0.5, "attention": 1.0, "window": 0.25, "norm": 0.0}
    )
    assert distance(priors, model) == pytest.approx(2.75 / 6)
    full = model_of("1m", None)
    assert "window" not in deviations(priors, full), "nothing has one"
    assert distance(Priors(), full) == 0


@pytest.mark.parametrize(
    "priors, told",
    [
        ({"ffn": "wide"}, "ffn is 'wide', expected a rule such as \"4x\""),
        ({"ffn": 4}, "ffn is 4, expected str"),
        ({"window": "T / 2"}, 'window is .* "sqrt'),
        ({"global_stride": "sqrt(T) * "}, "global_stride is"),
        ({"ffn": "0x"}, "ffn is '0x', expected a number above 0"),
        ({"window": "sqrt(T) * 0.0"}, "expected a number above 0"),
        ({"head_dim": 0}, "head_dim is 0, expected above 0"),
        ({"heads": 3}, "unknown setting heads"),
        ({"attention": "sparse"}, "attention 'sparse' is not built"),
    ],
)
def test_what_is_no_rule_is_told(priors, told):
    with pytest.raises(ConfigError, match=told):
        model_of(priors=priors)
