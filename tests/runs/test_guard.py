"""Numbers that are bad or odd: nothing is changed by them, spikes are told, a run goes back, and gives up."""

import json
import math

import numpy as np
import pytest

from microgpt.common.errors import CheckpointError
from microgpt.core import random
from microgpt.files import durable
from microgpt.model import GPT, ModelConfig
from microgpt.runs import checkpoint
from microgpt.runs.guard import (
    MOST_BAD_STEPS,
    MOST_ROLLBACKS,
    WARM_UP,
    DivergedError,
    Setbacks,
    SpikeWatch,
    Trend,
)
from microgpt.runs.kept import find_checkpoint
from microgpt.runs.layout import METRICS, checkpoints
from microgpt.runs.metrics import read_metrics
from microgpt.runs.state import TrainState
from microgpt.training.adam import Adam
from tests.training.fakes import FakeModel, make_config, make_job, train

NOISE = random.normal(random.key(0, "noise"), 2000)


def run_events(job, *names):
    return [line for line in read_metrics(job.run / METRICS) if line["event"] in names]


def new_run(tmp_path, model=None, **changes):
    run = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
    run.mkdir()
    return make_job(run, make_config(**{"eval_every": 0, "sample_every": 0, **changes}), model)


# ---- spikes


def watched(losses, norms):
    """The steps at which the watch warns."""
    watch = SpikeWatch()
    return [step for step, pair in enumerate(zip(losses, norms, strict=True)) if watch.see(step, *pair)]


def test_a_trend_is_a_plain_mean_at_first_and_follows_later():
    trend = Trend()
    for value in NOISE[:50]:
        trend.add(value)
    first = NOISE[:50]
    assert trend.mean == pytest.approx(first.mean()) and trend.variance == pytest.approx(first.var())
    for value in 10 + NOISE[50:400]:
        trend.add(value)
    assert trend.mean == pytest.approx(10, abs=0.5) and trend.variance == pytest.approx(1, rel=0.5)


def test_a_steady_or_falling_loss_never_warns():
    steps = np.arange(2000)
    falling = 2 + 8 * np.exp(-steps / 100) + 0.2 * NOISE
    assert watched(falling, np.exp(0.3 * NOISE[::-1])) == []
    assert watched([3.0] * 200, [0.0] * 200) == [], "a trend without any noise has a limit above it"
    long_tail = [*np.exp(0.3 * NOISE[:200]), 6.5]
    assert watched([3.0] * 201, long_tail) == [], "clipping sees to that"


@pytest.mark.parametrize("is_loss", [True, False])
def test_a_leap_of_either_number_warns_at_once_and_once(is_loss):
    calm, leaps = 3 + 0.1 * NOISE[:400], 3 + 0.1 * NOISE[:400]
    leaps[200:230] += 1.5 if is_loss else 30
    assert watched(*((leaps, calm) if is_loss else (calm, leaps))) == [200]


def test_a_spike_does_not_lead_its_trend_astray():
    trend = Trend()
    for value in [*(3 + 0.1 * NOISE[:200]), 1e9]:
        before = trend.limit
        trend.add(value)
    assert before < trend.limit < before + 1


def test_nothing_is_said_of_a_young_trend():
    assert watched([1.0] * (WARM_UP - 1) + [9.0], [1.0] * WARM_UP) == []
    assert watched([1.0] * WARM_UP + [9.0], [1.0] * (WARM_UP + 1)) == [WARM_UP]
    assert watched([1.0] * (WARM_UP + 1), [1.0] * WARM_UP + [11.0]) == [WARM_UP]


@pytest.mark.parametrize("seed", range(4))
def test_a_rate_thirty_times_as_high_is_noticed_within_three_steps(seed, tmp_path):
    """On the real model.  Nothing is said before; the first loss after such an update is that of step 302."""
    settings = {"max_steps": 304, "lr": 0.01, "min_lr": 0.01, "batch_size": 8, "seed": seed}
    job = new_run(tmp_path, GPT(ModelConfig(2, 2, 32, 6, 11)), **settings)
    apply = job.optimizer.apply
    job.optimizer.apply = lambda lr, scale: apply(lr * (30 if job.optimizer.updates >= 300 else 1), scale)
    train(job)
    assert [line["step"] > 301 for line in run_events(job, "spike")] == [True]


def test_a_resumed_run_warns_where_a_straight_one_does():
    watch, losses = SpikeWatch(), 3 + 0.1 * NOISE[:300]
    losses[[130, 140, 240]] += 2
    said = [watch.see(step, loss, 1.0) for step, loss in enumerate(losses)]
    assert [step for step, text in enumerate(said) if text] == [130, 240]
    for stop in (10, 130, 131, 135):
        watch, again = SpikeWatch(), []
        for step, loss in enumerate(losses):
            again.append(watch.see(step, loss, 1.0))
            if step == stop:
                document = json.loads(json.dumps(TrainState(watch=watch).to_dict()))
                watch = TrainState.from_dict(document).watch
        assert again == said


# ---- the state


def test_the_state_survives_json_and_names_what_is_wrong():
    watch = SpikeWatch(Trend(5, 0.1, 0.3), Trend(), 7)
    state = TrainState(step=3, setbacks=Setbacks(1, 2, 3, 4), watch=watch)
    document = json.loads(json.dumps(state.to_dict()))
    assert TrainState.from_dict(document) == state
    older = {name: value for name, value in document.items() if name not in ("setbacks", "watch")}
    assert TrainState.from_dict(older) == TrainState(step=3)
    for name, bad in (("step", 1.0), ("setbacks", []), ("metrics", None)):
        with pytest.raises(CheckpointError, match=f"state.json: {name} is"):
            TrainState.from_dict(document | {name: bad})
    document["watch"]["loss"]["mean"] = "0"
    with pytest.raises(CheckpointError, match=r"watch\.loss\.mean is '0', expected float"):
        TrainState.from_dict(document)


# ---- bad steps


@pytest.mark.parametrize("where", ["weight", "activation", "gradient"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_bad_number_anywhere_is_seen_at_its_step_and_changes_nothing(where, bad, tmp_path):
    """On the real model."""
    model = GPT(ModelConfig(2, 2, 16, 6, 11))
    job = new_run(tmp_path, model, max_steps=3)
    job.optimizer = Adam(model, job.config)
    compute, before = model.loss_and_grad, []

    def poisoned(batch, keys=None, *passed):
        before.append([arena.flat.copy() for arena in (model.params, *job.optimizer.slots.values())])
        if where == "weight" and len(before) == 2:
            model.params["h.1.attn.qkv.weight"][3, 3] = bad
        elif where == "weight":
            model.params["h.1.attn.qkv.weight"][3, 3] = 0.01
        block = model.blocks[1]
        forward = block.forward
        if where == "activation" and len(before) == 2:
            block.forward = lambda x, *rest: forward(np.where(np.arange(16) == 5, np.float32(bad), x), *rest)
        summed = compute(batch, keys)
        block.forward = forward
        if where == "gradient" and len(before) == 2:
            model.grads["h.0.mlp.fc.weight"][1, 2] = bad
        return summed

    model.loss_and_grad = poisoned
    _, state = train(job)
    assert [line["step"] for line in run_events(job, "skip")] == [2] and state.updates == 2
    changed = [np.count_nonzero(old != new) for old, new in zip(before[1], before[2], strict=True)]
    assert sum(changed) == (where == "weight"), "but for the weight that was poisoned"
    assert (before[0][0] != before[1][0]).any()


class Poisoned(FakeModel):
    """Gives no number for some of the micro-batches, whenever they come."""

    def __init__(self, bad):
        super().__init__()
        self.bad, self.source = bad, None

    def loss_and_grad(self, batch, keys=None, *passed):
        nats, n = super().loss_and_grad(batch, keys, *passed)
        return (math.nan if self.source.asked[-1] in self.bad else nats), n


def poisoned_run(tmp_path, bad, **changes):
    job = new_run(tmp_path, Poisoned(bad), **changes)
    job.model.source = job.source
    return job


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_a_run_goes_back_to_its_checkpoint_and_past_the_bad_data(optimizer, tmp_path):
    job = poisoned_run(tmp_path, range(13, 18), save_every=10, keep=9, optimizer=optimizer)
    _, state = train(job)
    assert state.step == 20 and state.position == 18 + 10 and state.updates == 20
    (back,) = run_events(job, "rollback")
    assert (back["step"], back["to"], back["first"], back["next"]) == (18, 10, 13, 18)
    assert job.source.asked == list(range(28))
    assert [line["step"] for line in run_events(job, "train")] == [*range(1, 14), *range(11, 21)]


def test_a_run_that_went_back_and_was_killed_repeats_itself(tmp_path):
    """Every checkpoint tells enough to come to the same end."""
    straight = poisoned_run(tmp_path, range(13, 18), save_every=5, keep=9)
    train(straight)
    saved = checkpoints(straight.run)
    assert len(saved) > 2
    for step, source in saved:
        job = poisoned_run(tmp_path, range(13, 18), save_every=5, keep=9)
        state = TrainState.from_dict(checkpoint.read_json(source / checkpoint.STATE))
        checkpoint.load_weights(source, job.model)
        checkpoint.load_moments(source, job.optimizer)
        job.optimizer.updates, job.origin = state.updates, source
        train(job, state)
        assert job.model.params.flat.tobytes() == straight.model.params.flat.tobytes(), step
        assert state.position == 28


def test_a_branch_without_a_checkpoint_of_its_own_goes_back_to_where_it_began(tmp_path):
    first = poisoned_run(tmp_path, (), save_every=10, max_steps=10)
    train(first)
    job, source = poisoned_run(tmp_path, range(13, 18)), checkpoint.find_checkpoint(first.run)
    checkpoint.load_weights(source, job.model)
    checkpoint.load_moments(source, job.optimizer)
    job.optimizer.updates, job.origin = 10, source
    _, state = train(job, TrainState.from_dict(checkpoint.read_json(source / checkpoint.STATE)))
    assert [line["to"] for line in run_events(job, "rollback")] == [10] and state.updates == state.step == 20


def test_a_branch_whose_origin_was_damaged_ends_with_the_diagnosis(tmp_path):
    first = poisoned_run(tmp_path, (), save_every=10, max_steps=10)
    train(first)
    job, source = poisoned_run(tmp_path, range(13, 18)), find_checkpoint(first.run)
    checkpoint.load_weights(source, job.model)
    checkpoint.load_moments(source, job.optimizer)
    job.optimizer.updates, job.origin = 10, source
    state = TrainState.from_dict(checkpoint.read_json(source / checkpoint.STATE))
    (source / "model.safetensors").write_bytes(b"half")
    with pytest.raises(DivergedError) as error:
        train(job, state)
    text = str(error.value)
    assert "training diverges: 5 steps in a row without finite numbers, up to step 18" in text
    assert "cannot go back: " in text and "model.safetensors" in text and "lower --lr" in text
    assert f"step 18 is saved in {job.run}" in text and find_checkpoint(job.run).name == "step_00000018"


def test_weights_that_cannot_be_read_back_are_told_with_the_diagnosis_and_not_saved(tmp_path, monkeypatch):
    def broken(*_):
        raise CheckpointError("the disk is gone")

    job = poisoned_run(tmp_path, range(13, 18), save_every=10)
    monkeypatch.setattr(checkpoint, "load_moments", broken)
    with pytest.raises(CheckpointError, match=r"training diverges: .*up to step 18.*the disk is gone.*--lr"):
        train(job)
    assert [step for step, _ in checkpoints(job.run)] == [10]


def test_what_a_run_left_behind_by_going_back_is_not_its_newest(tmp_path):
    """A stop between skipped steps leaves a checkpoint; the run goes on from it and then back before it."""
    job = poisoned_run(tmp_path, range(13, 18), save_every=10, keep=9, max_steps=15)
    train(job)
    assert [step for step, _ in checkpoints(job.run)] == [15, 10], "one of two skipped steps"
    config = make_config(eval_every=0, sample_every=0, max_steps=30)
    again = make_job(job.run, config, Poisoned(range(13, 18)))
    again.model.source, source = again.source, job.run / "step_00000015"
    checkpoint.load_weights(source, again.model)
    checkpoint.load_moments(source, again.optimizer)
    state = TrainState.from_dict(checkpoint.read_json(source / checkpoint.STATE))
    again.optimizer.updates, again.origin = state.updates, source
    kept, batch = [], again.source.batch

    def watching(index):
        kept.append([step for step, _ in checkpoints(job.run)])
        return batch(index)

    again.source.batch = watching
    train(again, state)
    assert kept[:4] == [[15, 10]] * 3 + [[10]], "gone as soon as the run is back at 10"


def test_a_checkpoint_of_the_left_history_that_cannot_go_is_told(tmp_path, monkeypatch):
    job = poisoned_run(tmp_path, range(13, 18), save_every=10, keep=9)
    said = []
    job.tell.add(lambda event: said.append(event.told()))
    (job.run / "step_00000099").mkdir()

    def refusing(path):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(durable, "remove_directory", refusing)
    _, state = train(job)
    assert state.step == 20 and sum("step_00000099" in line and "Read-only" in line for line in said) == 1


def test_without_a_checkpoint_nothing_is_removed_by_beginning_again(tmp_path):
    """What cannot be read now may be readable later."""
    job = poisoned_run(tmp_path, range(3, 8))
    (job.run / "step_00000099").mkdir()
    train(job)
    assert (job.run / "step_00000099").is_dir()


def test_without_a_checkpoint_a_run_begins_again(tmp_path):
    job = poisoned_run(tmp_path, range(3, 8))
    _, state = train(job)
    assert state.step == state.updates == 20 and state.position == 28
    assert [line["to"] for line in run_events(job, "rollback")] == [0]
    other = poisoned_run(tmp_path, ())
    state = TrainState(position=8)
    train(other, state)
    assert other.model.params.flat.tobytes() == job.model.params.flat.tobytes()


def test_a_weight_that_went_bad_in_memory_is_healed(tmp_path):
    job = new_run(tmp_path, max_steps=20, save_every=4)
    batch = job.source.batch

    def spoil(index):
        if index == 6:
            job.model.params.flat[3] = np.nan
        return batch(index)

    job.source.batch = spoil
    _, state = train(job)
    assert state.step == 20 and [line["to"] for line in run_events(job, "rollback")] == [4]
    assert run_events(job, "skip")[0]["step"] == 7


def test_bad_moments_are_not_saved_but_sent_back(tmp_path):
    job = new_run(tmp_path, max_steps=20, save_every=4)
    batch = job.source.batch

    def spoil(index):
        if index == 7:
            job.optimizer.slots["m2"].flat[-1] = np.inf
        return batch(index)

    job.source.batch = spoil
    train(job)
    (back,) = run_events(job, "rollback")
    assert (back["step"], back["to"]) == (8, 4) and "m2 are not finite" in back["why"]
    assert np.isfinite(job.optimizer.slots["m2"].flat).all()


@pytest.mark.parametrize("save_every", [0, 2])
def test_three_returns_are_enough_and_a_good_checkpoint_is_left(tmp_path, save_every):
    job = poisoned_run(tmp_path, range(3, 999), save_every=save_every)
    good = 2 if save_every else 0
    with pytest.raises(DivergedError) as error:
        train(job)
    assert len(job.source.asked) == 3 + MOST_BAD_STEPS + MOST_ROLLBACKS * MOST_BAD_STEPS
    text = str(error.value)
    assert "\n" not in text and f"up to step {good + 5}, with micro-batches 18 to 22" in text
    assert f"going back to step {good} was tried 3 times" in text
    assert "lower --lr (now 0.05)" in text
    newest = checkpoint.find_checkpoint(job.run)
    assert newest.name == f"step_0000000{good}" and len(run_events(job, "rollback")) == MOST_ROLLBACKS + 1


def test_progress_past_a_new_checkpoint_gives_new_tries(tmp_path):
    bad = [*range(3, 8), *range(13, 18), *range(23, 28), *range(33, 38), *range(43, 48)]
    job = poisoned_run(tmp_path, bad, save_every=2, max_steps=40)
    _, state = train(job)
    assert state.step == 40 and len(run_events(job, "rollback")) == 5 and state.setbacks.rollbacks == 1
