"""What is measured of a rung once it is trained: of each run, and of the size by itself.

All of it is plain values, as they are kept in files; the gates read nothing else.
"""

import dataclasses
import hashlib
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from microgpt.batches.batches import EvalWindows
from microgpt.common.errors import DataError
from microgpt.common.output import json_line
from microgpt.core import native
from microgpt.corpus.prepared.config import prepared_again
from microgpt.corpus.prepared.folder import Prepared
from microgpt.evaluation.canaries import Asked, run_canaries, words_of
from microgpt.evaluation.canary_items import Step
from microgpt.evaluation.chat_probe import knows_chats
from microgpt.evaluation.held_out import (
    HeldOut,
    carries_state,
    packing_of,
    score,
    text_to_measure,
    windows_of,
)
from microgpt.evaluation.loss import Documents
from microgpt.evaluation.ngrams import UNIGRAM, Baselines, NGrams, name_of, sample
from microgpt.evaluation.pairs import difference
from microgpt.evaluation.states import state_tests
from microgpt.evaluation.taught import text_that_taught
from microgpt.evaluation.verdict import judge
from microgpt.files import durable
from microgpt.model import GPT
from microgpt.model.architecture import is_recurrent
from microgpt.runs.checkpoint import known_corpus, load_model, read_config
from microgpt.runs.events import Event, Trained
from microgpt.runs.kept import WEIGHTS
from microgpt.runs.layout import METRICS
from microgpt.runs.metrics import read_metrics
from microgpt.runs.spec import NO_MERGES, Plan
from microgpt.runs.spec_file import spec_of
from microgpt.tokenizer import Tokenizer
from microgpt.training.assemble import batches_of
from microgpt.training.clock import Clock
from microgpt.training.overfit import overfit
from microgpt.training.run import train_run

from ..capacity import facts_of
from ..showed import showed

BEATEN = (UNIGRAM, name_of(2))  # what a model of a rung foretells better than
TOO_LITTLE = "too little text"
STATE_TOKENS = 16_384  # of held-out text, on which the branches of states are measured
SHORT_STEPS, SAVED_AT = 4, 2  # of the runs that show whether a resume is exact
SAMPLE_IDS = 1 << 16  # of held-out text, which the tokenizer is to give back
TROUBLE = ("spike", "skip", "rollback")  # events that a calm run has none of


# ------------------------------------------------------------------------------------------ of a run


def of_run(checkpoint: Path) -> dict[str, Any]:
    """What a run showed at its end: its point for a law, probes, loss against counting, states, its log."""
    model, tokenizer, state = load_model(checkpoint)
    plan = Plan.from_dict(read_config(checkpoint))
    known = known_corpus(checkpoint)
    data = prepared_again(plan.data.located(known), known, native.threads())
    held_out = text_to_measure(checkpoint, tokenizer, None, native.threads(), {})
    how = packing_of(checkpoint), None, carries_state(checkpoint)
    windows = windows_of(held_out, tokenizer, model.config.seq_len, None, *how)
    facts = facts_of(checkpoint, model, tokenizer, state, plan, data)
    return {
        "showed": showed(checkpoint.parent)._replace(name=checkpoint.parent.name),
        "loss": state["metrics"]["val_loss"],
        "findings": facts.findings,
        "alarms": facts.alarms,
        "holds_back": judge(facts),
        "above": above_counting(model, windows, held_out, tokenizer),
        "states": states_of(model, tokenizer, held_out, plan),
        "log": of_log(checkpoint.parent / METRICS),
    }


def above_counting(
    model: GPT, windows: EvalWindows, held_out: HeldOut, tokenizer: Tokenizer
) -> dict[str, Any]:
    """By how many nats a token a model's loss lies above that of counting, with intervals over documents."""
    if held_out.training is None:
        return {}
    ngrams = NGrams(*sample(held_out.training), tokenizer.vocab_size, order=2)
    baselines = Baselines(ngrams, held_out.tokens)
    documents = score(model, windows, observers=[baselines]).documents
    assert documents is not None
    is_scored = documents.tokens > 0
    return {
        name: _difference(documents, baselines.nats[name], is_scored)._asdict()
        | {"of": float(baselines.nats[name].sum() / documents.tokens.sum())}
        for name in BEATEN
    }


def _difference(documents: Documents, nats: np.ndarray, is_scored: np.ndarray) -> Any:
    return difference((documents.nats - nats)[is_scored], documents.tokens[is_scored], seed=0)


def states_of(model: GPT, tokenizer: Tokenizer, held_out: HeldOut, plan: Plan) -> list[dict[str, Any]]:
    """The tests of states, of a model that has recurrent ones; none of others.

    Where there is too little held-out text for them, one whose verdict is that.
    """
    if not is_recurrent(model.config):
        return []
    which = model.config.seq_len, STATE_TOKENS, plan.train.packing
    try:
        windows = windows_of(held_out, tokenizer, *which)
        found = list(state_tests(model, tokenizer, held_out.tokens, windows))
    except DataError as error:
        return [{"test": "states", "verdict": TOO_LITTLE, "text": str(error)}]
    return [{name: getattr(check, name) for name in ("test", "verdict", "text")} for check in found]


def of_log(log: Path) -> dict[str, Any]:
    """What the log of a run says of how it went: leaps of the loss, seconds, memory as estimated and used."""
    events = read_metrics(log)
    ends = [event for event in events if event["event"] == "end"]
    return {
        "trouble": [
            {name: e.get(name) for name in ("event", "step")} for e in events if e["event"] in TROUBLE
        ],
        "seconds": max((e["elapsed_s"] for e in events if "elapsed_s" in e), default=0.0),
        "memory_bytes": max((e["memory_bytes"] for e in events if "memory_bytes" in e), default=0.0),
        "peak_bytes": max((e["peak_bytes"] for e in ends), default=0.0),
    }


def of_canaries(checkpoint: Path) -> dict[str, Any]:
    """What a run can do.  marks: of each canary, by the item that was asked, whether the answer was right."""
    model, tokenizer, _ = load_model(checkpoint)
    converses = knows_chats(model, tokenizer, Plan.from_dict(read_config(checkpoint)))
    report = run_canaries(model, tokenizer, text_that_taught(checkpoint, tokenizer), converses)
    return report.to_dict() | {"marks": {one.canary.name: marks_of(one) for one in report.asked}}


def marks_of(asked: Asked) -> dict[str, bool]:
    """Whether the answer was right, by the words of an item, as a hash."""
    return {item_of(one.steps): one.is_right for one in asked.outcomes if one is not None}


def item_of(steps: Sequence[Step]) -> str:
    """What an item is, wherever it stands in a list."""
    return hashlib.sha256(json_line(words_of(steps)).encode()).hexdigest()[:12]


# ------------------------------------------------------------------------------------------ of a size


def of_size(plan: Plan, prepared: Prepared, folder: Path, n_windows: int) -> dict[str, Any]:
    """What is looked at once for each size: learning by heart, going on exactly, the tokenizer.

    Args: folder: where short runs may lie meanwhile.
    """
    return {
        "by_heart": by_heart(plan, prepared, n_windows),
        "is_exact": is_resumed_exactly(plan, folder / ".tmp_resume"),
        "tokenizer": of_tokenizer(prepared),
    }


def by_heart(plan: Plan, prepared: Prepared, n_windows: int) -> dict[str, Any]:
    """How much of a few windows such a model learns."""
    model = GPT(dataclasses.replace(plan.model, dropout=0.0), precision=plan.train.precision)
    found = overfit(model, batches_of(plan, prepared), plan.train, Clock(), n_windows)
    return {"accuracy": found.accuracy, "windows": found.n_windows, "steps": found.steps}


class _TornError(Exception):
    """Ends a short run in its middle."""


def is_resumed_exactly(plan: Plan, folder: Path) -> bool:
    """Whether a run of a few steps that is torn and goes on ends with the weights of one that is not."""
    short = plan.with_train(
        max_steps=SHORT_STEPS, save_every=SAVED_AT, eval_every=0, sample_every=0, log_every=1, probes=False
    )
    spec = spec_of(short)

    def tear(event: Event) -> None:
        if isinstance(event, Trained) and event.step > SAVED_AT:
            raise _TornError

    shutil.rmtree(folder, ignore_errors=True)
    durable.make_directory(folder)
    try:
        whole = train_run(spec, folder / "whole", [])
        try:
            train_run(spec, folder / "torn", [tear])
        except _TornError:
            torn = train_run(spec, folder / "torn", [])
        return durable.sha256_of(whole.checkpoint / WEIGHTS) == durable.sha256_of(torn.checkpoint / WEIGHTS)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def of_tokenizer(prepared: Prepared) -> dict[str, Any]:
    """Whether tokens are pieces of words, and text comes back from them as it was."""
    tokenizer, held_out = prepared.tokenizer, prepared.val
    ids = np.asarray(held_out.ids[:SAMPLE_IDS]).astype(np.int32)
    text = tokenizer.decode(ids[tokenizer.byte_lengths[ids] > 0]).decode("utf-8", "ignore")
    again = tokenizer.decode(tokenizer.encode(text)).decode("utf-8", "replace")
    return {
        "merges": tokenizer.vocab_size - NO_MERGES,
        "bytes_per_token": held_out.n_bytes / max(1, held_out.n_tokens),
        "is_lossless": again == text,
    }


def points(evidence: list[dict[str, Any]]) -> list[float]:
    """Held-out bits per byte of runs."""
    return [float(one["showed"]["loss"]) for one in evidence]


def mean(values: list[float]) -> float:
    """Of at least one."""
    return math.fsum(values) / len(values)
