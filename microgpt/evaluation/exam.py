"""The exam: questions put to a model, its greedy answers marked, a table by family."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from microgpt.corpus.prompts import conversation_prompt, prompt_limit
from microgpt.corpus.smalltalk import Question
from microgpt.decoding.decoder import Decoder
from microgpt.decoding.sampler import GREEDY
from microgpt.model import GPT
from microgpt.tokenizer import Tokenizer


class Answer(NamedTuple):
    """A marked answer.  One that had not ended when its limit came is wrong."""

    question: Question
    text: str
    correct: bool


@dataclass(frozen=True)
class ExamResult:
    """All answers of an exam."""

    answers: Sequence[Answer]

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

    def wrong(self, n_per_family: int) -> list[Answer]:
        """The first few wrong answers of every family."""
        shown: dict[str, list[Answer]] = {}
        for answer in self.answers:
            if not answer.correct:
                shown.setdefault(answer.question.family, []).append(answer)
        return [answer for answers in shown.values() for answer in answers[:n_per_family]]


def take_exam(
    model: GPT,
    tokenizer: Tokenizer,
    questions: Iterable[Question],
    progress: Callable[[int], Any] = lambda n: None,
) -> ExamResult:
    """Ask every question in a conversation of its own; `progress` hears 1 after each."""
    decoder = Decoder(model, tokenizer)
    answers = []
    for question in questions:
        answers.append(_ask(decoder, question))
        progress(1)
    return ExamResult(answers)


def _ask(decoder: Decoder, question: Question) -> Answer:
    """Answer greedily, in at most twice the length of a good answer and a little."""
    prompt = conversation_prompt(question.messages, decoder.tokenizer, prompt_limit(decoder.window)).ids
    limit = 2 * len(decoder.tokenizer.encode(question.expected)) + 16
    text = "".join(decoder.stream(prompt, GREEDY, limit))
    return Answer(question, text, decoder.finish == "stop" and question.is_correct(text))


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
