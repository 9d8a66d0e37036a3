"""Estimates of a plan against a run: peak memory and the time of a step.

    python -m benchmarks.estimates --preset 10m --preset 34m --batch-size 1 --batch-size 4 [--recompute both]
    python -m benchmarks.estimates --write-readme

For each combination one process plans, as `microgpt plan` does, and then one trains: a run of a few steps on
the embedded corpus with an evaluation at its end and a save, whose peak resident memory and median step are
compared with what the plan said.  Both are repeated in turns, and the medians count, for a machine that is
shared is at one time half as fast as at another.  Results are kept in estimates.jsonl, the newest of
each combination, and the table in README is made of them.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from microgpt.common.command import run_command
from microgpt.common.flags import Parser, whole
from microgpt.common.output import tell
from microgpt.core import native
from microgpt.machine.cpus import thread_count
from microgpt.machine.memory import peak_memory
from microgpt.model.presets import PRESETS
from microgpt.planning.rehearsal import open_plan, rehearse
from microgpt.runs.events import Event, Trained
from microgpt.runs.spec import Spec
from microgpt.training.horizon import step_s
from microgpt.training.run import train_run

RESULTS, README = Path(__file__).with_name("estimates.jsonl"), Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- estimates: python -m benchmarks.estimates --write-readme -->\n", "<!-- end -->\n"
KEY = ("preset", "batch_size", "precision", "recompute", "threads", "isa")
CORPUS_BYTES, EVAL_TOKENS = 3_000_000, 2048


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = Parser(prog="benchmarks.estimates", description=__doc__)
    parser.add_argument(
        "--preset", action="append", choices=list(PRESETS), metavar="NAME", help="may be repeated"
    )
    parser.add_argument("--batch-size", action="append", type=int, help="may be repeated [default 1 and 4]")
    parser.add_argument("--precision", action="append", choices=native.PRECISIONS, help="[default fp32]")
    parser.add_argument("--recompute", choices=("off", "on", "both"), default="off", help="[default off]")
    parser.add_argument(
        "--steps", type=int, default=5, help="of each run; the first is not timed [default 5]"
    )
    parser.add_argument("--turns", type=whole(1), default=3, help="of plan and run [default 3]")
    parser.add_argument("--threads", metavar="NUMBER", help="CPU threads [default all]")
    parser.add_argument(
        "--write-readme", action="store_true", help="put the table of all results into README"
    )
    parser.add_argument("--child", choices=("plan", "run"), help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def spec_of(case: dict[str, Any], steps: int) -> Spec:
    """The run of a combination, with the vocabulary that presets are counted with."""
    return Spec.of(
        case["preset"],
        batch_size=case["batch_size"],
        precision=case["precision"],
        recompute=case["recompute"],
        threads=case["threads"],
        smalltalk_bytes=CORPUS_BYTES,
        max_steps=steps,
        eval_every=steps,
        eval_tokens=EVAL_TOKENS,
        sample_every=0,
        log_every=1,
    )


def planned(case: dict[str, Any], steps: int) -> dict[str, Any]:
    """What a plan says: bytes and seconds a step."""
    plan, prepared = open_plan(spec_of(case, steps), tell)
    found = rehearse(plan, prepared, tell)
    seconds = None if found.timing is None else step_s(found.timing, plan.train)
    return {"estimated_bytes": round(found.facts.needs.total), "estimated_step_s": seconds}


def trained(case: dict[str, Any], steps: int) -> dict[str, Any]:
    """What a run takes."""
    times: list[float] = []

    def listen(event: Event) -> None:
        if isinstance(event, Trained):
            times.append(event.dt_s)

    with tempfile.TemporaryDirectory() as folder:
        train_run(spec_of(case, steps), Path(folder) / "run", [listen])
    return {"peak_bytes": round(peak_memory()), "step_s": statistics.median(times[1:])}


def in_a_process(child: str, case: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """What `planned` or `trained` finds in a process of its own."""
    words = [sys.executable, "-m", "benchmarks.estimates", "--child", child, "--steps", str(args.steps)]
    words += ["--preset", case["preset"], "--batch-size", str(case["batch_size"])]
    words += ["--precision", case["precision"], "--recompute", "on" if case["recompute"] else "off"]
    done = subprocess.run(
        [*words, "--threads", case["threads"]], stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def medians(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Of what several turns found; a time that no turn could take stays None."""
    known = {name: [one[name] for one in found if one[name] is not None] for name in found[0]}
    return {name: statistics.median(values) if values else None for name, values in known.items()}


def cases(args: argparse.Namespace) -> list[dict[str, Any]]:
    """The combinations that are asked for."""
    recompute = {"off": [False], "on": [True], "both": [False, True]}[args.recompute]
    found = itertools.product(
        args.preset or [], args.batch_size or [1, 4], args.precision or ["fp32"], recompute
    )
    threads, isa = str(thread_count(args.threads)), native.info()["isa"]
    return [dict(zip(KEY, (*one, threads, isa), strict=True)) for one in found]


def results(path: Path = RESULTS) -> list[dict[str, Any]]:
    """All that was measured."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def keep(row: dict[str, Any], path: Path = RESULTS) -> None:
    """Put a result in the place of an older one of its combination, in order of size."""
    others = [old for old in results(path) if any(old[name] != row[name] for name in KEY)]
    order = list(PRESETS)
    rows = sorted(
        [*others, row],
        key=lambda r: (r["isa"], r["threads"], order.index(r["preset"]), *(r[name] for name in KEY[1:4])),
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Lines of Markdown: each estimate beside what it became."""
    of_each = "estimated | was | off"
    title = f"| model | batch | precision | `--recompute` | memory, GB: {of_each} | step, ms: {of_each} |"
    return [title, "|---|---|---|---|---|---|---|---|---|---|", *map(_line, rows)]


def _line(row: dict[str, Any]) -> str:
    estimated, was = (row["estimated_bytes"], row["estimated_step_s"]), (row["peak_bytes"], row["step_s"])
    cells = [row["preset"], row["batch_size"], row["precision"], "yes" if row["recompute"] else "no"]
    for i, unit in enumerate((1e9, 1e-3)):
        digits = 2 if i == 0 else 0
        cells += [f"{n / unit:,.{digits}f}" for n in (estimated[i], was[i])]
        cells.append(f"{estimated[i] / was[i] - 1:+.0%}")
    return f"| {' | '.join(map(str, cells))} |"


def write_readme(path: Path = README, measured: Path = RESULTS) -> None:
    """Put the table of what was measured between its marks."""
    text = path.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    path.write_text(before + BEGIN + "\n".join(table(results(measured))) + "\n" + END + rest.split(END, 1)[1])


def main(argv: list[str] | None = None) -> None:
    """Measure, keep and print."""
    args = parse(argv)
    for case in cases(args):
        if args.child:
            found = planned(case, args.steps) if args.child == "plan" else trained(case, args.steps)
            print(json.dumps(found))
            continue
        turns = [in_a_process(child, case, args) for _ in range(args.turns) for child in ("plan", "run")]
        row = case | medians(turns[::2]) | medians(turns[1::2])
        keep(row)
        print(table([row])[-1], flush=True)
    if args.write_readme:
        write_readme()


if __name__ == "__main__":
    run_command(main)
