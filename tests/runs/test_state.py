"""Where a run stands: what state.json may say of it."""

import pytest

from microgpt.common.errors import CheckpointError
from microgpt.runs.guard import MOST_BAD_STEPS
from microgpt.runs.state import TrainState


def values(place, value):
    """A fresh state as state.json has it, with one value changed."""
    document = TrainState().to_dict()
    *parts, name = place.split(".")
    inner = document
    for part in parts:
        inner = inner[part]
    assert name in inner
    inner[name] = value
    return document


@pytest.mark.parametrize(
    "place",
    [
        "step",
        "updates",
        "position",
        "tokens",
        "metrics_bytes",
        "setbacks.bad_steps",
        "setbacks.since",
        "setbacks.rollbacks",
        "watch.quiet_until",
        "watch.loss.n",
    ],
)
def test_a_negative_count_is_refused_by_name(place):
    with pytest.raises(CheckpointError, match=rf"{place} is -1, expected 0 or more"):
        TrainState.from_dict(values(place, -1))


@pytest.mark.parametrize("place", ["elapsed_s", "watch.loss.variance", "watch.grad_norm.variance"])
def test_a_negative_time_or_variance_is_refused_by_name(place):
    with pytest.raises(CheckpointError, match=rf"{place} is -0\.5, expected 0 or more"):
        TrainState.from_dict(values(place, -0.5))


@pytest.mark.parametrize("place", ["evaluated_at", "sampled_at", "setbacks.went_to"])
def test_what_never_happened_is_at_step_minus_one_and_not_before(place):
    assert TrainState.from_dict(values(place, -1)) == TrainState()
    with pytest.raises(CheckpointError, match=rf"{place} is -2, expected -1 or more"):
        TrainState.from_dict(values(place, -2))


@pytest.mark.parametrize(
    "name, bad",
    [
        ("val_step", "7"),
        ("val_step", 7.5),
        ("val_step", True),
        ("val_bpb", "good"),
        ("val_loss", None),
        ("val_loss", [1.0]),
        ("val_s", "soon"),
        ("loss", {}),
        ("lr", False),
        ("val_bpb", 10**400),
    ],
)
def test_a_metric_that_is_no_number_is_refused_by_name(name, bad):
    with pytest.raises(CheckpointError, match=rf"state\.json: metrics\.{name} is ") as error:
        TrainState.from_dict(values("metrics", {name: bad}))
    assert "\n" not in str(error.value) and len(str(error.value)) < 200


def test_metrics_may_be_whole_or_no_numbers():
    metrics = {"val_loss": 2, "val_bpb": "nan", "loss": "inf", "val_step": 3}
    assert TrainState.from_dict(values("metrics", metrics)).metrics == metrics


def test_every_state_of_a_run_comes_back():
    state = TrainState(step=7, updates=3, metrics={"val_loss": -1.0})
    state.watch.loss.add(-2.0)
    for _ in range(MOST_BAD_STEPS):
        state.setbacks.skipped(11)
    assert TrainState.from_dict(state.to_dict()) == state
