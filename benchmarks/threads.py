"""The table that decides the number of threads: one training step on each, the numbers taking turns.

    python -m benchmarks.threads --preset 10m --preset 25m --threads 1,2,4 [--vs-torch] [--json]

Share is that of the fastest sgemm on as many threads, measured between the steps.  Numbers above the CPUs
that this process may use are marked with *.
"""

import argparse
import contextlib
import json
import statistics
import sys
from typing import Any

from microgpt.common.command import run_command
from microgpt.common.errors import ConfigError
from microgpt.common.flags import Parser
from microgpt.core import native
from microgpt.machine.cpus import available_cpus, check_threads
from microgpt.model import ModelConfig, count_parameters, flop_per_token
from microgpt.model.presets import PRESETS

from ._machine import add_precision_flag, gemm_peak_gflops
from ._torch_peer import TorchPeer
from .step import VOCAB_SIZE, against, trial_step


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = Parser(prog="benchmarks.threads", description=__doc__)
    parser.add_argument(
        "--preset",
        action="append",
        choices=list(PRESETS),
        metavar="NAME",
        help="a model; may be repeated [default 10m and 25m]",
    )
    parser.add_argument(
        "--threads",
        metavar="LIST",
        help="numbers, such as 1,2,4; 1 is always among them [default 1,2,4, ... up to the CPUs]",
    )
    parser.add_argument("--batch-size", type=int, default=1, help="windows in a step [default 1]")
    parser.add_argument("--vocab-size", type=int, default=VOCAB_SIZE, help=f"[default {VOCAB_SIZE}]")
    add_precision_flag(parser)
    parser.add_argument("--steps", type=int, default=5, help="timed steps on each number [default 5]")
    parser.add_argument("--vs-torch", action="store_true", help="beside the same steps in PyTorch")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    return parser.parse_args(argv)


def counts_of(text: str | None) -> list[int]:
    """The numbers of threads of the flag, and 1 to compare with."""
    if text is None:
        return sorted({1, available_cpus(), *(2**i for i in range(9) if 2**i <= available_cpus())})
    counts = [check_threads(part.strip()) for part in text.split(",")]
    return sorted({1, *(count or available_cpus() for count in counts)})


def measure(config: ModelConfig, args: argparse.Namespace, counts: list[int]) -> list[dict[str, Any]]:
    """One row for each number of threads."""
    ours: dict[int, list[float]] = {count: [] for count in counts}
    theirs: dict[int, list[float]] = {count: [] for count in counts}
    peaks = dict.fromkeys(counts, 0.0)
    with contextlib.ExitStack() as stack:
        peer = None
        if args.vs_torch:
            peer = stack.enter_context(TorchPeer(config, args.batch_size, args.precision))
        step = trial_step(config, args.batch_size, precision=args.precision)
        for _ in range(1 + args.steps):  # the first turn warms up
            for count in counts:
                native.set_threads(count)
                ours[count].append(step.seconds())
                peak = gemm_peak_gflops(config.n_embd, 1, args.precision)
                peaks[count] = max(peaks[count], peak)
                if peer:
                    theirs[count].append(peer.seconds(count))
    n_tokens = args.batch_size * config.seq_len
    return [
        row(count, ours[count][1:], ours[1][1:], n_tokens, config, peaks[count])
        | against(ours[count][1:], theirs[count][1:])
        for count in counts
    ]


def row(
    count: int, times: list[float], alone: list[float], n_tokens: int, config: ModelConfig, peak: float
) -> dict[str, Any]:
    """What was found on one number of threads; alone: the times on one, turn by turn."""
    step_s = statistics.median(times)
    gflops = n_tokens * flop_per_token(config) / step_s / 1e9
    return {
        "threads": count,
        "above_cpus": count > available_cpus(),
        "step_s": round(step_s, 5),
        "tok_per_s": round(n_tokens / step_s, 1),
        "speedup": round(statistics.median(alone[i] / times[i] for i in range(len(times))), 3),
        "model_gflops": round(gflops, 1),
        "gemm_peak_gflops": round(peak, 1),
        "mfu": round(gflops / peak, 4),
    }


def show(rows: list[dict[str, Any]]) -> None:
    """The table of one model."""
    torch = "   torch ms   ratio" if "ratio" in rows[0] else ""
    print(f"{'threads':>8} {'step ms':>9} {'tok/s':>9} {'speed-up':>9} {'share':>7}{torch}")
    for found in rows:
        peer = f" {found['torch_step_s'] * 1e3:>10.1f} {found['ratio']:>7.2f}" if torch else ""
        print(
            f"{found['threads']:>7}{'*' if found['above_cpus'] else ' '} {found['step_s'] * 1e3:>9.1f} "
            f"{found['tok_per_s']:>9,.0f} {found['speedup']:>8.2f}x {found['mfu']:>7.0%}{peer}"
        )
    if rows[-1]["above_cpus"]:
        print(f"* above the {available_cpus()} CPUs that this process may use")


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    args = parse(argv)
    if args.steps < 1 or args.batch_size < 1:
        raise ConfigError("--steps and --batch-size: expected at least 1")
    args.precision = native.choose_precision(args.precision)
    counts, machine = counts_of(args.threads), native.info(args.precision)
    if warning := native.warning(args.precision):
        print(warning, file=sys.stderr)
    tables = []
    for preset in args.preset or ["10m", "25m"]:
        config = ModelConfig.from_preset(preset, args.vocab_size, dropout=0.0)
        print(
            f"{preset}: {count_parameters(config):,} parameters, B={args.batch_size}, T={config.seq_len}, "
            f"{args.precision}, {machine['isa']}, BLAS {machine['blas_core']}",
            flush=True,
        )
        rows = measure(config, args, counts)
        show(rows)
        tables.append({"preset": preset, "n_params": count_parameters(config), "rows": rows})
    if args.json:
        print(json.dumps({"batch_size": args.batch_size, "cpus": available_cpus(), "models": tables}))


if __name__ == "__main__":
    run_command(main)
