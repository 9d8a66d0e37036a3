"""Runs whose recurrent layers carry on what they remember: every way to go on gives the same bits."""

import json
from typing import ClassVar

import numpy as np
import pytest

from microgpt.batches.carried import BatchesInOrder, EvalInOrder
from microgpt.commands import compare, eval, verify
from microgpt.common.errors import CheckpointError, ConfigError, DataError
from microgpt.corpus.prepared.config import prepared
from microgpt.evaluation.loss import evaluate
from microgpt.files.records import read_json
from microgpt.files.tensors import shapes_in
from microgpt.model import GPT, Batch
from microgpt.runs import kept
from microgpt.runs.checkpoint import load_memory
from microgpt.runs.events import RolledBack, Trained
from microgpt.runs.guard import MOST_BAD_STEPS
from microgpt.runs.kinds import SOURCES
from microgpt.runs.spec import Spec
from microgpt.training.needs import checkpoint_bytes
from microgpt.training.parts import IN_ORDER, CorpusInOrder, Parts
from microgpt.training.run import resume_run, train_run
from microgpt.training.stop import StopFlag

TEXT = "".join(f"The {thing} of number {n} is red.\n\n" for n in range(60) for thing in ("hat", "boat"))
FILES = "model", "optimizer", "memory"


@pytest.fixture(autouse=True)
def text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MICROGPT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "text.txt").write_text(TEXT)


def carried(steps=12, **settings):
    """Two stretches of two micro-batches each, an epoch of which is shorter than the run."""
    values = {"mixer": "mamba2", "n_layer": 1, "n_embd": 16, "recurrent_head": 8, "mamba_state": 4}
    values |= {"look_back": 2, "seq_len": 16, "merges": 20, "batch_size": 2, "grad_accum": 2}
    values |= {"eval_every": 5, "eval_tokens": 256, "sample_every": 0, "threads": "1", "log_every": 1}
    values |= {"lr": 0.01, "min_lr": 0.0, "warmup_steps": 0, "carry_state": True, "max_steps": steps}
    return Spec.of("tiny", data="text.txt", **(values | settings))


def bits(outcome):
    return [(outcome.checkpoint / f"{name}.safetensors").read_bytes() for name in FILES]


class AskAt:
    """A listener that asks for the end after a step."""

    def __init__(self, step, stop):
        self.step, self.stop = step, stop

    def __call__(self, event):
        if isinstance(event, Trained) and event.step >= self.step:
            self.stop.request()


def stopped_at(step, spec, where):
    stop = StopFlag()
    outcome = train_run(spec, where, [AskAt(step, stop)], stop=stop)
    assert outcome.why == "stopped" and outcome.step < 12
    return outcome


@pytest.mark.parametrize("settings", [{}, {"packing": "documents", "prompt_loss_weight": 0.9}])
def test_a_run_that_is_stopped_anywhere_goes_on_to_the_same_bits(settings):
    spec = carried(**settings)
    straight = train_run(spec, "straight", [])
    for step in (1, 4, 9):
        stopped_at(step, spec, f"cut{step}")
        assert bits(train_run(spec, f"cut{step}", [])) == bits(straight)
    assert bits(train_run(carried(carry_state=False), "other", []) and straight) == bits(straight)


def test_what_is_carried_on_matters_and_others_have_no_such_file():
    with_memory, without = (train_run(carried(carry_state=is_on), str(is_on), []) for is_on in (True, False))
    assert not (without.checkpoint / "memory.safetensors").exists()
    losses = [outcome.metrics["loss"] for outcome in (with_memory, without)]
    assert losses[0] != losses[1]
    manifest = read_json(with_memory.checkpoint / "manifest.json")["files"]
    assert "memory.safetensors" in manifest
    plans = [carried(carry_state=is_on).plan() for is_on in (True, False)]
    more = np.subtract(*(checkpoint_bytes(plan.model, plan.train) for plan in plans))
    shapes = shapes_in(with_memory.checkpoint / "memory.safetensors")
    assert more == 4 * sum(np.prod(shape) for shape in shapes.values())


def test_a_stop_amid_a_step_leaves_what_was_remembered_before_it(monkeypatch):
    class Stopping(CorpusInOrder):
        stop = None

        def batch(self, number):
            if number == 8 and self.stop is not None:
                self.stop.request()
            return super().batch(number)

    monkeypatch.setitem(SOURCES, IN_ORDER, Stopping)
    straight = train_run(carried(), "straight", [])
    Stopping.stop = StopFlag()
    assert train_run(carried(), "cut", [], stop=Stopping.stop).step == 4
    Stopping.stop = None
    assert bits(train_run(carried(), "cut", [])) == bits(straight)


class Poisoned(CorpusInOrder):
    """Micro-batches whose loss is no number, from the one of this number on, until a run goes back."""

    FIRST = 14
    recalled: ClassVar[list] = []

    def recall(self, memory):
        self.recalled.append(memory)
        super().recall(memory)

    def batch(self, index):
        batch = super().batch(index)
        if self.FIRST <= index < self.FIRST + 2 * MOST_BAD_STEPS:
            return batch._replace(weights=np.full(batch.ids.shape, np.nan, np.float32))
        return batch


@pytest.mark.parametrize("save_every", [0, 4])
def test_going_back_puts_back_what_was_remembered(save_every, monkeypatch):
    monkeypatch.setitem(SOURCES, IN_ORDER, Poisoned)
    heard, spec = [], carried(save_every=save_every, keep=9)
    straight = train_run(spec, "straight", [heard.append])
    back = Poisoned.recalled[-1]
    if save_every:
        saved = load_memory(straight.run / "step_00000004", back)
        assert saved and all((back[name] == rows).all() for name, rows in saved.items())
    else:
        assert back == {}
    assert sum(isinstance(event, RolledBack) for event in heard) == 1 and straight.step == 12
    stopped_at(9, spec, "cut")  # after it went back, for it never got so far before
    assert bits(train_run(spec, "cut", [])) == bits(straight)


def test_rows_whose_numbers_went_bad_begin_anew():
    plan = carried().plan()
    model = GPT(plan.model).init(0)

    class Tokens:
        path, n_tokens, vocab_size, ids = "t", 300, plan.model.vocab_size, np.arange(300) % 50
        offsets, n_documents = np.zeros(1, np.uint64), 1

    batches = BatchesInOrder(Tokens, 16, 2, 2, None, "stream")
    source = CorpusInOrder(Parts(model, plan, None, batches))
    for index in range(2):
        model.loss_and_grad(source.batch(index))
    before = source.memory()
    assert all(rows.any() for rows in before.values())
    bad = {name: rows.copy() for name, rows in before.items()}
    bad["0.h.0.mamba2.ssd"][1] = np.inf
    source.recall(bad)
    memory = source.batch(2).memory
    for name, rows in memory.items():
        assert (rows[0] == before[f"0.{name}"][0]).all() and not rows[1].any()
        assert (source.memory()[f"1.{name}"] == before[f"1.{name}"]).all()


def test_verify_reads_what_was_remembered(capsys):
    outcome = train_run(carried(2), "run", [])
    assert verify.main(["run"]) == 0
    path = outcome.checkpoint / "memory.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert verify.main(["run"]) == 1 and "memory.safetensors: damaged or changed" in capsys.readouterr().out
    with pytest.raises(CheckpointError, match="no checkpoint in it can be used"):
        resume_run("run", Spec.of(max_steps=4))
    path.unlink()
    assert verify.main(["run"]) == 1
    manifest = read_json(outcome.checkpoint / "manifest.json")
    del manifest["files"]["memory.safetensors"]
    (outcome.checkpoint / "manifest.json").write_text(json.dumps(manifest))
    kept.verify(outcome.checkpoint)  # as one of a run that carries nothing on
    assert verify.main(["run"]) == 1
    with pytest.raises(CheckpointError, match=r"memory\.safetensors"):
        resume_run("run", Spec.of(max_steps=4))


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"mixer": "attention"}, "--carry-state: nothing is carried on by --mixer 'attention'"),
        ({"source": "elsewhere"}, "--carry-state reads the corpus; source 'elsewhere'"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(settings, line):
    with pytest.raises(ConfigError, match=line):
        carried(**settings).plan()


def test_a_text_that_is_too_short_and_another_setting_at_a_resume_are_refused():
    with pytest.raises(DataError, match="--carry-state reads 400 stretches"):
        train_run(carried(batch_size=200), "a", [])
    with pytest.raises(ConfigError, match="is chosen by --carry-state"):
        train_run(carried(carry_state=False, source=IN_ORDER), "c", [])
    train_run(carried(2), "b", [])
    with pytest.raises(ConfigError, match=r"--carry-state False \(the run has True\)"):
        train_run(carried(4, carry_state=False), "b", [])


def test_eval_carries_on_as_the_run_did_and_says_so(capsys):
    outcome = train_run(carried(), "run", [])
    assert eval.main(["run", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["n_stretches"] > 0
    assert eval.main(["run"]) == 0
    lines = capsys.readouterr().out
    assert "windows of 16 in order" in lines and "recurrent layers remember the text through" in lines
    assert eval.main(["run", "--no-carry-state", "--json"]) == 0
    other = json.loads(capsys.readouterr().out)
    assert other["n_stretches"] == 0 and other["n_tokens"] == report["n_tokens"]
    assert other["loss"] != report["loss"]
    assert outcome.metrics["val_loss"] > 0
    with pytest.raises(ConfigError, match="--stride 4: windows follow on each other"):
        eval.main(["run", "--stride", "4"])
    train_run(carried(2, mixer="attention", carry_state=False), "plain", [])
    with pytest.raises(ConfigError, match="has no recurrent layer"):
        eval.main(["plain", "--carry-state"])
    capsys.readouterr()
    assert compare.main(["run", "plain"]) == 0
    assert "the contexts of a token differ" in capsys.readouterr().out


def test_the_loss_of_held_out_text_is_that_of_long_passes():
    plan = carried(seq_len=24).plan()
    corpus = prepared(plan.data, 1, None)
    plan = carried(seq_len=24).plan(corpus.tokenizer.vocab_size)
    long = GPT(carried(seq_len=512).plan(corpus.tokenizer.vocab_size).model, dtype=np.float64).init(1)
    short = GPT(plan.model, dtype=np.float64)
    short.params.flat[:] = long.params.flat
    windows = EvalInOrder(corpus.val, 24, corpus.tokenizer.byte_lengths)
    ids, n = np.asarray(corpus.val.ids[:]).astype(np.int32), 0.0
    n_all = -(-(len(ids) - 1) // 24)
    counts = [
        n_all // windows.n_stretches + (r < n_all % windows.n_stretches) for r in range(windows.n_stretches)
    ]
    begin = 0
    for count in counts:
        part = ids[begin : begin + 24 * count + 1]
        n += long.token_losses(Batch(part[None, :-1].copy(), part[None, 1:].copy())).sum()
        begin += 24 * count
    assert evaluate(short, windows, 3).loss == pytest.approx(n / (len(ids) - 1), abs=1e-10)
