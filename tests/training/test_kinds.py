"""A run can be made of new parts, each named as the built-in ones are."""

import math

import numpy as np
import pytest

from microgpt.common.errors import ConfigError
from microgpt.decoding.decoder import Request, answer_all
from microgpt.files.records import read_json
from microgpt.model import count_parameters, flop_per_token
from microgpt.model.architecture import state_bytes
from microgpt.runs.checkpoint import load_model, verify
from microgpt.runs.events import Ended, Trained
from microgpt.runs.kinds import PENALTIES, SOURCES
from microgpt.runs.metrics import read_metrics
from microgpt.runs.spec import Spec
from microgpt.training.needs import memory_estimate, slot_floats
from microgpt.training.run import resume_run, train_run
from microgpt.training.stop import StopFlag
from tests.training.fakes import StopAt
from tests.training.new_kinds import KINDS, Leash, OwnWords
from tests.training.toys import checkpoint_bytes, small, trained_lines


@pytest.fixture(params=KINDS)
def kind(request):
    """The settings of a run that has one part of a new kind."""
    table, made, settings = KINDS[request.param]
    table["toy"] = made
    yield settings
    del table["toy"]


def test_a_new_kind_trains_saves_resumes_to_the_bit_and_decodes(kind, text):
    heard = []
    whole = train_run(small(text, 12, **kind), "whole", [heard.append])
    assert whole.why == "finished" and whole.step == 12
    stop = StopAt(5)
    first = train_run(small(text, 12, **kind), "cut", [stop], stop=stop)
    assert first.why == "stopped" and first.step < 12
    second = train_run(small(text, 12, **kind), "cut", [])
    assert second.step == 12 and checkpoint_bytes(second) == checkpoint_bytes(whole)
    assert trained_lines(second.run) == trained_lines(whole.run)
    losses = [event.loss_nats for event in heard if isinstance(event, Trained)]
    assert len(losses) == 12 and losses[-1] < losses[0] and isinstance(heard[-1], Ended)
    verify(whole.checkpoint)
    model, tokenizer, _ = load_model(whole.checkpoint)
    said = list(answer_all(model, tokenizer, [Request(np.array([3, 4, 5], np.int32), max_tokens=5)]))
    assert said[0][1].finish in ("stop", "length")


def test_what_a_new_kind_costs_is_counted(kind, text):
    plan, plain = small(text, 9, **kind).plan(), small(text, 9).plan()
    assert math.isfinite(flop_per_token(plan.model)) and state_bytes(plan.model) > 0
    if "mixer" in kind:
        assert count_parameters(plan.model) == count_parameters(plain.model) - 3 * 32 * 32
    if "mlp" in kind:
        assert count_parameters(plan.model) == count_parameters(plain.model) - 2 * 4 * 32 * 32
    n = count_parameters(plan.model)
    slots = 1 if "optimizer" in kind else 2
    assert slot_floats(plan.model, plan.train.optimizer) == slots * n
    if "optimizer" in kind:  # one slot less, and its copy
        difference = memory_estimate(plain.model, plain.train) - memory_estimate(plan.model, plan.train)
        assert difference == 2 * 4 * n


def test_a_penalty_is_in_the_log_and_in_the_state(text, monkeypatch):
    monkeypatch.setitem(PENALTIES, "toy", Leash)
    outcome = train_run(small(text, 6, penalty="toy"), "a", [])
    lines = [line for line in read_metrics(outcome.run / "metrics.jsonl") if line["event"] == "train"]
    assert all(line["penalty_nats"] > 0 for line in lines)
    strengths = [line["facts"]["strength"] for line in lines]
    assert strengths == pytest.approx([0.01 * 1.05**n for n in range(1, 7)])
    assert "penalty_nats" not in read_metrics(train_run(small(text, 2), "b", []).run / "metrics.jsonl")[2]

    state = read_json(outcome.checkpoint / "state.json")
    assert state["penalty"]["strength"] == pytest.approx(0.01 * 1.05**6)


def test_a_kind_that_is_not_there_is_refused_by_name(text, monkeypatch):
    with pytest.raises(
        ConfigError, match="source 'elsewhere' is not known here, only corpus, mixture, corpus in order"
    ):
        train_run(small(text, 2, source="elsewhere"), "a", [])
    with pytest.raises(ConfigError, match="optimizer"):
        train_run(small(text, 2, optimizer="elsewhere"), "a", [])
    with pytest.raises(ConfigError, match="there is no setting 'learning_rate'"):
        Spec.of(learning_rate=1)
    monkeypatch.setitem(SOURCES, "toy", OwnWords)
    train_run(small(text, 2, source="toy"), "a", [])
    monkeypatch.delitem(SOURCES, "toy")
    with pytest.raises(ConfigError, match="source 'toy' is not known here"):
        resume_run("a", Spec.of(max_steps=4))


def test_what_layers_tell_of_a_step_is_the_mean_of_its_micro_batches(text):
    heard = []
    spec = small(text, 2, mlp="moe", n_expert=3, grad_accum=2)
    outcome = train_run(spec, "a", [heard.append])
    first = next(event for event in heard if isinstance(event, Trained))
    loads = [value for name, value in first.facts.items() if name.endswith(".load")]
    assert len(loads) == 2 and all(sum(load) == pytest.approx(1) and len(load) == 3 for load in loads)
    lines = [line for line in read_metrics(outcome.run / "metrics.jsonl") if line["event"] == "train"]
    assert lines[0]["facts"]["balance_loss"] == pytest.approx(first.facts["balance_loss"], rel=1e-6)
    assert lines[0]["loss_nats"] < 7, "reported without the penalties of routers"


@pytest.mark.parametrize("index", [6, 7])
def test_a_stop_amid_a_step_leaves_a_source_as_before_the_step(text, monkeypatch, index):
    """A source that counts what it made makes those micro-batches again when the run goes on."""

    class Stopping(OwnWords):
        stop = None

        def batch(self, number):
            if number == index and self.stop is not None:
                self.stop.request()
            return super().batch(number)

    monkeypatch.setitem(SOURCES, "toy", Stopping)
    spec = small(text, 6, source="toy", grad_accum=2)
    straight = train_run(spec, "straight", [])
    Stopping.stop = StopFlag()
    assert train_run(spec, "cut", [], stop=Stopping.stop).why == "stopped"
    Stopping.stop = None
    resumed = train_run(spec, "cut", [])
    assert checkpoint_bytes(resumed) == checkpoint_bytes(straight)
    states = [read_json(outcome.checkpoint / "state.json")["source"] for outcome in (straight, resumed)]
    assert states[0] == states[1] and states[0]["said"] > 0
