"""Weights of outside implementations under our names, and what those make of them.

mamba2_tiny.npz: transformers 5.24, Mamba2ForCausalLM.  rwkv6_tiny.npz, rwkv7_tiny.npz: rwkv 0.8.32, sequence
mode.  rwkv_core_grads.npz: fla-core 0.6.0, its naive functions with autograd.  Random weights, in float32.
"""

from pathlib import Path

import numpy as np

from microgpt.model import ModelConfig
from microgpt.model.parameters import Arena

HERE = Path(__file__).parent


def load(name):
    with np.load(HERE / f"{name}.npz") as file:
        return {key: file[key] for key in file.files}


def config(**others):
    return ModelConfig(n_layer=2, n_head=4, n_embd=64, seq_len=64, vocab_size=97, recurrent_head=16, **others)


def arena(parameters, values, dtype):
    """An arena of some parameters, filled."""
    p = Arena(parameters, dtype)
    assert set(p) == set(values)
    for name in p:
        p[name][:] = values[name].reshape(p[name].shape)
    return p


def mamba2(theirs, i, prefix=""):
    """Ours of layer i, of weights or, with the prefix grad/, of gradients."""
    t = {
        name.removeprefix(f"{prefix}backbone.layers.{i}."): x
        for name, x in theirs.items()
        if name.startswith(f"{prefix}backbone.layers.{i}.")
    }
    gate, inner, dt = np.split(t["mixer.in_proj.weight"], [128, 288])
    at = f"h.{i}.mamba2"
    return {
        f"h.{i}.ln_1.weight": t["norm.weight"],
        f"{at}.gate.weight": gate,
        f"{at}.inner.weight": inner,
        f"{at}.dt.weight": dt,
        f"{at}.out.weight": t["mixer.out_proj.weight"],
        f"{at}.conv.weight": t["mixer.conv1d.weight"][:, 0, ::-1].T,
        f"{at}.conv.bias": t["mixer.conv1d.bias"],
        f"{at}.dt_bias": t["mixer.dt_bias"],
        f"{at}.A_log": t["mixer.A_log"],
        f"{at}.D": t["mixer.D"],
        f"{at}.norm.weight": t["mixer.norm.weight"],
    }


def layer_of(theirs, i):
    return {
        name.removeprefix(f"blocks.{i}."): x for name, x in theirs.items() if name.startswith(f"blocks.{i}.")
    }


def widened(down, up):
    """Ours of a small network (in, rank) and (rank, out) of theirs, with zeros up to the rank of ours."""
    more = 32 - down.shape[1] % 32 if down.shape[1] % 32 else 0
    return np.pad(down, ((0, 0), (0, more))).T, np.pad(up, ((0, more), (0, 0))).T


def low_rank(at, down, up, bias=None):
    down, up = widened(down, up)
    return {f"{at}.down.weight": down, f"{at}.up.weight": up} | ({} if bias is None else {f"{at}.bias": bias})


def rwkv7(theirs, i):
    """Ours of layer i: mixer and MLP."""
    t, at = layer_of(theirs, i), f"h.{i}.rwkv7"
    values = {
        f"{at}.mix": np.stack([t[f"att.x_{name}"][0, 0] for name in "rwkvag"]),
        f"{at}.receptance.weight": t["att.receptance.weight"],
        f"{at}.key.weight": t["att.key.weight"],
        f"{at}.value.weight": t["att.value.weight"],
        f"{at}.out.weight": t["att.output.weight"],
        **low_rank(f"{at}.decay", t["att.w1"], t["att.w2"], t["att.w0"]),
        **low_rank(f"{at}.rate", t["att.a1"], t["att.a2"], t["att.a0"]),
        **low_rank(f"{at}.gate", t["att.g1"], t["att.g2"]),
        f"{at}.norm.weight": t["att.ln_x.weight"],
        f"{at}.norm.bias": t["att.ln_x.bias"],
        **{f"{at}.{name}": t[f"att.{name}"] for name in ("k_k", "k_a", "r_k")},
        f"h.{i}.mlp.mix": t["ffn.x_k"],
        f"h.{i}.mlp.fc.weight": t["ffn.key.weight"],
        f"h.{i}.mlp.proj.weight": t["ffn.value.weight"],
    }
    return values | (low_rank(f"{at}.lerp", t["att.v1"], t["att.v2"], t["att.v0"]) if i else {})


def rwkv6(theirs, i):
    """Ours of layer i: mixer and MLP."""
    t, at = layer_of(theirs, i), f"h.{i}.rwkv6"
    rank = t["att.time_maa_w2"].shape[1]
    downs = np.split(t["att.time_maa_w1"], 5, 1)
    mixes = {}
    for name, down, up in zip("wkvrg", downs, t["att.time_maa_w2"], strict=True):
        mixes |= low_rank(f"{at}.mix_{name}", down, up)
    assert rank == downs[0].shape[1]
    return {
        f"{at}.first_mix": t["att.time_maa_x"],
        f"{at}.mix": np.stack([t[f"att.time_maa_{name}"][0, 0] for name in "wkvrg"]),
        **mixes,
        **low_rank(f"{at}.decay", t["att.time_decay_w1"], t["att.time_decay_w2"], t["att.time_decay"]),
        f"{at}.receptance.weight": t["att.receptance.weight"],
        f"{at}.key.weight": t["att.key.weight"],
        f"{at}.value.weight": t["att.value.weight"],
        f"{at}.gate.weight": t["att.gate.weight"],
        f"{at}.out.weight": t["att.output.weight"],
        f"{at}.bonus": t["att.time_faaaa"],
        f"{at}.norm.weight": t["att.ln_x.weight"],
        f"{at}.norm.bias": t["att.ln_x.bias"],
        f"h.{i}.mlp.mix": np.concatenate([t["ffn.time_maa_k"][0], t["ffn.time_maa_r"][0]]),
        f"h.{i}.mlp.fc.weight": t["ffn.key.weight"],
        f"h.{i}.mlp.receptance.weight": t["ffn.receptance.weight"],
        f"h.{i}.mlp.proj.weight": t["ffn.value.weight"],
    }
