"""Recurrent layers compute what outside implementations compute."""

import numpy as np
import pytest

from microgpt.core import ops, recurrent
from microgpt.model.block import Block, Branch
from microgpt.model.kinds import MIXERS
from microgpt.model.layer import Call

from . import outside

BAR = {np.float32: 5e-5, np.float64: 2e-5}


@pytest.mark.parametrize("dtype", BAR)
def test_mamba2_is_that_of_transformers_with_all_gradients(dtype):
    theirs, config = outside.load("mamba2_tiny"), outside.config(mamba_state=16)
    ids = theirs["ids"].astype(np.int32)
    layers = [
        Branch(f"h.{i}", f"h.{i}.ln_1", MIXERS["mamba2"](f"h.{i}", 1 + i, config), config) for i in (0, 1)
    ]
    values = outside.mamba2(theirs, 0) | outside.mamba2(theirs, 1)
    p = outside.arena([w for layer in layers for w in layer.parameters()], values, dtype)
    g, call = p.zeros_like(), Call(*ids.shape)
    table, gain, head = (
        theirs[name].astype(dtype)
        for name in ("backbone.embeddings.weight", "backbone.norm_f.weight", "lm_head.weight")
    )
    x, saved = ops.embedding_forward(table, ids.reshape(-1)), []
    for layer in layers:
        x, kept = layer.forward(x, p, call)
        saved.append(kept)
    normed, rstd = ops.rmsnorm_forward(x, gain)
    logits = ops.linear_forward(normed, head)
    assert np.abs(logits.reshape(theirs["logits"].shape) - theirs["logits"]).max() <= BAR[dtype]
    targets = np.pad(ids[:, 1:], ((0, 0), (0, 1)), constant_values=-1).reshape(-1)
    losses, lse = ops.cross_entropy_forward(logits, targets)
    n = (targets >= 0).sum()
    assert losses.sum() / n == pytest.approx(float(theirs["loss"]), abs=1e-5)
    d_logits = ops.cross_entropy_backward(logits, lse, targets, 1 / n)
    d_gain, d_head, d_table = (np.zeros_like(w) for w in (gain, head, table))
    dx = ops.linear_backward(d_logits, normed, head, d_head)
    dx = ops.rmsnorm_backward(dx, x, gain, rstd, d_gain, np.zeros_like(x))
    for layer in reversed(layers):
        dx = layer.backward(dx, saved.pop(), p, g, call)
    ops.embedding_backward(dx, ids.reshape(-1), d_table)
    wanted = outside.mamba2(theirs, 0, "grad/") | outside.mamba2(theirs, 1, "grad/")
    found = {name: g[name] for name in g}
    for name, ours in (("backbone.embeddings", d_table), ("backbone.norm_f", d_gain), ("lm_head", d_head)):
        found[name], wanted[name] = ours, theirs[f"grad/{name}.weight"]
    for name, grad in wanted.items():
        assert np.abs(found[name] - grad.reshape(found[name].shape)).max() <= BAR[dtype], name


def layernorm(x, t, name, dtype):
    return ops.layernorm_forward(x, t[f"{name}.weight"].astype(dtype), t[f"{name}.bias"].astype(dtype))[0]


@pytest.mark.parametrize("dtype", BAR)
@pytest.mark.parametrize("kind", ["rwkv7", "rwkv6"])
def test_rwkv_is_that_of_its_package(kind, dtype):
    theirs, config = outside.load(f"{kind}_tiny"), outside.config(mixer=kind, mlp=kind)
    blocks = [Block(i, kind, config) for i in (0, 1)]
    names = getattr(outside, kind)
    parameters = [w for b in blocks for part in (b.mixer, b.mlp) for w in part.parameters()]
    p = outside.arena(parameters, names(theirs, 0) | names(theirs, 1), dtype)
    ids = theirs["tokens"].astype(np.int32)
    x, call = ops.embedding_forward(theirs["emb.weight"].astype(dtype), ids), Call(1, len(ids))
    x = layernorm(x, theirs, "blocks.0.ln0", dtype)
    for i, block in enumerate(blocks):
        for norm, layer in (("ln1", block.mixer), ("ln2", block.mlp)):
            x = x + layer.forward(layernorm(x, theirs, f"blocks.{i}.{norm}", dtype), p, call)[0]
    logits = ops.linear_forward(layernorm(x, theirs, "ln_out", dtype), theirs["head.weight"].astype(dtype))
    assert np.abs(logits - theirs["logits"]).max() <= BAR[dtype]


def rows(x, dtype):
    """(1, H, T, n) of theirs -> (1, T, H n)."""
    return np.ascontiguousarray(x.transpose(0, 2, 1, 3).reshape(1, x.shape[2], -1).astype(dtype))


@pytest.mark.parametrize("dtype", BAR)
def test_the_recurrence_of_rwkv7_and_its_gradients_are_those_of_fla(dtype):
    t = {name[3:]: x for name, x in outside.load("rwkv_core_grads").items() if name.startswith("v7/")}
    r, k, v, kk, a, log_w, dy = (rows(t[name], dtype) for name in ("r", "k", "v", "kk", "a", "logw", "do"))
    inputs = [r, np.exp(log_w), k, v, kk, kk * a, 2]
    y, after = recurrent.wkv7_forward(*inputs)
    dr, dw, dk, dv, dkk, db = recurrent.wkv7_backward(dy, *inputs)
    found = {
        "o": y,
        "dr": dr,
        "dk": dk,
        "dv": dv,
        "dkk": dkk + db * a,
        "da": db * kk,
        "dlogw": dw * np.exp(log_w),
    }
    for name, ours in found.items():
        assert np.abs(ours - rows(t[name], dtype)).max() <= BAR[dtype], name
    assert np.abs(after - t["S_key_value"]).max() <= BAR[dtype]


@pytest.mark.parametrize("dtype", BAR)
def test_the_recurrence_of_rwkv6_and_its_gradients_are_those_of_fla(dtype):
    t = {name[3:]: x for name, x in outside.load("rwkv_core_grads").items() if name.startswith("v6/")}
    r, k, v, log_w, dy = (rows(t[name], dtype) for name in ("r", "k", "v", "logw", "do"))
    inputs = [r, k, v, np.log(-log_w), t["u"].reshape(-1).astype(dtype), 2]
    y, after = recurrent.wkv6_forward(*inputs)
    du = np.zeros_like(inputs[4])
    dr, dk, dv, d_decay = recurrent.wkv6_backward(dy, *inputs, du)
    found = {"o": y, "dr": dr, "dk": dk, "dv": dv, "dlogw": d_decay / log_w}
    for name, ours in found.items():
        assert np.abs(ours - rows(t[name], dtype)).max() <= BAR[dtype], name
    assert np.abs(du - t["du"].reshape(-1)).max() <= BAR[dtype]
    assert np.abs(after - t["S"]).max() <= BAR[dtype]
