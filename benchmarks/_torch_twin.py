"""The same GPT in plain PyTorch: the peer that a step is compared with, and tests compare results with.

Eager mode and nothing unusual: what a person who knows PyTorch writes.  It runs in a process of its own
(`_torch_peer`), a step each time a line with the number of threads comes in.
"""

import json
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812

from microgpt.core.reference import NORM_EPS
from microgpt.model import GPT, ModelConfig
from microgpt.training.thread_choice import trial_tokens


class Twin:
    """Pre-norm RMSNorm, rotary positions, causal SDPA, tanh-GELU or SwiGLU, tied head, fused AdamW.

    Args: weights: arrays by the parameter names of `GPT`; they are copied.
    """

    def __init__(self, config: ModelConfig, weights: Mapping[str, np.ndarray], bf16: bool = False) -> None:
        self.config, self.bf16 = config, bf16
        self.weights = {name: torch.tensor(array, requires_grad=True) for name, array in weights.items()}
        self.optimizer = torch.optim.AdamW(self.weights.values(), lr=1e-5, weight_decay=0.0, fused=True)
        hs = config.head_size
        frequencies = config.rope_theta ** (-torch.arange(0, hs, 2) / hs)
        angles = torch.arange(config.seq_len)[:, None] * frequencies
        self.cos, self.sin = angles.cos(), angles.sin()

    def loss(
        self, ids: torch.Tensor, targets: torch.Tensor, starts: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Mean nats per token, of targets that are not -1."""
        logits = self.logits(ids, starts)
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=-1)

    def logits(self, ids: torch.Tensor, starts: torch.Tensor | None = None) -> torch.Tensor:
        """(B, T, V).  starts: (B, T), where the document of each token begins in its row."""
        seen = None if starts is None else self._seen(starts)
        x = self._dropout(self._embedded(ids, starts))
        for layer in range(self.config.n_layer):
            x = x + self._dropout(self._attention(x, f"h.{layer}.", seen))
            x = x + self._dropout(self._mlp(x, f"h.{layer}."))
        return F.linear(self._norm(x, "ln_f.weight"), self.weights["wte.weight"])

    def _embedded(self, ids: torch.Tensor, starts: torch.Tensor | None) -> torch.Tensor:
        x = rows = F.embedding(ids, self.weights["wte.weight"])
        for k in range(1, self.config.look_back + 1):
            earlier = rows[:, :-k] * self.weights["wte.back"][k - 1]
            if starts is not None:
                earlier = earlier * (starts[:, k:] <= torch.arange(ids.shape[1] - k))[..., None]
            x = x + F.pad(earlier, (0, 0, k, 0))
        return x

    @staticmethod
    def _seen(starts: torch.Tensor) -> torch.Tensor:
        """Which positions each one sees, (B, 1, T, T)."""
        places = torch.arange(starts.shape[1])
        return ((places <= places[:, None]) & (places >= starts[..., None]))[:, None]

    def step(self, ids: torch.Tensor, targets: torch.Tensor) -> None:
        """One training step."""
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.bf16):
            loss = self.loss(ids, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.weights.values(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _attention(self, x: torch.Tensor, at: str, seen: torch.Tensor | None) -> torch.Tensor:
        B, T, C = x.shape
        qkv = F.linear(self._norm(x, at + "ln_1.weight"), self.weights[at + "attn.qkv.weight"])
        sizes = (C, self.config.heads.C_kv, self.config.heads.C_kv)
        parts = qkv.split(sizes, dim=-1)
        q, k, v = (part.view(B, T, -1, self.config.head_size).transpose(1, 2) for part in parts)
        y = F.scaled_dot_product_attention(
            self._rotated(q), self._rotated(k), v, seen, is_causal=seen is None, enable_gqa=True
        )
        return F.linear(y.transpose(1, 2).reshape(B, T, C), self.weights[at + "attn.proj.weight"])

    def _rotated(self, x: torch.Tensor) -> torch.Tensor:
        T = x.shape[-2]
        first, second = x.chunk(2, dim=-1)
        cos, sin = self.cos[:T], self.sin[:T]
        return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)

    def _mlp(self, x: torch.Tensor, at: str) -> torch.Tensor:
        hidden = F.linear(self._norm(x, at + "ln_2.weight"), self.weights[at + "mlp.fc.weight"])
        if self.config.mlp == "swiglu":
            gate, value = hidden.chunk(2, dim=-1)
            active = F.silu(gate) * value
        else:
            active = F.gelu(hidden, approximate="tanh")
        return F.linear(active, self.weights[at + "mlp.proj.weight"])

    def _norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return F.rms_norm(x, (x.shape[-1],), self.weights[name], NORM_EPS)

    def _dropout(self, x: torch.Tensor) -> torch.Tensor:
        return F.dropout(x, self.config.dropout) if self.config.dropout else x


def main(job: dict[str, Any]) -> None:
    """Answer each number of threads that comes in with the seconds of one step on so many."""
    config = ModelConfig.from_dict(job["model"])
    weights = GPT(config).init(0).params
    twin = Twin(config, {name: weights[name] for name in weights}, job["precision"] == "bf16")
    ids = torch.from_numpy(trial_tokens(config, job["batch_size"])).long()
    for line in sys.stdin:
        torch.set_num_threads(int(line))
        start = time.perf_counter()
        twin.step(ids, ids)
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
