"""A model that says what a script tells it, and remembers what it was fed."""

from types import SimpleNamespace

import numpy as np

from microgpt.corpus.chat import role_marker
from microgpt.decoding.decoder import CUT
from microgpt.model.state import KVState, ModelState


class ScriptedModel:
    """Its logits want the ids of `script`, one after the other; at the end of the script the end token.

    Nobody asks for the logits after a piece of CUT ids that more ids follow: they take nothing of the script.

    calls: (length of the state before, ids) of every call.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, tokenizer, script=(), seq_len=64):
        self.config = SimpleNamespace(n_layer=1, n_embd=2, seq_len=seq_len, vocab_size=tokenizer.vocab_size)
        self.end = tokenizer.special_id("<|end|>")
        self.script = list(script)
        self.calls = []

    def new_state(self):
        return ModelState({"h.0.attn": KVState(self.config.seq_len, 1)})

    def next_logits(self, rows):
        ((state, ids),) = rows
        assert state.length + len(ids) <= self.config.seq_len
        self.calls.append((state.length, ids.tolist()))
        state.states["h.0.attn"].length += len(ids)
        logits = np.zeros(self.config.vocab_size, np.float32)
        is_piece = len(ids) == CUT
        logits[self.script.pop(0) if self.script and not is_piece else self.end] = 50
        return logits[None]

    @property
    def n_fed(self):
        return sum(len(ids) for _, ids in self.calls)


def says(tokenizer, *answers):
    """The script of several answers, each with its end token."""
    end = tokenizer.special_id("<|end|>")
    return [i for answer in answers for i in [*tokenizer.encode(answer).tolist(), end]]


def spell(ids, tokenizer):
    """Ids as text, markers by name."""
    return tokenizer.decode(ids, show_specials=True).decode()


ASSISTANT = role_marker("assistant")
