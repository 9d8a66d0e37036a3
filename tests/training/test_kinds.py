"""A run can be made of new parts, each defined here and named as the built-in ones are."""

import json
import math
import os
import signal

import numpy as np
import pytest

from microgpt.batches.batches import shifted
from microgpt.common.errors import ConfigError, MicrogptError
from microgpt.core import ops
from microgpt.decoding.decoder import Request, answer_all, uniform_stream
from microgpt.decoding.sampler import SamplerConfig
from microgpt.files.records import read_json
from microgpt.model import Batch, count_parameters, flop_per_token
from microgpt.model.architecture import state_bytes
from microgpt.model.kinds import MIXERS, MLPS, NORMS
from microgpt.model.layer import Cost
from microgpt.model.linear import Linear
from microgpt.model.parameters import Parameter
from microgpt.runs.checkpoint import load_model, verify
from microgpt.runs.events import Ended, Trained
from microgpt.runs.kinds import OPTIMIZERS, PENALTIES, SOURCES
from microgpt.runs.metrics import read_metrics
from microgpt.runs.spec import Spec
from microgpt.training import loop
from microgpt.training.needs import memory_estimate, slot_floats
from microgpt.training.optimizer import Optimizer
from microgpt.training.parts import Corpus
from microgpt.training.run import resume_run, train_run
from microgpt.training.stop import StopFlag
from tests.training.fakes import FakeTime, StopAt

TEXT = "".join(f"The {thing} of number {n} is red.\n\n" for n in range(60) for thing in ("hat", "boat"))


# -------------------------------------------------------------------------------- parts of a model


class Scale:
    """A norm that is none: y = x * weight."""

    def __init__(self, name, C, eps=0.0, gain=True, bias=False):
        self.weight = Parameter(f"{name}.weight", (C,), 0, decay=False, kind="gain")

    def parameters(self):
        return [self.weight]

    def forward(self, x, p):
        return x * p[self.weight.name], None

    def rebuild(self, x, saved, p):
        return x * p[self.weight.name]

    def backward(self, dy, x, saved, p, g, by_pass):
        g[self.weight.name][:] += (dy * x).sum(0)
        return dy * p[self.weight.name] + by_pass

    def cost(self):
        return Cost(flop=6 * self.weight.size)


class Square:
    """An MLP: y = proj(fc(x)^2), twice as wide inside."""

    def __init__(self, at, config):
        C = config.n_embd
        self.fc = Linear(f"{at}.square.fc", 2 * C, C, config.init_std)
        self.proj = Linear(f"{at}.square.proj", C, 2 * C, config.std_into_residual)

    def parameters(self):
        return self.fc.parameters() + self.proj.parameters()

    def forward(self, x, p, call):
        wide = self.rebuild(x, p, call)
        return self.proj.forward(wide * wide, p, call), wide

    def rebuild(self, x, p, call):
        return self.fc.forward(x, p, call)

    def backward(self, dy, x, wide, p, g, call):
        self.proj.backward_weight(dy, wide * wide, p, g, call)
        d_wide = 2 * wide * self.proj.backward_input(dy, p, call)
        return self.fc.backward(d_wide, x, p, g, call)

    def cost(self, T):
        return self.fc.cost() + Cost(kept=self.fc.n_out, passing=3 * self.fc.n_out) + self.proj.cost()


class Sum:
    """What a mean remembers: the sum of the rows it has seen."""

    def __init__(self, C, dtype):
        self.sum, self.length = np.zeros(C, dtype), 0

    def rewind(self, n):
        if n < self.length:
            self.sum[:], self.length = 0, 0
        return self.length

    def copy(self):
        twin = Sum(len(self.sum), self.sum.dtype)
        twin.sum[:], twin.length = self.sum, self.length
        return twin


class Mean:
    """A mixer: y = proj(mean of all rows up to this one)."""

    def __init__(self, at, index, config):
        self.at, self.C = at, config.n_embd
        self.proj = Linear(f"{at}.mean.proj", self.C, self.C, config.std_into_residual)

    def parameters(self):
        return self.proj.parameters()

    def _means(self, x, call):
        counts = np.arange(1, call.T + 1, dtype=x.dtype)[:, None]
        return (x.reshape(call.B, call.T, -1).cumsum(1) / counts).reshape(x.shape)

    def forward(self, x, p, call):
        if call.states is None:
            means = self._means(x, call)
            return self.proj.forward(means, p, call), means
        means, begin = np.empty_like(x), 0
        for state, n in call.sequences(self.at):
            for row in range(begin, begin + n):
                state.sum += x[row]
                state.length += 1
                means[row] = state.sum / state.length
            begin += n
        return self.proj.forward(means, p, call), None

    def rebuild(self, x, p, call):
        return self._means(x, call)

    def backward(self, dy, x, means, p, g, call):
        d_means = self.proj.backward(dy, means, p, g, call).reshape(call.B, call.T, -1)
        shares = d_means / np.arange(1, call.T + 1, dtype=x.dtype)[:, None]
        return np.ascontiguousarray(shares[:, ::-1].cumsum(1)[:, ::-1]).reshape(x.shape)

    def new_states(self, capacity, dtype):
        return {self.at: Sum(self.C, dtype)}

    def cost(self, T):
        return self.proj.cost() + Cost(kept=self.C, passing=2 * self.C, state_bytes=0)


# -------------------------------------------------------------------------------- parts of a run


class Momentum(Optimizer):
    """Stochastic gradient descent with one slot."""

    @staticmethod
    def parameters_of_slots(parameters):
        return {"velocity": [parameter for parameter in parameters if parameter.trainable]}

    def apply(self, lr, grad_scale=1.0):
        velocity, grads = self.slots["velocity"].flat, self.model.grads.flat
        velocity *= np.float32(0.9)
        velocity += np.float32(grad_scale) * grads
        self.model.params.flat[:] -= np.float32(lr) * velocity
        grads[:] = 0


class Leash:
    """A penalty strength / 2 * sum(w^2), whose strength grows by the step."""

    def __init__(self, parts):
        self.model, self.strength = parts.model, 0.01

    def add(self, loss, n):
        weights = self.model.params.flat
        self.model.grads.flat[:] += np.float32(n * self.strength) * weights
        value = self.strength / 2 * ops.sum_squares(weights)
        self.strength *= 1.05
        return value

    def facts(self):
        return {"strength": self.strength}

    def state(self):
        return {"strength": self.strength}

    def restore(self, state):
        self.strength = state.get("strength", 0.01)


class OwnWords(Corpus):
    """Every other micro-batch is what the model says now after the beginning of one of the corpus."""

    def __init__(self, parts):
        super().__init__(parts)
        self.parts, self.said = parts, 0

    def batch(self, index):
        batch = super().batch(index)
        if index % 2:
            return batch
        model, tokenizer = self.parts.model, self.parts.prepared.tokenizer
        T, config = model.config.seq_len, SamplerConfig(temperature=1.0)
        asked = [Request(row[:4], config, T + 1, uniform_stream(index, b)) for b, row in enumerate(batch.ids)]
        rows = np.zeros((len(asked), T + 1), np.int32)
        for b, answer in answer_all(model, tokenizer, asked):
            words = [*asked[b].prompt, *answer.ids][: T + 1]
            rows[b, : len(words)] = words
            self.said += len(answer.ids)
        return Batch(*map(np.ascontiguousarray, shifted(rows)))

    def state(self):
        return {"said": self.said}

    def restore(self, state):
        self.said = state.get("said", 0)


KINDS = {
    "norm": (NORMS, Scale, {"norm": "toy"}),
    "mlp": (MLPS, Square, {"mlp": "toy"}),
    "mixer": (MIXERS, Mean, {"mixer": "toy attention"}),
    "optimizer": (OPTIMIZERS, Momentum, {"optimizer": "toy"}),
    "penalty": (PENALTIES, Leash, {"penalty": "toy"}),
    "source": (SOURCES, OwnWords, {"source": "toy"}),
}


@pytest.fixture
def text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MICROGPT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path / "text.txt"


@pytest.fixture(params=KINDS)
def kind(request):
    """The settings of a run that has one part of a new kind."""
    table, made, settings = KINDS[request.param]
    table["toy"] = made
    yield settings
    del table["toy"]


def small(text, steps, **settings):
    values = {"n_layer": 2, "seq_len": 16, "merges": 20, "batch_size": 2, "eval_every": 4, "eval_tokens": 64}
    values |= {
        "sample_every": 5,
        "threads": "1",
        "log_every": 1,
        "max_steps": steps,
        "recipe": "road",
        "lr": 0.01,
        "min_lr": 0.0,
    }
    return Spec.of("tiny", data=str(text), **(values | settings))


def checkpoint_bytes(outcome):
    return [(outcome.checkpoint / f"{name}.safetensors").read_bytes() for name in ("model", "optimizer")]


def trained_lines(run):
    return [line["loss_nats"] for line in read_metrics(run / "metrics.jsonl") if line["event"] == "train"]


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


def test_a_listener_that_fails_ends_the_session_like_a_kill(text):
    class BrokenError(Exception):
        pass

    def listener(event):
        if isinstance(event, Trained) and event.step == 7:
            raise BrokenError

    with pytest.raises(BrokenError):
        train_run(small(text, 12, save_every=5), "a", [listener])
    outcome = train_run(small(text, 12), "a", [])
    straight = train_run(small(text, 12), "b", [])
    assert checkpoint_bytes(outcome) == checkpoint_bytes(straight)


def test_a_finished_run_is_told_without_a_step_and_another_spec_is_refused(text):
    first = train_run(small(text, 3), "a", [])
    again = train_run(small(text, 3), "a", [])
    assert again.why == "finished" and again.step == 3 and again.checkpoint == first.checkpoint
    with pytest.raises(ConfigError, match=r"cannot be resumed with --lr 0.02 \(the run has 0.01\)"):
        train_run(small(text, 6, lr=0.02), "a", [])


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


def test_the_same_call_again_finds_a_timed_run_done_and_counts_the_time_it_had(text):
    now = FakeTime(tick=0.01)
    settings = {"max_time": "60s", "eval_every": 0, "sample_every": 0}
    spec = Spec.of(**{**_flat(small(text, 5)), **settings}, preset="tiny")
    stop = StopAt(3)
    first = train_run(spec, "a", [stop], stop=stop, now=now)
    assert first.why == "stopped" and first.step == 3
    second = train_run(spec, "a", [], now=FakeTime(tick=0.01))
    assert second.why in ("finished", "out of time") and second.step > 3
    state = read_json(second.checkpoint / "state.json")
    assert state["elapsed_s"] < 60
    again = train_run(spec, "a", [], now=FakeTime(tick=0.01))
    assert again.step == second.step


def _flat(spec):
    """The settings of a spec without a number of steps."""
    settings = spec.model | spec.train | spec.data
    del settings["max_steps"]
    return settings


def test_a_spec_is_plain_data_of_checked_types(text, tmp_path, monkeypatch):
    spec = Spec.of("tiny", data="text.txt", lr=np.float64(0.5), max_steps=np.int64(3), threads=2)
    assert spec.data == {"data": [str(text)]} and type(spec.train["max_steps"]) is int
    assert Spec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert "preset" not in Spec.of(lr=1.0).to_dict()
    assert Spec(data={"data": "text.txt"}).data_config().data == (str(text),)
    for wrong, line in (
        ({"max_steps": 3.0}, "spec: max_steps is 3.0, expected int"),
        ({"recompute": 1}, "spec: recompute is 1, expected bool"),
        ({"max_time": 600}, "spec: max_time is 600, expected str or null"),
        ({"onward_step": 5}, "there is no setting 'onward_step'"),
    ):
        with pytest.raises(ConfigError, match=line):
            Spec.of(**wrong)
    with pytest.raises(ConfigError, match="spec: unknown setting foo"):
        Spec(train={"foo": 1})


def test_an_error_reaches_the_caller_and_all_listeners_whatever_they_make_of_it(text, monkeypatch):
    heard = []

    def broken(event):
        if isinstance(event, Ended):
            raise RuntimeError("a listener that fails")

    def out_of_memory(*_):
        raise MemoryError

    monkeypatch.setattr(loop, "accumulate", out_of_memory)
    with pytest.raises(MicrogptError, match="out of memory at step 0"):
        train_run(small(text, 3), "a", [broken, heard.append])
    assert isinstance(heard[-1], Ended) and heard[-1].why == "MemoryError"


def test_ctrl_c_saves_and_then_ends_a_loop_of_runs(text):
    def press(event):
        if isinstance(event, Trained) and event.step == 5:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            train_run(small(text, 12), "a", [press])
    finally:
        signal.signal(signal.SIGINT, before)
    assert train_run(small(text, 12), "a", []).step == 12
