"""Canaries: small abilities, each asked in many items and marked exactly; what a model has, and two models.

A model answers greedily and goes on from its own answers; an item is right if every answer that it asks for
is.  Beside the model stand two that know nothing: one guesses among the right answers of other items, one
says what follows most often, token by token, what stands before (a bigram).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from microgpt.corpus.chat import END, Message, prompt_ids, role_marker
from microgpt.corpus.smalltalk import Question
from microgpt.corpus.smalltalk.draw import Draw
from microgpt.corpus.token_file import TokenFile
from microgpt.decoding.decoder import Request, answer_all
from microgpt.decoding.sampler import GREEDY
from microgpt.model import GPT
from microgpt.tokenizer import Tokenizer

from .canary_items import CANARIES, CATEGORIES, SPARE_TOKENS, Canary, Room, Step, items_of
from .ngrams import NGrams, name_of, sample
from .statistics import Gain, Paired, Share, gain, holm, paired, share
from .training_text import TrainingText

N_ITEMS = 200  # of each canary: a category has at least two
FEWEST = 30  # items that must fit the window for a share to be told
NO_CONVERSATION = "the model has not learned to hold a conversation"
FEWEST_SIGNS = 10  # messages of the training text from which on it holds something of a kind
BIGRAM_TOKENS = 1 << 21  # of the training text that are counted
LEVELS = ((0.90, "pass"), (0.70, "concern"), (0.50, "warning"), (0.0, "fail"))
GATES = {"minimal": 0.85, "standard": 0.80, "extended": 0.75}  # of the mean over categories
STOP = 0.50  # a category below this stops

Answers = Callable[[Sequence[Question]], Iterator[tuple[int, str | None]]]


class Outcome(NamedTuple):
    """An item, whether it is right, the question that decided that, and its answer."""

    steps: list[Step]
    is_right: bool
    question: Question
    answer: str


@dataclass(frozen=True)
class Asked:
    """One canary as a model did it.

    outcomes: of the items that fit the window; a place of each item, None: it does not fit.
    why_not: why it was not asked; "": it was.
    """

    canary: Canary
    outcomes: list[Outcome | None]
    why_not: str = ""

    @property
    def right(self) -> list[bool]:
        """Of the items that were asked."""
        return [outcome.is_right for outcome in self.outcomes if outcome]

    @property
    def share(self) -> Share:
        """How many of them are right."""
        return share(sum(self.right), len(self.right))

    @property
    def verdict(self) -> str:
        """Whether the mark is met, as far as so many items can tell."""
        if self.why_not:
            return ""
        found = self.share
        return (
            "met" if found.low >= self.canary.mark else "not met" if found.high < self.canary.mark else "open"
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON.  items: of each 1 right, 0 wrong, - it does not fit."""
        marks = "".join("-" if o is None else str(int(o.is_right)) for o in self.outcomes)
        found = {"title": self.canary.title, "mark": self.canary.mark, "why_not": self.why_not or None}
        if self.why_not:
            return found
        return (
            found
            | share_dict(self.share)
            | {
                "verdict": self.verdict,
                "level": level(self.share.value),
                "items": marks,
            }
        )


def share_dict(found: Share) -> dict[str, Any]:
    """A share for JSON."""
    return {"right": found.n, "asked": found.of, "share": found.value, "low": found.low, "high": found.high}


def level(value: float) -> str:
    """What a share is called."""
    return next(name for least, name in LEVELS if value >= least)


# -------------------------------------------------------------------------- who answers


def answers_of(model: GPT, tokenizer: Tokenizer, n_rows: int | None = None) -> Answers:
    """A model's greedy answers; None: one that had not ended when its limit came, or for which no room is."""

    def answers(questions: Sequence[Question]) -> Iterator[tuple[int, str | None]]:
        prompts = [prompt_ids(question.messages, tokenizer) for question in questions]
        fits = [number for number, ids in enumerate(prompts) if len(ids) <= model.config.seq_len]
        yield from ((number, None) for number in set(range(len(prompts))) - set(fits))
        most = (2 * len(tokenizer.encode(questions[number].expected)) + 2 * SPARE_TOKENS for number in fits)
        requests = (Request(prompts[number], GREEDY, limit) for number, limit in zip(fits, most, strict=True))
        for place, answer in answer_all(model, tokenizer, requests, n_rows):
            text = tokenizer.decode(answer.ids).decode("utf-8", "replace")
            yield fits[place], text if answer.finish == "stop" else None

    return answers


def guessed(seed: int = 0) -> Answers:
    """Each question gets the right answer of another, drawn at random; where there is no other, none."""

    def answers(questions: Sequence[Question]) -> Iterator[tuple[int, str | None]]:
        n = len(questions)
        draw = Draw(f"guesses {seed} {n} {questions[0].messages[-1].content}")
        for number in range(n):
            other = (number + draw.between(1, n - 1)) % n if n > 1 else None
            yield number, None if other is None else questions[other].expected

    return answers


def counted(training: TokenFile, tokenizer: Tokenizer) -> Answers:
    """The likeliest token after each, by the pairs of the training text: the same answer to everything."""
    ngrams = NGrams(*sample(training, BIGRAM_TOKENS), tokenizer.vocab_size, order=2)
    end, token = tokenizer.special_id(END), tokenizer.special_id(role_marker("assistant"))
    ids: list[int] = []
    while (token := _likeliest(ngrams, token)) != end and len(ids) < 64:
        ids.append(token)
    text = tokenizer.decode(ids).decode("utf-8", "replace") if token == end else None
    return lambda questions: ((number, text) for number in range(len(questions)))


def _likeliest(ngrams: NGrams, before: int) -> int:
    pairs = np.empty(2 * ngrams.V, np.int64)
    pairs[::2], pairs[1::2] = before, np.arange(ngrams.V)
    is_first = np.arange(2 * ngrams.V) % 2 == 0
    return int(ngrams.nats(pairs, is_first)[name_of(2)][1::2].argmin())


# -------------------------------------------------------------------------- asking


def ask(
    items: Sequence[list[Step]], answers: Answers, progress: Callable[[int], Any] = lambda n: None
) -> list[Outcome]:
    """Go through all items side by side, until each is done or wrong; `progress` hears 1 of each item."""
    talks: list[dict[int, list[Message]]] = [{} for _ in items]
    places = [0] * len(items)
    done: dict[int, Outcome] = {}
    while len(done) < len(items):
        open_ = [number for number in range(len(items)) if number not in done]
        questions = [_next_question(items[number], talks[number], places, number) for number in open_]
        for place, text in answers(questions):
            number, question = open_[place], questions[place]
            is_right = text is not None and question.is_correct(text)
            is_last = not any(step.check for step in items[number][places[number] :])
            if not is_right or is_last:
                done[number] = Outcome(items[number], is_right, question, text or "")
                progress(1)
            who = items[number][places[number] - 1].who
            talks[number][who].append(Message("assistant", text or ""))
    return [done[number] for number in range(len(items))]


def _next_question(
    steps: list[Step], talks: dict[int, list[Message]], places: list[int], number: int
) -> Question:
    """Put down what is said until the model is asked, and go behind that."""
    for step in steps[places[number] :]:
        places[number] += 1
        talk = talks.setdefault(step.who, [])
        talk.append(Message("user", step.user))
        if step.check:
            return Question("", list(talk), step.reply, "", step.check)
        talk.append(Message("assistant", step.reply))
    raise AssertionError("an item ends with a question")


def ask_fitting(
    canary: Canary, items: Sequence[list[Step]], room: Room, answers: Answers, progress: Callable[[int], Any]
) -> Asked:
    """Ask the items that fit; say so where hardly any does."""
    needed = [room.needed(steps) for steps in items]
    fits = [number for number, n in enumerate(needed) if n <= room.window]
    if len(fits) < min(FEWEST, len(items)):
        progress(len(items))
        why = (
            f"does not fit: it takes {min(needed):,} to {max(needed):,} tokens of a window of {room.window:,}"
        )
        return Asked(canary, [None] * len(items), why)
    progress(len(items) - len(fits))
    outcomes: list[Outcome | None] = [None] * len(items)
    for number, outcome in zip(fits, ask([items[n] for n in fits], answers, progress), strict=True):
        outcomes[number] = outcome
    return Asked(canary, outcomes)


@dataclass(frozen=True)
class Report:
    """All canaries of one model.  baselines: by name, those of the same items."""

    asked: list[Asked]
    baselines: dict[str, list[Asked]]

    def category(self, name: str) -> Share:
        """All items of a category together."""
        right = [mark for one in self.asked if one.canary.category == name for mark in one.right]
        return share(sum(right), len(right))

    @property
    def categories(self) -> dict[str, Share]:
        """Those of which anything was asked."""
        return {name: found for name in CATEGORIES if (found := self.category(name)).of}

    @property
    def score(self) -> float | None:
        """Mean over categories; None: nothing was asked."""
        shares = [found.value for found in self.categories.values()]
        return math.fsum(shares) / len(shares) if shares else None

    def to_dict(self) -> dict[str, Any]:
        """For JSON and for gates."""
        score = self.score
        weak = [name for name, found in self.categories.items() if found.value < STOP]
        return {
            "canaries": {
                one.canary.name: one.to_dict()
                | {name: of[i].share.value for name, of in self.baselines.items() if not one.why_not}
                for i, one in enumerate(self.asked)
            },
            "categories": {
                name: {"title": CATEGORIES[name]} | share_dict(found)
                for name, found in self.categories.items()
            },
            "score": score,
            "gates": {name: score is not None and score >= least for name, least in GATES.items()},
            "stopped_by": weak,
        }


def run_canaries(
    model: GPT,
    tokenizer: Tokenizer,
    training: TrainingText | None,
    converses: bool,
    n_items: int = N_ITEMS,
    seed: int = 0,
    progress: Callable[[int], Any] = lambda n: None,
    canaries: Sequence[Canary] = CANARIES,
    searched: Callable[[int], Any] = lambda n: None,
) -> Report:
    """Ask a model all canaries of which its training text holds anything.

    Args: training: what it was trained on; None: gone, so all are asked, and no bigram, of the first of its
          files, stands beside it.  Where it is not all, all are asked, too.
          converses: whether it has learned to hold a conversation (`knows_chats`); else nothing is asked.
          progress: hears n_items of each canary in all.  searched: hears 1 of each block of the training text
          that is looked through for what it teaches.
    """
    room = Room(tokenizer, model.config.seq_len)
    why = _not_of_the_kind(tokenizer, training, converses, canaries, searched)
    players = {"model": answers_of(model, tokenizer), "random": guessed(seed)}
    if training is not None and not all(why.values()):
        players["bigram"] = counted(training.files[0], tokenizer)
    found: dict[str, list[Asked]] = {name: [] for name in players}
    for canary in canaries:
        items = [] if why[canary.name] else items_of(canary, n_items, room, seed)
        for name, answers in players.items():
            heard = progress if name == "model" else lambda n: None
            if why[canary.name]:
                heard(n_items)
                found[name].append(Asked(canary, [], why[canary.name]))
            else:
                found[name].append(ask_fitting(canary, items, room, answers, heard))
    return Report(found.pop("model"), found)


def _not_of_the_kind(
    tokenizer: Tokenizer,
    training: TrainingText | None,
    converses: bool,
    canaries: Sequence[Canary],
    searched: Callable[[int], Any],
) -> dict[str, str]:
    """Why a canary does not apply to a model, by its name; "": it does."""
    if not converses:
        return {canary.name: NO_CONVERSATION for canary in canaries}
    if training is None or not training.is_all:
        return {canary.name: "" for canary in canaries}
    signs = sorted({sign for canary in canaries for sign in canary.signs})
    n = dict(zip(signs, training.counts([[sign] for sign in signs], searched, FEWEST_SIGNS), strict=True))
    return {
        canary.name: ""
        if sum(n[sign] for sign in canary.signs) >= FEWEST_SIGNS
        else f"the training text hardly has {' or '.join(map(repr, canary.signs))}"
        for canary in canaries
    }


# -------------------------------------------------------------------------- two models


class Versus(NamedTuple):
    """Two models at one canary: on the items that both were asked, by how much the second is better.

    p: of McNemar's test, raised for the number of canaries (Holm).
    """

    canary: Canary
    counts: Paired
    gain: Gain
    p: float

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return (
            self.counts._asdict()
            | {"gain": self.gain.value, "low": self.gain.low, "high": self.gain.high}
            | {"p": self.p}
        )


def versus(first: Report, second: Report) -> list[Versus]:
    """Canary by canary, of those that both were asked in the same words."""
    found: list[tuple[Canary, Paired]] = []
    for a, b in zip(first.asked, second.asked, strict=True):
        both = [
            (x.is_right, y.is_right)
            for x, y in zip(a.outcomes, b.outcomes, strict=False)
            if x and y and words_of(x.steps) == words_of(y.steps)
        ]
        if both:
            found.append((a.canary, paired(*zip(*both, strict=True))))
    raised = holm([counts.p for _, counts in found])
    return [Versus(canary, n, gain(n), p) for (canary, n), p in zip(found, raised, strict=True)]


def words_of(steps: Sequence[Step]) -> list[tuple[str, int]]:
    """What tells an item from others: what is said to the model, and in which conversation."""
    return [(step.user, step.who) for step in steps]
