"""What a model is asked, and what its answers are worth: a text's own marks, the exam's marking, or a
function of one's own."""

import ast
import importlib.util
import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from microgpt.common.errors import ConfigError, DataError
from microgpt.core import random
from microgpt.corpus.chat import END, role_marker
from microgpt.corpus.prepared.folder import Prepared
from microgpt.corpus.prompts import conversation_prompt, prompt_limit
from microgpt.corpus.smalltalk import FAMILIES, practice
from microgpt.tokenizer import Tokenizer

TEXT, EXAM = "text", "exam"
NUMBERS = int, float, np.integer, np.floating, np.bool_  # what a function may give
Reward = Callable[[str, str], float]  # what the user said last, the answer -> what it is worth


class Asked(NamedTuple):
    """What is put to a model.

    prompt: ids, up to where it answers.  limit: tokens of an answer, at most.  worth: of an answer's text,
    and whether the model ended it itself.
    """

    prompt: np.ndarray
    limit: int
    worth: Callable[[str, bool], float]


class Questions(Protocol):
    """Where prompts come from."""

    def asked(self, seed: int, first: int, n: int) -> list[Asked]:
        """Those of the numbers `first` .. `first + n - 1`: a function of the arguments."""


# -------------------------------------------------------------------------------- a text's own marks


def text_reward(prompt: str, answer: str) -> float:
    """0.3 length + 0.3 different words + 0.2 (1 - repeated pairs) + 0.1 ending + 0.1 overlap, all as shares.

    Length: -1 below 5 words, rising from 0 there to 1 at 15, level to 80, falling to 0 at 120, then -0.5.
    Ending: 0.5 after a sentence, else -0.5.  Overlap: a third for each word of the prompt that comes again,
    at most 1.  An answer without a word is worth -1.  Words are counted, not tokens, so that no vocabulary
    decides.
    """
    words = re.findall(r"\w+", answer.lower())
    if not words:
        return -1.0
    repeated = sum(n - 1 for n in Counter(pairwise(words)).values()) / max(1, len(words) - 1)
    ending = 0.5 if answer.rstrip().endswith((".", "!", "?")) else -0.5
    overlap = min(1.0, len(set(words) & set(re.findall(r"\w+", prompt.lower()))) / 3)
    distinct = len(set(words)) / len(words)
    return 0.3 * _length(len(words)) + 0.3 * distinct + 0.2 * (1 - repeated) + 0.1 * ending + 0.1 * overlap


def _length(n: int) -> float:
    if n < 5:
        return -1.0
    if n < 15:
        return (n - 5) / 10
    if n <= 80:
        return 1.0
    return (120 - n) / 40 if n <= 120 else -0.5


# -------------------------------------------------------------------------------- a function of one's own


def function_of(name: str) -> Reward:
    """The function that FILE.py:function means; what it gives is checked at every call.

    Raises: ConfigError: there is none, or it gives no number.
    """
    place, colon, function = name.rpartition(":")
    if not colon or not place.endswith(".py"):
        raise ConfigError(f"--reward {name}: expected text, exam or FILE.py:function")
    found = getattr(_module(Path(place)), function, None)
    if not callable(found):
        raise ConfigError(f"--reward {name}: there is no function {function} in {place}")

    def checked(prompt: str, answer: str) -> float:
        try:
            value = found(prompt, answer)
        except Exception as error:
            raise ConfigError(f"--reward {name}: {type(error).__name__}: {error}") from error
        number = float(value) if isinstance(value, NUMBERS) and abs(value) <= sys.float_info.max else math.nan
        if not math.isfinite(number):
            raise ConfigError(f"--reward {name}: it gave {value!r:.80}, expected a finite number")
        return number

    return checked


def files_of(path: Path) -> list[Path]:
    """A file of Python, those beside it that it imports, wherever in it, and so on.

    Packages, files of data and what is installed are not among them, nor a file that is named like a module
    of the standard library, which is imported in its place.
    Raises: OSError: one cannot be read.
    """
    found, waiting = [path], [path]
    while waiting:
        names = sorted(_imported(waiting.pop().read_bytes()) - sys.stdlib_module_names)
        beside = [file for name in names if (file := path.with_name(f"{name}.py")).is_file()]
        new = [file for file in beside if file not in found]
        found, waiting = found + new, waiting + new
    return found


def _imported(source: bytes) -> set[str]:
    """The first words of what a file of Python imports; of what is none, nothing."""
    try:
        nodes = [*ast.walk(ast.parse(source))]
    except (SyntaxError, ValueError, RecursionError):
        return set()
    whole = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    whole |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    return {name.partition(".")[0] for name in whole}


def _module(path: Path) -> object:
    spec = importlib.util.spec_from_file_location("microgpt_reward", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ConfigError(f"--reward {path}: there is no such file; expected FILE.py:function")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for the names of their annotations
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)  # for files beside it, which it may import
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise ConfigError(f"--reward {path}: {type(error).__name__}: {error}") from error
    return module


# -------------------------------------------------------------------------------- where prompts come from


class OfTheExam:
    """Questions as the exam asks them, of content that no exam holds; an answer is right, 1, or not, 0."""

    def __init__(self, tokenizer: Tokenizer, window: int, families: Sequence[str]) -> None:
        if unknown := sorted(set(families) - set(FAMILIES)):
            raise ConfigError(f"--families {unknown[0]}: expected {', '.join(FAMILIES)}")
        self._tokenizer, self._window, self._families = tokenizer, window, list(families or FAMILIES)

    def asked(self, seed: int, first: int, n: int) -> list[Asked]:
        """Of each family in turn."""
        return [self._one(seed, index) for index in range(first, first + n)]

    def _one(self, seed: int, index: int) -> Asked:
        question = practice(self._families[index % len(self._families)], seed, index)
        prompt = conversation_prompt(question.messages, self._tokenizer, prompt_limit(self._window)).ids
        limit = 2 * len(self._tokenizer.encode(question.expected)) + 16  # as in the exam
        return Asked(prompt, limit, lambda text, is_whole: float(is_whole and question.is_correct(text)))


class OfTheCorpus:
    """Beginnings of conversations of the training text, each up to one of its answers, drawn by chance.

    Raises: DataError: there is none that leaves room for an answer.
    """

    def __init__(self, prepared: Prepared, window: int, reward: Reward, limit: int) -> None:
        tokenizer, text = prepared.tokenizer, prepared.train
        self._reward, self._limit, self._text, self._tokenizer = reward, limit, text, tokenizer
        self._user, self._end = tokenizer.special_id(role_marker("user")), tokenizer.special_id(END)
        places = np.flatnonzero(text.ids == tokenizer.special_id(role_marker("assistant")))
        begins = text.offsets[np.searchsorted(text.offsets, places, "right") - 1].astype(np.int64)
        has_room = places - begins < prompt_limit(window)
        self._begins, self._ends = begins[has_room], places[has_room] + 1
        if not len(self._ends):
            raise DataError(
                f"{text.path}: no answer of an assistant in the training text; give conversations with --data"
            )

    def asked(self, seed: int, first: int, n: int) -> list[Asked]:
        """Any of them may come again."""
        words = random.bits(random.key(seed, "prompts"), n, first)
        return [self._one(int(word % np.uint64(len(self._ends)))) for word in words]

    def _one(self, number: int) -> Asked:
        prompt = np.asarray(self._text.ids[self._begins[number] : self._ends[number]], np.int32)
        users = np.flatnonzero(prompt == self._user)
        said = prompt[users[-1] + 1 :] if len(users) else prompt[:0]
        question = self._tokenizer.decode(said[: np.argmax(said == self._end)]) if len(said) else b""
        return Asked(
            prompt,
            self._limit,
            lambda text, is_whole: self._reward(question.decode("utf-8", "replace"), text),
        )
