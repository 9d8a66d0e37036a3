"""Decoding: feed a prompt, then choose and feed one token after the other."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from microgpt.common.errors import ConfigError
from microgpt.core import random
from microgpt.corpus.chat import END
from microgpt.model import GPT
from microgpt.tokenizer import Tokenizer

from .sampler import GREEDY, RECENT, SamplerConfig, next_token

Uniform = Callable[[int], float]  # number of the token -> number in [0, 1)
CUT = 128  # tokens of a prompt that go through the model together


def uniform_stream(seed: int, stream: int = 0) -> Uniform:
    """The random numbers of one answer: a pure function of (seed, stream, index)."""
    key = random.key(seed, "sampling", stream)
    return lambda index: float(random.uniform(key, 1, index)[0])


class Decoder:
    """Continues sequences of ids with one model.

    An answer is a function of weights, prompt, settings and draws, to the last bit.  How many rows a product
    has decides which kernel computes it, so a prompt is always read in the same pieces: of CUT tokens from
    its beginning, then the rest.  Pieces that the state still holds are not read again; the rest of the one
    before, and its answer, which was fed token by token, are of no use to the next.

    Attributes: made: the ids of the latest answer, as far as it has come.  finish: why it ended: "stop" (the
    model's end token) or "length" (max_tokens or the window); "" while it is made and when it was given up.
    fed: tokens that went through the model in all.
    """

    def __init__(self, model: GPT, tokenizer: Tokenizer) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.state = model.new_state()
        self.end = tokenizer.special_id(END)
        self._specials = np.array([tokenizer.special_id(name) for name in tokenizer.specials])
        self._forbidden = self._specials[self._specials != self.end]  # markers that only a prompt may hold
        self._ids: list[int] = []  # of the whole pieces that the state begins with
        self.made: list[int] = []
        self.finish = ""
        self.fed = 0

    @property
    def window(self) -> int:
        """Tokens of prompt and answer together, at most."""
        return self.model.config.seq_len

    def generate(
        self,
        prompt: np.ndarray,
        config: SamplerConfig = GREEDY,
        max_tokens: int | None = None,
        uniform: Uniform | None = None,
    ) -> Iterator[int]:
        """Yield the ids that follow a prompt, as they are made, without the end token.

        Args:    prompt: (n,) int32 ids, at least one, fewer than the window.  max_tokens: None: up to the end
                 of the window.  uniform: the draws, by number of the token; not needed at temperature 0.
        """
        if not 0 < len(prompt) <= self.window:
            raise ConfigError(f"a prompt of {len(prompt)} tokens; this model takes 1 to {self.window}")
        room = self.window - len(prompt) + 1  # the last token need not be fed
        limit = room if max_tokens is None else min(room, max_tokens)
        self.made, self.finish = [], ""
        text_ids = prompt[~np.isin(prompt, self._specials)].tolist()
        logits = self._read(prompt)
        for index in range(limit):
            draw = uniform(index) if uniform and config.temperature else 0.0
            token = next_token(logits, config, draw, text_ids[-RECENT:])
            if token == self.end:
                self.finish = "stop"
                return
            text_ids.append(token)
            self.made.append(token)
            yield token
            if index + 1 < limit:
                logits = self._feed(np.array([token], np.int32))
        self.finish = "length"

    def stream(
        self,
        prompt: np.ndarray,
        config: SamplerConfig = GREEDY,
        max_tokens: int | None = None,
        uniform: Uniform | None = None,
    ) -> Iterator[str]:
        """As `generate`, but yield text: whole characters only, U+FFFD for what is no UTF-8."""
        decoded = self.tokenizer.stream()
        for token in self.generate(prompt, config, max_tokens, uniform):
            if text := decoded.push(token):
                yield text
        if rest := decoded.flush():
            yield rest

    def _read(self, prompt: np.ndarray) -> np.ndarray:
        """Logits after a prompt, of which the state may know the beginning."""
        start = self._reuse(prompt)
        while start + CUT < len(prompt):
            piece = prompt[start : start + CUT]
            self._feed(piece)
            self._ids += piece.tolist()
            start += CUT
        return self._feed(prompt[start:])

    def _reuse(self, prompt: np.ndarray) -> int:
        """Go back to the pieces that the state shares with the prompt, and return their length in ids.

        The last id is always read, for the logits after it.
        """
        n = self.state.rewind(min(_shared(self._ids, prompt), len(prompt) - 1) // CUT * CUT)
        if n % CUT:  # this memory cannot go back to the end of a piece
            n = self.state.rewind(0)
        del self._ids[n:]
        return n

    def _feed(self, ids: np.ndarray) -> np.ndarray:
        """Logits (V,) after ids, with -inf for markers that an answer must not hold."""
        (logits,) = self.model.next_logits([(self.state, np.ascontiguousarray(ids, np.int32))])
        self.fed += len(ids)
        logits[self._forbidden] = -np.inf
        return logits


def _shared(ids: Sequence[int], prompt: np.ndarray) -> int:
    """Length of the common beginning."""
    n = min(len(ids), len(prompt))
    different = np.flatnonzero(np.asarray(ids[:n], np.int64) != prompt[:n])
    return int(different[0]) if len(different) else n
