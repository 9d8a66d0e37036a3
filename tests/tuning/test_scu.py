"""The penalty on what adapters hold: its gradient, its value, what it does to a run, resumed to the bit."""

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from microgpt.commands.sft import main as sft
from microgpt.commands.train import main as train
from microgpt.commands.verify import main as verify
from microgpt.common.errors import CheckpointError, ConfigError
from microgpt.files.records import read_json
from microgpt.model import GPT, ModelConfig
from microgpt.runs.checkpoint import load_model
from microgpt.runs.events import Alarmed, Evaluated, Resumed, Skipped, Trained
from microgpt.runs.metrics import MetricsLog
from microgpt.runs.spec_file import read_spec
from microgpt.training.run import train_run
from microgpt.training.stop import StopFlag
from microgpt.tuning import scu, smart
from microgpt.tuning.control import GUIDES_OWN
from microgpt.tuning.scu import Information, Settling
from tests.training.fakes import StopAt
from tests.training.toys import checkpoint_bytes, text  # noqa: F401
from tests.tuning.test_sft import parent, spec_of  # noqa: F401

ADAPTED = ModelConfig(2, 4, 16, 9, 19, init_std=0.3, lora_rank=3, lora_alpha=5.0)


def information(dtype=np.float64, **told):
    """A penalty on a model whose adapters say something, and nothing else."""
    model = GPT(ADAPTED, dtype).init(3)
    random = np.random.default_rng(0)
    for name in model.grads:
        model.params[name][:] = random.normal(0, 0.3, model.params[name].shape)
    train = SimpleNamespace(penalty_settings={"scored_tokens": 1000, **told}, weight_decay=0.0)
    parts = SimpleNamespace(model=model, plan=SimpleNamespace(model=ADAPTED, train=train), batches=None)
    return Information(parts), model


def test_its_gradient_is_that_of_its_value():
    fixed = {"scu_law": "fixed", "lambda_init": 0.7}
    penalty, model = information(**fixed)
    n, eps = 7, 1e-5
    value = penalty.add(3.0, n)
    deltas = [5 / 3 * model.params[pair.b] @ model.params[pair.a] for pair in scu.pairs_of(model)]
    squares = sum(float((delta**2).sum()) for delta in deltas)
    assert len(deltas) == 2 * 6 and value == pytest.approx(0.7 * squares / (2 * 1e-4 * 1000), rel=1e-12)
    assert penalty.facts()["S"] == pytest.approx(value / 0.7 / (3 + value / 0.7))
    got = {name: model.grads[name].copy() for name in model.grads}
    worst = 0.0
    for name in got:
        flat = model.params[name].reshape(-1)
        for i in range(0, flat.size, 5):
            sides = []
            for step in (eps, -eps):
                flat[i] += step
                sides.append(penalty.add(3.0, 0))
                flat[i] -= step
            numeric = n * (sides[0] - sides[1]) / (2 * eps)
            worst = max(worst, abs(numeric - got[name].reshape(-1)[i]) / (1 + abs(numeric)))
    assert worst < 1e-6


def test_lambda_is_set_before_it_acts_and_a_bad_loss_moves_nothing():
    penalty, model = information(target_s=0.5)
    first = penalty.add(3.0, 1)
    before, law = model.grads.flat.copy(), penalty.law.state()
    assert penalty.add(math.nan, 1) == 0.0
    assert penalty.law.state() == law and (model.grads.flat == before).all()
    model.params.flat[:] *= 1.1
    second = penalty.add(3.0, 1)
    assert penalty.law.strength > 1 and second / first == pytest.approx(
        1.1**4 * penalty.law.strength / law["strength"]
    )


def scu_spec(steps=30, target_s=0.01, replay=(), share=0.0, **told):
    """A fine-tuning of adapters under control."""
    settings = {"target_s": target_s, **told}
    return spec_of(
        steps, replay, share, lora_rank=2, lr=0.02, penalty="scu", penalty_settings=settings, stop_after=0
    )


def train_facts(heard):
    return [event.facts for event in heard if isinstance(event, Trained)]


def test_more_lambda_leaves_less_in_the_adapters(parent):  # noqa: F811
    left = []
    for strength in (0.0, 0.1, 1.0, 10.0):
        outcome = train_run(scu_spec(12, scu_law="fixed", lambda_init=strength), f"at{strength}", [])
        model, _, _ = load_model(outcome.run)
        deltas = (model.params[pair.b] @ model.params[pair.a] for pair in scu.pairs_of(model))
        left.append(sum(float((delta**2).sum()) for delta in deltas))
    assert left[0] > 1.02 * left[1] > 1.05 * left[2] > 1.1 * left[3], left


@pytest.mark.parametrize("law", ["velocity", "guide"])
def test_a_stopped_run_under_control_goes_on_to_the_bit(parent, law):  # noqa: F811
    heard, again = [], []
    told = GUIDES_OWN if law == "guide" else {}
    spec = scu_spec(8, scu_law=law, **told)
    straight = train_run(spec, "straight", [heard.append])
    stop = StopAt(5)
    train_run(spec, "cut", [stop], stop=stop)
    resumed = train_run(spec, "cut", [again.append])
    assert checkpoint_bytes(resumed) == checkpoint_bytes(straight)
    assert train_facts(heard)[-3:] == train_facts(again)
    states = [read_json(one.checkpoint / "state.json")["penalty"] for one in (straight, resumed)]
    assert states[0] == states[1] and states[0]["law"]["strength"] != 1
    plan = read_json(straight.checkpoint / "config.json")
    assert plan["train"]["penalty_settings"] == {"target_s": 0.01, "scu_law": law, **told}


def test_n_is_what_one_pass_scores(parent):  # noqa: F811
    outcome = train_run(scu_spec(2), "a", [])
    n = read_json(outcome.checkpoint / "state.json")["penalty"]["n_tokens"]
    tokenizer = load_model("parent")[1]
    answers = [f"It is {number}." for number in range(90)]
    one = sum(len(tokenizer.encode(answer)) + 1 for answer in answers) + 90 * (
        len(tokenizer.encode("No.")) + 1
    )
    assert 0.8 * one < n < one, "some of it is held out"


def test_without_adapters_or_with_decay_it_is_refused(parent):  # noqa: F811
    told = {"penalty": "scu", "penalty_settings": {"target_s": 0.01}}
    with pytest.raises(ConfigError, match="--scu counts what adapters hold"):
        train_run(spec_of(2, **told), "a", [])
    with pytest.raises(ConfigError, match=r"--weight-decay 0\.1 pulls adapters to zero"):
        train_run(spec_of(2, lora_rank=2, weight_decay=0.1, **told), "b", [])


def test_settings_come_from_a_file(parent):  # noqa: F811
    file = Path("run.toml")
    file.write_text(
        'parent = "parent"\ndata = "talk.jsonl"\nmax_steps = 2\n[lora]\nrank = 2\n[scu]\ntarget_s = 0.03\n'
    )
    spec = read_spec(file)
    assert spec.model["lora_rank"] == 2 and spec.train["penalty"] == "scu"
    assert spec.train["penalty_settings"] == {"target_s": 0.03}


def facts(**changes):
    usual = {"S": 0.01, "S_hat": 0.01, "lambda": 1.0, "saturated": 0, "is_near": True, "is_steady": True}
    return usual | changes


def trained(step, **changes):
    return Trained(step, *[1.0] * 8, None, facts(**changes))


def evaluated(step, loss):
    return Evaluated(step, loss, 1.0, None, 1, 1, 1, 0.0, 0.0)


@pytest.mark.parametrize("missing", ["is_near", "is_steady", "is_flat", None])
def test_it_stops_when_all_three_hold_and_not_before(missing):
    stop = StopFlag()
    settling = Settling(stop, lambda event: None)
    settling(evaluated(0, 3.0))
    settling(evaluated(50, 2.0 if missing == "is_flat" else 2.999))
    settling(trained(51, **({missing: False} if missing else {})))
    assert bool(stop) == settling.is_settled == (missing is None)


def test_a_run_that_goes_on_takes_up_its_evidence(tmp_path):
    """What was flat before is flat, what lay at a bound lies there, what was told is not told again."""
    said, stop = [], StopFlag()
    with MetricsLog(tmp_path / "metrics.jsonl") as log:
        for event in (evaluated(0, 3.0), evaluated(50, 2.999)):
            log.hear(event)
        for step in range(51, 150):
            log.hear(trained(step, is_near=False, saturated=1, **{"lambda": 2.0}))
    settling = Settling(stop, said.append)
    settling(Resumed(149, 1, 1, {}, 1, 1.0, 1.0, run=str(tmp_path)))
    assert not said and not stop
    settling(trained(150, is_near=False, saturated=1, **{"lambda": 2.0}))
    assert [event.alarm for event in said] == ["lambda at its upper bound"] and not stop
    settling(trained(151))
    assert stop and settling.is_settled


def test_a_step_that_is_skipped_leaves_the_law_where_it_was(parent, monkeypatch):  # noqa: F811
    heard, whole = [], GPT.loss_and_grad
    calls = []

    def poisoned(self, batch, *others):
        found = whole(self, batch, *others)
        calls.append(1)
        if len(calls) == 4:
            self.grads.flat[:] = np.nan
        return found

    monkeypatch.setattr(GPT, "loss_and_grad", poisoned)
    outcome = train_run(scu_spec(6), "a", [heard.append])
    assert [event.step for event in heard if isinstance(event, Skipped)] == [4]
    state = read_json(outcome.checkpoint / "state.json")["penalty"]["law"]
    assert len(state["moves"]) == 5


def test_train_goes_on_with_a_run_under_control_and_tells_what_became_of_it(parent):  # noqa: F811
    outcome = train_run(scu_spec(3), "runs/a", [])
    scu.write_metadata(outcome.run)
    assert train(["--resume", "a", "--max-steps", "5"]) == 0
    assert read_json(Path("runs/a/metadata.json"))["step"] == 5


@pytest.mark.parametrize(
    ("changes", "name", "flag"),
    [
        ({"saturated": 1, "lambda": 2.0}, "lambda at its upper bound", "a higher --target-s"),
        ({"saturated": -1, "lambda": 1e-4}, "lambda at its lower bound", "a lower --target-s"),
        ({"S": 0.0}, "S is 0", "--lr"),
    ],
)
def test_troubles_are_told_once_with_the_flag_to_change(changes, name, flag):
    said = []
    settling = Settling(StopFlag(), said.append)
    for step in range(99):
        settling(trained(step, is_near=False, **changes))
    assert said == []
    for step in range(99, 300):
        settling(trained(step, is_near=False, **changes))
    assert [(event.alarm, event.look[: len(flag)]) for event in said] == [(name, flag)]
    assert all(isinstance(event, Alarmed) for event in said)


def test_a_swinging_lambda_is_told_and_a_rising_one_is_not():
    for path, n in ((np.exp(np.sin(np.arange(100) / 5)), 1), (np.exp(np.arange(100) / 20), 0)):
        said = []
        settling = Settling(StopFlag(), said.append)
        for step, strength in enumerate(path):
            settling(trained(step, is_near=False, **{"lambda": float(strength)}))
        assert [event.alarm for event in said] == ["lambda swings"] * n


def test_metadata_tells_what_became_of_lambda(parent):  # noqa: F811
    outcome = train_run(scu_spec(6), "a", [])
    scu.write_metadata(outcome.run)
    found = read_json(outcome.run / "metadata.json")
    assert found["n_tokens"] > 0 and found["prior_sigma"] == 0.01 and found["target_s"] == 0.01
    assert (
        found["lambda_range"][0] <= found["final_lambda"] <= found["lambda_range"][1] and not found["settled"]
    )
    path = outcome.run / "metadata.json"
    for changes, line in (
        ({"final_lambda": 0.0}, "nothing was controlled"),
        ({"lambda_range": [1.0, 1.0]}, "nothing was controlled"),
        ({"final_s_ratio": 0.5}, "S at 50% of its target"),
        ({"final_s_ratio": None}, "expected final_lambda"),
    ):
        path.write_text(
            str(found | {"final_s_ratio": 1.0} | changes)
            .replace("'", '"')
            .replace("None", "null")
            .replace("False", "false")
        )
        with pytest.raises(CheckpointError, match=line):
            scu.check_metadata(path)
    assert scu.metadata(parent.run) is None


def test_the_table_follows_the_guide_but_for_targets_that_nothing_could_hold(tmp_path):
    for n_params, n_tokens, task, target in (
        (50e6, 200e6, "general", 0.005),
        (124e6, 200e6, "code", 0.015),
        (1e9, 5e6, "domain", 0.01),
        (3e9, 5e5, "general", 0.02),
        (1e11, 1e9, "math", 0.045),
    ):
        assert smart.chosen(int(n_params), int(n_tokens), task)[0] == pytest.approx(target)
    target, words = smart.chosen(10**6, 10**5, "general")
    assert target == 0.001 and "that is -0.50%" in words
    own = tmp_path / "own.toml"
    own.write_text("[sizes]\nnano = {below = 2e6, target_s = 0.03}\n[tasks]\npoems = -0.002\n")
    table = smart.table_from(own)
    assert smart.chosen(10**6, 10**9, "poems", table)[0] == pytest.approx(0.028)
    assert smart.chosen(10**7, 10**9, "code", table)[0] == pytest.approx(0.01)
    with pytest.raises(ConfigError, match="expected general or code"):
        smart.chosen(1, 1, "poems")
    own.write_text("[sizes]\nnano = 3\n")
    with pytest.raises(ConfigError, match=r"expected \[sizes\] name"):
        smart.table_from(own)


def test_the_command(parent, capfd):  # noqa: F811
    words = [
        "--from",
        "parent",
        "--data",
        "talk.jsonl",
        "--threads",
        "1",
        "--max-steps",
        "3",
        "--sample-every",
        "0",
    ]
    for wrong, line in (
        (["--target-s", "0.02"], "--target-s is of a controller; give --scu, too"),
        (["--scu"], "give --target-s, such as 0.01, or --scu auto"),
        (["--scu", "auto", "--lambda-min", "0"], "--lambda-min 0.0: expected above 0"),
        (["--scu", "auto", "--weight-decay", "0.1"], "--weight-decay 0.1 pulls"),
    ):
        with pytest.raises(ConfigError, match=line):
            sft([*words, *wrong])
    assert sft([*words, "--scu", "auto", "--out-dir", "adapters/x", "--lr", "0.02"]) == 0
    assert "--scu auto: target 0.10% = 0.50% (micro" in capfd.readouterr().err
    assert read_json(Path("adapters/x/metadata.json"))["target_s"] == 0.001
    assert verify(["adapters/x"]) == 1, "three steps do not bring S to its target"
    out = capfd.readouterr().out
    assert "MISSED: " in out and "of its target; expected 90% to 110%" in out
    assert "DAMAGED" not in out and out.endswith(" whole, but S is not where it was to be held\n")
