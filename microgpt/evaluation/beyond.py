"""How a model does beyond the window that it was trained with: by position, and whether it finds a key there.

The weights are the same; the window is made longer, as far as positions are computed and not learned.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from microgpt.batches.batches import eval_windows
from microgpt.batches.packing import STREAM
from microgpt.common.errors import ConfigError
from microgpt.corpus.smalltalk.draw import Draw
from microgpt.corpus.token_file import TokenFile
from microgpt.model import GPT, Batch
from microgpt.tokenizer import Tokenizer

from .canaries import answers_of, ask
from .canary_items import Room, Step, asked, filled, own_name, said
from .held_out import TOKENS_AT_ONCE
from .loss import Ratio, ratio
from .positions import Stretch, loss_by_position
from .statistics import Share, share

LENGTHS = (1, 2, 3, 4)  # windows
PARTS = 2  # of each window, that are told apart
MOST_TOKENS = 1 << 15  # of held-out text
N_KEYS = 40  # asked at each length
N_PASSAGES = 16  # repeated at each length


class Beyond(NamedTuple):
    """What was found.

    positions: loss by place in a text as long as several windows.
    keys: of each length in windows how many names, told at its beginning, came back at its end; None: the
          model holds no conversation.
    passages: of each length by how many nats per token a passage is foretold better at its end when it has
              stood at its beginning as well.
    """

    positions: list[Stretch]
    keys: dict[int, Share] | None
    passages: dict[int, Ratio]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        keys = {str(k): s._asdict() | {"share": s.value} for k, s in (self.keys or {}).items()}
        return {
            "positions": [stretch._asdict() for stretch in self.positions],
            "passkey": keys or None,
            "repeated_passage": {
                str(k): {"gain": r.value, "standard_error": r.error} for k, r in self.passages.items()
            },
        }


def widened(model: GPT, times: int) -> GPT:
    """The same weights with a window so many times as long.

    Raises: ConfigError: its positions are learned, and it has none beyond its window.
    """
    config = model.config
    if config.positions == "learned":
        raise ConfigError(f"positions are learned, so there are none beyond the window of {config.seq_len}")
    heads = [config.heads_of(layer) for layer in range(config.n_layer)]
    seen: dict[str, Any] = {}  # what local attention sees must not grow with the window
    if any(one.window for one in heads):
        seen = {"window": max(one.window for one in heads), "global_stride": max(one.stride for one in heads)}
    wide = GPT(replace(config, seq_len=times * config.seq_len, **seen), precision=model.precision)
    wide.params = model.params
    return wide


def positions(model: GPT, tokenizer: Tokenizer, tokens: TokenFile, times: int) -> list[Stretch]:
    """Loss by place in windows that are cut from the stream of held-out text.

    Args: model: with a window of `times` times that of training.
    """
    T = model.config.seq_len
    windows = eval_windows(tokens, T, tokenizer.byte_lengths, MOST_TOKENS, packing=STREAM)
    return loss_by_position(model, windows, max(1, TOKENS_AT_ONCE // T), PARTS * times)


def key_item(draw: Draw, room: Room) -> list[Step]:
    """A name, other exchanges until the room is full, the question for it."""
    fact = own_name(draw)
    return filled(draw, room, lambda fill: [*said(fact.told), *fill, asked(fact.question)])


def keys_found(model: GPT, tokenizer: Tokenizer, n: int = N_KEYS) -> Share:
    """How many names that stand at the beginning of the window come back at its end."""
    room = Room(tokenizer, model.config.seq_len)
    made = [key_item(Draw(f"passkey {i}", held_out=True), room) for i in range(n)]
    items = [steps for steps in made if room.needed(steps) <= room.window]
    return share(sum(outcome.is_right for outcome in ask(items, answers_of(model, tokenizer))), len(items))


def passage_gain(model: GPT, tokens: TokenFile, n: int = N_PASSAGES) -> Ratio | None:
    """By how much better a passage is foretold at the end of the window that stood at its beginning, too,
    than one that did not; in nats per token.  None: there is too little text."""
    T = model.config.seq_len
    length = max(1, min(32, T // 4))
    if tokens.n_tokens < T + length + 1:
        return None
    starts = np.linspace(0, tokens.n_tokens - T - length - 1, n).astype(int)
    gains = []
    for start in starts:
        own = np.asarray(tokens.ids[start : start + T + 1], np.int32)
        passage = own[-length:]
        other = np.asarray(tokens.ids[start + T + 1 - length - length : start + T + 1 - length], np.int32)
        rows = np.stack([np.concatenate([first, own[length:]]) for first in (passage, other)])
        losses = model.token_losses(Batch(rows[:, :-1].copy(), rows[:, 1:].copy()))[:, -length:]
        gains.append(float(losses[1].sum() - losses[0].sum()))
    return ratio(np.array(gains), np.full(len(gains), float(length)))


def beyond(
    model: GPT,
    tokenizer: Tokenizer,
    tokens: TokenFile,
    is_chat: bool,
    progress: Callable[[int], Any] = lambda n: None,
) -> Beyond:
    """All of it; `progress` hears 1 of each length and one more.

    Raises: ConfigError: there is no window beyond that of training.
    """
    places = positions(widened(model, LENGTHS[-1]), tokenizer, tokens, LENGTHS[-1])
    progress(1)
    keys: dict[int, Share] = {}
    passages: dict[int, Ratio] = {}
    for times in LENGTHS:
        wide = widened(model, times)
        if is_chat:
            keys[times] = keys_found(wide, tokenizer)
        if (gain := passage_gain(wide, tokens)) is not None:
            passages[times] = gain
        progress(1)
    return Beyond(places, keys if is_chat else None, passages)
