"""Samplers of a search against chance at equal tokens: the hypervolume of fronts, over several seeds.

    python -m benchmarks.search [--candidates 40] [--repeats 5] [--tokens 102400] [--folder bench-search]
    python -m benchmarks.search --kills 5 [--candidates 40]

Every candidate of a small space of shapes and rates is trained but once, to the rung or to the end, whichever
sampler draws it and whenever: what came of it lies in the folder, and the benchmark goes on where it stopped.
Each search is cut where it has spent as many tokens as the shortest of all.  Hypervolume: the share of the
box between the best and the worst of any candidate, in bits per byte, log FLOP a token, log bytes of state.

With --kills the search itself is tried: as a command, killed (SIGKILL) so many times at random moments,
against one that never was: their draws, fronts and tokens.
"""

import argparse
import dataclasses
import json
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from microgpt.common.command import run_command
from microgpt.common.flags import Parser
from microgpt.common.output import tell
from microgpt.evaluation.loss import half_width
from microgpt.research.front import hypervolume
from microgpt.research.search import Measured, RunTrainer, counted_facts, run_search
from microgpt.research.search_file import SAMPLERS, search_from
from microgpt.research.search_table import costs_of, front_of, summary
from microgpt.research.trials import FINISHED, STOPPED, Trial, read_trials
from microgpt.runs.spec import Plan

SPACE: dict[str, Any] = {
    "n_layer": [1, 2, 3, 4],
    "n_embd": [32, 48, 64, 96],
    "n_kv_head": [0, 1],
    "mlp": ["gelu", "swiglu"],
    "lr": [2e-3, 4e-3, 8e-3, 16e-3],
}
RUN: dict[str, Any] = {"preset": "tiny", "smalltalk_bytes": 1_000_000, "batch_size": 8, "eval_tokens": 16384}


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = Parser(prog="benchmarks.search", description=__doc__)
    parser.add_argument("--candidates", type=int, default=40, help="of each search [default 40]")
    parser.add_argument("--repeats", type=int, default=5, help="seeds of the draws [default 5]")
    parser.add_argument(
        "--tokens", type=int, default=102_400, help="of each candidate [default 102,400: 200 steps]"
    )
    parser.add_argument("--kills", type=int, help="kill a search so many times instead")
    parser.add_argument("--folder", type=Path, default=Path("bench-search"), help="[default bench-search]")
    return parser.parse_args(argv)


def document(args: argparse.Namespace, sampler: str, seed: int) -> dict[str, Any]:
    """A search as its file has it."""
    return {
        "sampler": sampler,
        "seed": seed,
        "candidates": args.candidates,
        "startup": 8,
        "population": 8,
        "tokens": str(args.tokens),
        "finalists": 0,
        "run": dict(RUN),
        "space": dict(SPACE),
    }


class TrainsOnce:
    """Trains candidates by what they are, not by when they were drawn, and remembers what came of them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.n_trained = folder, 0

    def __call__(self, number: int, plan: Plan, steps: int) -> Measured:
        place = self.folder / counted_facts(plan)["plan"]
        known = place / f"measured-{steps}.json"
        if not known.exists():
            self.n_trained += 1
            found = RunTrainer(place)(0, plan, steps)
            known.write_text(json.dumps(found))
        return Measured(*json.loads(known.read_text()))


# ------------------------------------------------------------------------------------------ against chance


def compare(args: argparse.Namespace) -> None:
    """Print a table."""
    train = TrainsOnce(args.folder / "candidates")
    found: dict[str, list[list[Trial]]] = {sampler: [] for sampler in SAMPLERS}
    for seed in range(args.repeats):
        for sampler in SAMPLERS:
            search = search_from(document(args, sampler, seed))
            trials = run_search(search, args.folder / f"{sampler}-{seed}", train, say=lambda line: None)
            found[sampler].append(trials)
            tell(f"seed {seed}, {sampler}: {summary(trials)}; {train.n_trained} trained so far")
    objectives = search.config.objectives
    spent = min(sum(one.tokens for one in trials) for those in found.values() for trials in those)
    done = [one for those in found.values() for trials in those for one in trials if one.state == FINISHED]
    costs = scaled_costs(done, objectives)
    low, high = costs.min(0), costs.max(0)
    print(f"at {spent:,} tokens each, {args.tokens:,} of a candidate, {args.repeats} seeds of the draws:")
    print("| sampler | finished | stopped | hypervolume by seed | mean | 95 % of it | above random, paired |")
    print("|---|---|---|---|---|---|---|")
    volumes = {
        sampler: [volume(cut(trials, spent), objectives, low, high) for trials in those]
        for sampler, those in found.items()
    }
    for sampler, those in found.items():
        cuts = [cut(trials, spent) for trials in those]
        counts = [
            statistics.mean(sum(t.state == state for t in one) for one in cuts)
            for state in (FINISHED, STOPPED)
        ]
        values = volumes[sampler]
        apart = [a - b for a, b in zip(values, volumes["random"], strict=True)]
        against = "" if sampler == "random" else with_half(apart, "+.4f")
        by_seed = " ".join(f"{value:.4f}" for value in values)
        mean = statistics.mean(values)
        half = with_half(values, ".4f").partition(" ")[2]
        print(
            f"| {sampler} | {counts[0]:.1f} | {counts[1]:.1f} | {by_seed} | {mean:.4f} | {half} | {against} |"
        )


def scaled_costs(trials: Sequence[Trial], objectives: Sequence[str]) -> np.ndarray:
    """Bits per byte as they are, all else by its logarithm."""
    costs = costs_of(trials, objectives)
    return np.column_stack([costs[:, 0], np.log(costs[:, 1:])])


def cut(trials: Sequence[Trial], tokens: int) -> list[Trial]:
    """What was known when so many tokens were spent."""
    spent = np.cumsum([one.tokens for one in trials])
    return [one for one, all_spent in zip(trials, spent, strict=True) if all_spent <= tokens]


def volume(trials: Sequence[Trial], objectives: Sequence[str], low: np.ndarray, high: np.ndarray) -> float:
    """Share of the box that the front of some trials covers."""
    best = front_of(trials, objectives)
    scaled = (scaled_costs(best, objectives) - low) / (high - low) if best else np.empty((0, len(low)))
    return hypervolume(scaled, np.full(len(low), 1.0 + 1e-9))


def with_half(values: Sequence[float], form: str) -> str:
    """A mean and half of its 95 % interval."""
    n = len(values)
    half = half_width(statistics.stdev(values) / n**0.5, n) if n > 1 else float("nan")
    return f"{format(statistics.mean(values), form)} +- {half:.4f}"


# ------------------------------------------------------------------------------------------ killed


def kill(args: argparse.Namespace) -> None:
    """Print whether a search that is killed ends as one that is not."""
    args.folder.mkdir(parents=True, exist_ok=True)
    file = args.folder / "search.toml"
    file.write_text(toml(document(args, "nsga2", 0)))
    whole, torn = args.folder / "whole", args.folder / "torn"
    start = time.monotonic()
    searched(file, whole).wait()
    took = time.monotonic() - start
    tell(f"uninterrupted: {took:.0f} s")
    moments = random.Random(args.kills)
    for number in range(args.kills):
        process = searched(file, torn)
        after = moments.uniform(0.05, 1.6 / args.kills) * took
        try:
            process.wait(after)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        tell(f"killed {number + 1} of {args.kills} after {after:.0f} s")
    searched(file, torn).wait()
    (search, one), (_, other) = read_trials(whole), read_trials(torn)
    same = [dataclasses.replace(t, tok_per_s=0.0) for t in one] == [
        dataclasses.replace(t, tok_per_s=0.0) for t in other
    ]
    fronts = [[t.number for t in front_of(those, search.config.objectives)] for those in (one, other)]
    print(f"all draws and what came of them but tokens/s: {'the same' if same else 'NOT THE SAME'}")
    print(f"fronts: {fronts[0]} and {fronts[1]}")
    n_done, n_stopped = (sum(t.state == state for t in other) for state in (FINISHED, STOPPED))
    wanted = n_done * args.tokens + n_stopped * args.tokens // 5
    print(f"tokens: {sum(t.tokens for t in other):,}; by the rungs {wanted:,} ({summary(other)})")


def searched(file: Path, folder: Path) -> subprocess.Popen:
    """A search as a command."""
    words = [sys.executable, "-m", "microgpt", "search", "run", str(file), "--out-dir", str(folder)]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def toml(values: dict[str, Any]) -> str:
    """The file of a search."""
    tables = {name: values[name] for name in ("run", "space")}
    lines = [f"{name} = {json.dumps(value)}" for name, value in values.items() if name not in tables]
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    args = parse(argv)
    if args.kills is None:
        compare(args)
    else:
        kill(args)


if __name__ == "__main__":
    run_command(main)
