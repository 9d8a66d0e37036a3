"""What it costs to tell of a step: events, the log, the line on a terminal, the clock of parts.

    python -m benchmarks.telling [--preset 10m] [--steps 60] [--threads 2]

Between real steps on one window, the same calls are timed that the loop makes after each: a fresh line on a
terminal of 80 columns at every step, a line of the log at every tenth.  Times are those of the CPU, in which
other programs do not count.
"""

import argparse
import fcntl
import os
import statistics
import struct
import sys
import tempfile
import termios
import threading
import time
from functools import partial
from pathlib import Path

from microgpt.common.command import run_command
from microgpt.common.flags import Parser, whole
from microgpt.machine.cpus import add_threads_flag
from microgpt.model import ModelConfig
from microgpt.model.presets import PRESETS
from microgpt.runs.events import Listeners, Started, Trained
from microgpt.runs.metrics import MetricsLog
from microgpt.runs.settings import TrainConfig
from microgpt.training.clock import Clock
from microgpt.training.console import Console
from microgpt.training.horizon import expected_s
from microgpt.training.progress import Progress

from ._machine import set_threads
from .step import VOCAB_SIZE, WARM_UP, trial_step

PARTS = ("data", "forward", "head", "backward", "optimizer")
MOST = 0.005  # of a step


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = Parser(prog="benchmarks.telling", description=__doc__)
    parser.add_argument("--preset", choices=list(PRESETS), default="10m", help="size [default 10m]")
    parser.add_argument("--steps", type=whole(1), default=60, help="timed steps [default 60]")
    add_threads_flag(parser)
    return parser.parse_args(argv)


class Told:
    """Those who hear of a run on a terminal, and what the loop tells them after each step."""

    def __init__(self, folder: Path, max_steps: int) -> None:
        ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        threading.Thread(target=_drain, args=(ours,), daemon=True).start()
        stream = os.fdopen(theirs, "w")
        console = Console(partial(Progress, stream=stream))
        log = MetricsLog(folder / "metrics.jsonl", every=TrainConfig.log_every)
        self._tell = Listeners([log.hear, console])
        self._config, self._clock = TrainConfig(max_steps=max_steps), Clock()
        facts = {"flop_per_token": 6e7, "peak_flop_per_s": 1e11, "memory_bytes": 0.0}
        self._tell(Started(0, n_params=1, max_steps=max_steps, machine={}, bpb=1.234, **facts))  # type: ignore[arg-type]

    def step(self, step: int, seconds: float) -> None:
        """Tell of a step that took so long."""
        clock, start = self._clock, self._clock.begin()
        for part in PARTS:
            clock.spend(part)
        clock.end_step(start)
        left_s = expected_s(step, self._config, clock)
        times = seconds, 256 / seconds, clock.elapsed_s, left_s
        self._tell(Trained(step, 2.345 + 1 / step, 3.1e-4, 0.98, 256 * step, *times))


def _drain(terminal: int) -> None:
    while os.read(terminal, 1 << 16):
        pass


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; exit code 1 if telling takes more than it may."""
    args = parse(argv)
    threads = set_threads(args.threads)
    trial = trial_step(ModelConfig.from_preset(args.preset, vocab_size=VOCAB_SIZE), 1)
    steps, told = [], []
    with tempfile.TemporaryDirectory() as folder:
        listeners = Told(Path(folder), args.steps + WARM_UP)
        for number in range(1, args.steps + WARM_UP + 1):
            start = time.process_time()
            seconds = trial.seconds()
            steps.append((time.process_time() - start) / threads)
            start = time.thread_time()
            listeners.step(number, seconds)
            told.append(time.thread_time() - start)
    steps, told = steps[WARM_UP:], told[WARM_UP:]
    step_s, told_s = statistics.median(steps), statistics.fmean(told)
    print(
        f"{args.preset}, 1 window, {threads} threads: a step {1e3 * step_s:.1f} ms a CPU, telling of it "
        f"{1e6 * told_s:.0f} us on average, {1e6 * max(told):.0f} at most: {told_s / step_s:.2%}"
    )
    return 0 if told_s <= MOST * step_s else 1


if __name__ == "__main__":
    run_command(lambda: main(sys.argv[1:]))
