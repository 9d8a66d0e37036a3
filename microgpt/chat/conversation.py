"""A conversation: turns that fit the model's window, answers that stream.

The window holds <|bos|>, the system message if there is one, the turns, and the answer being made.  Turns
are kept as the ids that the model saw and made, never encoded anew, so that the cache stays good from turn to
turn.
"""

from collections.abc import Callable, Generator

import numpy as np

from microgpt.corpus.chat import Message, prompt_ids, render
from microgpt.corpus.prompts import Prompt, check_room, fit_window, prompt_limit
from microgpt.decoding.decoder import Answer, Decoder, uniform_stream
from microgpt.decoding.sampler import SamplerConfig
from microgpt.model import GPT
from microgpt.tokenizer import Tokenizer

Say = Callable[[str], None]

NO_CHATS = "this model never saw a conversation: it goes on rather than answers; try microgpt sample"


class ChatSession:
    """Several turns with one model.

    Args:       max_tokens: of an answer; None: as the window allows.
                say: hears, in one line each, that turns were left out, a message cut, an answer ended early.
    Attributes: config may be changed between turns.  history: every turn, those out of the window too.
                opening: what it begins with, the system message or nothing.
    Raises:     ConfigError: the window, or what a system message leaves of it, is too small to talk.
    """

    def __init__(
        self,
        model: GPT,
        tokenizer: Tokenizer,
        config: SamplerConfig,
        seed: int = 0,
        system: str = "",
        max_tokens: int | None = None,
        say: Say = lambda text: None,
    ) -> None:
        self.decoder, self.tokenizer = Decoder(model, tokenizer), tokenizer
        self.config, self.max_tokens, self._say = config, max_tokens, say
        self.opening = [Message("system", system)] if system else []
        self._head = render(self.opening, tokenizer)  # just <|bos|> without a system message
        self._limit = prompt_limit(self.window)
        check_room(self._head, self._limit)
        self.reseed(seed)
        self.reset()

    def reset(self) -> None:
        """Forget all turns."""
        self.history: list[Message] = list(self.opening)
        self._turns: list[np.ndarray] = []  # those in the window, oldest first

    def reseed(self, seed: int) -> None:
        """Start the random numbers again: the same seed and the same messages give the same answers."""
        self.seed, self._n_answers = seed, 0

    @property
    def window(self) -> int:
        """Tokens that the model sees at once."""
        return self.decoder.window

    @property
    def n_tokens(self) -> int:
        """Tokens of the window that are taken.  An answer cut by its end is not seen again in whole."""
        return min(self.window, len(self._head) + sum(map(len, self._turns)))

    def reply(self, text: str) -> Generator[str, None, None]:
        """Stream the answer to the user's message, in pieces of whole characters.

        Closed early, it keeps what was said so far as the answer; if nothing was, the message is forgotten.
        """
        question = prompt_ids([Message("user", text)], self.tokenizer)[1:]  # without <|bos|>
        prompt = fit_window(self._head, self._turns, question, self._limit)
        self._turns = prompt.turns
        self._tell_fit(prompt)
        uniform = uniform_stream(self.seed, self._n_answers)
        answer = self.decoder.generate(prompt.ids, self.config, self.max_tokens, uniform)
        try:
            yield from answer.text()
        finally:
            if answer.ids or answer.finish:
                self._keep(text, prompt.question, answer.ids)
        self._tell_finish(answer)

    def _keep(self, text: str, question: np.ndarray, ids: list[int]) -> None:
        """Add a finished turn: as ids for the model, as text for people."""
        self._n_answers += 1
        self._turns.append(np.concatenate([question, np.array([*ids, self.decoder.end], np.int32)]))
        answer = self.tokenizer.decode(ids).decode("utf-8", "replace")
        self.history += [Message("user", text), Message("assistant", answer)]

    def _tell_fit(self, prompt: Prompt) -> None:
        if prompt.dropped:
            n = prompt.dropped
            turns = "the oldest turn was" if n == 1 else f"the {n} oldest turns were"
            self._say(f"{turns} dropped: the window holds {self.window} tokens")
        if prompt.cut:
            self._say(
                f"the message is too long: its first {prompt.cut} tokens were cut off, "
                f"the window holds {self.window}"
            )

    def _tell_finish(self, answer: Answer) -> None:
        n_tokens = len(answer.ids)
        if answer.finish == "length":
            limited = self.max_tokens is not None and n_tokens >= self.max_tokens
            why = "--max-tokens" if limited else "the window is full"
            self._say(f"the answer was cut at {n_tokens} tokens: {why}")
        elif not n_tokens:
            self._say("the answer is empty")
