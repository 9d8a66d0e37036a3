"""What a run wrote down is read as it is meant: units, going back, what is being written."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from microgpt.common.errors import CheckpointError
from microgpt.evaluation.loss import half_width
from microgpt.reporting.history import History, read_history, run_named, smoothed, state_of
from microgpt.runs import events as kinds
from microgpt.runs.layout import RunDirectory
from tests.reporting.fakes import MACHINE, evaluated, start, trained, went_back, write_log

ROOT = Path(__file__).parents[2]


def test_series_have_what_was_logged_and_tokens_at_evaluations_lie_between(tmp_path):
    history = read_history(write_log(tmp_path / "a"))
    assert history.trained["step"].tolist() == [1, *range(10, 301, 10)]
    assert history.trained["tokens"][-1] == 300_000 and history.tokens == 300_000
    assert history.evaluated["step"].tolist() == [0, 50, 100, 150, 200, 250, 300]
    assert history.evaluated["tokens"].tolist() == [1000 * n for n in history.evaluated["step"]]
    assert history.held_out.half_width[3] == pytest.approx(half_width(0.02, 50))
    assert (history.step, history.max_steps, history.elapsed_s) == (300, 300, 18.0)
    between = read_history(write_log(tmp_path / "b", [start(), trained(10), evaluated(15)]))
    assert between.tokens == 15_000, "of steps that were not logged, too"


def test_the_peak_is_of_the_last_session_or_its_fastest_step(tmp_path):
    """Other work may have been on the CPUs when it was measured."""
    slow, fast = ({**MACHINE, "peak_flop_per_s": peak} for peak in (6e10, 6e12))
    begun = [kinds.Started(0, n_params=9, max_steps=30, **fast), trained(10)]
    history = read_history(write_log(tmp_path / "a", begun))
    assert history.peak_tok_per_s == 1e6
    resumed = [*begun, kinds.Resumed(10, n_params=9, max_steps=30, **slow), trained(20), trained(23)]
    assert read_history(write_log(tmp_path / "b", resumed)).peak_tok_per_s == 17_006


def test_what_came_before_going_back_is_left_out(tmp_path):
    found = [start(), evaluated(0), trained(10), trained(20, 9.0), evaluated(20, 9.0), went_back(21, 10)]
    history = read_history(write_log(tmp_path / "a", [*found, trained(20, 3.0)]))
    assert history.trained["step"].tolist() == [10, 20] and history.trained["loss_nats"][-1] == 3.0
    assert history.evaluated["step"].tolist() == [0] and len(history.of("rollback")) == 1


def test_the_line_that_is_being_written_is_left_for_later_and_a_damaged_one_is_named(tmp_path):
    run = write_log(tmp_path / "a")
    n = len(read_history(run).events)
    with open(run / "metrics.jsonl", "ab") as log:
        log.write(b'{"event": "train", "st')
    assert len(read_history(run).events) == n
    with open(run / "metrics.jsonl", "ab") as log:
        log.write(b"\n")
    with pytest.raises(CheckpointError, match=f"line {n + 1}"):
        read_history(run)


def test_what_is_no_log_and_numbers_that_are_none(tmp_path):
    with pytest.raises(CheckpointError, match="no log of a run"):
        read_history(tmp_path)
    with pytest.raises(CheckpointError, match="tells of no session"):
        read_history(write_log(tmp_path / "old", [trained(1)]))
    found = [start(), evaluated(0, float("nan"), None), trained(1, float("inf"))]
    history = read_history(write_log(tmp_path / "a", found))
    assert np.isnan(history.evaluated["loss_nats"][0]) and np.isnan(history.held_out.half_width[0])
    assert np.isinf(history.trained["loss_nats"][0]) and history.near_the_end is None


@pytest.mark.parametrize(
    "losses, near",
    [([5, 2, 1.009, 1.0], 20), ([5, 1.0, 1.2, 1.0], 30), ([1.0, 1.0], 0), ([3.0], None), ([5, 4, 3], 20)],
)
def test_the_step_from_which_on_little_was_gained(losses, near):
    found = [evaluated(10 * n, float(loss)) for n, loss in enumerate(losses)]
    plain = [{"event": "eval", "step": event.step, **event.values()} for event in found]
    assert History("a", [{"event": "start", "step": 0}, *plain]).near_the_end == near


def test_means_are_of_each_value_and_those_before_it_without_what_is_no_number():
    values = np.array([1.0, 2.0, np.nan, 6.0, np.inf, 8.0])
    assert smoothed(values, 2).tolist() == [1.0, 1.5, 2.0, 6.0, 6.0, 8.0]
    assert smoothed(values, 100)[-1] == pytest.approx(17 / 4) and not len(smoothed(values[:0], 3))


def test_the_run_that_wrote_last_is_meant_where_none_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="no run under runs/"):
        run_named(None)
    for name in ("b", "a"):
        write_log(Path("runs", name))
    (Path("runs") / "c").mkdir()
    assert run_named(None).name in ("a", "b") and run_named("b") == run_named("runs/b") == Path("runs/b")


def test_a_run_is_running_finished_or_stopped(tmp_path):
    done, half = (
        write_log(tmp_path / name, [start(), trained(step)]) for name, step in (("a", 300), ("b", 9))
    )
    assert state_of(done, read_history(done)) == "finished"
    assert state_of(half, read_history(half)) == "stopped"
    with RunDirectory(half):
        assert state_of(half, read_history(half)) == "running"


def test_the_readme_has_every_key_of_every_event():
    rows = re.findall(
        r"^\| (`.*?`) \| [^|]* \| (.*) \|$", (ROOT / "README.md").read_text(encoding="utf-8"), re.M
    )
    told = {
        name: set(re.findall(r"`(\w+)`", keys))
        for names, keys in rows
        for name in re.findall(r"`(\w+)`", names)
    }
    logged = [
        kind for kind in vars(kinds).values() if isinstance(kind, type) and issubclass(kind, kinds.Event)
    ]
    for kind in logged:
        if kind.name:
            fields = dataclasses.fields(kind)
            keys = {field.name for field in fields if field.metadata.get("is_logged", True)} - {
                "step",
                "machine",
            }
            assert keys <= told[kind.name], kind.name
