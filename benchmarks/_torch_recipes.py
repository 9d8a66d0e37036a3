"""What people train with PyTorch today, to be compared with: nanoGPT's model and recipe, and nanochat's.

Both in plain eager PyTorch, made of what their authors say: nanoGPT (Karpathy 2022) is GPT-2 with AdamW and a
cosine; nanochat (Karpathy 2025) has rotary positions, norms without weights, normed queries and keys, squared
ReLU, an untied head, capped logits, and Muon for its matrices.  Each trains in turns (`_turns`) for a given
time, by which its learning rate falls.
"""

import json
import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from microgpt.training.muon import MOMENTUM, POLYNOMIALS

from ._turns import TurnClock, say

CLIP, POINTS = 1.0, 12
WARM_UP, FLOOR = 0.03, 0.1  # of nanoGPT's cosine: shares of the time, of the rate
CAP = 15.0
EVAL_ROWS = 8


def rms(x: torch.Tensor) -> torch.Tensor:
    """RMSNorm without weights."""
    return F.rms_norm(x, x.shape[-1:])


def causal(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Attention of (B, H, T, hs), as (B, T, C)."""
    return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)


class NanoGPTBlock(nn.Module):
    """Attention and a GELU MLP, each behind a LayerNorm without bias."""

    def __init__(self, C: int, H: int) -> None:
        super().__init__()
        self.H = H
        self.ln_1, self.ln_2 = nn.LayerNorm(C, bias=False), nn.LayerNorm(C, bias=False)
        self.qkv, self.attention_out = nn.Linear(C, 3 * C, bias=False), nn.Linear(C, C, bias=False)
        self.up, self.mlp_out = nn.Linear(C, 4 * C, bias=False), nn.Linear(4 * C, C, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        heads = [u.unflatten(-1, (self.H, -1)).transpose(1, 2) for u in self.qkv(self.ln_1(x)).chunk(3, -1)]
        x = x + self.attention_out(causal(*heads))
        return x + self.mlp_out(F.gelu(self.up(self.ln_2(x))))


class NanoGPT(nn.Module):
    """GPT-2: learned positions, tied head."""

    def __init__(self, V: int, T: int, C: int, L: int, H: int) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(V, C), nn.Embedding(T, C)
        self.blocks, self.ln_f = (
            nn.Sequential(*(NanoGPTBlock(C, H) for _ in range(L))),
            nn.LayerNorm(C, bias=False),
        )
        for name, p in self.named_parameters():
            if p.ndim == 2:
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * L) if "_out" in name else 0.02)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.wte(ids) + self.wpe.weight[: ids.shape[1]]
        return F.linear(self.ln_f(self.blocks(x)), self.wte.weight)

    def optimizers(self, _: torch.dtype) -> list[torch.optim.Optimizer]:
        """AdamW, whose decay is of matrices alone."""
        matrices = [p for p in self.parameters() if p.ndim == 2]
        others = [p for p in self.parameters() if p.ndim < 2]
        groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
        return [torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), fused=True)]

    @staticmethod
    def rate(share: float) -> float:
        """Of the peak, after a share of the time: a warm-up, then a cosine to a tenth."""
        cosine = FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * share))
        return min(1.0, (share + 1e-3) / WARM_UP) * cosine


class NanochatBlock(nn.Module):
    """Attention with rotary positions and normed queries and keys, and a squared ReLU."""

    def __init__(self, C: int, H: int) -> None:
        super().__init__()
        self.H = H
        self.q, self.k, self.v, self.attention_out = (nn.Linear(C, C, bias=False) for _ in range(4))
        self.up, self.mlp_out = nn.Linear(C, 4 * C, bias=False), nn.Linear(4 * C, C, bias=False)

    def forward(self, x: torch.Tensor, turn: torch.Tensor) -> torch.Tensor:
        y = rms(x)
        q, k, v = (f(y).unflatten(-1, (self.H, -1)).transpose(1, 2) for f in (self.q, self.k, self.v))
        x = x + self.attention_out(causal(rms(rotated(q, turn)), rms(rotated(k, turn)), v))
        return x + self.mlp_out(F.relu(self.up(rms(x))).square())


def rotated(x: torch.Tensor, turn: torch.Tensor) -> torch.Tensor:
    """Pairs (i, i + hs/2) of (B, H, T, hs) turned by (cos, sin) of (2, T, hs/2)."""
    (a, b), (cos, sin) = x.chunk(2, -1), turn.to(x.dtype)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), -1)


class Nanochat(nn.Module):
    """The model of nanochat in short."""

    def __init__(self, V: int, T: int, C: int, L: int, H: int) -> None:
        super().__init__()
        self.wte, self.head = nn.Embedding(V, C), nn.Linear(C, V, bias=False)
        self.blocks = nn.ModuleList(NanochatBlock(C, H) for _ in range(L))
        angles = torch.outer(torch.arange(T), 10_000.0 ** -(torch.arange(0, C // H, 2) / (C // H)))
        self.turn = torch.stack((angles.cos(), angles.sin()))
        for name, p in self.named_parameters():
            if "_out" in name or name.startswith("head"):
                nn.init.zeros_(p)
            elif name.startswith("wte"):
                nn.init.normal_(p)
            else:
                nn.init.uniform_(p, -math.sqrt(3 / C), math.sqrt(3 / C))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = rms(self.wte(ids))
        for block in self.blocks:
            x = block(x, self.turn[:, : ids.shape[1]])
        return CAP * torch.tanh(self.head(rms(x)).float() / CAP)

    def optimizers(self, dtype: torch.dtype) -> list[torch.optim.Optimizer]:
        """AdamW for embedding and head, Muon for what lies between."""
        scale = (self.wte.embedding_dim / 768) ** -0.5
        groups = [
            {"params": [self.wte.weight], "lr": 0.2 * scale},
            {"params": [self.head.weight], "lr": 0.004 * scale},
        ]
        adam = torch.optim.AdamW(groups, betas=(0.8, 0.95), eps=1e-10, weight_decay=0.0, fused=True)
        return [adam, TorchMuon(self.blocks.parameters(), dtype)]

    @staticmethod
    def rate(share: float) -> float:
        """Of the peak, after a share of the time: level, and down in a line over the last half."""
        return min(1.0, 2 * (1 - share) + 0.02)


class TorchMuon(torch.optim.Optimizer):
    """`training.muon` for matrices, in PyTorch; in bf16, as its authors have it, where the run is."""

    def __init__(self, matrices: Any, dtype: torch.dtype) -> None:
        super().__init__(matrices, {"lr": 0.02})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable | None = None) -> None:  # type: ignore[override]
        """One update."""
        for group in self.param_groups:
            for p in group["params"]:
                m = self.state[p].setdefault("momentum", torch.zeros_like(p))
                m.lerp_(p.grad, 1 - MOMENTUM)
                update = orthogonal(p.grad.lerp(m, MOMENTUM).to(self.dtype)).float()
                p.add_(update, alpha=-group["lr"] * math.sqrt(max(1.0, p.shape[0] / p.shape[1])))


def orthogonal(x: torch.Tensor) -> torch.Tensor:
    """Newton-Schulz."""
    if x.shape[0] > x.shape[1]:
        return orthogonal(x.T).T
    x = x / (x.norm() + 1e-7)
    for a, b, c in POLYNOMIALS["newton-schulz"][0]:
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


RECIPES: dict[str, Any] = {"nanogpt": NanoGPT, "nanochat": Nanochat}


class Run:
    """A model that trains on windows drawn anywhere in a stream of tokens.

    job: recipe, train (file of ids), held_out (file of ids and targets of windows, -1 where none is scored),
    bytes (of the text of those targets), vocab_size, seq_len, n_embd, n_layer, n_head, batch_size, seconds,
    step_s (None: as long as it takes), seed, threads, precision.
    """

    def __init__(self, job: dict[str, Any]) -> None:
        torch.set_num_threads(job["threads"])
        torch.manual_seed(job["seed"])
        self.job, self.clock = job, TurnClock(job["step_s"])
        self.ids = torch.from_numpy(np.load(job["train"]).astype(np.int64))
        held_out = np.load(job["held_out"])
        self.held_out = [torch.from_numpy(held_out[name].astype(np.int64)) for name in ("ids", "targets")]
        shape = [job[name] for name in ("vocab_size", "seq_len", "n_embd", "n_layer", "n_head")]
        self.model = RECIPES[job["recipe"]](*shape)
        self.is_bf16 = job["precision"] == "bf16"
        self.optimizers = self.model.optimizers(torch.bfloat16 if self.is_bf16 else torch.float32)
        self.peaks = [[group["lr"] for group in o.param_groups] for o in self.optimizers]

    def loss(self, ids: torch.Tensor, targets: torch.Tensor, reduction: str = "mean") -> torch.Tensor:
        """Nats of targets that are not -1."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.is_bf16):
            logits = self.model(ids)
        return F.cross_entropy(
            logits.flatten(0, 1).float(), targets.flatten(), ignore_index=-1, reduction=reduction
        )

    def step(self) -> None:
        """One update."""
        T, share = self.job["seq_len"], self.clock.now() / self.job["seconds"]
        self.clock.start()
        for optimizer, peaks in zip(self.optimizers, self.peaks, strict=True):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * self.model.rate(min(1.0, share))
        starts = torch.randint(len(self.ids) - T, (self.job["batch_size"], 1))
        windows = self.ids[starts + torch.arange(T + 1)]
        self.loss(windows[:, :-1], windows[:, 1:]).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.clock.stop()

    @torch.no_grad()
    def bpb(self) -> float:
        """Held-out bits per byte."""
        rows = zip(*(array.split(EVAL_ROWS) for array in self.held_out), strict=True)
        nats = sum(float(self.loss(ids, targets, "sum")) for ids, targets in rows)
        return nats / math.log(2) / self.job["bytes"]

    def train(self) -> None:
        """Until the time is over."""
        self.clock.ready(parameters=sum(p.numel() for p in self.model.parameters()))
        steps, per_step = 0, self.job["batch_size"] * self.job["seq_len"]
        due = every = self.job["seconds"] / POINTS
        while self.clock.now() < self.job["seconds"]:
            self.step()
            steps += 1
            spent = self.clock.now()
            if spent >= due or spent >= self.job["seconds"]:
                say(seconds=round(spent, 2), step=steps, tokens=steps * per_step, bpb=self.bpb())
                due += every
            self.clock.after_step()
        say(end="done", steps=steps)


if __name__ == "__main__":
    Run(json.loads(sys.argv[1])).train()
