"""Time of a mixer with its projections, forward and backward, in turns with attention; of recurrences, with
the slow way of PyTorch, token after token.

    python -m benchmarks.mixers [--channels 384] [--tokens 512 4096] [--threads 1] [--peers]
"""

import argparse
import time
from collections.abc import Callable

import numpy as np

from microgpt.core import native, random, recurrent
from microgpt.model import ModelConfig
from microgpt.model.fusion import new_mixer
from microgpt.model.layer import Call
from microgpt.model.parameters import Arena

KINDS = ("attention", "mamba2", "rwkv7", "rwkv6")
ROUNDS = 7


def rows(name: str, *shape: int) -> np.ndarray:
    """Standard normal numbers."""
    draws = random.normal(random.key(0, name), int(np.prod(shape)))
    return draws.reshape(shape).astype(np.float32)


def mixer_step(kind: str, C: int, T: int, B: int) -> Callable[[], None]:
    """Forward and backward of one mixer on B windows of T."""
    config = ModelConfig(2, C // 32, C, T, 300, mixer=kind)
    layer = new_mixer(kind, "h.0", 1, config)
    p = Arena(layer.parameters())
    p.init(0)
    g, x, dy = p.zeros_like(), rows("x", B * T, C), rows("dy", B * T, C)

    def step() -> None:
        call = Call(B, T)
        _, saved = layer.forward(x, p, call)
        layer.backward(dy, x, saved, p, g, call)

    return step


def peer_step(kind: str, T: int, H: int = 6, N: int = 64) -> tuple[Callable[[], None], Callable[[], None]]:
    """The recurrence alone, ours and as a loop over tokens in PyTorch with its autograd."""
    import torch

    names = ("r", "w", "k", "v", "kk", "b") if kind == "rwkv7" else ("x", "key", "query")
    ours = {name: 0.1 * rows(name, 1, T, H * N) for name in names}
    theirs = {name: torch.from_numpy(x.reshape(T, H, N)).requires_grad_() for name, x in ours.items()}
    dy = rows("dy", 1, T, H * N)

    def native_rwkv7() -> None:
        recurrent.wkv7_forward(*ours.values(), H)
        recurrent.wkv7_backward(dy, *ours.values(), H)

    def torch_rwkv7() -> None:
        r, w, k, v, kk, b = theirs.values()
        S, y = torch.zeros(H, N, N), []
        for t in range(T):
            removed = torch.einsum("hij,hi->hj", S, kk[t])
            S = w[t][:, :, None] * S - b[t][:, :, None] * removed[:, None] + k[t][:, :, None] * v[t][:, None]
            y.append(torch.einsum("hij,hi->hj", S, r[t]))
        torch.stack(y).backward(torch.from_numpy(dy.reshape(T, H, N)))

    xbc, dt = rows("xbc", 1, T, H * N + 2 * N), rows("dt", 1, T, H) - 3
    of_heads = [np.zeros(H, np.float32) for _ in range(3)]
    sums = [np.zeros(H, np.float32) for _ in range(3)]

    def native_mamba2() -> None:
        recurrent.ssd_forward(xbc, dt, *of_heads, N)
        recurrent.ssd_backward(dy, xbc, dt, *of_heads, N, *sums)

    both = torch.from_numpy(xbc[0]).requires_grad_()
    steps = torch.from_numpy(dt[0]).requires_grad_()

    def torch_mamba2() -> None:
        x, key, query = both[:, : H * N].reshape(T, H, N), both[:, H * N : -N], both[:, -N:]
        s = torch.nn.functional.softplus(steps)
        S, y = torch.zeros(H, N, N), []
        for t in range(T):
            u = s[t][:, None] * x[t]
            S = torch.exp(-s[t])[:, None, None] * S + key[t][None, :, None] * u[:, None]
            y.append(torch.einsum("hij,i->hj", S, query[t]))
        torch.stack(y).backward(torch.from_numpy(dy.reshape(T, H, N)))

    pairs = {"rwkv7": (native_rwkv7, torch_rwkv7), "mamba2": (native_mamba2, torch_mamba2)}
    return pairs[kind]


def medians(steps: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Seconds of each, measured in turns after one round that does not count."""
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(1 + rounds):
        for name, step in steps.items():
            begin = time.perf_counter()
            step()
            taken[name].append(time.perf_counter() - begin)
    return {name: float(np.median(times[1:])) for name, times in taken.items()}


def main() -> None:
    """Print a line for each measurement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--channels", type=int, default=384)
    parser.add_argument("--tokens", type=int, nargs="+", default=[512, 4096])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--peers", action="store_true", help="the recurrences against loops in PyTorch")
    args = parser.parse_args()
    native.set_threads(args.threads)
    for T in args.tokens:
        B = max(1, 2048 // T)
        steps = {kind: mixer_step(kind, args.channels, T, B) for kind in KINDS}
        found = medians(steps, args.rounds)
        for kind, seconds in found.items():
            times = seconds / found["attention"]
            print(f"{kind:10} T {T:5}  {seconds / (B * T) * 1e6:7.1f} us a token  {times:5.2f} of attention")
    if args.peers:
        import torch

        torch.set_num_threads(args.threads)
        for kind in ("rwkv7", "mamba2"):
            found = medians(dict(zip(("ours", "torch"), peer_step(kind, 512), strict=True)), 3)
            print(f"{kind:10} alone: torch {found['torch'] / found['ours']:.1f} times ours at T 512")


if __name__ == "__main__":
    main()
