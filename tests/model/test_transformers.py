"""Our GPT is a model that others know: `transformers`' Arcee with a GELU, to the last gradient."""

import numpy as np
import pytest

from microgpt.core import random
from microgpt.core.reference import NORM_EPS
from microgpt.model import GPT, Batch, ModelConfig

pytestmark = pytest.mark.oracle("torch", "transformers")

CONFIGS = {
    "own keys": ModelConfig(2, 4, 32, 19, 61, init_std=0.2),
    "shared keys": ModelConfig(3, 6, 48, 19, 61, n_kv_head=2, rope_theta=500.0, init_std=0.2),
}


def normal(name, shape):
    return random.normal(random.key(3, name), int(np.prod(shape))).reshape(shape).astype(np.float32)


def arcee(config, hidden_act):
    """Random weights in their model, norms too."""
    import torch
    from transformers import ArceeConfig, ArceeForCausalLM

    theirs = ArceeForCausalLM(
        ArceeConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.n_embd,
            intermediate_size=4 * config.n_embd,
            num_hidden_layers=config.n_layer,
            num_attention_heads=config.n_head,
            num_key_value_heads=config.heads.H_kv,
            max_position_embeddings=config.seq_len,
            hidden_act=hidden_act,
            rms_norm_eps=NORM_EPS,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
            tie_word_embeddings=True,
            attn_implementation="eager",
            bos_token_id=None,
            eos_token_id=None,
            pad_token_id=None,
        )
    )
    with torch.no_grad():
        for name, weight in theirs.named_parameters():
            draws = torch.from_numpy(normal(name, tuple(weight.shape)))
            weight.copy_(1 + 0.3 * draws if "norm" in name else 0.2 * draws)
    return theirs


def by_our_names(tensors, n_layer):
    """Their arrays by the names of our parameters: queries, keys and values one below the other."""
    ours = {"wte.weight": tensors["model.embed_tokens.weight"], "ln_f.weight": tensors["model.norm.weight"]}
    for i in range(n_layer):
        at, layer = f"h.{i}.", f"model.layers.{i}."
        qkv = [tensors[f"{layer}self_attn.{name}_proj.weight"] for name in "qkv"]
        ours |= {
            at + "ln_1.weight": tensors[layer + "input_layernorm.weight"],
            at + "attn.qkv.weight": np.concatenate(qkv),
            at + "attn.proj.weight": tensors[layer + "self_attn.o_proj.weight"],
            at + "ln_2.weight": tensors[layer + "post_attention_layernorm.weight"],
            at + "mlp.fc.weight": tensors[layer + "mlp.up_proj.weight"],
            at + "mlp.proj.weight": tensors[layer + "mlp.down_proj.weight"],
        }
    return ours


@pytest.mark.parametrize("hidden_act", ["gelu_pytorch_tanh", "gelu_new"])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_same_function_as_arcee(config, hidden_act):
    """Logits, loss and every gradient."""
    import torch

    draws = random.uniform(random.key(4, "ids"), 3 * (config.seq_len + 1))
    ids = (draws * config.vocab_size).astype(np.int32).reshape(3, -1)
    inputs, targets = np.ascontiguousarray(ids[:, :-1]), np.ascontiguousarray(ids[:, 1:])
    theirs, ours = arcee(config, hidden_act), GPT(config).init(0)
    weights = {name: weight.detach().numpy() for name, weight in theirs.named_parameters()}
    mapped = by_our_names(weights, config.n_layer)
    assert set(mapped) == set(ours.params)
    for name, weight in mapped.items():
        ours.params[name][:] = weight

    logits = theirs(input_ids=torch.from_numpy(inputs).long()).logits
    assert (
        np.abs(ours.logits(inputs) - logits.detach().numpy()).max()
        <= 2e-5 * np.abs(logits.detach().numpy()).max()
    )

    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.from_numpy(targets).long().flatten())
    loss.backward()
    nats, n = ours.loss_and_grad(Batch(inputs, targets))
    assert n == targets.size and nats / n == pytest.approx(loss.item(), rel=1e-5)
    grads = {name: weight.grad.numpy() for name, weight in theirs.named_parameters()}
    for name, wanted in by_our_names(grads, config.n_layer).items():
        error = np.abs(ours.grads[name] / n - wanted).max()
        assert error <= 1e-4 * np.abs(wanted).max(), name
