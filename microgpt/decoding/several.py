"""Several answers to each of many prompts, all of them one token further at a time.

A prompt is read once for all its answers, and the weights are read once a token for all rows.  What is drawn
is what the model says by itself: no choice among the likeliest, no penalty.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from microgpt.common.errors import MicrogptError
from microgpt.core import random
from microgpt.model import GPT
from microgpt.model.architecture import state_bytes
from microgpt.tokenizer import Tokenizer

from .decoder import STATES_BYTES, Decoder, next_logits

MOST_ROWS = 256  # answers that are made together, at most


class Drawn(NamedTuple):
    """An answer.  ids: without the end token.  is_whole: the model ended it."""

    ids: list[int]
    is_whole: bool


def several_answers(
    model: GPT,
    tokenizer: Tokenizer,
    prompts: Sequence[np.ndarray],
    limits: Sequence[int],
    n: int,
    temperature: float,
    key: int,
) -> list[list[Drawn]]:
    """n answers to each prompt: a function of the arguments, to the last bit.

    Args: prompts: ids, each at most a window.  limits: tokens of an answer, for each prompt, at most; the
          window limits them, too.  temperature: 0: always the likeliest.  key: of the random numbers.
    """
    of_row = state_bytes(model.config) * model.config.seq_len
    at_once = max(1, min(MOST_ROWS, STATES_BYTES // max(1, of_row)) // n)
    made: list[list[Drawn]] = []
    for first in range(0, len(prompts), at_once):
        part = slice(first, first + at_once)
        made += _together(
            model, tokenizer, prompts[part], limits[part], n, temperature, random.key(key, "part", first)
        )
    return made


def _together(
    model: GPT,
    tokenizer: Tokenizer,
    prompts: Sequence[np.ndarray],
    limits: Sequence[int],
    n: int,
    temperature: float,
    key: int,
) -> list[list[Drawn]]:
    readers = [Decoder(model, tokenizer) for _ in prompts]
    logits = np.repeat(next_logits(list(zip(readers, prompts, strict=True))), n, 0)  # (R, V)
    rows = [row for reader in readers for row in _copies(reader, n)]
    room = [model.config.seq_len - len(prompt) + 1 for prompt in prompts]  # the last token need not be fed
    most = np.repeat(np.minimum(limits, room), n)
    uniform = random.uniform(key, len(rows) * int(most.max())).reshape(len(rows), -1)
    ids: list[list[int]] = [[] for _ in rows]
    is_whole, going_on = np.zeros(len(rows), bool), np.arange(len(rows))
    for at in range(uniform.shape[1]):
        tokens = drawn(logits, uniform[going_on, at], temperature)
        is_end = tokens == readers[0].end
        is_whole[going_on[is_end]] = True
        for row, token in zip(going_on[~is_end], tokens[~is_end], strict=True):
            ids[row].append(int(token))
        stays = ~is_end & (at + 1 < most[going_on])
        going_on, tokens = going_on[stays], tokens[stays].astype(np.int32)
        if not len(going_on):
            break
        fed = [(rows[row], tokens[k : k + 1]) for k, row in enumerate(going_on)]
        logits = next_logits(fed)
    answers = [Drawn(*one) for one in zip(ids, is_whole.tolist(), strict=True)]
    return [answers[first : first + n] for first in range(0, len(answers), n)]


def _copies(decoder: Decoder, n: int) -> list[Decoder]:
    """n decoders that remember the same, itself among them."""
    others = [Decoder(decoder.model, decoder.tokenizer) for _ in range(n - 1)]
    for other in others:
        other.state = decoder.state.copy()
    return [decoder, *others]


def drawn(logits: np.ndarray, uniform: np.ndarray, temperature: float) -> np.ndarray:
    """A token for each row: logits (R, V), which may be -inf, and numbers in [0, 1), (R,).

    Raises: MicrogptError: logits that are no numbers.
    """
    most = logits.max(-1, keepdims=True)
    if not np.isfinite(most).all():
        raise MicrogptError("the model's output is not finite, its weights are bad; take another checkpoint")
    if temperature == 0:
        return logits.argmax(-1)
    with np.errstate(over="ignore"):  # -inf at a tiny temperature: never drawn, as it should be
        shares = np.exp((logits.astype(np.float64) - most) / temperature)
    below = np.cumsum(shares, -1)
    return np.minimum((below <= uniform[:, None] * below[:, -1:]).sum(-1), logits.shape[1] - 1)
