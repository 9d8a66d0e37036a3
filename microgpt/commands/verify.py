"""Read all that a run left on the disk and say whether it is whole; nothing is changed.

  microgpt verify runs/x                 every checkpoint, and what was measured
  microgpt verify runs/x/step_00001000   one checkpoint
  microgpt verify runs/x data/x          and the tokens in a prepared folder
  microgpt verify runs                   every run below a folder

Of a checkpoint: the manifest, size and SHA-256 of every file, that the weights fit the config and are finite,
that a resume could begin with it; of a run with --scu, whether S came near its target.  The exit code is 1 if
anything is damaged or missing, or that was missed.
"""

from collections.abc import Sequence
from pathlib import Path

import microgpt.training  # noqa: F401  # which optimizers there are, and what each keeps
from microgpt.common.bars import progress_bar
from microgpt.common.errors import CheckpointError
from microgpt.common.flags import Parser
from microgpt.common.output import show
from microgpt.corpus.prepared.folder import SIDES, TOKENIZER, description, is_prepared, tokens_path
from microgpt.corpus.token_file import TokenFile
from microgpt.runs.inspection import Finding, Task, look, task_of_checkpoint, tasks_of_run
from microgpt.runs.kept import is_checkpoint, place_of
from microgpt.runs.layout import checkpoints, runs_below
from microgpt.tokenizer import Tokenizer
from microgpt.tuning import scu

WANTED = "a run (runs/NAME), one of its checkpoints, a folder of runs, or a prepared corpus"


def parser() -> Parser:
    """All flags."""
    flags = Parser(prog="microgpt verify", description=__doc__)
    flags.add_argument(
        "places",
        nargs="*",
        metavar="RUN",
        help="a run, by its path or as in runs/NAME, one checkpoint of it (RUN@best, RUN@STEP), a folder of "
        "runs, or what microgpt prepare made [default the newest run]",
    )
    return flags


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.  Returns 0 if all is whole, 1 if not."""
    args = parser().parse_args(argv)
    tasks = [task for name in args.places or [None] for task in tasks_of(name)]
    findings = []
    with progress_bar("verifying", len(tasks), "place") as progress:
        for finding in look(tasks):
            findings.append(finding)
            progress.update()
    if not findings:
        show("nothing is left to look at: a training removed it meanwhile")
        return 1
    bad = [finding for finding in findings if finding.problem]
    n_damaged = sum(not _is_of_control(finding) for finding in bad)
    missed = ", but S is not where it was to be held" if bad else ""
    show(*table(findings))
    show(f"{n_damaged} of {len(findings)} damaged" if n_damaged else f"all {len(findings)} whole{missed}")
    return 1 if bad else 0


def _is_of_control(finding: Finding) -> bool:
    """Whether it tells of a controller, which may miss what it was to hold, and not of a file."""
    return finding.path.name == scu.METADATA


def tasks_of(name: str | Path | None) -> list[Task]:
    """What there is to look at in a place.  Raises CheckpointError: nothing."""
    if name is not None and is_prepared(Path(name)):
        return [Task(tokens_path(Path(name), side), _tokens) for side in SIDES]
    place = place_of(name, WANTED)
    if is_checkpoint(place):
        return [task_of_checkpoint(place)]
    runs = [place] if checkpoints(place) else runs_below(place)
    if not runs:
        raise CheckpointError(f"{place}: no checkpoint in it; expected {WANTED}")
    found = [task for run in runs for task in tasks_of_run(run)]
    under = [run / scu.METADATA for run in runs if (run / scu.METADATA).exists()]
    return found + [Task(path, scu.check_metadata) for path in under]


def _tokens(path: Path) -> str:
    """One side of a prepared corpus, with what belongs to it.  Returns what is in it."""
    description(path.parent)
    tokens = TokenFile.open(path, Tokenizer.load(path.parent / TOKENIZER).sha256)
    tokens.verify()
    return f"{tokens.n_documents:,} documents, {tokens.n_tokens:,} tokens"


def table(findings: Sequence[Finding]) -> list[str]:
    """A line for each finding below a line of titles."""
    is_one_place = len({finding.path.parent for finding in findings}) == 1
    rows = [("what", "step", "bytes", "state"), *(_row(finding, is_one_place) for finding in findings)]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return [f"{row[0]:{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]}" for row in rows]


def _row(finding: Finding, is_one_place: bool) -> tuple[str, str, str, str]:
    word = "MISSED" if _is_of_control(finding) else "DAMAGED"
    state = (
        f"{word}: {finding.problem}" if finding.problem else ", ".join(filter(None, ("whole", finding.note)))
    )
    step = "" if finding.step is None else f"{finding.step:,}"
    return finding.path.name if is_one_place else str(finding.path), step, f"{finding.n_bytes:,}", state
