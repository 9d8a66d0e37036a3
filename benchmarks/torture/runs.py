"""Real training that is killed, stopped or refused the disk, and goes on as if nothing had happened."""

import errno
import hashlib
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from microgpt.commands import train
from microgpt.common.errors import MicrogptError
from microgpt.runs.checkpoint import MOMENTS, WEIGHTS
from microgpt.runs.layout import METRICS, checkpoint_name, checkpoints
from microgpt.runs.metrics import MetricsLog, read_metrics

from .case import newest_step
from .shim import Action, Evil, fork, killed, wait

STEPS = 20
IN_SAVE_SHARE = 1 / 3  # of the kills
IN_SAVE_CALLS = 250  # about three saves
MOST_SESSIONS = 200  # of one run, which comes to its end long before
LOSSES = "losses"
PRECISIONS = ("fp32", "bf16")
SMALL = [
    "--preset",
    "tiny",
    "--n-layer",
    "1",
    "--n-head",
    "1",
    "--n-embd",
    "8",
    "--seq-len",
    "16",
    "--dropout",
    "0.1",
    "--smalltalk-bytes",
    "20000",
    "--merges",
    "0",
    "--batch-size",
    "2",
    "--threads",
    "1",
    "--max-steps",
    str(STEPS),
    "--log-every",
    "1",
    "--eval-every",
    "3",
    "--sample-every",
    "5",
]
LARGER = ["--n-head", "2", "--n-embd", "32", "--seq-len", "64"]  # matrices that bf16 is for


class Runs:
    """Training in one folder, with what an undisturbed run of the same settings comes to."""

    def __init__(self, folder: Path, settings: list[str]) -> None:
        self.folder, self.settings, self.log = folder, [*SMALL, *settings], folder / "log"
        self.run = folder / "run"
        straight = folder / "straight"
        start = time.monotonic()
        code = self.session(straight)
        self.seconds = time.monotonic() - start
        if code:
            raise MicrogptError(f"an undisturbed run ended with {code}: {self.last_words()}")
        self.result = result_of(straight)
        shutil.rmtree(straight)

    def session(
        self,
        run: Path,
        evil: Evil | None = None,
        kill_after_s: float | None = None,
        before: Callable[[], None] = lambda: None,
    ) -> int:
        """Begin the run, or go on with it where it has a checkpoint; how it ended."""

        def work() -> int:
            os.chdir(self.folder)
            before()
            begun = ["--resume", str(run)] if checkpoints(run) else ["--out-dir", str(run), *self.settings]
            return train.main(begun)

        return wait(fork(guarded(work), self.log, evil), kill_after_s)

    def last_words(self) -> str:
        """What the last session said last."""
        return (self.log.read_text(errors="replace").strip().splitlines() or [""])[-1]

    def difference(self, names: Iterable[str] = (WEIGHTS, MOMENTS, LOSSES)) -> str | None:
        """What is not as in the undisturbed run, now that this one has ended."""
        found = result_of(self.run)
        wrong = [name for name in names if found[name] != self.result[name]]
        shutil.rmtree(self.run)
        return f"after the end, {' and '.join(wrong)} differ from the undisturbed run" if wrong else None

    def resumable(self) -> str | None:
        """What is wrong with what a dead session left."""
        damaged: list[str] = []
        newest_step(self.run, damaged)
        return damaged[0] if damaged else None


def guarded(work: Callable[[], int]) -> Callable[[], int]:
    """A mistake of the user is exit code 2 and one line, as the command has it."""

    def run() -> int:
        try:
            return work()
        except MicrogptError as error:
            print(f"microgpt: {error}")
            return 2

    return run


def result_of(run: Path) -> dict[str, object]:
    """What must come out the same, to the bit: final weights and moments, and the loss of every step."""
    last = run / checkpoint_name(STEPS)
    results: dict[str, object] = {}
    for name in (WEIGHTS, MOMENTS):
        path = last / name
        results[name] = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None
    events = [event for event in read_metrics(run / METRICS) if event["event"] == "train"]
    return results | {LOSSES: [(event["step"], event["loss_nats"]) for event in events]}


# -------------------------------------------------------------------------------- kill -9


def kill_runs(folder: Path, seed: int, kills: int) -> Iterator[tuple[str | None, str]]:
    """Kill sessions at random moments, a third of them inside a save, until a run ends; then another run.

    Yields (problem, what was done) for each kill and for each end.
    """
    draw, done = random.Random(seed), 0
    while done < kills:
        place = folder / f"run-{done}"
        place.mkdir()
        settings = {
            "--seed": draw.randrange(10**6),
            "--grad-accum": draw.choice((1, 3)),
            "--save-every": 1 + done % 3,
        }
        runs = Runs(place, [str(word) for setting in settings.items() for word in setting])
        for _ in range(MOST_SESSIONS):
            code, what = killed_session(runs, draw)
            if not killed(code):
                yield ended(runs, code), "end of a run"
                break
            done += 1
            yield runs.resumable(), what
        shutil.rmtree(place)


def killed_session(runs: Runs, draw: random.Random) -> tuple[int, str]:
    """One session with a kill in wait for it; how it ended, and what the kill was."""
    if draw.random() < IN_SAVE_SHARE:
        action = draw.choice([Action.KILL, Action.TORN])
        evil = Evil(runs.run, action, draw.randint(1, IN_SAVE_CALLS), in_save=True)
        return runs.session(runs.run, evil), f"{evil.text} of a save"
    moment = draw.uniform(0, runs.seconds)
    return runs.session(runs.run, kill_after_s=moment), f"kill after {moment:.3f} s"


def ended(runs: Runs, code: int, names: Iterable[str] = (WEIGHTS, MOMENTS, LOSSES)) -> str | None:
    """What is wrong with a run whose last session ended by itself."""
    if code:
        return f"a session ended with {code}: {runs.last_words()}"
    return runs.difference(names)


# -------------------------------------------------------------------------------- stop and go on


def stop_runs(folder: Path, seed: int, every: int = 1) -> Iterator[tuple[str | None, str]]:
    """Stop after each step by a signal, go on, and compare with the run that was never stopped."""
    for precision in PRECISIONS:
        for accumulation in (1, 4):
            place = folder / f"{precision}-{accumulation}"
            place.mkdir()
            settings = [
                *LARGER,
                "--precision",
                precision,
                "--grad-accum",
                str(accumulation),
                "--seed",
                str(seed),
            ]
            try:
                runs = Runs(place, [*settings, "--save-every", "0"])
            except MicrogptError as error:
                yield (None if precision == "bf16" else str(error)), f"{precision} is not to be had here"
                continue
            for step in range(1, STEPS + 1, every):
                what = f"stop after step {step}, {precision}, accumulation {accumulation}"
                yield stopped_at(runs, step), what


def stopped_at(runs: Runs, step: int) -> str | None:
    """Stop a run after a step and let it go on; what is wrong about it."""
    code = runs.session(runs.run, before=lambda: stop_after(step))
    if step < STEPS and (code != 128 + signal.SIGTERM or newest_step(runs.run) != step):
        return f"stopped with {code} at step {newest_step(runs.run)}: {runs.last_words()}"
    return ended(runs, runs.session(runs.run) if step < STEPS else 0)


def stop_after(step: int) -> None:
    """Have this process get a SIGTERM when the step is logged."""
    write = MetricsLog.write

    def watching(log: MetricsLog, event: str, number: int, **values: object) -> None:
        write(log, event, number, **values)
        if event == "train" and number == step:
            os.kill(os.getpid(), signal.SIGTERM)

    MetricsLog.write = watching  # type: ignore


# -------------------------------------------------------------------------------- a disk that refuses


def fail_runs(folder: Path, seed: int, count: int) -> Iterator[tuple[str | None, str]]:
    """Refuse a run one call of a save in the middle, or all from there on; it goes on to the same weights.

    A refused call may be one of the log's, which loses a line then.
    """
    draw = random.Random(seed)
    runs = Runs(folder, ["--seed", str(seed), "--save-every", "4"])
    for _ in range(count):
        code, nth = draw.choice([errno.ENOSPC, errno.EIO, errno.EDQUOT]), draw.randint(1, IN_SAVE_CALLS)
        action = draw.choice([Action.FAIL, Action.SHORT, Action.FAIL_FROM])
        evil = Evil(runs.run, action, nth, code, in_save=True)
        judge = full_disk if action == Action.FAIL_FROM else refused_once
        yield judge(runs, evil), f"{evil.text} of a save in a run"


def refused_once(runs: Runs, evil: Evil) -> str | None:
    """The next save is good again, so the run ends as if nothing had been."""
    return ended(runs, runs.session(runs.run, evil), (WEIGHTS, MOMENTS))


def full_disk(runs: Runs, evil: Evil) -> str | None:
    """The run trains to its end, cannot save it, says so; what it saved before is good, and enough."""
    code = runs.session(runs.run, evil)
    if code != 2 or os.strerror(evil.code) not in runs.last_words():
        return f"a session without room for its end ended with {code}: {runs.last_words()}"
    return runs.resumable() or ended(runs, runs.session(runs.run), (WEIGHTS, MOMENTS))
