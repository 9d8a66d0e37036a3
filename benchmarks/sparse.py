"""Time what leaves work out beside the same without: attention to windows, and mixtures of experts.

    python -m benchmarks.sparse attention [--threads 2] [--repeats 7] [--json]
    python -m benchmarks.sparse experts [--batch-size 8]

attention: forward and backward of 12 heads of 32 channels on one sequence, local_global (a window of
6 sqrt(T), a stride of sqrt(T)) and full, in turns.  experts: a training step of the preset 34m-moe, and of a
dense model in which a token meets as many weights, in turns.
"""

import argparse
import json
import math
import statistics
import time
from typing import Any

from microgpt.common.command import run_command
from microgpt.common.errors import ConfigError
from microgpt.common.flags import Parser
from microgpt.core import native, ops
from microgpt.core.cases import normal
from microgpt.core.heads import Heads
from microgpt.machine.cpus import add_threads_flag
from microgpt.model import ModelConfig, count_active_parameters, count_parameters

from ._machine import set_threads
from .step import VOCAB_SIZE, trial_step

LENGTHS = (1024, 2048, 4096, 8192)
HEADS, HEAD_SIZE = 12, 32


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = Parser(prog="benchmarks.sparse", description=__doc__)
    parser.add_argument("what", choices=("attention", "experts"), help="what is timed")
    parser.add_argument("--batch-size", type=int, default=8, help="windows in a step of experts [default 8]")
    parser.add_argument(
        "--repeats", type=int, default=7, help="timed turns, after one to warm up [default 7]"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    add_threads_flag(parser)
    return parser.parse_args(argv)


def in_turns(first: Any, second: Any, repeats: int) -> tuple[float, float, float]:
    """Median seconds of two calls, and the median ratio of the first to the second, turn by turn."""
    times = [(first(), second()) for _ in range(1 + repeats)][1:]
    a, b, ratio = zip(*((a, b, a / b) for a, b in times), strict=True)
    return statistics.median(a), statistics.median(b), statistics.median(ratio)


def of_attention(T: int, repeats: int) -> dict[str, Any]:
    """Seconds, pairs and scratch of both kinds at one length."""
    root = math.sqrt(T)
    local = Heads(HEADS, HEADS, HEAD_SIZE, round(6 * root), round(root))
    full = Heads(HEADS, HEADS, HEAD_SIZE)
    qkv, dy = (normal(name, 1, T, n).astype("float32") for name, n in (("qkv", full.width), ("dy", full.C)))
    tables = ops.rope_tables(T, HEAD_SIZE, dtype=qkv.dtype)

    def seconds(heads: Heads) -> float:
        begin = time.perf_counter()
        y, lse = ops.attention_forward(qkv, *tables, heads)
        ops.attention_backward(dy, qkv, *tables, y, lse, heads)
        return time.perf_counter() - begin

    full_s, local_s, ratio = in_turns(lambda: seconds(full), lambda: seconds(local), repeats)
    sizes = (1, T, HEADS, HEADS, HEAD_SIZE, local.window, local.stride)
    return {
        "T": T,
        "full_s": full_s,
        "local_global_s": local_s,
        "ratio": ratio,
        "pairs": full.pairs(T) / local.pairs(T),
        "scratch_bytes": 4 * native.lib.mg_attention_scratch(*sizes),
    }


def of_experts(batch_size: int, repeats: int) -> dict[str, Any]:
    """Seconds of a step with experts and of one without."""
    moe = ModelConfig.from_preset("34m-moe", VOCAB_SIZE, dropout=0.0)
    dense = ModelConfig.from_preset("34m-moe", VOCAB_SIZE, dropout=0.0, mlp="gelu")
    steps = [trial_step(config, batch_size) for config in (moe, dense)]
    moe_s, dense_s, ratio = in_turns(steps[0].seconds, steps[1].seconds, repeats)
    counts = {"n_params": count_parameters(moe), "active": count_active_parameters(moe)}
    return {**counts, "dense": count_parameters(dense), "moe_s": moe_s, "dense_s": dense_s, "ratio": ratio}


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    args = parse(argv)
    if args.repeats < 1 or args.batch_size < 1:
        raise ConfigError("--repeats and --batch-size: expected at least 1")
    threads = set_threads(args.threads)
    print(f"{threads} threads, {native.info()['isa']}")
    if args.what == "experts":
        row = of_experts(args.batch_size, args.repeats)
        found = [row]
        print(
            f"{row['n_params']:,} parameters, {row['active']:,} active: {row['moe_s'] * 1e3:.0f} ms; "
            f"{row['dense']:,} dense: {row['dense_s'] * 1e3:.0f} ms; ratio {row['ratio']:.2f}"
        )
    else:
        found = []
        for T in LENGTHS:
            row = of_attention(T, args.repeats)
            found.append(row)
            print(
                f"T {T:>5}: full {row['full_s'] * 1e3:>7.1f} ms, "
                f"local_global {row['local_global_s'] * 1e3:>6.1f} ms, {row['ratio']:.2f} times as fast, "
                f"{row['pairs']:.2f} times fewer pairs, "
                f"scratch {row['scratch_bytes'] / 1e6:.1f} MB"
            )
    if args.json:
        print(json.dumps({"threads": threads, "rows": found}))


if __name__ == "__main__":
    run_command(main)
