"""Direct preference optimization: preferred answers become likelier than others, beside the model as it was.

L = -ln sigmoid(beta ((l_w - l_w') - (l_l - l_l'))), the mean of pairs; l is ln of the probability of a whole
answer, w the preferred and l the other one, ' of the model that the run began with.  Its gradient by l_w is
-beta sigmoid(-beta(...)), by l_l the same with another sign, so each answer is learned with that weight.

Source: Rafailov et al. 2023 (arXiv 2305.18290).
"""

import dataclasses
import hashlib
import json
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from microgpt.common.errors import ConfigError, DataError
from microgpt.common.plain import record_from
from microgpt.common.setting import POSITIVE, setting, unseen
from microgpt.core import random
from microgpt.corpus.chat import END, ROLES, Message, prompt_ids
from microgpt.model import Batch
from microgpt.runs.kinds import SOURCES
from microgpt.runs.metrics import HELD_OUT_FACTS
from microgpt.runs.spec import Spec
from microgpt.tokenizer import Tokenizer
from microgpt.training.parts import Corpus, Parts

from .answers import Answered, log_probs, reference, refuse_pieces, rows_of, tuned_spec

NAME, GROUP = "preferences", "preferences"
HELD_OUT = 10  # the pairs of every so-manieth prompt are not trained on
AT_ONCE = 16  # pairs that are measured together


@dataclasses.dataclass(frozen=True)
class Preferences:
    """What the source is told.  pairs: the file; sha256: of it, that a resumed run learns from the same."""

    pairs: str = unseen("")
    sha256: str = unseen("")
    beta: float = setting(
        0.1,
        "how strongly the model is held where it was: the larger, the less it moves",
        group=GROUP,
        within=POSITIVE,
    )


class Pair(NamedTuple):
    """The preferred answer and the other one, to the same prompt."""

    chosen: Answered
    rejected: Answered


# -------------------------------------------------------------------------------- the loss


def preference(
    chosen: np.ndarray, rejected: np.ndarray, chosen_ref: np.ndarray, rejected_ref: np.ndarray, beta: float
) -> tuple[np.ndarray, np.ndarray]:
    """Of ln probabilities (P,): the losses in nats, and how strongly each pair pulls,
    -dL / d chosen = dL / d rejected."""
    margin = beta * ((chosen - chosen_ref) - (rejected - rejected_ref))
    return np.logaddexp(0.0, -margin), beta / (1 + np.exp(margin))


# -------------------------------------------------------------------------------- pairs


def read_pairs(path: Path) -> list[tuple[list[Message], str, str]]:
    """Pairs of a file of lines {"prompt", "chosen", "rejected"}; a prompt is what the user says, or messages.

    Of several rejected answers, a list, each makes a pair; of none, none.
    Raises: DataError: it cannot be read, or a line is something else.
    """
    try:
        lines = path.read_text("utf-8-sig").split("\n")  # U+2028 is text
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {error}; expected lines of prompt, chosen and rejected") from error
    told = [_pairs(line, f"{path}, line {n}") for n, line in enumerate(lines, 1) if line.strip()]
    pairs = [pair for of_line in told for pair in of_line]
    if len(pairs) < 2:
        raise DataError(f"{path}: {len(pairs)} pairs; expected 2 or more, some are held out")
    return pairs


def _pairs(line: str, where: str) -> list[tuple[list[Message], str, str]]:
    try:
        found = json.loads(line)
        prompt, chosen, rejected = found["prompt"], found["chosen"], found["rejected"]
        messages = (
            [Message("user", prompt)] if isinstance(prompt, str) else [Message(**one) for one in prompt]
        )
        for message in messages:
            if message.role not in ROLES or not isinstance(message.content, str):
                raise ValueError(f"no message: {message.role!r:.40}, {message.content!r:.40}")
        if not (messages and messages[-1].role == "user"):
            raise ValueError("no question at the end")
        others = [text for text in rejected if text != ""] if isinstance(rejected, list) else [rejected]
        if not all(isinstance(text, str) and text for text in (chosen, *others)):
            raise ValueError("an answer that is no text")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise DataError(
            f'{where}: {error}; expected {{"prompt": "...", "chosen": "...", "rejected": "..."}}'
        ) from error
    return [(messages, chosen, other) for other in others]


def held_out_of(prompts: Sequence[Hashable]) -> list[bool]:
    """Whether each pair is held out, by its prompt: all that answer one prompt are on one side."""
    numbers: dict[Hashable, int] = {}
    for prompt in prompts:
        numbers.setdefault(prompt, len(numbers))
    every = min(HELD_OUT, len(numbers))
    return [numbers[prompt] % every == every - 1 for prompt in prompts]


def encoded(messages: list[Message], answer: str, tokenizer: Tokenizer) -> Answered:
    """A prompt with its answer, which ends."""
    ids = np.array([*tokenizer.encode(answer), tokenizer.special_id(END)], np.int32)
    return Answered(prompt_ids(messages, tokenizer), ids)


def sha256_of(path: Path) -> str:
    """Of a file of pairs."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; expected a file of pairs") from error


# -------------------------------------------------------------------------------- the source


class Pairs(Corpus):
    """Each micro-batch is of pairs, in an order that needs no memory."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        refuse_pieces(parts)
        config = parts.plan.train
        self.told = record_from(Preferences, dict(config.source_settings), "settings of preferences")
        path, window = Path(self.told.pairs), parts.model.config.seq_len
        if sha256_of(path) != self.told.sha256:
            raise ConfigError(f"{path}: these are other pairs than the run began with; bring those back")
        found = [
            Pair(*(encoded(messages, answer, parts.prepared.tokenizer) for answer in answers))
            for messages, *answers in read_pairs(path)
        ]
        self.pairs = [
            pair for pair in found if all(len(one.prompt) + len(one.answer) <= window + 1 for one in pair)
        ]
        self.n_long = len(found) - len(self.pairs)
        if not self.pairs:
            raise DataError(f"{path}: all {self.n_long} pairs are longer than the window of {window} tokens")
        sides = held_out_of([pair.chosen.prompt.tobytes() for pair in self.pairs])
        self.held_out = [pair for pair, is_held_out in zip(self.pairs, sides, strict=True) if is_held_out]
        self.learned = [pair for pair, is_held_out in zip(self.pairs, sides, strict=True) if not is_held_out]
        if not self.learned:
            raise DataError(f"{path}: all pairs answer one prompt; expected 2 or more, some are held out")
        self._parts = parts
        self._facts: dict[str, Any] = {}
        self._before: dict[int, np.ndarray] = {}

    def outline(self) -> list[str]:
        """How many pairs there are."""
        long = f"; {self.n_long:,} too long" if self.n_long else ""
        return [
            f"pairs    {len(self.learned):,} to learn from, {len(self.held_out):,} held out, "
            f"beta {self.told.beta:g}{long}"
        ]

    def batch(self, index: int) -> Batch:
        """Batch `index`: first the preferred answers, then the others, each with its weight."""
        config, model = self._parts.plan.train, self._parts.model
        chosen = [self.learned[k] for k in self._numbers(index, config.batch_size, config.seed)]
        batch, now = pair_rows(chosen), len(chosen)
        after, before = (
            log_probs(model, batch),
            np.concatenate([self._reference(chosen, side) for side in (0, 1)]),
        )
        losses, pulls = preference(after[:now], after[now:], before[:now], before[now:], self.told.beta)
        moved = (after - before)[:now] - (after - before)[now:]
        self._facts = {
            "preference_loss": float(losses.mean()),
            "margin": float(self.told.beta * moved.mean()),
            "preferred_share": float((moved > 0).mean()),
        }
        if config.eval_every and index % config.eval_every == 0:
            self._facts |= {f"{HELD_OUT_FACTS}{k}": v for k, v in self.measure().items()}
        per_pair = (
            batch.targets >= 0
        ).sum() / now  # the loop divides by targets, the loss is a mean of pairs
        weights = np.concatenate([pulls, -pulls])[:, None] * per_pair * np.ones(batch.ids.shape)
        return batch._replace(weights=weights)

    def measure(self) -> dict[str, float]:
        """Loss, margin and share of held-out pairs whose preferred answer gained more than the other."""
        pieces = [self.held_out[k : k + AT_ONCE] for k in range(0, len(self.held_out), AT_ONCE)]
        after = [log_probs(self._parts.model, pair_rows(piece)).reshape(2, -1) for piece in pieces]
        before = [np.stack([self._reference(piece, side) for side in (0, 1)]) for piece in pieces]
        now, then = np.concatenate(after, 1), np.concatenate(before, 1)
        losses, _ = preference(now[0], now[1], then[0], then[1], self.told.beta)
        moved = (now - then)[0] - (now - then)[1]
        return {
            "preference_loss": float(losses.mean()),
            "margin": float(self.told.beta * moved.mean()),
            "preferred_share": float((moved > 0).mean()),
        }

    def facts(self) -> Mapping[str, Any]:
        """Of the pairs of the last step, and of those held out where they were measured."""
        return self._facts

    def _numbers(self, index: int, size: int, seed: int) -> list[int]:
        n = len(self.learned)
        places = (divmod(k, n) for k in range(index * size, (index + 1) * size))
        return [int(random.permutation(random.key(seed, "pairs", epoch), n)[at]) for epoch, at in places]

    def _reference(self, pairs: Sequence[Pair], side: int) -> np.ndarray:
        """ln probabilities of answers by the model that the run began with; each is computed once."""
        if not self._before:
            model = reference(self._parts)
            for one in self.pairs:
                self._before[id(one)] = log_probs(model, pair_rows([one]))
        return np.array([self._before[id(one)][side] for one in pairs])


def pair_rows(pairs: Sequence[Pair]) -> Batch:
    """First the preferred answers, then the others."""
    return rows_of([one.chosen for one in pairs] + [one.rejected for one in pairs])


SOURCES[NAME] = Pairs


# -------------------------------------------------------------------------------- a run


def dpo_spec(parent: str, pairs: Path, settings: dict[str, Any], **told: Any) -> Spec:
    """The spec of a run that learns preferences, measured on what is held out of the parent's corpus.

    A hundredth of the parent's peak rate, one pass over the pairs, no dropout; unless `settings` say
    otherwise.

    Args: told: more of Preferences, by name.
    """
    given = dataclasses.asdict(Preferences(str(pairs.absolute()), sha256_of(pairs), **told))
    sides = held_out_of([tuple(messages) for messages, *_ in read_pairs(pairs)])
    return tuned_spec(parent, settings, NAME, given, sides.count(False))
