"""First blocks alone: nothing is lost by leaving the others out, when they join, what that costs, runs."""

import dataclasses
import json

import numpy as np
import pytest

from microgpt.common.errors import ConfigError
from microgpt.model import GPT, Batch, ModelConfig, flop_per_token
from microgpt.planning.outline import outline
from microgpt.planning.rehearsal import open_plan, rehearse
from microgpt.runs.checkpoint import load_model, read_config
from microgpt.runs.events import Alarmed, Evaluated, Trained
from microgpt.runs.settings import TrainConfig
from microgpt.runs.spec import Plan, Spec
from microgpt.training import depth, loop
from microgpt.training.clock import Clock
from microgpt.training.horizon import MARGIN, Timing, expected_s, planned_steps, replanned, run_s
from microgpt.training.loop import FINISHED
from microgpt.training.run import resume_run, train_run
from tests.training.fakes import FakeTime, train
from tests.training.loops import events, make_slow, new_run
from tests.training.toys import KILLED, checkpoint_bytes, ended_by_kill, small

V = 23
KINDS = {
    "attention": {},
    "llama": {"mlp": "swiglu", "n_kv_head": 1, "norm": "layernorm", "bias": "qkv mlp"},
    "parallel": {"parallel": True},
    "rwkv7": {"mixer": "rwkv7", "mlp": "rwkv7", "recurrent_head": 16},
    "rwkv6": {"mixer": "rwkv6", "mlp": "rwkv6", "recurrent_head": 16},
    "mamba2": {"mixer": "mamba2", "recurrent_head": 16},
    "fusion": {"mixer": "rwkv7+mamba2", "mlp": "rwkv7", "recurrent_head": 16},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("recompute", [False, True])
def test_blocks_that_begin_with_nothing_are_left_out_without_a_trace(kind, recompute):
    config = ModelConfig(4, 2, 32, 16, V, init_out="zero", **KINDS[kind])
    ids = np.random.default_rng(0).integers(0, V, (2, 17)).astype(np.int32)
    batch, found = Batch(np.ascontiguousarray(ids[:, :-1]), np.ascontiguousarray(ids[:, 1:])), {}
    for n in (None, 2):
        model = GPT(config, recompute=recompute).init(0)
        model.depth = n
        found[n] = model.loss_and_grad(batch), model
    assert found[None][0] == found[2][0]
    shallow, idle = found[2][1], found[2][1].idle
    assert idle == {p.name for p in shallow.params.parameters if p.name.startswith(("h.2.", "h.3."))}
    for name in shallow.grads:
        if name in idle:
            assert not shallow.grads[name].any()
        else:
            np.testing.assert_allclose(shallow.grads[name], found[None][1].grads[name], rtol=1e-5, atol=1e-6)


def plan_of(**settings):
    return depth.with_steps(
        depth.with_cost(Spec.of("10m-untied", max_steps=1000, shallow_blocks=2, **settings).plan())
    )


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_first_blocks_take_their_share_of_the_flop(share):
    plan = plan_of(shallow_share=share)
    config, n = plan.train, plan.train.shallow_steps
    whole = flop_per_token(plan.model)
    shallow = flop_per_token(dataclasses.replace(plan.model, n_layer=2))
    spent = n * shallow + (1000 - n) * whole
    assert n * shallow / spent == pytest.approx(share, abs=2e-3) and config.shallow_cost == shallow / whole
    assert depth.whole_steps(0, 1000, config) == pytest.approx(spent / whole)
    assert depth.mean_cost(config) == pytest.approx(spent / whole / 1000, rel=1e-3)
    assert depth.whole_steps(0, 10, config) + depth.whole_steps(10, 1000, config) == pytest.approx(
        spent / whole
    )
    at = [depth.blocks_at(step, config) for step in range(1000)]
    assert at == [2] * n + [None] * (1000 - n)


def test_without_them_nothing_changes():
    plan = Spec.of("10m-untied", max_steps=1000).plan()
    assert depth.with_steps(depth.with_cost(plan)) == plan and depth.blocks_at(0, plan.train) is None
    assert depth.whole_steps(3, 1000, plan.train) == 997


def test_times_know_that_the_first_steps_are_short():
    config = dataclasses.replace(plan_of().train, eval_every=0, sample_every=0, save_every=0)
    timing = Timing(micro_s=1.0, update_s=0.0, evaluation_s=0.0, save_s=0.0)
    steps = planned_steps(1000.0, timing, config)
    config = dataclasses.replace(
        config, max_steps=steps, shallow_steps=round(depth.shallow_part(config) * steps)
    )
    assert 940 < run_s(steps, timing, config) <= 961 and steps > 1400
    late = config.shallow_steps
    assert run_s(steps - late, timing, config, late) == pytest.approx(steps - late)
    clock = Clock(now=FakeTime())
    clock.step_s = config.shallow_cost
    assert expected_s(late, config, clock) == pytest.approx(steps - late), (
        "one more of the short ones is told"
    )
    clock.step_s = 1.0
    assert expected_s(late + 1, config, clock) == pytest.approx(steps - late - 1)


@pytest.mark.parametrize("speed", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("step, alone", [(100, 700), (700, 700), (2500, 2501)])
def test_a_plan_that_follows_the_speed_keeps_the_share_of_the_first_blocks(speed, step, alone):
    """Whole steps of `speed` seconds, and a second of evaluation every ten steps."""
    config = TrainConfig(max_steps=3000, eval_every=10, sample_every=0, shallow_blocks=2, shallow_share=0.5)
    config = dataclasses.replace(config, shallow_cost=0.25, shallow_steps=alone)
    clock = Clock(deadline=1000.0, costs_s={"evaluation": 1.0}, now=FakeTime())
    clock.step_s = 0.25 * speed
    found = replanned(step, config, 9.0 * speed, clock)  # the last steps had a long evaluation between them
    n = found.max_steps - step
    left_s = speed * depth.whole_steps(step, found.max_steps, found) + 0.1 * n
    assert left_s == pytest.approx(MARGIN * clock.remaining_s, rel=0.01)
    fell_behind = found.shallow_steps == step
    assert fell_behind or found.shallow_steps == round(depth.shallow_part(found) * found.max_steps)
    assert fell_behind == (step == 2500 and speed == 4.0)


@pytest.mark.parametrize("eval_every, evaluation_s", [(20, 0.0), (100, 0.1)])
def test_a_timed_run_whose_first_blocks_are_slower_than_planned_still_ends_with_all(
    tmp_path, monkeypatch, eval_every, evaluation_s
):
    """With long evaluations, the plan is made anew at quarters, too."""
    flags = {"sample_every": 0, "shallow_blocks": 2, "shallow_share": 0.5, "eval_every": eval_every}
    time, job = FakeTime(), new_run(tmp_path, "a", max_steps=2000 if eval_every < 100 else 300, **flags)
    job.config = dataclasses.replace(
        job.config, shallow_cost=0.25, shallow_steps=round(0.8 * job.config.max_steps)
    )
    job.is_timed = True
    make_slow(job, time, lambda index: 0.01 if job.model.depth is None else 0.0025)
    whole = loop.evaluate

    def slow(*args):
        time.s += evaluation_s
        return whole(*args)

    monkeypatch.setattr(loop, "evaluate", slow)
    deadline = 1.2 if not evaluation_s else 2.0
    why, _ = train(job, clock=Clock(deadline=deadline, now=time))
    steps = [line.get("blocks") for line in events(job.run) if line["event"] == "train"]
    alone, plans = steps.count(2), [line for line in events(job.run) if line["event"] == "plan"]
    assert (
        why == FINISHED
        and 0.9 * deadline < time.s <= deadline
        and steps == [2] * alone + [None] * (len(steps) - alone)
    )
    assert alone / len(steps) == pytest.approx(0.8, abs=0.03), "half of the FLOP is four fifths of the steps"
    assert plans and all(0 < plan["shallow_steps"] < plan["max_steps"] for plan in plans)
    assert plans[-1]["shallow_steps"] == alone


# ------------------------------------------------------------------------------------------ runs


def shallow(text, steps=40, **settings):
    values = {"n_layer": 3, "init_out": "zero", "shallow_blocks": 1, "shallow_share": 0.5, "lr": 1e-3}
    return small(text, steps, **(values | settings))


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_the_others_join_when_it_is_their_turn(text, tmp_path, optimizer, decay):
    heard = []
    how = {"optimizer": optimizer, "weight_decay": decay, "beta2": 0.99}
    spec = shallow(text, eval_every=1, save_every=1, keep=100, **how)
    outcome = train_run(spec, tmp_path / "run", [heard.append])
    config = Plan.from_dict(read_config(outcome.checkpoint)).train
    n = config.shallow_steps
    assert 20 < n < 38, "short steps are more than half"
    assert [e.blocks for e in heard if isinstance(e, Trained)] == [1] * n + [None] * (40 - n)
    models = [load_model(tmp_path / f"run/step_{step:08d}")[0].params for step in (1, n, n + 1)]
    same = [
        np.array_equal(models[i]["h.2.mlp.fc.weight"], models[i + 1]["h.2.mlp.fc.weight"]) for i in (0, 1)
    ]
    assert same == [True, not decay], "its output is still zero, so is the gradient of its input"
    assert not models[1]["h.2.mlp.proj.weight"].any() and models[2]["h.2.mlp.proj.weight"].any()
    assert not [e for e in heard if isinstance(e, Alarmed) and "gradient" in e.told()]
    assert sum(isinstance(e, Evaluated) for e in heard) == 41


@pytest.mark.parametrize("is_timed", [False, True])
def test_a_plan_counts_them(text, is_timed):
    plan, prepared = open_plan(shallow(text), print)
    found = rehearse(plan, prepared, print, is_timed).plan.train
    assert 20 < found.shallow_steps < 38 and 0 < found.shallow_cost < 1
    lines = outline(rehearse(plan, prepared, print, is_timed))
    assert any(line.startswith("depth    the first 1 block alone up to step ") for line in lines)


@pytest.mark.parametrize("at", [5, 37])
def test_a_run_that_was_killed_ends_with_the_same_bits(text, tmp_path, at):
    spec = shallow(text, save_every=2, optimizer="muon", eval_every=0, sample_every=0)
    straight = train_run(spec, tmp_path / "straight")
    assert ended_by_kill(KILLED, json.dumps(spec.to_dict()), tmp_path / "killed", at)
    assert checkpoint_bytes(straight) == checkpoint_bytes(train_run(spec, tmp_path / "killed", []))
    with pytest.raises(ConfigError, match=r"cannot be resumed with --shallow-blocks 2 \(the run has 1\)"):
        resume_run(tmp_path / "killed", Spec.of(shallow_blocks=2, max_steps=50))


@pytest.mark.parametrize(
    "settings, told",
    [
        ({"n_layer": 3, "shallow_blocks": 3, "init_out": "zero"}, "fewer than all blocks, which are 3"),
        ({"shallow_blocks": 1, "init_out": "scaled"}, "--init-out zero"),
        (
            {
                "shallow_blocks": 1,
                "init_out": "zero",
                "mixer": "mamba2",
                "recurrent_head": 16,
                "carry_state": True,
            },
            "leave --carry-state out",
        ),
    ],
)
def test_where_it_cannot_be_it_is_refused(settings, told):
    with pytest.raises(ConfigError, match=f"--shallow-blocks {settings['shallow_blocks']}: .*{told}"):
        Spec.of("tiny", **settings).plan()


def test_a_share_without_blocks_is_refused():
    with pytest.raises(ConfigError, match=r"^--shallow-share 0\.5: there are no --shallow-blocks; give"):
        Spec.of("tiny", shallow_share=0.5).plan()


def test_it_is_for_a_new_model(text, tmp_path):
    train_run(shallow(text, 2), tmp_path / "run", [])
    more = Spec.of(parent=str(tmp_path / "run"), data=str(text), max_steps=1, threads="1")
    assert train_run(more, tmp_path / "on", []).step == 1
    with pytest.raises(ConfigError, match="it is for a new one"):
        train_run(
            Spec.of(parent=str(tmp_path / "run"), data=str(text), shallow_blocks=1), tmp_path / "no", []
        )
