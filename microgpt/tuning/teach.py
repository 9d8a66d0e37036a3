"""Learning from a person: a few steps on each answer that somebody picks or types.

A lesson is a conversation that ends with the answer which is wanted.  The model takes STEPS steps on that
answer, then one on text that it was trained on before, so that it forgets less.  After each lesson everything
is on the disk as a checkpoint of a run, the lessons in its state.json; so a session that was killed goes on
from the last, to the bit, and one that is undone goes back to the checkpoint before.
"""

import dataclasses
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from microgpt.batches.batches import Batches, EvalWindows, shifted
from microgpt.common.errors import CheckpointError, ConfigError
from microgpt.corpus.chat import Message, prompt_ids, render
from microgpt.corpus.prepared.config import prepared_again
from microgpt.corpus.prepared.corpus import SMALLTALK
from microgpt.corpus.prepared.folder import Prepared
from microgpt.corpus.prompts import conversation_prompt, prompt_limit
from microgpt.corpus.smalltalk import exam
from microgpt.decoding.decoder import Request, answer_all, uniform_stream
from microgpt.decoding.sampler import SamplerConfig
from microgpt.evaluation.exam import take_exam
from microgpt.evaluation.loss import evaluate
from microgpt.files import durable
from microgpt.model import GPT, IGNORED, Batch
from microgpt.runs import checkpoint as checkpoints
from microgpt.runs import lineage
from microgpt.runs.checkpoint import STATE, Snapshot, known_corpus, persist, read_config, read_json
from microgpt.runs.kept import newest_valid
from microgpt.runs.layout import checkpoint_name
from microgpt.runs.layout import checkpoints as checkpoints_of
from microgpt.runs.spec import Plan
from microgpt.runs.state import TrainState
from microgpt.training.adam import Adam
from microgpt.training.assemble import batches_of, held_out_windows
from microgpt.training.identity import identity
from microgpt.training.run import refuse_used

STEPS, RATE = 3, 1e-4  # of each lesson
CANDIDATES, TEMPERATURE = 5, 0.7
UNDOABLE = 20  # lessons that can be taken back
QUESTIONS = 10  # of each family, in the exam
PAIRS = "pairs.jsonl"  # what was picked or typed, and what was offered beside it


class Effect(NamedTuple):
    """What lessons did to the rest of what a model knows.  bpb: held out; exam: share of right answers."""

    bpb: float
    exam: float | None


class Teacher:
    """A model that takes lessons, and the run that they are saved in.

    Args:   parent: what is taught, named as for chat.  run: a directory, new or of earlier lessons.
    Raises: ConfigError: the directory holds another run, or pairs of somebody else.  CheckpointError: the
            model cannot be read.
    """

    def __init__(self, parent: str, run: Path) -> None:
        self.run = run
        self.plan, self.source = _begun(parent, run)
        self.model, self.tokenizer, _ = checkpoints.load_model(self.source)
        self.optimizer = Adam(self.model, self.plan.train)
        known = known_corpus(self.source)
        self.corpus: Prepared | None = None
        try:
            data = self.plan.data.located(known)
            self.corpus = prepared_again(data, known, self.plan.train.n_threads)
        except ConfigError:
            pass  # it is told by `replays`
        self._batches: Batches | None = batches_of(self.plan, self.corpus) if self.corpus else None
        self.state, self.lessons = TrainState(), list[dict[str, Any]]()
        self._snapshot = Snapshot(self.model, self.optimizer, self.tokenizer, lineage.about(self.plan))
        if self.is_saved:
            self._load(self.source)
            self._write_pairs()  # after a kill between a checkpoint and its pairs

    @property
    def is_saved(self) -> bool:
        """Whether the run is there; the first lesson makes it."""
        return bool(checkpoints_of(self.run))

    @property
    def replays(self) -> bool:
        """Whether the text that the model was trained on is there, to be trained on in between."""
        return self._batches is not None

    def candidates(self, messages: Sequence[Message]) -> list[str]:
        """Different answers to a conversation that ends with the user's message; the same to the same one."""
        window = self.model.config.seq_len
        prompt = conversation_prompt(messages, self.tokenizer, prompt_limit(window)).ids
        config, seed = SamplerConfig(temperature=TEMPERATURE), len(self.lessons)
        asked = [Request(prompt, config, None, uniform_stream(seed, k)) for k in range(3 * CANDIDATES)]
        made = {number: answer.ids for number, answer in answer_all(self.model, self.tokenizer, asked)}
        texts = [self.tokenizer.decode(made[k]).decode("utf-8", "replace").strip() for k in sorted(made)]
        return list(dict.fromkeys(texts))[:CANDIDATES]

    def teach(self, messages: Sequence[Message], answer: str, offered: Sequence[str] = ()) -> float:
        """Learn an answer to a conversation, and save; the loss of the answer before, nats a token."""
        batch = lesson(messages, answer, self)
        if not self.is_saved:  # what the first lesson is taken back to
            self.run.mkdir(parents=True, exist_ok=True)
            self._save()
        before = self._step(batch)
        for _ in range(STEPS - 1):
            self._step(batch)
        if self._batches is not None:
            self._step(self._batches.rows(len(self.lessons), 1))
        told = {"prompt": [message._asdict() for message in messages], "chosen": answer}
        self.lessons.append(told | {"rejected": [text for text in offered if text != answer]})
        self._save()
        return before

    def undo(self) -> bool:
        """Go back to before the last lesson; whether there was one to take back."""
        before = [path for step, path in checkpoints_of(self.run) if step < self.state.step]
        if not before or not self.lessons:
            return False
        checkpoints.verify(before[0])
        durable.remove_directory(self.run / checkpoint_name(self.state.step))
        self._load(before[0])
        self._write_pairs()
        return True

    def effect(self) -> Effect | None:
        """How well the model does on what is held out of its corpus; None: that is not there any more."""
        return None if self.corpus is None else measured(self.model, self.corpus, self.plan)

    def effect_before(self) -> Effect | None:
        """The same of the model that was taught."""
        if self.corpus is None or self.plan.parent is None:
            return None
        model = GPT(self.plan.model)
        lineage.fill(model, self.plan, self.plan.train.seed)
        return measured(model, self.corpus, self.plan)

    def _step(self, batch: Batch) -> float:
        nats, n = self.model.loss_and_grad(batch)
        self.optimizer.update(RATE, self.optimizer.grad_norm(max(n, 1)), max(n, 1))
        self.state.step += 1
        self.state.updates = self.optimizer.updates
        self.state.tokens += batch.ids.size
        return nats / max(n, 1)

    def _save(self) -> None:
        told = {**self.state.to_dict(), "lessons": self.lessons}
        if self.corpus is not None:
            told |= identity(self.plan.train, self.corpus, self.plan.model)
        else:
            told |= {"corpus": checkpoints.corpus_key(self.source)}
        persist(self._snapshot.fill(self.plan.to_dict(), told), self.run, UNDOABLE + 1)
        self._write_pairs()

    def _load(self, checkpoint: Path) -> None:
        document = read_json(checkpoint / STATE)
        checkpoints.load_weights(checkpoint, self.model)
        checkpoints.load_moments(checkpoint, self.optimizer)
        self.state, self.lessons = TrainState.from_dict(document), list(document["lessons"])
        self.optimizer.updates = self.state.updates

    def _write_pairs(self) -> None:
        if not self.lessons and not (self.run / PAIRS).exists():
            return
        lines = (json.dumps(lesson, ensure_ascii=False) + "\n" for lesson in self.lessons)
        durable.replace_file(self.run / PAIRS, [line.encode() for line in lines])


def lesson(messages: Sequence[Message], answer: str, teacher: Teacher) -> Batch:
    """A conversation with its answer, of which the answer and its end are to be learned.

    Of what is longer than the window the end stays.
    """
    whole = render([*messages, Message("assistant", answer)], teacher.tokenizer)
    ids, targets = shifted(whole[None, -(teacher.model.config.seq_len + 1) :])
    n_answer = len(whole) - len(prompt_ids(messages, teacher.tokenizer))
    targets[0, : max(0, targets.shape[1] - n_answer)] = IGNORED
    return Batch(np.ascontiguousarray(ids), np.ascontiguousarray(targets))


def measured(model: GPT, corpus: Prepared, plan: Plan) -> Effect:
    """What is held out of the corpus that a model was trained on last; and the exam, where the embedded
    corpus is that, beside that or of a run before, and the window has room for its questions."""
    windows: EvalWindows = held_out_windows(plan, corpus)
    found = evaluate(model, windows, plan.train.batch_size)
    assert found is not None, "nothing can stop it"
    share = None
    if SMALLTALK in corpus.meta["sources"] or any(SMALLTALK in texts_of(one) for one in lineage.plans(plan)):
        with suppress(ConfigError):  # the window is too short
            share = take_exam(model, corpus.tokenizer, exam(QUESTIONS)).share
    return Effect(found.bpb, share)


def texts_of(plan: Plan) -> tuple[str, ...]:
    """All that a run is trained on."""
    return plan.data.data + plan.data.mixed + plan.data.replay


def _begun(parent: str, run: Path) -> tuple[Plan, Path]:
    """The plan of the run and the checkpoint to begin with: its own newest, or that of the model."""
    if checkpoints_of(run):
        source = newest_valid(run)
        if "lessons" not in read_json(source / STATE):
            raise ConfigError(f"{run} holds a run without lessons; choose another --out-dir")
        plan = Plan.from_dict(read_config(source))
        begun = lineage.begin_with(parent).parent
        if plan.parent is None or plan.parent.sha256 != begun.sha256:
            raise CheckpointError(f"{run} holds lessons of another model; choose another --out-dir")
        return plan, source
    refuse_used(run)
    if os.path.lexists(run / PAIRS):
        raise ConfigError(f"{run / PAIRS} is not of lessons here; move it away or choose another --out-dir")
    begin = lineage.begin_with(parent)
    train = dataclasses.replace(begin.plan.train, lr=RATE, min_lr=RATE, optimizer="adam", carry_state=False)
    return dataclasses.replace(begin.plan, train=train, parent=begin.parent), begin.checkpoint
