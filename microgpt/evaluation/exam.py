"""The exam: questions put to a model, its greedy answers marked, a table by family."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from microgpt.corpus.prompts import conversation_prompt, prompt_limit
from microgpt.corpus.smalltalk import Question
from microgpt.decoding.decoder import Request, answer_all
from microgpt.decoding.sampler import GREEDY
from microgpt.model import GPT
from microgpt.tokenizer import Tokenizer


class Marked(NamedTuple):
    """A marked answer.  One that had not ended when its limit came is wrong."""

    question: Question
    text: str
    correct: bool


@dataclass(frozen=True)
class ExamResult:
    """All answers of an exam."""

    answers: Sequence[Marked]

    @property
    def families(self) -> dict[str, tuple[int, int]]:
        """Family -> (correct, asked), in the order of the questions."""
        counts: dict[str, tuple[int, int]] = {}
        for answer in self.answers:
            correct, asked = counts.get(answer.question.family, (0, 0))
            counts[answer.question.family] = (correct + answer.correct, asked + 1)
        return counts

    @property
    def correct(self) -> int:
        """Right answers in all."""
        return sum(answer.correct for answer in self.answers)

    @property
    def share(self) -> float:
        """Share of right answers in all."""
        return self.correct / max(1, len(self.answers))

    def to_dict(self) -> dict[str, Any]:
        """Counts and shares, for JSON."""
        families = {
            name: {"correct": correct, "asked": asked, "share": round(correct / asked, 4)}
            for name, (correct, asked) in self.families.items()
        }
        total = {"correct": self.correct, "asked": len(self.answers), "share": round(self.share, 4)}
        return total | {"families": families}

    def wrong(self, n_per_family: int) -> list[Marked]:
        """The first few wrong answers of every family."""
        shown: dict[str, list[Marked]] = {}
        for answer in self.answers:
            if not answer.correct:
                shown.setdefault(answer.question.family, []).append(answer)
        return [answer for answers in shown.values() for answer in answers[:n_per_family]]


def take_exam(
    model: GPT,
    tokenizer: Tokenizer,
    questions: Iterable[Question],
    progress: Callable[[int], Any] = lambda n: None,
    n_rows: int | None = None,
) -> ExamResult:
    """Ask every question in a conversation of its own; `progress` hears 1 after each.

    n_rows: how many are answered at a time; None: as `answer_all` sees fit.
    """
    asked = list(questions)
    requests = (_request(question, tokenizer, model.config.seq_len) for question in asked)
    marked: dict[int, Marked] = {}
    for number, answer in answer_all(model, tokenizer, requests, n_rows):
        text = tokenizer.decode(answer.ids).decode("utf-8", "replace")
        right = answer.finish == "stop" and asked[number].is_correct(text)
        marked[number] = Marked(asked[number], text, right)
        progress(1)
    return ExamResult([marked[number] for number in range(len(asked))])


def _request(question: Question, tokenizer: Tokenizer, window: int) -> Request:
    """To be answered greedily, in at most twice the length of a good answer and a little."""
    prompt = conversation_prompt(question.messages, tokenizer, prompt_limit(window)).ids
    return Request(prompt, GREEDY, 2 * len(tokenizer.encode(question.expected)) + 16)


def table(result: ExamResult) -> list[str]:
    """Lines: family, correct, asked, share, with a bar to see weak families by."""
    rows = [(name, *counts) for name, counts in result.families.items()]
    rows.append(("all", result.correct, len(result.answers)))
    width = max(len(name) for name, _, _ in rows)
    lines = [_row(name.ljust(width), correct, asked) for name, correct, asked in rows]
    return [*lines[:-1], "-" * max(map(len, lines)), lines[-1]]


def _row(name: str, correct: int, asked: int) -> str:
    share = correct / asked
    return f"{name}  {correct:5d} of {asked:5d}  {share:6.1%}  {'#' * round(20 * share)}".rstrip()
