"""A conversation as the ids that a model goes on from, cut to fit its window."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from microgpt.common.errors import ConfigError
from microgpt.tokenizer import Tokenizer

from .chat import Message, prompt_ids, render

ANSWER_SHARE = 4  # one part in so many of the window is kept free for the answer
SHORTEST_QUESTION = 8  # tokens with its markers; a window that cannot hold even this is no use for a chat


@dataclass(frozen=True)
class Prompt:
    """What the model is shown: opening, the turns that fit, and the question.

    dropped: turns left out at the beginning.  cut: ids left out of the question.
    """

    head: np.ndarray
    turns: list[np.ndarray]
    question: np.ndarray
    dropped: int = 0
    cut: int = 0

    @property
    def ids(self) -> np.ndarray:
        """All of it in order."""
        return np.concatenate([self.head, *self.turns, self.question])


def fit_window(head: np.ndarray, turns: Sequence[np.ndarray], question: np.ndarray, limit: int) -> Prompt:
    """Leave out the oldest turns in whole until everything takes at most `limit` ids.

    A question too long even alone keeps its marker and its end, for which `check_room` sees that room is.
    """
    spare = limit - len(head) - len(question)
    dropped = 0
    while dropped < len(turns) and sum(map(len, turns[dropped:])) > spare:
        dropped += 1
    cut = max(0, -spare)
    question = np.concatenate([question[:1], question[1 + cut :]])
    return Prompt(head, list(turns[dropped:]), question, dropped, cut)


def check_room(head: np.ndarray, limit: int) -> None:
    """Refuse an opening that leaves no room for a message where a prompt may take `limit` ids."""
    if len(head) + SHORTEST_QUESTION > limit:
        raise ConfigError(
            f"a prompt for this model may take {limit} tokens, no room to talk beside a system prompt of "
            f"{len(head) - 1}; shorten the prompt or take a model with a larger --seq-len"
        )


def conversation_prompt(messages: Sequence[Message], tokenizer: Tokenizer, limit: int) -> Prompt:
    """The prompt for a conversation that ends with the user's message, in at most `limit` ids.

    Raises:   ConfigError: the system message leaves no room for the user's.
    """
    opening = [message for message in messages[:1] if message.role == "system"]
    head = render(opening, tokenizer)
    check_room(head, limit)
    starts = [i for i, message in enumerate(messages) if message.role == "user"]
    # Each turn without its <|bos|>.
    turns = [render(list(messages[i:j]), tokenizer)[1:] for i, j in pairwise(starts)]
    question = prompt_ids(messages[starts[-1] :], tokenizer)[1:]
    return fit_window(head, turns, question, limit)


def prompt_limit(window: int) -> int:
    """Tokens that a prompt may take, so that room for an answer stays."""
    return window - window // ANSWER_SHARE
