"""Files of judgements: which of two answers a rater prefers, and the marks of each.

One CSV file, UTF-8, with a header and a row for each judgement.  It holds all that it is about, so that a
file alone is enough to count preferences or to train on them:

    pair             number of the pair; the same in all files of one comparison
    category         of the prompt
    prompt           what both models were asked
    answer_a, answer_b    what the first and the second model answered
    model_a, model_b      what the models are called
    first            a or b: whose answer stood first; the rater did not know
    rater            who judged
    choice           a, b or tie: whose answer is better
    coherence_a ... safety_a, coherence_b ... safety_b    marks of 1 to 5, or nothing: each answer by RUBRIC
"""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from microgpt.common.errors import DataError

RUBRIC = ("coherence", "accuracy", "relevance", "style", "safety")
SIDES = ("a", "b")
TIE = "tie"
MARKS = range(1, 6)
TEXTS = ("category", "prompt", "answer_a", "answer_b", "model_a", "model_b")
COLUMNS = (
    "pair",
    *TEXTS,
    "first",
    "rater",
    "choice",
    *(f"{mark}_{side}" for side in SIDES for mark in RUBRIC),
)
LARGEST_FIELD = 1 << 20  # characters of an answer


class Judgement(NamedTuple):
    """One rater on one pair.  marks: by column, such as style_b; those that were given."""

    pair: int
    category: str
    prompt: str
    answer_a: str
    answer_b: str
    model_a: str
    model_b: str
    first: str
    rater: str
    choice: str
    marks: dict[str, int]

    @property
    def texts(self) -> tuple[str, ...]:
        """What all judgements of a pair have in common."""
        return self[1:7]

    @property
    def models(self) -> tuple[str, str]:
        """What both are called."""
        return self.model_a, self.model_b

    @property
    def chosen(self) -> str | None:
        """The better answer; None: neither."""
        return None if self.choice == TIE else self.answer_a if self.choice == "a" else self.answer_b

    @property
    def rejected(self) -> str | None:
        """The worse answer; None: neither."""
        return None if self.choice == TIE else self.answer_b if self.choice == "a" else self.answer_a


def header() -> str:
    """The first line of a file."""
    return _line(COLUMNS)


def row(judgement: Judgement) -> str:
    """The line of a judgement."""
    marks = [str(judgement.marks.get(name, "")) for name in COLUMNS[10:]]
    return _line([str(judgement.pair), *judgement[1:10], *marks])


def _line(fields: Iterable[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(fields)
    return text.getvalue()


def read_judgements(paths: Sequence[str | Path]) -> list[Judgement]:
    """All judgements of some files about the same two models.

    Raises: DataError: a file that is not of this format, a pair with other texts than before, other models,
            or a rater that judges a pair twice.
    """
    found: list[Judgement] = []
    texts: dict[int, tuple[str, ...]] = {}
    seen: set[tuple[int, str]] = set()
    for path in map(Path, paths):
        for number, judgement in _read(path):
            where = f"{path}, row {number}"
            if found and judgement.models != found[0].models:
                models = " and ".join(judgement.models)
                raise DataError(
                    f"{where}: of {models}, the rows before of others; give files of one comparison"
                )
            if texts.setdefault(judgement.pair, judgement.texts) != judgement.texts:
                raise DataError(f"{where}: pair {judgement.pair} has other texts than before; made anew?")
            if (judgement.pair, judgement.rater) in seen:
                raise DataError(f"{where}: {judgement.rater} judges pair {judgement.pair} again; remove one")
            seen.add((judgement.pair, judgement.rater))
            found.append(judgement)
    return found


def _read(path: Path) -> Iterable[tuple[int, Judgement]]:
    """The judgements of a file, each with the number of its row."""
    csv.field_size_limit(LARGEST_FIELD)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            if tuple(rows.fieldnames or ()) != COLUMNS:
                raise DataError(
                    f"{path}: no file of judgements; expected the columns {', '.join(COLUMNS[:10])}, ..."
                )
            for number, fields in enumerate(rows, 2):
                yield number, _judgement(fields, f"{path}, row {number}")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not readable as CSV in UTF-8 ({error})") from None


def _judgement(fields: dict[str, str], where: str) -> Judgement:
    """A row that is as it should be."""
    if None in fields or None in fields.values():
        raise DataError(f"{where}: expected {len(COLUMNS)} fields")
    for name, allowed in (("first", SIDES), ("choice", (*SIDES, TIE))):
        if fields[name] not in allowed:
            raise DataError(f"{where}: {name} is {fields[name]!r:.40}, expected {', '.join(allowed)}")
    if not fields["pair"].isdecimal():
        raise DataError(f"{where}: pair is {fields['pair']!r:.40}, expected a number")
    marks = {name: fields[name] for name in COLUMNS[10:] if fields[name]}
    for name, mark in marks.items():
        if mark not in map(str, MARKS):
            raise DataError(f"{where}: {name} is {mark!r:.40}, expected 1 to 5 or nothing")
    texts = {name: fields[name] for name in (*TEXTS, "first", "rater", "choice")}
    return Judgement(int(fields["pair"]), **texts, marks={name: int(mark) for name, mark in marks.items()})
