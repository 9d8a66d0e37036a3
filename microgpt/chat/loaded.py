"""A trained model as a program uses it: let it write, talk to it, ask what a text costs it."""

import math
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from microgpt.common.errors import ConfigError
from microgpt.common.output import tell
from microgpt.common.plain import record_from
from microgpt.core import native
from microgpt.corpus.chat import BOS
from microgpt.decoding.decoder import Decoder, uniform_stream
from microgpt.decoding.sampler import SamplerConfig
from microgpt.machine.cpus import thread_count
from microgpt.model import GPT, Batch
from microgpt.runs.checkpoint import load_verified
from microgpt.runs.kept import MODEL_FILES, find_checkpoint
from microgpt.tokenizer import Tokenizer

from .conversation import ChatSession


class Score(NamedTuple):
    """What a text costs a model: its surprise in nats, over so many tokens and bytes."""

    nats: float
    n_tokens: int
    n_bytes: int

    @property
    def bits_per_byte(self) -> float:
        """Compares across tokenizers; the better model has the lower one."""
        return self.nats / math.log(2) / self.n_bytes


class Model:
    """A model with its tokenizer.

    Attributes: gpt: the network.  tokenizer: from text to ids and back.  path: the checkpoint it is from.
    """

    def __init__(self, gpt: GPT, tokenizer: Tokenizer, path: Path | None = None) -> None:
        self.gpt, self.tokenizer, self.path = gpt, tokenizer, path
        self._conversation: ChatSession | None = None

    def generate(self, text: str, max_tokens: int | None = None, seed: int = 0, **sampling: Any) -> str:
        """What the model writes after a text.

        Args:   max_tokens: at most; None: until it ends by itself or its window is full.
                seed: the same seed gives the same answer.
                sampling: temperature, top_k, top_p, penalty (`SamplerConfig`).
        Raises: ConfigError: a text longer than the window, or a setting that cannot be.
        """
        ids = self._ids(text)
        config = record_from(SamplerConfig, sampling, "sampling")
        answer = Decoder(self.gpt, self.tokenizer).generate(ids, config, max_tokens, uniform_stream(seed))
        return "".join(answer.text())

    def chat(self, message: str, max_tokens: int | None = None, seed: int = 0, **sampling: Any) -> str:
        """The answer to a message.  The model remembers what was said before, until `forget`.

        Args: as of `generate`; seed counts for the first message.
        """
        config = record_from(SamplerConfig, sampling, "sampling")
        if self._conversation is None:
            self._conversation = ChatSession(self.gpt, self.tokenizer, config, seed)
        self._conversation.config, self._conversation.max_tokens = config, max_tokens
        return "".join(self._conversation.reply(message)).strip()

    def forget(self) -> None:
        """Begin a new conversation with the next message."""
        self._conversation = None

    def score(self, text: str) -> Score:
        """How much a text surprises the model, each token after as much before it as the window holds.

        A text longer than the window is read in windows that overlap by half.
        Raises: ConfigError: an empty text.
        """
        ids, T = self._ids(text), self.gpt.config.seq_len
        if len(ids) < 2:
            raise ConfigError("'': there is nothing to score in an empty text")
        nats, done = 0.0, 1  # ids that were scored or, as the first, cannot be
        while done < len(ids):
            start = max(0, done - (T - T // 2))
            end = min(len(ids), start + T + 1)
            window = ids[start:end]
            losses = self.gpt.token_losses(Batch(window[None, :-1], window[None, 1:]))[0]
            nats += float(losses[done - start - 1 :].sum(dtype=np.float64))
            done = end
        return Score(nats, len(ids) - 1, len(text.encode()))

    def _ids(self, text: str) -> np.ndarray:
        """A text as the model reads it: behind the marker that begins every document."""
        begin = self.tokenizer.special_id(BOS)
        return np.array([begin, *self.tokenizer.encode(text.encode())], np.int32)


def load(run: str | os.PathLike | None = None, threads: int | None = None, precision: str = "fp32") -> Model:
    """Load a trained model.

    Args:   run: a run by its path or as in runs/NAME: its newest checkpoint is taken, or the best on held-out
            text where that is clearly better; RUN@best, RUN@newest, RUN@STEP or a path name one; None: the
            newest run.
            threads: of this process from now on; None: all CPUs, or what MICROGPT_THREADS says.
            precision: of large products: fp32, bf16, or auto, which is bf16 where the CPU has it.
    Raises: CheckpointError: there is none, or it is damaged.
    """
    native.set_threads(thread_count(None if threads is None else str(threads)))
    precision = native.choose_precision(precision)
    if warning := native.warning(precision):
        tell(f"warning: {warning}")
    path = find_checkpoint(None if run is None else os.fspath(run), MODEL_FILES, best=True)
    gpt, tokenizer, _ = load_verified(path, precision)
    return Model(gpt, tokenizer, path)
