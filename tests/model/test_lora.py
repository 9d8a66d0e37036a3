"""Adapters: their gradients beside every kind of matrix, what stays as it is, and peft's numbers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from microgpt.common.errors import ConfigError
from microgpt.core import native, random
from microgpt.core.ops import bf16_bits, bf16_floats
from microgpt.files.tensors import read_into, shapes_in
from microgpt.model import GPT, Batch, ModelConfig, count_parameters
from microgpt.model.architecture import flop_per_token, stored
from microgpt.model.kinds import MIXERS, MLPS
from tests.model.hf_names import FAMILIES
from tests.model.test_hf_tiny import HERE, batch_of, tensors_of

PLAIN = ModelConfig(
    2,
    4,
    16,
    9,
    19,
    init_std=0.3,
    balance_loss=0.0,
    lora_rank=2,
    lora_alpha=3.0,
    lora_dropout=0.25,
    recurrent_head=8,
)
BUILT_IN = {"gelu", "gelu_exact", "relu2", "swiglu", "geglu", "rwkv6", "rwkv7", "moe"}
KINDS = {
    **{f"mlp {kind}": replace(PLAIN, mlp=kind, n_inner=12 if kind in BUILT_IN else 0) for kind in MLPS},
    **{f"mixer {kind}": replace(PLAIN, mixer=kind) for kind in MIXERS},
    "experts": replace(PLAIN, mlp="moe", shared_expert_inner=8, n_expert=3, expert="swiglu", expert_inner=6),
    "two mixers": replace(PLAIN, mixer="rwkv7+mamba2", fusion="concat", mamba_state=4),
    "biases, fewer keys": replace(PLAIN, bias="qkv proj mlp", n_kv_head=2, value_embedding=1, dropout=0.2),
}
KEYS = random.keys(0, "dropout of adapters", range(2))


def lively(config, dtype=np.float64, **more):
    """A model whose adapters say something, too."""
    model = GPT(config, dtype, **more).init(5)
    for parameter in model.params.parameters:
        if parameter.kind == "gain" or parameter.init == "zeros" or parameter.values:
            shift = random.normal(random.key(1, parameter.name), parameter.size)
            model.params[parameter.name][:] += 0.3 * shift.reshape(parameter.shape)
    return model


def tokens(name, B=2, T=9, V=19):
    return (random.uniform(random.key(0, name), B * T) * V).astype(np.int32).reshape(B, T)


def batch():
    """With weights of both signs, targets that are not scored, and two documents in a row."""
    targets = tokens("targets")
    targets[0, 3] = -1
    weights = random.normal(random.key(3, "weights"), 18).reshape(2, 9)
    return Batch(tokens("ids"), targets, weights, np.array([[0, 0, 0, 3, 3, 3, 3, 3, 3], [0] * 9], np.int32))


@pytest.mark.parametrize("config", KINDS.values(), ids=KINDS)
def test_gradients_of_a_masked_loss_are_the_derivatives(config):
    """Central differences in float64, a random direction of all adapters of a layer: either half."""
    model = lively(config)
    model.loss_and_grad(batch(), KEYS)
    assert all(name.endswith(("lora_a", "lora_b")) for name in model.grads)
    assert {name.split(".")[1] for name in model.grads} == {"0", "1"}
    probe = GPT(config, np.float64)
    for where in [(layer, part) for layer in ("h.0.", "h.1.") for part in ("lora_a", "lora_b")]:
        names = [name for name in model.grads if name.startswith(where[0]) and name.endswith(where[1])]
        d = {name: random.normal(random.key(2, name), model.grads[name].size) for name in names}
        nats = []
        for h in (1e-5, -1e-5):
            probe.params.flat[:] = model.params.flat
            for name in names:
                probe.params[name][:] += h * d[name].reshape(probe.params[name].shape)
            nats.append(probe.loss_and_grad(batch(), KEYS)[0])
        expected = sum(model.grads[name].reshape(-1) @ d[name] for name in names)
        size = max(np.abs(model.grads[name]).max() for name in names)
        length = np.sqrt(sum(d[name] @ d[name] for name in names))
        assert abs((nats[0] - nats[1]) / 2e-5 - expected) <= 1e-6 * size * length, where


@pytest.mark.parametrize("config", KINDS.values(), ids=KINDS)
def test_float32_agrees_with_float64_whatever_the_number_of_threads(config):
    truth, threads, bits = lively(config), native.threads(), set()
    nats, _ = truth.loss_and_grad(batch(), KEYS)
    try:
        for n in (1, 2):
            native.set_threads(n)
            model = lively(config, np.float32)
            assert model.loss_and_grad(batch(), KEYS)[0] == pytest.approx(nats, rel=1e-4, abs=1e-4)
            bits.add(model.grads.flat.tobytes())
    finally:
        native.set_threads(threads)
    assert len(bits) == 1
    for name, grad in model.grads.items():
        assert np.abs(grad - truth.grads[name]).max() <= 1e-4 * max(1, np.abs(truth.grads[name]).max()), name


def test_new_adapters_change_nothing_and_only_they_are_trained():
    config, base = replace(PLAIN, lora_dropout=0.0), replace(PLAIN, lora_rank=0)
    model, plain = GPT(config).init(1), GPT(base).init(1)
    assert model.logits(tokens("ids")).tobytes() == plain.logits(tokens("ids")).tobytes()
    n = sum(parameter.size for parameter in stored(config))
    assert model.grads.flat.size == n < plain.grads.flat.size
    assert model.params.flat.size == plain.params.flat.size + n == count_parameters(config)
    names = [parameter.name for parameter in stored(config)]
    assert names == list(model.params)[-len(names) :] and names == list(model.grads)
    assert flop_per_token(config) < flop_per_token(base)


def test_only_the_matrices_that_are_named_have_adapters():
    for words, found in (
        ("q v", {"q", "v"}),
        ("k_proj down_proj", {"k", "down"}),
        ("o gate up", {"o", "gate", "up"}),
    ):
        config = replace(PLAIN, lora_targets=words, mlp="swiglu", n_inner=12)
        assert {parameter.name.split(".")[-2] for parameter in stored(config)} == found
    shapes = {p.name: p.shape for p in stored(replace(PLAIN, lora_targets="k", n_kv_head=2))}
    assert shapes["h.0.attn.k.lora_a"] == (2, 16) and shapes["h.0.attn.k.lora_b"] == (8, 2)
    with pytest.raises(
        ConfigError, match=r"--lora-targets gate with --lora-rank 2: .* down, k, o, q, up, v$"
    ):
        GPT(replace(PLAIN, lora_targets="q gate"))
    GPT(replace(PLAIN, lora_rank=15))
    for rank in (16, 10**12):
        with pytest.raises(
            ConfigError, match=f"--lora-rank {rank}: expected 1 to 15, below the smaller side"
        ):
            GPT(replace(PLAIN, lora_rank=rank))
    with pytest.raises(ConfigError, match="base_weights bf16: only matrices that are not trained"):
        replace(PLAIN, lora_rank=0, base_weights="bf16")


def test_the_base_may_lie_in_bf16():
    config = replace(PLAIN, base_weights="bf16")
    stored_so, floats = lively(config, np.float32), lively(PLAIN, np.float32)
    for name, weight in stored_so.params.items():
        if weight.dtype == np.uint16:
            floats.params[name][:] = bf16_floats(bf16_bits(floats.params[name]))
        else:
            floats.params[name][:] = weight
    assert stored_so.params["h.0.attn.qkv.weight"].dtype == stored_so.params["wte.weight"].dtype == np.uint16
    found = [
        (model.loss_and_grad(batch(), KEYS), model.grads.flat.tobytes()) for model in (stored_so, floats)
    ]
    assert found[0] == found[1]


def test_decoding_and_recomputing_go_through_adapters():
    model, ids = lively(PLAIN), tokens("ids", 1)
    state = model.new_state()
    logits = [model.next_logits([(state, part)])[0] for part in (ids[0, :5], ids[0, 5:6], ids[0, 6:])]
    np.testing.assert_allclose(logits, model.logits(ids)[0, [4, 5, 8]], rtol=0, atol=1e-10)
    again = lively(PLAIN, recompute=True)
    assert model.loss_and_grad(batch(), KEYS) == again.loss_and_grad(batch(), KEYS)
    assert model.grads.flat.tobytes() == again.grads.flat.tobytes()


def test_logits_loss_and_gradients_are_those_of_peft():
    """Made with peft 0.21.2 over hf_tiny/llama: rank 4, alpha 8, on q_proj, v_proj and down_proj."""
    folder, here = HERE / "llama", Path(__file__).parent / "peft_lora_tiny"
    import json

    config, translate = FAMILIES["llama"](json.loads((folder / "config.json").read_text()))
    config = replace(
        config, lora_rank=4, lora_alpha=8.0, lora_dropout=0.0, lora_targets="q_proj v_proj down_proj"
    )
    model = GPT(config)
    for name, weight in translate(tensors_of(folder)).items():
        model.params[name][:] = weight
    file = here / "adapter_model.safetensors"
    tensors = {name: np.empty(shape, np.float32) for name, shape in shapes_in(file).items()}
    read_into(file, tensors)
    ours = {_ours(name): name for name in tensors}
    assert set(ours) == set(model.grads)
    for name, theirs in ours.items():
        model.params[name][:] = tensors[theirs]
    with np.load(here / "expected.npz") as expected:
        found = batch_of(expected["ids"])
        assert np.abs(model.logits(found.ids) - expected["logits"]).max() <= 1e-5
        nats, n = model.loss_and_grad(found)
        assert nats / n == pytest.approx(float(expected["loss"]), abs=1e-5)
        for name, theirs in ours.items():
            truth = expected[f"grad/{theirs}"]
            assert np.abs(model.grads[name] / n - truth).max() <= 1e-5, name


def _ours(name):
    """base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight -> h.0.attn.q.lora_a"""
    _, _, _, _, layer, part, target, which, _ = name.split(".")
    return f"h.{layer}.{part.removeprefix('self_')}.{target.removesuffix('_proj')}.{which.lower()}"
