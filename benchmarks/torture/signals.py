"""SIGINT, SIGTERM and SIGHUP at random moments of real commands, from their imports to their last line."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from microgpt.common.errors import CheckpointError, DataError
from microgpt.corpus.prepared.folder import is_prepared, open_prepared
from microgpt.runs.checkpoint import verify
from microgpt.runs.layout import METRICS, checkpoints
from microgpt.runs.metrics import read_metrics

ROOT = Path(__file__).resolve().parents[2]
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
BOUND_S = 2.0  # from the signal to the exit, where steps and saves take milliseconds and nothing else runs
LONGEST_S = 600.0  # of any command, on any machine; then it hangs
TWICE_SHARE, RESUMED_SHARE = 0.2, 0.2  # of the cases: a second SIGINT follows; the run goes on afterwards
STEPS = 100
TINY = [
    "--preset",
    "tiny",
    "--n-layer",
    "1",
    "--seq-len",
    "64",
    "--dropout",
    "0.1",
    "--merges",
    "300",
    "--batch-size",
    "2",
    "--grad-accum",
    "2",
    "--max-steps",
    str(STEPS),
    "--log-every",
    "1",
    "--eval-every",
    "7",
    "--eval-tokens",
    "2048",
    "--sample-every",
    "11",
    "--save-every",
    "5",
]
TRAIN = ["train", *TINY, "--data", "text.txt", "--out-dir", "run"]
PREPARE = ["prepare", "text.txt", "--merges", "300", "--out-dir", "corpus"]
CHAT = ["chat", "talker", "--max-tokens", "30"]


class Ended(NamedTuple):
    """How a command ended: exit code, stderr, seconds since its (first) signal."""

    code: int
    err: str
    seconds: float


class Workplace:
    """A folder with a corpus, a model to talk to, and what each command takes without a signal."""

    def __init__(self, folder: Path, n_bytes: int) -> None:
        self.folder = folder
        line = "Hat {} costs {} coins, not {}.\n\n"
        text = "".join(line.format(n, n * 7919 % 10007, n * 31 % 997) for n in range(n_bytes // 35))
        (folder / "text.txt").write_text(text)
        (folder / "lines.txt").write_text("Hello there!\n" * 40)
        self._must_work([*TRAIN[:-1], "talker", "--max-steps", "5"])
        self.seconds = {words[0]: self._timed(words) for words in (TRAIN, PREPARE, CHAT)}

    def clear(self) -> None:
        """As if nothing had been done here but the talker's training."""
        for name in ("run", "corpus", "data", "cache"):
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def _timed(self, words: list[str]) -> float:
        self.clear()
        start = time.monotonic()
        self._must_work(words)
        return time.monotonic() - start

    def _must_work(self, words: list[str]) -> None:
        code, err, _ = end_of(self.start(words), [], LONGEST_S)
        assert code == 0, err

    def start(self, words: list[str]) -> subprocess.Popen:
        """Begin a command."""
        paths = {
            "PYTHONPATH": str(ROOT),
            "MICROGPT_DATA_DIR": str(self.folder / "data"),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
        }
        with open(self.folder / "lines.txt") as lines:
            return subprocess.Popen(
                [sys.executable, "-m", "microgpt", *words],
                cwd=self.folder,
                stdin=lines,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                env=os.environ | paths,
                preexec_fn=hear_signals,
            )


def hear_signals() -> None:
    """Ignore nothing, even where a shell began us in the background, which ignores Ctrl-C for us."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def end_of(process: subprocess.Popen, signals: list[tuple[float, int]], longest_s: float) -> Ended:
    """Send signals, each so many seconds after what was before it, and wait for the end."""
    first = None
    for delay_s, number in signals:
        try:
            process.wait(delay_s)
        except subprocess.TimeoutExpired:
            process.send_signal(number)
            first = first or time.monotonic()
    try:
        _, err = process.communicate(timeout=longest_s)
    except subprocess.TimeoutExpired:
        process.kill()
        _, err = process.communicate()
        err += "\nit did not end"
    return Ended(process.returncode, err, 0.0 if first is None else time.monotonic() - first)


def signal_runs(
    folder: Path, seed: int | None, n: int, bound_s: float = BOUND_S, n_bytes: int = 400_000
) -> Iterator[tuple[str | None, str]]:
    """Yields (problem, what was done) for n signals, most of them to a training.

    A command that takes longer than `bound_s` to end is a problem.
    """
    draw, place = random.Random(seed), Workplace(folder, n_bytes)
    for _ in range(n):
        place.clear()
        command = draw.choice([TRAIN, TRAIN, TRAIN, PREPARE, CHAT])
        delay_s = draw.uniform(0, place.seconds[command[0]])
        number = draw.choice(SIGNALS)
        signals = [(delay_s, int(number))]
        if draw.random() < TWICE_SHARE:
            signals.append((draw.uniform(0, 0.05), int(signal.SIGINT)))
        ended = end_of(place.start(command), signals, LONGEST_S)
        problem = problem_of(ended, signals, bound_s) or damage(folder)
        if not problem and command is TRAIN and draw.random() < RESUMED_SHARE:
            problem = not_resumed(place)
        names = " then ".join(signal.Signals(number).name for _, number in signals)
        when = f"after {delay_s:.3f} s ({phase(folder)})"
        yield problem, f"{command[0]}: {names} {when}: {ended.code} in {ended.seconds:.2f} s"


def problem_of(ended: Ended, signals: list[tuple[float, int]], bound_s: float) -> str | None:
    """What is wrong with the way a command ended."""
    # While modules load, or after all is done, the system ends it, which shells call 128 + n too.
    fine = {0} | {code for _, number in signals for code in (128 + number, -number)}
    if "KeyboardInterrupt" in ended.err and "in run_command" not in ended.err:
        return None  # Python itself had not started yet
    if ended.code not in fine:
        return f"exit code {ended.code}: {ended.err[-300:]}"
    if "Traceback" in ended.err or "Exception ignored" in ended.err:
        return f"a traceback: {ended.err[-600:]}"
    if ended.seconds > bound_s:
        return f"it took {ended.seconds:.1f} s to end"
    return None


def damage(folder: Path) -> str | None:
    """What is wrong with what a command left."""
    try:
        for _, path in checkpoints(folder / "run"):
            verify(path)
        for place in [folder / "corpus", *(folder / "data" / "prepared").glob("[0-9a-f]*")]:
            if place.exists() and not is_prepared(place):
                return f"{place}: a corpus that is not whole"
            if place.exists():
                open_prepared(place)
    except (CheckpointError, DataError) as error:
        return str(error)
    return None


def last_step(folder: Path) -> int:
    """The last step that the run logged; 0: none."""
    log = folder / "run" / METRICS
    events: list[dict[str, Any]] = read_metrics(log) if log.exists() else []
    return max((event["step"] for event in events if event["event"] == "train"), default=0)


def not_resumed(place: Workplace) -> str | None:
    """What is wrong with going on after a signal."""
    run = place.folder / "run"
    begun = [step for step, _ in checkpoints(run)]
    to = str(max([0, *begun]) + 2)
    words = ["train", "--resume", "run", "--max-steps", to] if begun else TRAIN
    ended = end_of(place.start(words), [], LONGEST_S)
    if ended.code or not checkpoints(run):
        return f"it does not go on: {ended.err[-300:]}"
    return damage(place.folder)


def phase(folder: Path) -> str:
    """How far a training had come, as far as its files tell."""
    if step := last_step(folder):
        return f"step {step}"
    if (folder / "run" / METRICS).exists():
        return "before step 1"
    return "preparing"
