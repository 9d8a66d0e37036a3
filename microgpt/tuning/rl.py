"""Learning from rewards: a model answers, its answers are marked, and better ones become likelier.

REINFORCE:  L = -(1/n) sum_i A_i sum_t ln q(y_it | ...) + beta (1/n) sum_it KL(p || p'),  n scored tokens.
q is the policy that gives the answers, and the same one that learns: what the model says of the next token,
p, among those that an answer may hold.  Decoding never draws the other markers, in chat neither, so what p
has for them is shared out (`decoder.forbidden_in_answers`).  The advantage A_i of answer i, worth r_i, is
  baseline   r_i - b,  b the running mean of rewards before: b += 0.05 (mean of this step - b)
  rloo       r_i - mean of the other answers to the same prompt
ExIt, expert iteration: of the answers to a prompt the best alone is learned, as in fine-tuning, by p, unless
all are worth the same; the leash is the same.  Where that is so of every prompt there is nothing to imitate:
such a step changes nothing: neither the leash nor momentum moves a weight in it.  REINFORCE still applies the
leash where all answers are worth the same.

The KL, to p' of the model that the run began with, is exact over the vocabulary, at the tokens that were
drawn: markers that are never drawn stay as unlikely as they were, too.

Sources: Williams 1992 (Machine Learning 8); Ahmadian et al. 2024 (arXiv 2402.14740), leave one out;
Anthony et al. 2017 (arXiv 1705.08439), expert iteration.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from microgpt.common.errors import ConfigError
from microgpt.common.plain import record_from
from microgpt.common.setting import NOT_NEGATIVE, POSITIVE, Range, from_to, setting, unseen
from microgpt.core import arrays, random
from microgpt.corpus.chat import END
from microgpt.decoding.decoder import forbidden_in_answers
from microgpt.decoding.several import Drawn, several_answers
from microgpt.files import durable
from microgpt.model import IGNORED, Batch
from microgpt.model.leash import Leash
from microgpt.runs.kinds import SOURCES
from microgpt.runs.settings import LENGTHS
from microgpt.runs.spec import Spec
from microgpt.training.parts import Corpus, Parts

from .answers import Answered, reference, refuse_pieces, rows_of, tuned_spec
from .rewards import (
    EXAM,
    TEXT,
    Asked,
    OfTheCorpus,
    OfTheExam,
    Questions,
    files_of,
    function_of,
    text_reward,
)

NAME, GROUP = "rewards", "rewards"
REINFORCE, EXIT = "reinforce", "exit"
BASELINE, RLOO = "baseline", "rloo"
RATE = 0.05  # of the running baseline
STEPS, ROWS, EVERY = 200, 32, 25  # of a run, answers of a step, steps between evaluations
GENTLER = 20  # times less than the parent's peak is the rate


@dataclasses.dataclass(frozen=True)
class Rewarded:
    """What the source is told.

    reward: text, exam or FILE.py:function.  sha256: of that file.  beside: that of each file beside it that
    it imports, by name; None: of a run that began before those were recorded.  families: of the exam, by
    commas; none: all.
    """

    reward: str = unseen(TEXT)
    sha256: str = unseen("")
    beside: dict[str, str] | None = dataclasses.field(default=None)
    families: str = unseen("")
    method: str = setting(
        REINFORCE,
        "how it learns: reinforce, every answer counts by its advantage; exit, the best of the answers to a "
        "prompt is learned as in fine-tuning",
        choices=(REINFORCE, EXIT),
        group=GROUP,
    )
    advantage: str = setting(
        RLOO,
        "with reinforce, what a reward is compared with: baseline, the running mean of rewards; rloo, the "
        "other answers to the same prompt",
        choices=(BASELINE, RLOO),
        group=GROUP,
    )
    answers: int = setting(
        8, "to each prompt; --batch-size is a multiple of it", "answers", group=GROUP, within=Range(1)
    )
    kl: float = setting(
        0.1,
        "how strongly the model is held where it was: nats of loss for each nat of KL a token; 0: not at all",
        group=GROUP,
        within=NOT_NEGATIVE,
    )
    temperature: float = setting(
        1.0,
        "at which answers are drawn; 1 with reinforce",
        group=GROUP,
        within=from_to(0, 100),
    )
    answer_tokens: int = setting(
        96,
        "of an answer, at most; the exam has limits of its own",
        "tokens",
        group=GROUP,
        within=POSITIVE,
    )


# -------------------------------------------------------------------------------- advantages


def against_others(rewards: np.ndarray) -> np.ndarray:
    """Of rewards (P, n), n to a prompt: each less the mean of the others, (P, n)."""
    n = rewards.shape[1]
    return n / (n - 1) * (rewards - rewards.mean(1, keepdims=True))


def best_alone(rewards: np.ndarray) -> np.ndarray:
    """Of rewards (P, n): 1 for the first of the best of a prompt, unless all are worth the same; else 0."""
    is_best = np.arange(rewards.shape[1]) == rewards.argmax(1)[:, None]
    return (is_best & (rewards.max(1) > rewards.min(1))[:, None]).astype(np.float64)


# -------------------------------------------------------------------------------- the source


class Rewards(Corpus):
    """Each micro-batch is of answers that the model gives now, weighed by what they are worth."""

    empty = "all answers to each prompt are worth the same"
    arithmetic = 2  # 1: losses by the whole vocabulary, where answers are drawn without its markers
    _baseline: float | None  # the running mean of rewards; None: there were none yet
    _facts: dict[str, Any]

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        refuse_pieces(parts)
        config = parts.plan.train
        self.told = told = record_from(Rewarded, dict(config.source_settings), "settings of rewards")
        refuse_unfit(told, config.batch_size)
        self._parts, self._questions = parts, questions_of(told, parts)
        self._reference = reference(parts) if told.kl else None
        self._end = parts.prepared.tokenizer.special_id(END)
        self._forbidden = forbidden_in_answers(parts.prepared.tokenizer)
        self.restore({})

    def outline(self) -> list[str]:
        """What is marked, and how it is learned."""
        told, n = self.told, self._parts.plan.train.batch_size // self.told.answers
        families = f" ({told.families})" if told.families else ""
        against = f" against {told.advantage}" if told.method == REINFORCE else ""
        return [
            f"rewards  {told.reward}{families}; {told.method}{against}, {n:,} prompts a step, "
            f"{told.answers:,} answers each, KL x {told.kl:g}"
        ]

    def batch(self, index: int) -> Batch:
        """Batch `index`: answers to its prompts, each with its weight, and the leash."""
        config, told = self._parts.plan.train, self.told
        n = config.batch_size // told.answers
        arrays.release()  # rows are of another length every time, and arrays of each would stay
        asked = self._questions.asked(config.seed, index * n, n)
        drawn = several_answers(
            self._parts.model,
            self._parts.prepared.tokenizer,
            [one.prompt for one in asked],
            [one.limit for one in asked],
            told.answers,
            told.temperature,
            random.key(config.seed, "answers", index),
        )
        rewards = np.array([self._marks(one, its) for one, its in zip(asked, drawn, strict=True)])
        weights = self._weights(rewards)
        self._facts = self._told_of(rewards, drawn)
        rows = [
            Answered(one.prompt, self._ids(answer))
            for one, its in zip(asked, drawn, strict=True)
            for answer in its
        ]
        used = np.flatnonzero(weights) if told.method == EXIT else np.arange(len(rows))
        if not len(used):
            batch = rows_of(rows[:1])
            return batch._replace(targets=np.full_like(batch.targets, IGNORED))  # a step that changes nothing
        batch = rows_of([rows[row] for row in used])
        weighted = weights[used][:, None] * np.ones(batch.ids.shape)
        leash = None if self._reference is None else Leash(told.kl, self._reference.reader(batch))
        forbidden = self._forbidden if told.method == REINFORCE else None
        return batch._replace(weights=weighted, leash=leash, forbidden=forbidden)

    def _marks(self, asked: Asked, answers: Sequence[Drawn]) -> list[float]:
        decode = self._parts.prepared.tokenizer.decode
        return [asked.worth(decode(one.ids).decode("utf-8", "replace"), one.is_whole) for one in answers]

    def _weights(self, rewards: np.ndarray) -> np.ndarray:
        """Of each answer, (R,); moves the baseline on."""
        mean = float(rewards.mean())
        baseline = mean if self._baseline is None else self._baseline
        self._baseline = baseline + RATE * (mean - baseline)
        if self.told.method == EXIT:
            return best_alone(rewards).reshape(-1)
        return (against_others(rewards) if self.told.advantage == RLOO else rewards - baseline).reshape(-1)

    def _ids(self, answer: Drawn) -> np.ndarray:
        return np.array([*answer.ids, self._end] if answer.is_whole else answer.ids, np.int32)

    def _told_of(self, rewards: np.ndarray, drawn: Sequence[Sequence[Drawn]]) -> dict[str, Any]:
        flat = [one for its in drawn for one in its]
        return {
            "reward": float(rewards.mean()),
            "best_reward": float(rewards.max(1).mean()),
            "reward_std": float(rewards.std()),
            "baseline": self._baseline,
            "answer_tokens": float(np.mean([len(one.ids) for one in flat])),
            "ended_share": float(np.mean([one.is_whole for one in flat])),
        }

    def facts(self) -> Mapping[str, Any]:
        """Rewards of the answers of the last step, and how long they were."""
        return self._facts

    def state(self) -> Mapping[str, Any]:
        """The baseline."""
        return {} if self._baseline is None else {"baseline": self._baseline}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self._baseline, self._facts = state.get("baseline"), {}


def refuse_unfit(told: Rewarded, batch_size: int) -> None:
    """A step has whole groups of answers, comparing needs more than one, and chance that suits the method."""
    if batch_size % told.answers:
        raise ConfigError(
            f"--batch-size {batch_size} answers a step: expected a multiple of --answers {told.answers}"
        )
    if told.answers < 2 and (told.method == EXIT or told.advantage == RLOO):
        raise ConfigError(
            f"--answers {told.answers}: {told.advantage if told.method == REINFORCE else EXIT} compares "
            "answers to a prompt; give 2 or more"
        )
    if told.temperature == 0 or (told.method == REINFORCE and told.temperature != 1):
        raise ConfigError(
            f"--temperature {told.temperature:g}: expected 1 with --method reinforce, which learns from what "
            "the model itself says, and above 0 with exit, which compares answers"
        )


def questions_of(told: Rewarded, parts: Parts) -> Questions:
    """Where prompts come from, and how their answers are marked."""
    window = parts.model.config.seq_len
    families = told.families.split(",") if told.families else []
    if told.reward == EXAM:
        return OfTheExam(parts.prepared.tokenizer, window, families)
    if families:
        raise ConfigError(f"--families {told.families}: those are of --reward exam; leave them out")
    refuse_changed(told)
    reward = text_reward if told.reward == TEXT else function_of(told.reward)
    return OfTheCorpus(parts.prepared, window, reward, told.answer_tokens)


def refuse_changed(told: Rewarded) -> None:
    """A run that goes on is marked by the files that it began with."""
    now = sha256_of(told.reward)
    if not now:
        return
    file = _file_of(told.reward)
    beside = now if told.beside is None else told.beside
    began = beside | {file.name: told.sha256}
    for name in now | began:
        if began.get(name) != now.get(name):
            place = file.with_name(name)
            raise ConfigError(f"{place}: not the file that the run began with; bring that back")


def recorded(reward: str) -> dict[str, Any]:
    """What a run that begins records of the files that mark it: settings of Rewarded."""
    files = sha256_of(reward)
    return {"sha256": files.pop(_file_of(reward).name), "beside": files} if files else {}


def sha256_of(reward: str) -> dict[str, str]:
    """Of the file of a function and of those that it imports (`files_of`), by name, its own first; of what
    needs no file, nothing."""
    if reward in (TEXT, EXAM):
        return {}
    try:
        return {file.name: durable.sha256_of(file) for file in files_of(_file_of(reward))}
    except OSError as error:
        raise ConfigError(
            f"--reward {reward}: {error.strerror}; expected text, exam or FILE.py:function"
        ) from error


def _file_of(reward: str) -> Path:
    """FILE.py of FILE.py:function."""
    return Path(reward.rpartition(":")[0])


SOURCES[NAME] = Rewards


# -------------------------------------------------------------------------------- a run


def rl_spec(parent: str, settings: dict[str, Any], reward: str, **told: Any) -> Spec:
    """The spec of a run that learns from rewards, measured on what is held out of the parent's corpus.

    A twentieth of the parent's peak rate, 200 steps of 32 answers, no dropout; unless `settings` say
    otherwise.

    Args: reward: text, exam or FILE.py:function.  told: more of Rewarded, by name.
    """
    place, colon, function = reward.rpartition(":")
    named = f"{Path(place).absolute()}:{function}" if colon else reward
    if reward not in (TEXT, EXAM):
        function_of(named)  # refuses what cannot be before anything is made
    given = {"reward": named, **recorded(named), **told}
    usual = {"batch_size": ROWS, "eval_every": EVERY}
    if not any(name in settings for name in (*LENGTHS, "max_time")):
        usual["max_steps"] = STEPS
    spec = tuned_spec(parent, usual | settings, NAME, given, 1, GENTLER)
    refuse_unfit(record_from(Rewarded, given, "settings of rewards"), spec.train["batch_size"])
    return spec
