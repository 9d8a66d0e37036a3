"""Pairs of answers of two models to the same prompts, for people to judge who do not know whose is whose."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from microgpt.common.errors import DataError
from microgpt.core import random
from microgpt.corpus.chat import BOS, Message
from microgpt.corpus.prompts import conversation_prompt, prompt_limit
from microgpt.decoding.decoder import Request, answer_all, uniform_stream
from microgpt.decoding.sampler import SamplerConfig
from microgpt.evaluation.judgements import SIDES, Judgement
from microgpt.model import GPT
from microgpt.tokenizer import Tokenizer

BUILTIN = "builtin"  # the name of our own prompts
PROMPTS = Path(__file__).with_name("prompts.txt")
HEADING = "# "  # begins the line of a category


class Prompt(NamedTuple):
    """What both models are asked."""

    category: str
    text: str


class Pair(NamedTuple):
    """A prompt and what the first and the second model answered.  number: from 1, as the prompts stand."""

    number: int
    prompt: Prompt
    answers: tuple[str, str]


class Shown(NamedTuple):
    """A pair as one rater sees it.  first: a or b, whose answer stands first."""

    pair: Pair
    first: str

    @property
    def answers(self) -> tuple[str, str]:
        """In the order in which they stand."""
        a, b = self.pair.answers
        return (a, b) if self.first == "a" else (b, a)

    def judged(self, models: tuple[str, str], rater: str, choice: str, marks: dict[str, int]) -> Judgement:
        """What a rater says of it.  choice: a, b or tie.  marks: by column."""
        number, prompt, answers = self.pair
        return Judgement(number, *prompt, *answers, *models, self.first, rater, choice, marks)


def prompts_of(name: str) -> list[Prompt]:
    """Prompts of a file, or our own, BUILTIN: 20 in each of 12 categories.

    A file of text has one a line; a line that begins with "# " names the category of those below.  A line
    that is a JSON object has `prompt`, and `category` if it likes.
    Raises: DataError: a file that cannot be read, or has none.
    """
    path = PROMPTS if name == BUILTIN else Path(name)
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # U+2028 is text
    except OSError as error:
        raise DataError(f"{name}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise DataError(f"{name}: not UTF-8; expected a file of text with a prompt a line") from None
    found, category = [], ""
    for number, line in enumerate(map(str.strip, lines), 1):
        if line.startswith(HEADING):
            category = line.removeprefix(HEADING)
        elif line.startswith("{"):
            found.append(_of_json(line, f"{name}, line {number}"))
        elif line:
            found.append(Prompt(category, line))
    if not found:
        raise DataError(f"{name}: holds no prompt; expected one a line")
    return found


def _of_json(line: str, where: str) -> Prompt:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not readable as JSON ({error})") from None
    category, text = values.get("category", ""), values.get("prompt")
    if not isinstance(text, str) or not text.strip() or not isinstance(category, str):
        raise DataError(
            f"{where}: expected an object with the text `prompt`, and perhaps the text `category`"
        )
    return Prompt(category, text)


def answers_of(
    model: GPT,
    tokenizer: Tokenizer,
    prompts: Sequence[Prompt],
    config: SamplerConfig,
    seed: int,
    max_tokens: int | None,
    is_plain: bool = False,
    progress: Callable[[int], Any] = lambda n: None,
) -> list[str]:
    """What a model answers; `progress` hears 1 after each.  is_plain: prompts are texts to go on with, and no
    messages."""
    limit = prompt_limit(model.config.seq_len)
    requests = (
        Request(
            _ids(prompt.text, tokenizer, limit, is_plain), config, max_tokens, uniform_stream(seed, number)
        )
        for number, prompt in enumerate(prompts)
    )
    found = [""] * len(prompts)
    for number, answer in answer_all(model, tokenizer, requests):
        found[number] = tokenizer.decode(answer.ids).decode("utf-8", "replace").strip()
        progress(1)
    return found


def _ids(text: str, tokenizer: Tokenizer, limit: int, is_plain: bool) -> np.ndarray:
    if is_plain:
        begin = np.array([tokenizer.special_id(BOS)], np.int32)
        return np.concatenate([begin, tokenizer.encode(text)[-(limit - 1) :]])
    return conversation_prompt([Message("user", text)], tokenizer, limit).ids


def pairs_of(prompts: Sequence[Prompt], first: Sequence[str], second: Sequence[str]) -> list[Pair]:
    """Those to which the two models answer differently: there is nothing to judge about the others."""
    both = enumerate(zip(prompts, first, second, strict=True), 1)
    return [Pair(number, prompt, (a, b)) for number, (prompt, a, b) in both if a != b]


def shown(pairs: Sequence[Pair], rater: str, seed: int = 0) -> list[Shown]:
    """The pairs in an order of this rater's own, by chance, as is whose answer stands first."""
    key = random.key(seed, f"judge/{rater}")
    order, sides = random.permutation(key, len(pairs)), random.bits(key, len(pairs), len(pairs))
    return [Shown(pairs[at], SIDES[int(side) & 1]) for at, side in zip(order, sides, strict=True)]


def left_over(found: Sequence[Shown], done: Iterable[Judgement], rater: str) -> list[Shown]:
    """What this rater has not judged yet.

    Raises: DataError: what was judged are answers to the same prompts, but others.
    """
    mine = {one.pair: one for one in done if one.rater == rater}
    for one in found:
        number, prompt, answers = one.pair
        before = mine.get(number)
        if before and (before.prompt, before.answer_a, before.answer_b) != (prompt.text, *answers):
            raise DataError(
                f"pair {number} was judged with other answers; take the same models, settings and seed, or a "
                "new file"
            )
    return [one for one in found if one.pair.number not in mine]
