"""What recipes reach in the same time of training: held-out bits per byte against seconds, in turns.

    bin/bench quality road fast --peer nanogpt --peer nanochat --data train.txt --held-out validation.txt

A contestant is a recipe of ours, with settings of its own where they are named (fast:lr=0.006,mlp=relu2), or,
with --peer, what people train with PyTorch.  All train on the same ids, and are measured on the same held-out
windows; they take turns, so that a machine that slows down slows all of them.  Seconds are those inside
training steps; each run is planned for them.  Where other work would disturb that, a short run alone tells
what a step of each contestant costs, and --step-seconds lets the clocks of a long one go by it
(--start-seconds: what is learned from counts before the first step).

Prints a table, and how soon each contestant was where another one ended.  --plot draws the curves.
"""

import argparse
import contextlib
import itertools
import json
import math
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from microgpt.batches.batches import eval_windows
from microgpt.common.command import run_command
from microgpt.common.errors import ConfigError
from microgpt.common.flags import Parser, flag_name, whole
from microgpt.common.plain import typed_value
from microgpt.core import native
from microgpt.machine.cpus import thread_count
from microgpt.runs.settings import RECIPES
from microgpt.runs.spec import Spec
from microgpt.training import assemble

from ._turns import Contestant, in_turns

PEERS = ("nanogpt", "nanochat")
BATCH_SIZE = 8


def parser() -> Parser:
    """All flags."""
    flags = Parser(prog="benchmarks.quality", description=__doc__)
    flags.add_argument("recipes", nargs="*", metavar="RECIPE[:SETTING=VALUE,...]", help="contestants of ours")
    flags.add_argument("--peer", action="append", choices=PEERS, default=[], help="a contestant in PyTorch")
    flags.add_argument("--preset", default="10m", metavar="NAME", help="size of all models [default 10m]")
    flags.add_argument("--data", nargs="+", default=["smalltalk"], metavar="FILE", help="[default smalltalk]")
    flags.add_argument(
        "--held-out", nargs="+", default=None, metavar="FILE", help="instead of a part of --data"
    )
    flags.add_argument("--merges", type=whole(0), default=None, help="of the tokenizer")
    flags.add_argument(
        "--batch-size", type=whole(1), default=BATCH_SIZE, help=f"windows [default {BATCH_SIZE}]"
    )
    flags.add_argument(
        "--eval-tokens", type=whole(1), default=400_000, help="held out, at most [default 400000]"
    )
    flags.add_argument("--seconds", type=float, default=295.0, help="of training, each run [default 295]")
    flags.add_argument("--turn", type=float, default=10.0, help="seconds of a turn [default 10]")
    flags.add_argument(
        "--step-seconds",
        action="append",
        type=step_seconds,
        default=[],
        metavar="CONTESTANT=SECONDS",
        help="what a step of it costs; other work on the machine then changes nothing [default measured]",
    )
    flags.add_argument(
        "--start-seconds",
        action="append",
        type=step_seconds,
        default=[],
        metavar="CONTESTANT=SECONDS",
        help="beside --step-seconds, what one of ours learns from counts before its first step [default 0]",
    )
    flags.add_argument("--seeds", type=whole(1), default=1, help="runs of each contestant [default 1]")
    flags.add_argument("--first-seed", type=whole(0), default=0, help="[default 0]")
    flags.add_argument("--precision", choices=native.PRECISIONS, default="auto", help="[default auto]")
    flags.add_argument("--threads", default=None, help="of each run [default all CPUs]")
    flags.add_argument("--plot", type=Path, default=None, metavar="FILE", help="draw the curves into it")
    flags.add_argument(
        "--out", type=Path, default=None, metavar="FILE", help="append each run as a line of JSON"
    )
    return flags


def step_seconds(text: str) -> tuple[str, float]:
    """Of `fast:lr=0.004=0.93`: ("fast:lr=0.004", 0.93)."""
    name, _, seconds = text.rpartition("=")
    if not name or not 0 < float(seconds) < math.inf:
        raise ValueError
    return name, float(seconds)


# -------------------------------------------------------------------------------- who trains


def settings_of(text: str) -> dict[str, Any]:
    """Of `fast:mlp=relu2,lr=0.004`: {"recipe": "fast", "mlp": "relu2", "lr": 0.004}.

    Raises: ConfigError: there is no such recipe or setting.
    """
    recipe, _, others = text.partition(":")
    if recipe not in RECIPES:
        raise ConfigError(f"there is no recipe {recipe!r}; expected {' or '.join(RECIPES)}")
    pairs = [pair.partition("=")[::2] for pair in others.split(",") if pair]
    return {"recipe": recipe} | {name: typed_value(value) for name, value in pairs}


def our_job(args: argparse.Namespace, text: str, seed: int, folder: Path) -> dict[str, Any]:
    """What `_our_run` is told."""
    settings = {
        "data": args.data,
        "batch_size": args.batch_size,
        "eval_tokens": args.eval_tokens,
        "precision": args.precision,
        "threads": str(thread_count(args.threads)),
        "seed": seed,
        **({"held_out": args.held_out} if args.held_out else {}),
        **({"merges": args.merges} if args.merges is not None else {}),
        **settings_of(text),
    }
    run = folder / f"{text}-{seed}".replace(":", "-").replace("=", "-").replace(",", "-").replace(" ", "-")
    return {
        "preset": args.preset,
        "settings": settings,
        "seconds": args.seconds,
        "step_s": dict(args.step_seconds).get(text),
        "start_s": dict(args.start_seconds).get(text, 0.0),
        "run": str(run),
    }


def peer_job(args: argparse.Namespace, name: str, seed: int, folder: Path) -> dict[str, Any]:
    """What `_torch_recipes` is told, which reads ids and held-out windows from files that are made here."""
    settings = our_job(args, "road", seed, folder)["settings"]
    plan = Spec.of(args.preset, **settings).plan()
    prepared = assemble.open_corpus(plan)
    train, held_out = folder / "train.npy", folder / "held_out.npz"
    windows = eval_windows(
        prepared.val, plan.model.seq_len, prepared.tokenizer.byte_lengths, args.eval_tokens
    )
    if not train.exists():
        np.save(train, np.asarray(prepared.train.ids))
        batches = list(windows.batches(64))
        ids, targets = (np.concatenate([getattr(b, what) for b in batches]) for what in ("ids", "targets"))
        np.savez(held_out, ids=ids, targets=targets)
    shape = {name: getattr(plan.model, name) for name in ("seq_len", "n_embd", "n_layer", "n_head")}
    return {
        **shape,
        "recipe": name,
        "train": str(train),
        "held_out": str(held_out),
        "bytes": windows.n_bytes,
        "vocab_size": prepared.tokenizer.vocab_size,
        "batch_size": args.batch_size,
        "seconds": args.seconds,
        "step_s": dict(args.step_seconds).get(name),
        "seed": seed,
        "threads": plan.train.n_threads,
        "precision": plan.train.precision,
    }


# -------------------------------------------------------------------------------- what comes out


def runs_of_seed(args: argparse.Namespace, seed: int, folder: Path) -> list[dict[str, Any]]:
    """Train every contestant with a seed, in turns."""
    ours = [(text, "benchmarks._our_run", our_job(args, text, seed, folder)) for text in args.recipes]
    peers = [(name, "benchmarks._torch_recipes", peer_job(args, name, seed, folder)) for name in args.peer]
    with contextlib.ExitStack() as stack:
        contestants = [stack.enter_context(Contestant(*who)) for who in ours + peers]
        for _ in in_turns(contestants, args.turn):
            print("  ".join(latest(contestant) for contestant in contestants), flush=True)
    return [
        {"name": c.name, "seed": seed, "parameters": c.facts["parameters"], "points": c.points}
        for c in contestants
    ]


def latest(contestant: Contestant) -> str:
    """How far it has come."""
    if not contestant.points:
        return f"{contestant.name}: -"
    return "{}: {:.3f} after {:.0f} s".format(
        contestant.name, *(contestant.points[-1][k] for k in ("bpb", "seconds"))
    )


def seconds_to(points: Sequence[dict[str, Any]], bpb: float) -> float | None:
    """When a curve first came to so few bits per byte, on a line between its points; None: it did not."""
    if points and points[0]["bpb"] <= bpb:
        return float(points[0]["seconds"])
    for before, after in itertools.pairwise(points):
        if after["bpb"] <= bpb:
            share = (before["bpb"] - bpb) / max(before["bpb"] - after["bpb"], 1e-12)
            return float(
                before["seconds"] + min(1.0, max(0.0, share)) * (after["seconds"] - before["seconds"])
            )
    return None


def step_s(run: dict[str, Any]) -> float:
    """Seconds of a step, without what came before the first."""
    first, last = run["points"][0], run["points"][-1]
    before_s = first["seconds"] if first["step"] == 0 else 0.0
    return float((last["seconds"] - before_s) / max(1, last["step"]))


def table(runs: list[dict[str, Any]]) -> Iterator[str]:
    """Lines of Markdown: medians over the seeds, the best first."""
    by_name: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        by_name.setdefault(run["name"], []).append(run)
    ends = {
        name: statistics.median(run["points"][-1]["bpb"] for run in those) for name, those in by_name.items()
    }
    order = sorted(ends, key=lambda name: ends[name])
    yield (
        "| | parameters | tokens | seconds | s a step | bits per byte, each seed | median | "
        + " | ".join(f"s to {name}'s {ends[name]:.3f}" for name in order[1:])
        + " |"
    )
    yield "|---" * (7 + len(order) - 1) + "|"
    for name in order:
        those = by_name[name]
        last = [run["points"][-1] for run in those]
        cells = [
            name,
            f"{those[0]['parameters']:,}",
            f"{statistics.median(point['tokens'] for point in last):,.0f}",
            f"{statistics.median(point['seconds'] for point in last):.0f}",
            f"{statistics.median(map(step_s, those)):.3f}",
            ", ".join(f"{point['bpb']:.3f}" for point in last),
            f"{ends[name]:.3f}",
        ]
        for other in order[1:]:
            times = [seconds_to(run["points"], ends[other]) for run in those]
            reached = [seconds for seconds in times if seconds is not None]
            cells.append(f"{statistics.median(reached):.0f}" if len(reached) == len(times) else "-")
        yield "| " + " | ".join(cells) + " |"


def draw(runs: list[dict[str, Any]], path: Path) -> None:
    """Curves of all runs, a colour for each contestant."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError("--plot needs matplotlib; pip install matplotlib") from None
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    names = list(dict.fromkeys(run["name"] for run in runs))
    for run in runs:
        x, y = ([point[key] for point in run["points"]] for key in ("seconds", "bpb"))
        label = run["name"] if run["seed"] == runs[0]["seed"] else None
        axes.plot(x, y, color=f"C{names.index(run['name'])}", label=label)
    axes.set(xlabel="seconds of training", ylabel="held-out bits per byte")
    axes.legend()
    figure.savefig(path)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = parser().parse_args(argv)
    if not args.recipes and not args.peer:
        raise ConfigError("who is to be compared?  Name recipes, such as road and fast, or a --peer")
    for text in args.recipes:
        settings_of(text)
    for flag in ("step_seconds", "start_seconds"):
        if unknown := dict(getattr(args, flag)).keys() - {*args.recipes, *args.peer}:
            raise ConfigError(f"{flag_name(flag)} {min(unknown)}=...: there is no such contestant")
    args.precision = native.choose_precision(args.precision)
    runs: list[dict[str, Any]] = []
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        with TemporaryDirectory() as folder:
            runs += runs_of_seed(args, seed, Path(folder))
    if args.out:
        with args.out.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(run) + "\n" for run in runs)
    print("\n".join(table(runs)))
    if args.plot:
        draw(runs, args.plot)
    return 0


if __name__ == "__main__":
    run_command(main)
