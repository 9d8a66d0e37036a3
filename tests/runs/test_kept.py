"""What a name means, and which of a run's checkpoints is the best."""

import pytest

from microgpt.common.errors import CheckpointError
from microgpt.runs.checkpoint import Snapshot, persist
from microgpt.runs.kept import best_of, better_than, find_checkpoint, kept, place_of
from microgpt.runs.layout import checkpoints
from microgpt.runs.state import TrainState
from microgpt.training.adam import Adam
from tests.training.fakes import FakeModel, FakeTokenizer, make_config


def save(run, losses, keep=9):
    """Checkpoints of a run.  losses: by step, the held-out loss and the step at which it was measured."""
    run.mkdir(parents=True, exist_ok=True)
    model = FakeModel()
    snapshot = Snapshot(model, Adam(model, make_config()), FakeTokenizer())
    for step, (loss, measured_at) in losses.items():
        metrics = {} if loss is None else {"val_loss": loss, "val_bpb": loss / 2, "val_step": measured_at}
        persist(snapshot.fill({}, TrainState(step=step, metrics=metrics).to_dict()), run, keep)
    return run


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The folder of a run, runs/a, that got worse after step 20."""
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "runs" / "a", {10: (2.5, 10), 20: (2.0, 20), 30: (2.2, 30)})
    return tmp_path


@pytest.mark.parametrize(
    "name, place",
    {
        "runs/a": "runs/a",
        "a": "runs/a",
        "a/": "runs/a",
        "a/step_00000010": "runs/a/step_00000010",
        "a@best": "runs/a/step_00000020",
        "runs/a@best": "runs/a/step_00000020",
        "@best": "runs/a/step_00000020",
        "a@newest": "runs/a/step_00000030",
        "@10": "runs/a/step_00000010",
        "a@00,010": "runs/a/step_00000010",
    }.items(),
)
def test_a_name_is_a_path_or_of_a_run_or_chooses_a_checkpoint(here, name, place):
    assert str(place_of(name)) == place
    if "step" in place:
        assert str(find_checkpoint(name)) == place
    absolute = str(here / "runs" / "a")
    assert place_of(f"{absolute}@best") == here / "runs" / "a" / "step_00000020"


def test_a_path_comes_first_unless_only_the_run_holds_a_model(here):
    (here / "a").mkdir()
    assert str(place_of("a")) == "runs/a", "a folder of texts, say"
    save(here / "a", {5: (3.0, 5)})
    assert str(place_of("a")) == "a" and str(place_of("a@best")) == "a/step_00000005"
    save(here / "runs" / "b@10", {7: (3.0, 7)})
    assert str(place_of("b@10")) == "runs/b@10" and find_checkpoint("b@10@7").name == "step_00000007"


@pytest.mark.parametrize(
    "name, words",
    {
        "a@15": r"runs/a@15: no checkpoint of step 15; kept are @30, @20 \(best\), @10$",
        "a@last": r"expected @best, @newest or @STEP; kept are @30",
        "a@": "expected @best",
        "b": r"b: no such directory; expected a run \(runs/NAME\) or its checkpoint; `microgpt runs` lists",
        "b@best": "b: no such directory",
        "a/step_00000010@best": "a checkpoint already; leave @best out",
        "u@best": "none of its checkpoints was measured on held-out text; kept are @4$",
        "runs": "runs: no checkpoint in it",
    }.items(),
)
def test_a_name_that_means_nothing_is_told_with_what_there_is(here, name, words):
    save(here / "runs" / "u", {4: (None, 0)})
    with pytest.raises(CheckpointError, match=words) as error:
        find_checkpoint(name)
    assert "\n" not in str(error.value)


def test_the_best_was_measured_at_its_own_step(here):
    run = save(here / "runs" / "b", {10: (2.0, 10), 20: (1.0, 15), 30: (2.0, 30)})
    assert best_of(kept(run)).step == 10 and best_of([]) is None


def test_what_is_better_than_a_checkpoint(here):
    run = here / "runs" / "a"
    better = {step: one and one.step for step, path in checkpoints(run) for one in [better_than(path)]}
    assert better == {30: 20, 20: None, 10: 20}
    stopped = save(here / "runs" / "b", {20: (2.0, 20), 25: (2.0, 20), 35: (2.2, 30)})
    assert better_than(stopped / "step_00000025") is None, "as measured last it is as good"
    assert better_than(stopped / "step_00000035").step == 20
    assert better_than(save(here / "runs" / "c", {1: (None, 0)}) / "step_00000001") is None


@pytest.mark.parametrize("last, step", [(2.021, 20), (2.019, 30), (1.9, 30)])
def test_a_model_to_talk_to_is_the_newest_unless_it_is_clearly_worse(here, last, step):
    run = save(here / "runs" / "b", {20: (2.0, 20), 30: (last, 30)})
    assert find_checkpoint(run, best=True).name == f"step_000000{step}"
    assert find_checkpoint(run).name == "step_00000030"


def test_a_damaged_best_is_passed_over_and_told(here):
    best, said = here / "runs" / "a" / "step_00000020", []
    data = (best / "model.safetensors").read_bytes()
    (best / "model.safetensors").write_bytes(data[:-1] + b"\1")
    assert find_checkpoint("a", say=said.append, best=True).name == "step_00000030"
    assert len(said) == 1 and "skipping the best checkpoint" in said[0]
    with pytest.raises(CheckpointError, match="damaged or changed"):
        find_checkpoint("a@best")


def test_the_best_outlives_all_later_saves_until_a_better_one_is_there(tmp_path):
    run = save(tmp_path / "r", {10: (2.0, 10)})
    save(run, {step: (2.0 + step / 100, step) for step in range(20, 80, 10)}, keep=1)
    assert [step for step, _ in checkpoints(run)] == [70, 10]
    save(run, {80: (1.9, 75)}, keep=1)
    assert [step for step, _ in checkpoints(run)] == [80, 10], "not known to be better"
    save(run, {90: (1.9, 90)}, keep=1)
    assert [step for step, _ in checkpoints(run)] == [90]


def test_a_state_with_foreign_metrics_is_no_trouble(here):
    for metrics in ({"val_loss": "nan", "val_step": 30}, [], "x"):
        one = kept(here / "runs" / "a")[0]._replace(state={"step": 30, "metrics": metrics})
        assert best_of([one]) is one.last_loss is one.last_bpb is None
