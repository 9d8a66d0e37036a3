"""Whether large models start, step, save and go on: peak memory of each beside the estimate.

    python -m benchmarks.large --preset 350m --recompute both
    python -m benchmarks.large --preset 1b --recompute on [--seq-len 512] [--no-resume]

One process trains a single step of one window and saves; a second one goes on from there for another step and
saves.  Checkpoints lie in a temporary folder (--folder names one on a larger disk).  A step of 1b at its
2,048 tokens is a quarter of an hour of two cores, most of it of Muon's orthogonal updates.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from microgpt.common.command import run_command
from microgpt.common.flags import Parser
from microgpt.machine.memory import peak_memory
from microgpt.model.presets import PRESETS
from microgpt.runs.events import Event, Saved, Trained
from microgpt.runs.spec import Spec
from microgpt.training.needs import memory_estimate
from microgpt.training.run import train_run
from microgpt.training.stop import StopFlag

LIMIT_BYTES = 24e9
CORPUS_BYTES = 3_000_000


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = Parser(prog="benchmarks.large", description=__doc__)
    parser.add_argument("--preset", choices=list(PRESETS), default="350m")
    parser.add_argument("--seq-len", type=int, help="tokens of the window [default the preset's]")
    parser.add_argument("--recompute", choices=("off", "on", "both"), default="both")
    parser.add_argument(
        "--recipe", default="fast", help="fast (Muon) or road (Adam, which keeps twice as much)"
    )
    parser.add_argument("--no-resume", action="store_true", help="one step and a save, and no more")
    parser.add_argument("--folder", type=Path, help="for checkpoints")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def spec_of(args: argparse.Namespace, recompute: bool) -> Spec:
    """Two steps of one window."""
    shape = {"seq_len": args.seq_len} if args.seq_len else {}
    return Spec.of(
        args.preset,
        **shape,
        recipe=args.recipe,
        batch_size=1,
        recompute=recompute,
        smalltalk_bytes=CORPUS_BYTES,
        max_steps=2,
        eval_every=0,
        sample_every=0,
        save_every=0,
        probes=False,
        log_every=1,
        keep=1,
    )


def one_step(args: argparse.Namespace) -> dict[str, Any]:
    """Train one more step at a place, and save: what that took."""
    facts: dict[str, Any] = {}
    stop, start = StopFlag(), time.monotonic()

    def listen(event: Event) -> None:
        if isinstance(event, Trained):
            facts.update(step=event.step, step_s=event.dt_s, loss=event.loss_nats)
            stop.request()
        elif isinstance(event, Saved):
            facts["save_s"] = event.seconds

    train_run(spec_of(args, args.recompute == "on"), args.child, [listen], stop=stop)
    return facts | {"peak_bytes": peak_memory(), "all_s": time.monotonic() - start}


def in_a_process(args: argparse.Namespace, run: Path, recompute: bool) -> dict[str, Any]:
    """What `one_step` tells in a process of its own."""
    words = [sys.executable, "-m", "benchmarks.large", "--child", str(run), "--preset", args.preset]
    words += ["--recipe", args.recipe, "--recompute", "on" if recompute else "off"]
    words += ["--seq-len", str(args.seq_len)] if args.seq_len else []
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    args = parse(argv)
    if args.child:
        print(json.dumps(one_step(args)))
        return
    print("| model | window | `--recompute` | step | memory, GB: estimated | was | off | step, s | save, s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for recompute in {"off": [False], "on": [True], "both": [False, True]}[args.recompute]:
        plan = spec_of(args, recompute).plan()
        estimated = memory_estimate(plan.model, plan.train)
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            for _ in range(1 if args.no_resume else 2):
                was = in_a_process(args, Path(folder) / "run", recompute)
                cells = [
                    args.preset,
                    f"{plan.model.seq_len:,}",
                    "yes" if recompute else "no",
                    "first" if was["step"] == 1 else "resumed",
                    f"{estimated / 1e9:.2f}",
                    f"{was['peak_bytes'] / 1e9:.2f}",
                    f"{estimated / was['peak_bytes'] - 1:+.0%}",
                    f"{was['step_s']:,.1f}",
                    f"{was.get('save_s', 0):,.1f}",
                ]
                print(f"| {' | '.join(cells)} |", flush=True)
                if was["peak_bytes"] > LIMIT_BYTES:
                    print(f"more than {LIMIT_BYTES / 1e9:.0f} GB")


if __name__ == "__main__":
    run_command(main)
