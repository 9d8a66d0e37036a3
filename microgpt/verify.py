"""Read all that a run left on the disk and say whether it is whole; nothing is changed.

  python -m microgpt.verify runs/x                 every checkpoint, and what was measured
  python -m microgpt.verify runs/x/step_00001000   one checkpoint
  python -m microgpt.verify runs/x data/x          and the tokens in a prepared folder

Of a checkpoint: the manifest, size and SHA-256 of every file, that the weights fit the config and are finite,
that a resume could begin with it.  The exit code is 1 if anything is damaged or missing.
"""

if __name__ == "__main__":  # before the imports, so that Ctrl-C among them prints no traceback
    from microgpt.__main__ import run

    run("verify")

from collections.abc import Sequence
from pathlib import Path

from microgpt.common.bars import progress_bar
from microgpt.common.errors import CheckpointError
from microgpt.common.flags import Parser
from microgpt.common.output import show
from microgpt.corpus.prepared import SIDES, TOKENIZER, description, is_prepared, tokens_path
from microgpt.corpus.token_file import TokenFile
from microgpt.tokenizer import Tokenizer
from microgpt.training.checkpoint import expect_directory, is_checkpoint
from microgpt.training.inspection import Finding, Task, look, task_of_checkpoint, tasks_of_run
from microgpt.training.rundir import checkpoints, newest_run

WANTED = "a run (runs/NAME), one of its checkpoints, or a prepared corpus"


def parser() -> Parser:
    """All flags."""
    flags = Parser(prog="microgpt verify", description=__doc__)
    flags.add_argument(
        "places",
        nargs="*",
        type=Path,
        metavar="RUN",
        help="a run, one checkpoint of it, or what microgpt prepare made [default the newest run]",
    )
    return flags


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.  Returns 0 if all is whole, 1 if not."""
    args = parser().parse_args(argv)
    tasks = [task for place in args.places or [newest_run()] for task in tasks_of(place)]
    findings = []
    with progress_bar("verifying", len(tasks), "place") as progress:
        for finding in look(tasks):
            findings.append(finding)
            progress.update()
    if not findings:
        show("nothing is left to look at: a training removed it meanwhile")
        return 1
    damaged = sum(bool(finding.problem) for finding in findings)
    show(*table(findings))
    show(f"{damaged} of {len(findings)} damaged" if damaged else f"all {len(findings)} whole")
    return 1 if damaged else 0


def tasks_of(place: Path) -> list[Task]:
    """What there is to look at in a place.  Raises CheckpointError: nothing."""
    expect_directory(place, WANTED)
    if is_checkpoint(place):
        return [task_of_checkpoint(place)]
    if is_prepared(place):
        return [Task(tokens_path(place, side), _tokens) for side in SIDES]
    if not checkpoints(place):
        raise CheckpointError(f"{place}: no checkpoint in it; expected {WANTED}")
    return tasks_of_run(place)


def _tokens(path: Path) -> str:
    """One side of a prepared corpus, with what belongs to it.  Returns what is in it."""
    description(path.parent)
    tokens = TokenFile.open(path, Tokenizer.load(path.parent / TOKENIZER).sha256)
    tokens.verify()
    return f"{tokens.n_documents:,} documents, {tokens.n_tokens:,} tokens"


def table(findings: Sequence[Finding]) -> list[str]:
    """A line for each finding below a line of titles."""
    rows = [("what", "step", "bytes", "state"), *map(_row, findings)]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return [f"{row[0]:{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]}" for row in rows]


def _row(finding: Finding) -> tuple[str, str, str, str]:
    state = (
        f"DAMAGED: {finding.problem}" if finding.problem else ", ".join(filter(None, ("whole", finding.note)))
    )
    step = "" if finding.step is None else f"{finding.step:,}"
    return finding.path.name, step, f"{finding.n_bytes:,}", state
