"""List the runs of a folder, the one that saved last at the top.

  microgpt runs                 those under runs/
  microgpt runs elsewhere       those in another folder

The checkpoints that a run keeps stand there by their steps: `NAME@9000` names one for chat, sample, eval,
verify and train --resume, `NAME@best` the one marked * (least held-out loss), `NAME@newest` the last.
Tokens are those seen in training, bpb the last held-out bits per byte (0.621@8000: measured at step 8000;
a 0.621: of the assistant's answers alone, as sft measures), disk what a run takes there.
Nothing is read to the last byte; microgpt verify does that.
"""

import contextlib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from microgpt.chat.terminal import harmless
from microgpt.common.errors import ConfigError, MicrogptError
from microgpt.common.flags import Parser
from microgpt.common.output import json_line, show
from microgpt.common.words import command_line, short_number
from microgpt.model import ModelConfig, count_parameters
from microgpt.runs.checkpoint import read_config
from microgpt.runs.kept import best_of, kept, origin_of
from microgpt.runs.layout import RUNS, checkpoints, runs_below, size_of, state_of_run

WIDTH = 80
KEPT_WIDTH = 15  # of the steps that are kept; what does not fit is left out in the middle
TITLES = ("run", "params", "tokens", "bpb", "state", "steps kept", "disk")
OF_ANSWERS = "a"  # stands before bits per byte of answers alone
NUMBERS = ("params", "tokens", "bpb", "disk")  # columns that are flush right


def parser() -> Parser:
    """All flags."""
    flags = Parser(prog="microgpt runs", description=__doc__)
    flags.add_argument(
        "folder",
        nargs="?",
        type=Path,
        default=RUNS,
        metavar="FOLDER",
        help="where the runs are [default runs/]",
    )
    flags.add_argument("--json", action="store_true", help="print a JSON list instead of a table")
    return flags


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = parser().parse_args(argv)
    if args.folder != RUNS and not args.folder.is_dir():
        raise ConfigError(f"{args.folder}: no such directory; expected a folder of runs, such as {RUNS}/")
    found = [facts for run in runs_below(args.folder) if (facts := facts_of(run))]
    found.sort(key=lambda facts: facts["saved"], reverse=True)
    if args.json:
        print(json_line(found))
    elif found:
        show(*table(found))
    else:
        show(f"no run with a checkpoint in {args.folder}/; next: {command_line('train')}")
    return 0


# -------------------------------------------------------------------------------- facts


def facts_of(run: Path) -> dict[str, Any] | None:
    """What there is to know about a run without reading it whole; None if a training removes it meanwhile."""
    those = {one.path: one for one in kept(run)}
    best = best_of(those.values())
    listed: list[dict[str, Any]] = []
    for step, path in checkpoints(run):
        with contextlib.suppress(FileNotFoundError):
            saved = datetime.fromtimestamp(path.stat().st_mtime).astimezone()
            one = those.get(path)
            listed.append(
                {
                    "step": step,
                    "path": str(path),
                    "whole": one is not None,
                    "best": best is not None and path == best.path,
                    "held_out_loss": one.loss if one else None,
                    "saved": saved.isoformat(timespec="seconds"),
                    "bytes": size_of(path),
                }
            )
    if not listed:
        return None
    newest = next(iter(those.values()), None)
    about = described(newest.path if newest else None)
    return {
        "name": run.name,
        "path": str(run),
        **about,
        "state": state_of_run(run, listed[0]["step"], about["max_steps"]),
        "step": listed[0]["step"],
        "tokens": newest.state.get("tokens") if newest else None,
        "bpb": newest.last_bpb if newest else None,
        "bpb_step": newest.measured_at if newest else None,
        "saved": listed[0]["saved"],
        "bytes": size_of(run),
        "checkpoints": listed,
    }


def described(checkpoint: Path | None) -> dict[str, Any]:
    """What the config of a checkpoint says about its run; nothing where it cannot be read."""
    with contextlib.suppress(MicrogptError):
        if checkpoint is not None:
            config = read_config(checkpoint)
            return {
                "preset": config.get("preset"),
                "n_params": count_parameters(ModelConfig.from_dict(config["model"])),
                "max_steps": config["train"].get("max_steps"),
                "bpb_of_answers": bool(config["train"].get("answers_only")),
                "origin": origin_of(config),
            }
    return dict.fromkeys(("preset", "n_params", "max_steps", "bpb_of_answers", "origin"))


# -------------------------------------------------------------------------------- table


def table(found: Sequence[dict[str, Any]]) -> list[str]:
    """A line for each run below a line of titles; none is wider than a terminal of 80 columns, but for a name
    that has no room there: it stands whole on a line of its own, to be copied."""
    rows = [dict(zip(TITLES, TITLES, strict=True)), *map(cells, found)]
    widths = {title: max(len(row[title]) for row in rows) for title in TITLES}
    others = sum(widths.values()) - widths["run"] + 2 * (len(TITLES) - 1)
    widths["run"] = max(len("run"), min(widths["run"], WIDTH - others))
    lines = []
    for row in rows:
        if len(row["run"]) > widths["run"]:
            lines.append(row["run"])
            row["run"] = ""
        aligned = (f"{row[t]:{'>' if t in NUMBERS else '<'}{widths[t]}}" for t in TITLES)
        lines.append("  ".join(aligned).rstrip())
    marks = {"*": "best on held-out text: RUN@best", "?": "damaged: microgpt verify RUN"}
    shown = "".join(row["steps kept"] for row in rows)
    lines += [f"{mark} {text}" for mark, text in marks.items() if mark in shown]
    if any(row["bpb"].startswith(OF_ANSWERS) for row in rows):
        lines.append(
            f"{OF_ANSWERS} of the assistant's answers alone; of all held-out text: microgpt eval RUN"
        )
    return lines + [
        shortened(f"{facts['name']} {facts['origin']}", WIDTH) for facts in found if facts["origin"]
    ]


def cells(facts: dict[str, Any]) -> dict[str, str]:
    """A run's line of the table."""
    return {
        "run": harmless(facts["name"]),
        "params": "?" if facts["n_params"] is None else short_count(facts["n_params"]),
        "tokens": "" if facts["tokens"] is None else short_number(facts["tokens"]),
        "bpb": held_out(facts),
        "state": facts["state"],
        "steps kept": kept_steps(facts["checkpoints"]),
        "disk": short_size(facts["bytes"]),
    }


def held_out(facts: dict[str, Any]) -> str:
    """The last held-out result, marked where it is of answers alone, with its step where the newest
    checkpoint is of another."""
    if facts["bpb"] is None:
        return ""
    at = "" if facts["bpb_step"] in (None, facts["step"]) else f"@{facts['bpb_step']}"
    mark = f"{OF_ANSWERS} " if facts["bpb_of_answers"] else ""
    return f"{mark}{facts['bpb']:.3f}{at}"


def kept_steps(listed: Sequence[dict[str, Any]]) -> str:
    """The steps that are kept, oldest first; where there are too many, the best and the newest."""
    words = [f"{one['step']}{mark(one)}" for one in reversed(listed)]
    if len(" ".join(words)) <= KEPT_WIDTH:
        return " ".join(words)
    best = next((word for word in words[:-1] if word.endswith("*")), "")
    return " ".join(filter(None, (best, "..", words[-1])))


def mark(one: dict[str, Any]) -> str:
    """What stands behind a step."""
    return "*" if one["best"] else "" if one["whole"] else "?"


def shortened(text: str, width: int) -> str:
    """A text in so many columns, its middle left out if need be."""
    if len(text) <= width:
        return text
    tail = (width - 2) // 2
    return f"{text[: width - 2 - tail]}..{text[-tail:]}"


def short_count(n: int) -> str:
    """`3,456` or `34.1M`."""
    return f"{n:,}" if n < 100_000 else f"{n / 1e6:.3g}M"


def short_size(n_bytes: int) -> str:
    """`64 kB`, `35 MB` or `1.2 GB`."""
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if n_bytes >= size:
            return f"{n_bytes / size:.3g} {unit}"
    return f"{n_bytes / 1e3:.0f} kB"
