"""Models of mixed parts: gradients, causality, decoding, documents, recomputing, threads, costs, refusals."""

from dataclasses import replace

import numpy as np
import pytest

from microgpt.common.errors import ConfigError
from microgpt.core import native, ops, random, reference
from microgpt.model import GPT, Batch, ModelConfig, count_parameters, flop_per_token
from microgpt.model.architecture import activation_floats, blocks_by_kind, count_layer_parameters
from microgpt.model.block import Block
from microgpt.model.kinds import MLPS
from microgpt.model.layer import Call
from microgpt.model.mlp import ACTIVATIONS, inner_width
from microgpt.model.presets import PRESETS

PLAIN = ModelConfig(2, 4, 32, 11, 19, dropout=0.2, init_std=0.3)
BIASED = {"norm": "layernorm", "bias": "qkv proj mlp norm"}
MIXED = {
    "layer norm, biases, some channels turn": replace(
        PLAIN, **BIASED, mlp="gelu_exact", rope_share=0.5, n_inner=20
    ),
    "beside each other": replace(
        PLAIN,
        norm="layernorm",
        bias="head qkv",
        parallel=True,
        tied=False,
        rope_scaling="linear",
        rope_factor=2.0,
    ),
    "norms behind": replace(PLAIN, norm_place="after", qk_norm="whole", mlp="swiglu", n_kv_head=2),
    "norms on both sides": replace(
        PLAIN,
        norm_place="both",
        qk_norm="head",
        qk_norm_after_rope=True,
        mlp="geglu",
        logit_cap=2.0,
        n_kv_head=1,
    ),
    "tables of values": replace(
        PLAIN,
        n_layer=3,
        mlp="relu2",
        norm_gain=False,
        embedding_norm=True,
        value_embedding=2,
        embedding_mix=True,
        positions="rope none",
        n_kv_head=2,
    ),
    "learned positions": replace(PLAIN, **BIASED, positions="learned", look_back=2, embedding_norm=True),
    "all at once": replace(
        PLAIN,
        **{**BIASED, "bias": "norm mlp", "norm_place": "both", "parallel": True, "embedding_mix": True},
        value_embedding=1,
        qk_norm="head",
        rope_scaling="ntk",
        rope_factor=4.0,
        mlp="swiglu",
        logit_cap=3.0,
        tied=False,
        n_kv_head=2,
    ),
}
EACH = pytest.mark.parametrize("config", MIXED.values(), ids=MIXED)
KEYS = random.keys(0, "dropout of the tests", range(2))


def lively(config, dtype, recompute=False, **more):
    """A model in which nothing begins at nought or one, where a wrong gradient could hide."""
    model = GPT(config, dtype, recompute, **more).init(5)
    for parameter in model.params.parameters:
        if parameter.kind == "gain" or parameter.init == "zeros":
            shift = random.normal(random.key(1, parameter.name), parameter.size)
            model.params[parameter.name][:] += 0.3 * shift.reshape(parameter.shape)
    return model


def tokens(name, B, T, V=19):
    return (random.uniform(random.key(0, name), B * T) * V).astype(np.int32).reshape(B, T)


def batch(T=11, starts=None):
    targets = tokens("targets", 2, T)
    targets[0, 3] = -1
    return Batch(tokens("ids", 2, T), targets, starts=starts)


@EACH
def test_gradients_are_the_derivatives(config):
    """Central differences in float64, every tensor: a random direction and one coordinate."""
    model = lively(config, np.float64)
    starts = np.array([[0, 0, 0, 3, 3, 3, 3, 3, 8, 8, 8], [0] * 11], np.int32)
    model.loss_and_grad(batch(starts=starts), KEYS)
    probe = GPT(config, np.float64)
    for name, grad in model.grads.items():
        one = np.zeros_like(grad)
        one.flat[np.abs(grad).argmax()] = 1
        for d in (random.normal(random.key(2, name), grad.size).reshape(grad.shape), one):
            nats = []
            for h in (1e-5, -1e-5):
                probe.params.flat[:] = model.params.flat
                probe.params[name][:] += h * d
                nats.append(probe.loss_and_grad(batch(starts=starts), KEYS)[0])
            error = abs((nats[0] - nats[1]) / 2e-5 - (grad * d).sum())
            assert error <= 1e-6 * np.abs(grad).max() * np.sqrt((d * d).sum()), name


@EACH
def test_float32_agrees_with_float64_on_every_level_and_any_number_of_threads(config):
    truth = lively(config, np.float64)
    nats, _ = truth.loss_and_grad(batch(), KEYS)
    threads = native.threads()
    for level in native.supported_levels():
        native.use_level(level)
        bits = set()
        try:
            for n in (1, 2):
                native.set_threads(n)
                model = lively(config, np.float32)
                assert model.loss_and_grad(batch(), KEYS)[0] == pytest.approx(nats, rel=1e-5)
                bits.add(model.grads.flat.tobytes())
        finally:
            native.use_level()
            native.set_threads(threads)
        assert len(bits) == 1
        for name, grad in model.grads.items():
            assert np.abs(grad - truth.grads[name]).max() <= 3e-5 * np.abs(truth.grads[name]).max(), name


@EACH
def test_no_token_sees_the_future_to_the_bit(config):
    model, ids = lively(config, np.float32), tokens("ids", 1, 11)
    before = model.logits(ids)
    for t in range(1, 11):
        changed = ids.copy()
        changed[0, t] = (changed[0, t] + 1) % 19
        after = model.logits(changed)
        assert after[0, :t].tobytes() == before[0, :t].tobytes()
        assert (after[0, t] != before[0, t]).any()


@EACH
@pytest.mark.parametrize("cuts", [range(1, 12), (4, 5, 11)], ids=["one by one", "in pieces"])
def test_decoding_from_a_state_is_one_pass(config, cuts):
    """Two sequences side by side, one of them ahead of the other."""
    model, ids = lively(config, np.float64), tokens("ids", 2, 11)
    whole = model.logits(ids)
    first, second = model.new_state(), model.new_state()
    model.next_logits([(second, ids[1, :1])])
    begin = 0
    for end in cuts:
        rows = [(first, ids[0, begin:end]), (second, ids[1, begin + 1 : end + 1])]
        rows = [row for row in rows if len(row[1])]
        logits = model.next_logits(rows)
        np.testing.assert_allclose(logits[0], whole[0, end - 1], rtol=0, atol=1e-10)
        if len(rows) == 2:
            np.testing.assert_allclose(logits[1], whole[1, min(end, 10)], rtol=0, atol=1e-10)
        begin = end
    first.rewind(6)
    np.testing.assert_allclose(model.next_logits([(first, ids[0, 6:8])])[0], whole[0, 7], rtol=0, atol=1e-10)


@EACH
def test_a_document_is_what_it_is_alone(config):
    """Whatever stands before it in its window: also its learned positions begin anew."""
    model, ids = lively(config, np.float64), tokens("ids", 1, 11)
    starts = np.array([[0] * 4 + [4] * 7], np.int32)
    together = model.token_losses(Batch(ids, ids, starts=starts))[0]
    apart = [model.token_losses(Batch(part, part))[0] for part in (ids[:, :4], ids[:, 4:])]
    np.testing.assert_allclose(together, np.concatenate(apart), rtol=0, atol=1e-10)


@EACH
def test_recomputing_does_not_change_a_bit(config):
    config = replace(config, n_embd=64, n_layer=2)
    results = []
    for recompute in (False, True):
        model = lively(config, np.float32, recompute)
        losses = [model.loss_and_grad(batch(), KEYS) for _ in range(2)]
        results.append([*losses, model.grads.flat.tobytes()])
    assert results[0] == results[1]


@EACH
def test_what_is_frozen_has_no_gradient_and_the_others_keep_theirs(config):
    whole = lively(config, np.float32)
    frozen = [name for i, name in enumerate(whole.params) if i % 2]
    part = lively(config, np.float32, frozen=frozen)
    for model in (whole, part):
        model.loss_and_grad(batch(), KEYS)
    assert set(whole.grads) - set(part.grads) == set(frozen)
    for name, grad in part.grads.items():
        assert grad.tobytes() == whole.grads[name].tobytes(), name


def kept_arrays(saved):
    """The arrays in what a block keeps, each once."""
    if isinstance(saved, np.ndarray):
        return {saved.__array_interface__["data"][0]: saved}
    found = {}
    for part in saved if isinstance(saved, (list, tuple)) else ():
        found |= kept_arrays(part)
    return found


@EACH
def test_costs_are_what_is_kept_multiplied_and_counted(config, monkeypatch):
    model, call = lively(config, np.float32), Call(2, 11)
    x, products = random.normal(random.key(0, "x"), 22 * 32).reshape(22, 32).astype(np.float32), []
    call.shared |= {"ids": tokens("ids", 2, 11).reshape(-1), "embedding": x.copy()}
    linear = ops.linear_forward

    def recorded(x, weight, precision):
        products.append(weight.shape)
        return linear(x, weight, precision)

    monkeypatch.setattr(ops, "linear_forward", recorded)
    for layer in range(config.n_layer):
        block = Block(layer, config.mixer_of(layer), config)
        products.clear()
        _, saved = block.forward(x, model.params, call)
        cost, parameters = block.cost(11), block.parameters()
        assert sum(array.size for array in kept_arrays(saved).values()) == 22 * cost.kept
        assert sorted(products) == sorted(cost.products)
        multiplied = sum(parameter.size for parameter in parameters if parameter.kind != "embedding")
        assert cost.flop == 6 * multiplied + 12 * 32 * (11 + 1) / 2


@EACH
def test_counts_follow_from_the_layers(config):
    config = replace(config, n_layer=7)
    parameters = GPT(config).params.parameters
    assert count_parameters(config) == sum(parameter.size for parameter in parameters)
    wider = replace(config, vocab_size=101)
    assert count_layer_parameters(wider) == count_layer_parameters(config) < count_parameters(config)
    assert sum(n for _, n in blocks_by_kind(config)) == 7
    one_by_one = sum(Block(i, "attention", config).cost(11).flop for i in range(7))
    outside = flop_per_token(config) - one_by_one
    tables = sum(p.size for p in parameters if p.name.startswith(("wpe", "wte.back")))
    of_outside = sum(p.size for p in parameters if not p.name.startswith("h."))
    untied = 0 if config.tied else config.vocab_size * 32
    assert outside == pytest.approx(6 * (of_outside - tables - untied))


def test_a_capped_head_holds_its_logits_twice():
    capped = replace(PLAIN, logit_cap=1.0)
    assert activation_floats(capped, 22) - activation_floats(PLAIN, 22) == 22 * 19


# ---- single parts --------------------------------------------------------------------------------


def test_positions_of_a_pattern_turn_where_it_says():
    tables = [
        ops.rope_tables(*rotation[:3], np.float64, *rotation[3:]) for rotation in rotations("rope none")
    ]
    np.testing.assert_array_equal(tables[0], reference.rope_tables(11, 8))
    assert (tables[1][0] == 1).all() and (tables[1][1] == 0).all()


def rotations(positions, **more):
    config = replace(PLAIN, positions=positions, **more)
    return [config.rotation_of(layer) for layer in range(2)]


def test_a_share_of_the_channels_turns_as_a_smaller_head_would():
    (rotation, _) = rotations("rope", rope_share=0.5)
    cos, sin = reference.rope_tables(11, 8, n_pairs=rotation.n_pairs)
    np.testing.assert_array_equal((cos[:, :2], sin[:, :2]), reference.rope_tables(11, 4))
    assert (sin[:, 2:] == 0).all()


def test_scaled_positions_reach_as_much_farther():
    """linear: position 4 t is where t was; ntk: that of the slowest pair, and the fastest stays."""
    plain, linear, ntk = (
        reference.rope_tables(*rotation[:3], np.float64, *rotation[3:])[1]
        for rotation in (
            rotations("rope")[0],
            rotations("rope", rope_scaling="linear", rope_factor=4.0)[0],
            rotations("rope", rope_scaling="ntk", rope_factor=4.0)[0],
        )
    )
    np.testing.assert_allclose(linear[4::4], plain[1:3])
    np.testing.assert_allclose(ntk[4::4, -1], plain[1:3, -1])
    np.testing.assert_allclose(ntk[:, 0], plain[:, 0])


@pytest.mark.parametrize("n_embd, plain, gated", [(384, 1536, 1024), (768, 3072, 2048), (32, 128, 128)])
def test_an_mlp_is_as_wide_as_its_kind_asks(n_embd, plain, gated):
    config = replace(PLAIN, n_embd=n_embd)
    assert (inner_width(config, False), inner_width(config, True)) == (plain, gated)
    assert inner_width(replace(config, n_inner=7), True) == 7


def test_value_embeddings_stand_in_every_second_layer_up_to_the_last():
    config = replace(PLAIN, n_layer=5, value_embedding=2)
    assert [config.has_value_embedding(i) for i in range(5)] == [True, False, True, False, True]


def test_new_parts_begin_as_if_they_were_not_there():
    """Gates of value embeddings at 1, mixes at the stream alone, biases and zeroed outputs at nought."""
    ids = tokens("ids", 2, 11)
    plain = GPT(PLAIN).init(3).logits(ids)
    for change in ({"embedding_mix": True}, {"bias": "qkv proj mlp"}):
        assert (GPT(replace(PLAIN, **change)).init(3).logits(ids) == plain).all(), change
    valued = GPT(replace(PLAIN, value_embedding=1)).init(3)
    assert (valued.logits(ids) != plain).any()
    model = GPT(replace(PLAIN, init_out="zero", **BIASED)).init(3)
    assert not any(
        model.params[f"h.{i}.{name}.proj.weight"].any() for i in range(2) for name in ("attn", "mlp")
    )


def test_initial_values_are_of_their_kind():
    config = ModelConfig(2, 2, 64, 16, 500, init_std=0.05, init="uniform", tied=False, init_out="plain")
    config = replace(config, init_embedding_std=0.8, init_head_std=0.001)
    params = GPT(config).init(1).params
    assert params["wte.weight"].std() == pytest.approx(0.8, rel=0.02)
    assert params["head.weight"].std() == pytest.approx(0.001, rel=0.02)
    for name in ("h.0.attn.qkv.weight", "h.1.mlp.proj.weight"):
        assert params[name].std() == pytest.approx(0.05, rel=0.02)
        assert np.abs(params[name]).max() <= 0.05 * np.sqrt(3)


def test_a_soft_cap_bounds_logits_wherever_they_are_made():
    config = replace(PLAIN, logit_cap=0.5, init_std=2.0)
    model, ids = GPT(config).init(0), tokens("ids", 1, 11)
    logits = model.logits(ids)
    assert 0.4 < np.abs(logits).max() <= 0.5
    state = model.new_state()
    np.testing.assert_allclose(model.next_logits([(state, ids[0])])[0], logits[0, -1], atol=1e-5)


@pytest.mark.parametrize(
    "change, line",
    [
        (
            {"bias": "qkv everything"},
            "bias 'everything' is not known; expected qkv, proj, mlp, norm, head, none",
        ),
        ({"bias": "none qkv"}, "bias 'none qkv': none stands alone"),
        ({"bias": "norm"}, "bias norm: an rmsnorm has none; take layernorm"),
        ({"bias": "head"}, "bias head: a tied head has none; take --no-tied"),
        ({"positions": "rope learned"}, "positions 'rope learned': learned stands alone"),
        ({"positions": ""}, "positions '' is not known; expected rope, none, learned"),
        ({"init_head_std": 0.1}, "init_head_std 0.1: a tied head is the embedding; take 0, or --no-tied"),
        ({"qk_norm_after_rope": True}, "qk_norm_after_rope: there is no qk_norm"),
        ({"rope_factor": 2.0}, "rope_factor: choose a rope_scaling"),
        ({"rope_share": 0.2}, "rope_share 0.2 of heads of 8 turns no pair of channels"),
        ({"rope_factor": 0.5}, "rope_factor is 0.5; expected 1 or more, below 1e+300"),
        ({"mlp": "tanh"}, f"mlp is tanh; expected {' or '.join(MLPS)}"),
        ({"norm_place": "between"}, "norm_place is between; expected before or after or both"),
        ({"value_embedding": 65}, "value_embedding is 65; expected 0 to 64"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(change, line):
    with pytest.raises(ConfigError) as refused:
        replace(PLAIN, **change)
    assert str(refused.value) == line


def test_a_model_saved_before_there_were_these_parts_has_none_of_them():
    values = PLAIN.to_dict()
    old = {name: values[name] for name in ("n_layer", "n_head", "n_embd", "seq_len", "vocab_size")}
    assert ModelConfig.from_dict(old) == replace(PLAIN, dropout=0.0, init_std=0.02)


@pytest.mark.parametrize(
    "name, changes, heads",
    [
        ("34m-llama", {}, (12, 4)),
        ("34m-llama", {"n_embd": 512}, (16, 4)),
        ("34m", {"n_embd": 512}, (16, 16)),
        ("34m", {"n_embd": 512, "n_head": 8}, (8, 8)),
        ("34m-llama", {"n_head": 6}, (6, 2)),
        ("34m-llama", {"n_embd": 32}, (1, 1)),
        ("34m-llama", {"n_embd": 768, "n_kv_head": 3}, (24, 3)),
        ("1b", {"n_embd": 1024}, (16, 2)),
    ],
)
def test_heads_of_a_preset_keep_their_size_at_another_width(name, changes, heads):
    made = ModelConfig.from_preset(name, 4261, **changes).heads
    assert (made.H, made.H_kv) == heads


def test_a_tied_head_for_a_preset_that_has_its_own_is_refused_by_what_was_typed():
    with pytest.raises(ConfigError, match=r"--preset 10m-untied --tied: .*leave --tied out, .*-std 0"):
        ModelConfig.from_preset("10m-untied", 4261, tied=True)
    assert ModelConfig.from_preset("10m-untied", 4261, tied=True, init_head_std=0.0).tied


def test_all_kinds_of_mlp_are_offered_and_presets_are_models():
    assert set(ACTIVATIONS) >= {"gelu", "gelu_exact", "relu2", "swiglu", "geglu"}
    for name in PRESETS:
        assert flop_per_token(ModelConfig.from_preset(name, 4261)) > 0
