"""Try to break tokenizer and readers: made-up inputs, a build with sanitizers, answers that must agree.

    python -m benchmarks.fuzz encoder --minutes 10 [--seed 1]
    python -m benchmarks.fuzz encoder --input runs/fuzz/encoder-1-4711     once more, one input

Targets: trainer, encoder, tokenizer-json; and folders: tokens (a prepared corpus), checkpoint, config (of a
run), readers (text, records and tables, plain and packed).  An input that crashes, hangs or gives a wrong
answer is a finding: it is saved with what was reported about it, and the exit code is 1.  The same seed makes
the same inputs.
Needs Linux and a gcc with libasan and libubsan.
"""

import argparse
import random
import selectors
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from microgpt.common.command import run_command
from microgpt.common.errors import ConfigError, MicrogptError
from microgpt.common.flags import Parser

from .build import ROOT, build, environment
from .child import TARGETS

HANG_S = 120.0  # more than any case may take of processor time
PROGRESS_S = 10.0
MAX_FINDINGS = 10


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = Parser(prog="benchmarks.fuzz", description=__doc__)
    parser.add_argument("target", choices=TARGETS, help="what to fuzz")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long [default 10]")
    parser.add_argument("--cases", type=int, default=sys.maxsize, help="stop after so many [default none]")
    parser.add_argument("--seed", type=int, help="which inputs [default: another each time]")
    parser.add_argument("--input", type=Path, metavar="FILE", help="run this input only")
    parser.add_argument(
        "--findings",
        type=Path,
        default=Path("runs/fuzz"),
        metavar="DIR",
        help="where findings go [default runs/fuzz]",
    )
    return parser.parse_args(argv)


@dataclass
class Run:
    """One run of a target: what it needs, and how far it is."""

    target: str
    seed: int
    last: int
    end: float
    folder: Path
    library: Path
    input: Path | None
    findings_dir: Path
    cases: int = 0
    findings: list[str] = field(default_factory=list)
    start: float = field(default_factory=time.monotonic)
    shown: float = field(default_factory=time.monotonic)

    @property
    def current(self) -> Path:
        """Where the child keeps the input it is working on."""
        return self.folder / "input"

    @property
    def report(self) -> Path:
        """Where what the child says goes."""
        return self.folder / "report"

    def summary(self) -> str:
        """How far it is, in a line."""
        rate = self.cases / max(time.monotonic() - self.start, 1e-9)
        return f"{self.target}: {self.cases} cases, {rate:.1f} cases/s, {len(self.findings)} findings"


def fuzz(run: Run) -> None:
    """Run children until the time is over, each from the case after that which ended the one before."""
    first = 0
    while first < run.last and len(run.findings) < MAX_FINDINGS and time.monotonic() < run.end:
        index, message = watch(run, first)
        if not message:
            return
        run.findings.append(save(run, index, message))
        print(run.findings[-1], flush=True)
        first = index + 1


def watch(run: Run, first: int) -> tuple[int, str]:
    """Run one child to its end: the number of its last case, and what was wrong with it, "" if nothing."""
    with open(run.report, "wb") as report:
        words, env = command(run, first), environment()
        with subprocess.Popen(
            words, bufsize=0, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=report
        ) as child:
            try:
                index, ended = follow(run, child)
            finally:
                child.kill()
    if ended == "end":
        return index, ""
    message = ended or what_happened(run.report, child.returncode)
    if index < 0:
        raise MicrogptError(f"the build with sanitizers does not run here: {message}")
    return index, message


def command(run: Run, first: int) -> list[str]:
    """The command line of a child."""
    seconds = max(run.end - time.monotonic(), 0.0)
    words = [sys.executable, "-m", "benchmarks.fuzz.child", run.target, "--library", run.library]
    words += ["--current", run.current, "--seed", run.seed, "--first", first, "--last", run.last]
    words += ["--seconds", seconds] + (["--input", run.input] if run.input else [])
    return list(map(str, words))


def follow(run: Run, child: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Read the numbers of cases that a child writes: the last one, and "end", a reason to stop it or ""."""
    assert child.stdout is not None
    index = -1
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while selector.select(HANG_S):
            line = child.stdout.readline().decode().strip()
            if not line or line == "end":
                if not line:
                    child.wait()
                return index, line
            index = int(line)
            run.cases += 1
            if time.monotonic() > run.shown + PROGRESS_S:
                run.shown = time.monotonic()
                print(run.summary(), file=sys.stderr)
    return index, f"no answer in {HANG_S:.0f} s"


def what_happened(report: Path, returncode: int) -> str:
    """What a child that ended early said about it, in a line."""
    lines = report.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    for mark in ("ERROR: AddressSanitizer: ", "runtime error: ", "hard rss limit"):
        if found := [line for line in lines if mark in line]:
            places = [line.partition(" in ")[2] for line in lines if "bpe" in line and " in " in line]
            what = found[0].partition(mark)[2].partition(" on address ")[0]
            return f"{mark}{what:.150} in {places[0] if places else 'unknown'}"
    return f"{lines[-1]:.300}" if lines else f"ended with exit code {returncode}"


def save(run: Run, index: int, message: str) -> str:
    """Keep an input and what was reported about it; a line for the user."""
    run.findings_dir.mkdir(parents=True, exist_ok=True)
    path = run.findings_dir / f"{run.target}-{run.seed}-{index}"
    if run.input is None:
        path.write_bytes(run.current.read_bytes())
        path.with_name(f"{path.name}.report").write_bytes(run.report.read_bytes())
    return f"finding: {run.target} {run.input or path}: {message}"


def main(argv: list[str] | None = None) -> int:
    """Build, run, print the counts."""
    args = parse(argv)
    if args.minutes <= 0 or args.cases < 1:
        raise ConfigError("--minutes and --cases: expected more than 0")
    if args.input and not args.input.is_file():
        raise ConfigError(f"--input {args.input}: no such file")
    seed = random.SystemRandom().randrange(10**6) if args.seed is None else args.seed
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        library = build(Path(name))
        end = time.monotonic() + 60 * args.minutes
        given = args.input.resolve() if args.input else None
        last = 1 if given else args.cases
        run = Run(args.target, seed, last, end, Path(name), library, given, args.findings)
        fuzz(run)
    print(f"{run.summary()}, seed {seed}")
    return 1 if run.findings else 0


if __name__ == "__main__":
    run_command(main)
