"""What changes of a run gave, as Markdown, CSV and JSON."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from microgpt.common.output import json_line
from microgpt.common.words import format_amount
from microgpt.files import durable

from .ablation import AS_IS, Row

HEADS = ("", "bits/byte", "by seed", "difference", "95 %, documents", "95 %, seeds", "", "tok/s", "memory")
OF_SEED = ("seed", "bpb", "difference_by_seed")  # a value for each
NOTES = (
    "difference: held-out bits per byte above {}, the mean over seeds; below 0 is better",
    "95 %, documents: had other documents been held out, with these seeds; seeds: had other seeds been drawn",
    "lower, higher: by more than both explain; memory: estimated for training",
)


def markdown(rows: Sequence[Row]) -> str:
    """For people."""
    first = rows[0].name
    table = [HEADS, ("---",) * len(HEADS), *(_cells(row, row.name == first) for row in rows)]
    lines = ["| " + " | ".join(cells) + " |" for cells in table]
    head = f"{rows[0].tokens:,} tokens each, seeds {' '.join(map(str, rows[0].seeds))}"
    than = "the run as it is" if first == AS_IS else first
    return "\n".join([head, "", *lines, "", *(f"- {note.format(than)}" for note in NOTES)])


def _cells(row: Row, is_first: bool) -> tuple[str, ...]:
    known = [one for one in row.bpb if one is not None]
    mean = f"{sum(known) / len(known):.4f}" if known else "-"
    apart, half, found = row.by_seed, row.seeds_half, row.difference
    by_seed = row.bpb if is_first else apart
    sign = "" if is_first else "+"
    return (
        row.name,
        mean,
        " ".join("-" if one is None else f"{one:{sign}.4f}" for one in by_seed),
        f"{found.value:+.4f}" if found else "",
        f"{found.low:+.4f} to {found.high:+.4f}" if found else "",
        f"{found.value - half:+.4f} to {found.value + half:+.4f}" if found and half is not None else "",
        row.verdict,
        f"{row.tok_per_s:,.0f}",
        f"{format_amount(row.memory)}B",
    )


def as_dict(row: Row) -> dict[str, Any]:
    """Plain values by names that say what they are."""
    found = row.difference
    return {
        "name": row.name,
        "n_params": row.n_params,
        "tokens": row.tokens,
        "seed": row.seeds,
        "bpb": row.bpb,
        "difference_by_seed": row.by_seed,
        "difference": found and found.value,
        "documents_low": found and found.low,
        "documents_high": found and found.high,
        "seeds_half_width": row.seeds_half,
        "verdict": row.verdict,
        "tok_per_s": row.tok_per_s,
        "memory_bytes": row.memory,
    }


def csv_text(rows: Sequence[Row]) -> str:
    """A line for each seed of each arm; what is not known is empty."""
    file = io.StringIO()
    wide = [as_dict(row) for row in rows]
    writer = csv.DictWriter(file, [*wide[0]], lineterminator="\n")
    writer.writeheader()
    for one in wide:
        for values in zip(*(one[name] for name in OF_SEED), strict=True):
            writer.writerow(one | dict(zip(OF_SEED, values, strict=True)))
    return file.getvalue()


def json_text(rows: Sequence[Row]) -> str:
    """A list of arms."""
    return json_line([as_dict(row) for row in rows])


def write(rows: Sequence[Row], folder: Path) -> list[Path]:
    """All three, beside the runs."""
    texts = {"md": markdown(rows) + "\n", "csv": csv_text(rows), "json": json_text(rows) + "\n"}
    paths = [folder / f"results.{suffix}" for suffix in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        durable.replace_file(path, [text.encode()])
    return paths
