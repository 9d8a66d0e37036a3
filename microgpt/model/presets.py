"""Sizes of models by name, as settings of a `ModelConfig` but for the vocabulary."""

from typing import Any


def _preset(n_embd: int, n_layer: int, n_head: int, seq_len: int, **others: Any) -> dict[str, Any]:
    return {"n_embd": n_embd, "n_layer": n_layer, "n_head": n_head, "seq_len": seq_len, **others}


# Presets are named by what they count to, within 5 %, with a vocabulary of 4261 or of these (10m is then
# 10,003,712; the quickstart has 1261).
COUNTED_WITH = 4261
COUNTED_WITH_OTHERS = {"1m": 1361, "10m": 2188, "10m-untied": 2188, "10m-rwkv7": 2188, "125m-llama": 49_152}
_ROAD = {"dropout": 0.1}
# An untied head, paid in layers, which begins at zero as all that goes into the residual stream does.
_UNTIED = {"tied": False, "init_head_std": 1e-5, "init_out": "zero", "embedding_norm": True, **_ROAD}
_FUSION = {"mixer": "rwkv7+mamba2", "mlp": "rwkv7", "fusion": "channel"}
PRESETS: dict[str, dict[str, Any]] = {
    "tiny": _preset(32, 2, 2, 64),
    "1m": _preset(128, 4, 4, 256),
    "3.5m": _preset(192, 6, 6, 256),
    "8m": _preset(256, 9, 8, 256),
    "10m": _preset(256, 12, 8, 256, **_ROAD),
    "10m-untied": _preset(256, 11, 8, 256, **_UNTIED),
    "10m-rwkv7": _preset(256, 10, 8, 256, mixer="rwkv7", mlp="rwkv7", **_UNTIED),
    "25m": _preset(384, 13, 12, 512, **_ROAD),
    "30m": _preset(384, 16, 12, 512, **_ROAD),
    "34m": _preset(384, 18, 12, 512, **_ROAD),
    "34m-untied": _preset(384, 17, 12, 512, **_UNTIED),
    "34m-moe": _preset(384, 11, 12, 512, mlp="moe", **_ROAD),  # of which a token meets 21m
    "34m-llama": _preset(384, 21, 12, 512, n_kv_head=4, mlp="swiglu", **_ROAD),
    "125m": _preset(768, 17, 12, 1024, dropout=0.1),
    "125m-llama": _preset(768, 14, 12, 1024, n_kv_head=4, mlp="swiglu", dropout=0.1),
    "350m": _preset(1024, 28, 16, 1024, dropout=0.1),
    "30m-rwkv7": _preset(384, 14, 12, 512, mixer="rwkv7", mlp="rwkv7", **_ROAD),
    "30m-mamba2": _preset(384, 13, 12, 512, mixer="mamba2", **_ROAD),
    "3.5m-fusion": _preset(128, 8, 4, 256, **_FUSION),
    "8m-fusion": _preset(192, 10, 6, 256, **_FUSION),
    "30m-fusion": _preset(384, 10, 12, 512, **_FUSION, **_ROAD),
    "125m-fusion": _preset(768, 11, 12, 1024, **_FUSION, **_ROAD),
    "1b": _preset(2048, 22, 32, 2048, n_kv_head=4, mlp="swiglu"),
}


def heads_at_width(preset: dict[str, Any], overrides: dict[str, Any]) -> dict[str, int]:
    """Numbers of heads of a preset whose width, or number of heads, is changed."""
    n_head, n_kv_head = preset["n_head"], preset.get("n_kv_head", 0)
    width, hs = overrides.get("n_embd", preset["n_embd"]), preset["n_embd"] // n_head
    wanted = overrides.get("n_head", width // hs if width % hs == 0 else n_head)
    shared = max(
        (n for n in range(1, wanted * n_kv_head // n_head + 1) if wanted % n == 0), default=min(n_kv_head, 1)
    )
    return {"n_head": wanted, "n_kv_head": shared}
