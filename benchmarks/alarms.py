"""Does an alarm sound where nothing is wrong?

    python -m benchmarks.alarms [--data FILE...] [--steps N]

Trains twenty small models, each as it should be: seeds, shapes, parts, packings, precisions, dropout, on the
embedded corpus and on each FILE, and prints the alarms that sounded.  There should be none.
"""

import argparse
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from microgpt.common.command import run_command
from microgpt.common.flags import Parser, whole
from microgpt.core import native
from microgpt.runs.events import Alarmed, Evaluated, Event
from microgpt.runs.spec import Spec
from microgpt.training.run import train_run

N_RUNS = 20
SHAPES: list[dict[str, Any]] = [
    {},
    {"n_layer": 4, "n_embd": 48, "n_head": 4},
    {"look_back": 2},
    {"n_kv_head": 1, "dropout": 0.1},
    {"init_std": 0.08},
]
WAYS: list[dict[str, Any]] = [
    {},
    {"packing": "documents"},
    {"precision": "bf16"},
    {"prompt_loss_weight": 0.3, "packing": "documents"},
]


def runs(files: list[str]) -> Iterator[dict[str, Any]]:
    """Settings of each run: every shape goes every way."""
    corpora = ["smalltalk", *map(os.path.abspath, files)]
    for number in range(N_RUNS):
        shape, way = SHAPES[number % len(SHAPES)], WAYS[number // len(SHAPES)]
        corpus = corpora[number % len(corpora)]
        yield {"seed": number, "data": corpus, **shape, **way}


def main() -> int:
    """Run them all; 1 if an alarm sounded."""
    args = flags().parse_args()
    os.environ["MICROGPT_ISA"] = native.info("fp32")["isa"]  # bf16 is had where it is asked for by name
    n_alarms = 0
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MICROGPT_DATA_DIR"] = folder
        for number, settings in enumerate(runs(args.data), 1):
            found: list[Event] = []
            spec = {"merges": 500, "smalltalk_bytes": 400_000, "held_out_share": 0.1, "sample_every": 0}
            spec |= {"max_steps": args.steps, "eval_every": args.steps // 10, "eval_tokens": 8000}
            train_run(Spec.of("tiny", **(spec | settings)), Path(folder, f"run{number}"), [found.append])
            loss = [event.loss_nats for event in found if isinstance(event, Evaluated)][-1]
            alarms = [event.told() for event in found if isinstance(event, Alarmed)]
            n_alarms += len(alarms)
            print(f"{number:2} {settings}: {loss:.3f} nats held out", *alarms, sep="\n   ", flush=True)
    print(f"{n_alarms} alarms in {N_RUNS} clean runs")
    return 1 if n_alarms else 0


def flags() -> argparse.ArgumentParser:
    """What can be asked for."""
    parser = Parser(prog="benchmarks.alarms", description=__doc__)
    parser.add_argument("--data", nargs="+", default=[], metavar="FILE", help="more corpora")
    parser.add_argument("--steps", type=whole(10), default=300, metavar="N", help="of each run [default 300]")
    return parser


if __name__ == "__main__":
    run_command(main)
