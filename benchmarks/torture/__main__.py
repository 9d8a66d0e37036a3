"""Try to lose a run: kill it, cut its power, fill its disk, damage its files.  Nothing may be lost, ever.

    python -m benchmarks.torture                        all of it, half an hour
    python -m benchmarks.torture kills --kills 1000     one kind
    python -m benchmarks.torture --short                a little of each, half a minute

kills       kill -9 of a real training at random moments, a third of them inside a save; the end is compared
            with that of an undisturbed run: SHA-256 of weights and moments, loss of each step
syscalls    death before, in and after every call of a save that changes the disk
lost        a power cut after every call: what was not fsynced is dropped, cut or zeroed, in every combination
errors      ENOSPC, EIO, EDQUOT, EINTR and short writes at every call of a save; then in runs
corruption  bits of manifest, headers and content flipped, files cut
signals     SIGINT, SIGTERM, SIGHUP at random moments of train, prepare and chat, from import to last line
steps       a run stopped after each step goes on to the same bits; fp32 and bf16, accumulation 1 and 4

The exit code is 1 if anything went wrong.  Needs Linux and a C compiler.
"""

import argparse
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path

from microgpt.common.command import run_command
from microgpt.common.errors import ConfigError
from microgpt.common.flags import Parser

from . import files, runs, saves
from . import lost as power_cuts
from . import signals as interruptions
from .case import Verdict
from .shim import build, is_loaded

ROOT = Path(__file__).resolve().parents[2]
PROGRESS_S = 10.0
SHORT_KILLS, SHORT_FAILURES, FAILURES = 6, 4, 200
SHORT_SIGNALS, SHORT_BYTES, SIGNALS = 3, 50_000, 200
Cases = Iterator[tuple[str | None, str]]


def kills(folder: Path, args: argparse.Namespace) -> Cases:
    """kill -9 of real runs."""
    return runs.kill_runs(folder, args.seed, SHORT_KILLS if args.short else args.kills)


def syscalls(folder: Path, args: argparse.Namespace) -> Cases:
    """Death at every call."""
    return saves.kill_everywhere(folder, args.seed)


def lost(folder: Path, args: argparse.Namespace) -> Cases:
    """Power cuts."""
    return power_cuts.lose_everywhere(folder, args.seed)


def errors(folder: Path, args: argparse.Namespace) -> Cases:
    """A disk that refuses, in a save and in a run."""
    (folder / "runs").mkdir()
    count = SHORT_FAILURES if args.short else FAILURES
    return chain(
        saves.fail_everywhere(folder, args.seed, args.short),
        runs.fail_runs(folder / "runs", args.seed, count),
    )


def corruption(folder: Path, args: argparse.Namespace) -> Cases:
    """Damaged files."""
    return files.damage_everywhere(folder, args.seed, args.short)


def signals(folder: Path, args: argparse.Namespace) -> Cases:
    """Ask real commands to end; how soon they do is measured in the long form alone."""
    if args.short:
        return interruptions.signal_runs(folder, args.seed, SHORT_SIGNALS, math.inf, SHORT_BYTES)
    return interruptions.signal_runs(folder, args.seed, SIGNALS)


def steps(folder: Path, args: argparse.Namespace) -> Cases:
    """Stop and go on."""
    return runs.stop_runs(folder, args.seed, every=9 if args.short else 1)


KINDS: dict[str, Callable[[Path, argparse.Namespace], Cases]] = {
    kind.__name__: kind for kind in (kills, syscalls, lost, errors, corruption, signals, steps)
}


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = Parser(prog="benchmarks.torture", description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)} [default all]")
    parser.add_argument("--kills", type=int, default=1000, help="how many [default 1000]")
    parser.add_argument("--short", action="store_true", help="a little of each, for continuous integration")
    parser.add_argument("--seed", type=int, help="which moments, bits and data [default: others each time]")
    parser.add_argument("--folder", type=Path, help="where the runs lie meanwhile [default: in memory]")
    args = parser.parse_args(argv)
    if unknown := [name for name in args.kinds if name not in KINDS]:
        raise ConfigError(f"{unknown[0]}: no such kind; there are {', '.join(KINDS)}")
    if args.kills < 1:
        raise ConfigError(f"--kills {args.kills}: expected more than 0")
    if args.seed is None:
        args.seed = random.SystemRandom().randrange(10**6)
    return args


def main(argv: list[str] | None = None) -> int:
    """Compile the shim and start again above it."""
    args = parse(argv)
    if is_loaded():
        return torture(args)
    words = [*args.kinds, "--kills", args.kills, "--seed", args.seed]
    words += ["--short"] * args.short + (["--folder", args.folder.resolve()] if args.folder else [])
    with tempfile.TemporaryDirectory(prefix="torture-") as name:
        env = os.environ | {"LD_PRELOAD": str(build(Path(name))), "OPENBLAS_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "benchmarks.torture", *map(str, words)]
        return subprocess.run(command, env=env, cwd=ROOT).returncode


def torture(args: argparse.Namespace) -> int:
    """Run the kinds, one after the other, and print a figure for each."""
    shared_memory = Path("/dev/shm")
    place = args.folder or (shared_memory if os.access(shared_memory, os.W_OK) else None)
    failed = 0
    for name in args.kinds or KINDS:
        with tempfile.TemporaryDirectory(prefix=f"torture-{name}-", dir=place) as folder:
            failed += bool(judge(name, KINDS[name](Path(folder), args), args.seed).failures)
    return 1 if failed else 0


def judge(kind: str, cases: Iterable[tuple[str | None, str]], seed: int) -> Verdict:
    """Count the cases of a kind, saying now and then how far it is."""
    verdict, start = Verdict(kind), time.monotonic()
    shown = start
    for problem, what in cases:
        verdict.count(what, problem)
        if problem:
            print(f"{kind}: FAILED: {what}: {problem}", flush=True)
        if time.monotonic() > shown + PROGRESS_S:
            shown = time.monotonic()
            print(verdict.line, file=sys.stderr)
    print(f"{verdict.line}, {time.monotonic() - start:.0f} s, seed {seed}", flush=True)
    return verdict


if __name__ == "__main__":
    run_command(main)
