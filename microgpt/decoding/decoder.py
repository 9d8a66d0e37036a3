"""Decoding: feed a prompt, then choose and feed one token after the other."""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from microgpt.common.errors import ConfigError
from microgpt.core import random
from microgpt.corpus.chat import END
from microgpt.model import GPT
from microgpt.model.architecture import state_bytes
from microgpt.tokenizer import Tokenizer

from .sampler import GREEDY, RECENT, SamplerConfig, next_token

Uniform = Callable[[int], float]  # number of the token -> number in [0, 1)
CUT = 128  # tokens of a prompt that go through the model together
MOST_ROWS = 32  # sequences that are continued together, at most
STATES_BYTES = 1 << 28  # that their states take, at most


def uniform_stream(seed: int, stream: int = 0) -> Uniform:
    """The random numbers of one answer: a pure function of (seed, stream, index)."""
    key = random.key(seed, "sampling", stream)
    return lambda index: float(random.uniform(key, 1, index)[0])


class Request(NamedTuple):
    """A prompt that is to be continued, and how.

    prompt:     (n,) int32 ids, at least one, no more than the window holds.
    max_tokens: of the answer; None: up to the end of the window.
    uniform:    the draws, by number of the token; not needed at temperature 0.
    """

    prompt: np.ndarray
    config: SamplerConfig = GREEDY
    max_tokens: int | None = None
    uniform: Uniform | None = None


class Answer:
    """What follows a prompt, made while somebody iterates over its ids, which are without the end token.

    Attributes: ids: as far as it has come.  finish: why it ended: "stop" (the model's end token) or "length"
    (max_tokens or the window); "" while it is made and when it was given up.
    """

    def __init__(self, request: Request, decoder: "Decoder") -> None:
        n = len(request.prompt)
        if not 0 < n <= decoder.window:
            raise ConfigError(f"a prompt of {n} tokens; this model takes 1 to {decoder.window}")
        room = decoder.window - n + 1  # the last token need not be fed
        self._limit = room if request.max_tokens is None else min(room, request.max_tokens)
        self._request, self._decoder = request, decoder
        self._text_ids = request.prompt[~np.isin(request.prompt, decoder.specials)].tolist()
        self._steps = self._made()
        self.ids: list[int] = []
        self.finish = "" if self._limit > 0 else "length"

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        return next(self._steps)

    def close(self) -> None:
        """Give it up: no more ids come."""
        self._steps.close()

    def text(self) -> Iterator[str]:
        """Its text instead of its ids: whole characters only, U+FFFD for what is no UTF-8."""
        decoded = self._decoder.tokenizer.stream()
        for token in self:
            if text := decoded.push(token):
                yield text
        if rest := decoded.flush():
            yield rest

    def take(self, logits: np.ndarray) -> int | None:
        """Choose the next token by the logits (V,) after those that are there; None: the answer ends here."""
        config, uniform = self._request.config, self._request.uniform
        draw = uniform(len(self.ids)) if uniform and config.temperature else 0.0
        token = next_token(logits, config, draw, self._text_ids[-RECENT:])
        if token == self._decoder.end:
            self.finish = "stop"
            return None
        self._text_ids.append(token)
        self.ids.append(token)
        if len(self.ids) == self._limit:
            self.finish = "length"
        return token

    def _made(self) -> Generator[int, None, None]:
        if self.finish:
            return
        logits = self._decoder.read(self._request.prompt)
        while (token := self.take(logits)) is not None:
            yield token
            if self.finish:
                return
            (logits,) = next_logits([(self._decoder, np.array([token], np.int32))])


class Decoder:
    """Continues sequences of ids with one model, one after the other.

    An answer is a function of weights, prompt, settings and draws, to the last bit.  How many rows a product
    has decides which kernel computes it, so a prompt is always read in the same pieces: of CUT tokens from
    its beginning, then the rest.  Pieces that the state still holds are not read again; the rest of the one
    before, and its answer, which was fed token by token, are of no use to the next.

    Attributes: fed: tokens that went through the model in all.
    """

    def __init__(self, model: GPT, tokenizer: Tokenizer) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.state = model.new_state()
        self.end = tokenizer.special_id(END)
        self.specials = np.array([tokenizer.special_id(name) for name in tokenizer.specials])
        self.forbidden = forbidden_in_answers(tokenizer)
        self._ids: list[int] = []  # of the whole pieces that the state begins with
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
    ) -> Answer:
        """What follows a prompt (as in Request): to be iterated over before the next one is begun."""
        return Answer(Request(prompt, config, max_tokens, uniform), self)

    def read(self, prompt: np.ndarray) -> np.ndarray:
        """Logits (V,) after a prompt, of which the state may know the beginning."""
        start = self._reuse(prompt)
        while start + CUT < len(prompt):
            piece = prompt[start : start + CUT]
            next_logits([(self, piece)])
            self._ids += piece.tolist()
            start += CUT
        return next_logits([(self, prompt[start:])])[0]

    def _reuse(self, prompt: np.ndarray) -> int:
        """Go back to the pieces that the state shares with the prompt, and return their length in ids.

        The last id is always read, for the logits after it.
        """
        n = self.state.rewind(min(_shared(self._ids, prompt), len(prompt) - 1) // CUT * CUT)
        if n % CUT:  # this memory cannot go back to the end of a piece
            n = self.state.rewind(0)
        del self._ids[n:]
        return n


def forbidden_in_answers(tokenizer: Tokenizer) -> np.ndarray:
    """Ids of the markers that only a prompt may hold: all but the one that ends an answer, (n,)."""
    return np.array([tokenizer.special_id(name) for name in tokenizer.specials if name != END], np.int64)


def next_logits(rows: Sequence[tuple[Decoder, np.ndarray]]) -> np.ndarray:
    """Logits (R, V) after more ids for each of R decoders of one model, with -inf for markers that no answer
    may hold."""
    logits = rows[0][0].model.next_logits(
        [(row.state, np.ascontiguousarray(ids, np.int32)) for row, ids in rows]
    )
    logits[:, rows[0][0].forbidden] = -np.inf
    for row, ids in rows:
        row.fed += len(ids)
    return logits


def answer_all(
    model: GPT, tokenizer: Tokenizer, requests: Iterable[Request], n_rows: int | None = None
) -> Iterator[tuple[int, Answer]]:
    """Continue many prompts, several at a time, so that the weights are read once for all of them.

    Beside others an answer may differ in the last bits of its logits from what it would be alone.

    Args:     n_rows: how many at a time; None: as many as their states have room for in STATES_BYTES.
    Yields:   the number of a request, from 0, and its answer, whole; as they end, not in order.
    """
    if n_rows is None:
        of_row = state_bytes(model.config) * model.config.seq_len
        n_rows = min(MOST_ROWS, max(1, STATES_BYTES // of_row))
    waiting, free = enumerate(requests), [Decoder(model, tokenizer) for _ in range(n_rows)]
    logits: dict[int, np.ndarray] = {}  # of each request that is being answered
    rows: dict[int, tuple[Decoder, Answer]] = {}
    while True:
        while free and (found := next(waiting, None)) is not None:
            number, request = found
            decoder = free.pop()
            rows[number] = decoder, Answer(request, decoder)
            if not rows[number][1].finish:
                logits[number] = decoder.read(request.prompt)
        if not rows:
            return
        going_on: dict[int, int] = {}
        for number, (decoder, answer) in list(rows.items()):
            token = None if answer.finish else answer.take(logits[number])
            if token is None or answer.finish:
                free.append(decoder)
                del rows[number]
                logits.pop(number, None)
                yield number, answer
            else:
                going_on[number] = token
        if going_on:
            fed = [(rows[number][0], np.array([token], np.int32)) for number, token in going_on.items()]
            logits.update(zip(going_on, next_logits(fed), strict=True))


def _shared(ids: Sequence[int], prompt: np.ndarray) -> int:
    """Length of the common beginning."""
    n = min(len(ids), len(prompt))
    different = np.flatnonzero(np.asarray(ids[:n], np.int64) != prompt[:n])
    return int(different[0]) if len(different) else n
