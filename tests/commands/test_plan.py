"""`microgpt plan` and `train --dry-run`: all that comes before the first step, and nothing after."""

import json
import math
import re
from pathlib import Path

import pytest

from microgpt.commands import plan, prepare, train
from microgpt.common.errors import ConfigError
from microgpt.model import ModelConfig, count_parameters
from microgpt.planning import outline, rehearsal
from microgpt.planning.choice import Measured
from microgpt.training import assemble, loop
from microgpt.training.horizon import Timing
from microgpt.training.stop import StopFlag

TEXT = "".join(f"Hat {n} costs {7 * n % 31} coins, not {n + 1}.\n\n" for n in range(400))
SMALL = ["--preset", "tiny", "--n-layer", "1", "--seq-len", "32", "--merges", "20", "--data", "text.txt"]
SMALL += ["--threads", "1", "--eval-tokens", "64"]


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT)


def test_a_plan_tells_counts_tokens_passes_memory_and_time(capsys, monkeypatch):
    monkeypatch.setattr(outline, "product_flop_per_s", lambda precision, threads: 1.0)  # on a busy machine
    assert plan.main([*SMALL, "--epochs", "3", "--batch-size", "4"]) == 0
    out = capsys.readouterr().out
    n = count_parameters(ModelConfig.from_preset("tiny", 281, n_layer=1, seq_len=32))
    assert f"params   {n:,}; " in out and "tiny: 1 layer, " in out
    assert ", 3.0" in out and "passes over the corpus" in out and "warning" not in out
    assert "published optimum 20" in out and "fewer than 40M" in out
    assert "tokens a second, " in out and "GFLOP/s, 100% of what products reach" in out
    assert "activations" in out and "a checkpoint, 4 at once" in out
    assert max(map(len, out.splitlines())) <= 110
    assert not Path("runs").exists()


def test_more_than_four_passes_are_warned_of(capsys):
    plan.main([*SMALL, "--epochs", "4.6"])
    assert "warning  the same text comes 5 times" in capsys.readouterr().out


def test_sizes_stand_side_by_side(capsys):
    assert plan.main([*SMALL, "--compare", "tiny", "1m", "--tokens", "20k"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["tiny", "1m"] and any(line.startswith("a step ") for line in lines)
    steps = next(line for line in lines if line.startswith("steps"))
    assert steps.split()[1:] == ["79", "79"], "a length in tokens is as long for each"


def test_the_plan_of_a_time_has_the_steps_that_fit(capsys, monkeypatch):
    real, steps = rehearsal.settle_threads, []
    monkeypatch.setattr(rehearsal, "settle_threads", lambda *args: steps.append(args[1]) or real(*args))
    plan.main([*SMALL, "--max-time", "20s", "--json"])
    found = json.loads(capsys.readouterr().out)[0]
    assert steps == [math.inf], "how many is not known when threads are chosen"
    assert found["steps"] * found["step_s"] < 20 and 10 < found["run_s"] <= 20
    assert found["memory_bytes"]["total"] > 6e7


def test_a_plan_that_is_not_to_be_timed_is_counted_alone(capsys, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a step was timed")

    monkeypatch.setattr(rehearsal.assemble, "measured", refuse)
    monkeypatch.setattr(rehearsal, "settle_threads", refuse)
    assert plan.main([*SMALL, "--max-steps", "7", "--untimed"]) == 0
    out = capsys.readouterr().out
    assert "length   7 steps" in out and "memory " in out and "a second" not in out and "time  " not in out
    assert plan.main([*SMALL, "--compare", "tiny", "1m", "--tokens", "20k", "--untimed"]) == 0
    *_, last = capsys.readouterr().out.splitlines()
    assert last.split() == ["the", "run", "not", "timed", "not", "timed"]
    assert plan.main([*SMALL, "--max-steps", "7", "--untimed", "--json"]) == 0
    assert "step_s" not in json.loads(capsys.readouterr().out)[0]
    with pytest.raises(ConfigError, match="--untimed: "):
        plan.main([*SMALL, "--budget", "1m", "--untimed"])
    for module in (outline, rehearsal):
        monkeypatch.setattr(module, "available_memory", lambda: 115e6)
    assert plan.main([*SMALL, "--batch-size", "512", "--untimed"]) == 1


def test_a_file_that_it_would_not_write_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="give --write-spec to train"):
        plan.main([*SMALL, "--write-spec", str(tmp_path / "run.toml")])


def test_what_does_not_fit_is_told_with_what_would_and_not_timed(capsys, monkeypatch):
    for module in (outline, rehearsal):
        monkeypatch.setattr(module, "available_memory", lambda: 115e6)
    assert plan.main([*SMALL, "--batch-size", "512"]) == 1
    out = capsys.readouterr().out
    assert "it does not fit; --batch-size " in out and "--grad-accum" in out and "a second" not in out


def test_the_best_preset_of_a_budget_is_told_or_that_it_is_not_known(capsys, monkeypatch):
    rows = [Measured("smalltalk", "tiny", 39_000, n, bpb) for n, bpb in ((10, 3.0), (10**12, 1.0))]
    monkeypatch.setattr(plan, "measured", lambda: rows)
    assert plan.main([*SMALL, "--budget", "1m", "--like", "smalltalk"]) == 0
    out = capsys.readouterr().out
    assert "tiny ends lowest" in out
    floors = [
        float(n)
        for n in re.search(r"uniform (\S+), unigram (\S+), bigram (\S+), 5-gram (\S+) bits", out).groups()
    ]
    assert 8 > floors[0] > floors[1] > max(floors[2:]) > 0.3
    assert plan.main([*SMALL, "--budget", "1m"]) == 0
    assert "of such text no runs were measured" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="--memory alone"):
        plan.main([*SMALL, "--memory", "8GB"])
    with pytest.raises(ConfigError, match="leave other lengths out"):
        plan.main([*SMALL, "--budget", "1m", "--epochs", "2"])
    with pytest.raises(ConfigError, match="--budget 'soon'"):
        plan.main([*SMALL, "--budget", "soon"])


def test_a_plan_is_made_of_a_file_of_settings(capsys):
    train.main([*SMALL, "--max-steps", "7", "--batch-size", "3", "--write-spec", "run.toml"])
    plan.main(["--spec", "run.toml"])
    assert "7 steps of 96 tokens" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="leave --resume out"):
        plan.main(["--resume"])


def test_settings_of_a_corpus_that_is_prepared_already_are_refused_as_by_train():
    prepare.main(["text.txt", "--out-dir", "made"])
    for flags in (["--merges", "50"], ["--held-out-share", "0.3"]):
        words = ["--preset", "tiny", "--data", "made", "--max-steps", "2", *flags]
        said = []
        for main, more in ((train.main, []), (train.main, ["--dry-run"]), (plan.main, [])):
            with pytest.raises(ConfigError, match=rf"{flags[0]}: .*/made is prepared already") as caught:
                main([*words, *more])
            said.append(str(caught.value))
        assert len(set(said)) == 1


def test_a_dry_run_plans_and_probes_and_ends(capsys, monkeypatch):
    assert train.main([*SMALL, "--dry-run", "--max-steps", "5"]) == 0
    out = capsys.readouterr().out
    assert "5 steps of" in out and "ok   causality" in out and "ok   gradient" in out
    assert not Path("runs").exists()
    monkeypatch.setattr(
        "microgpt.evaluation.probes.targets", lambda batch: rehearsal.Finding("x", False, "bad")
    )
    assert train.main([*SMALL, "--dry-run", "--max-steps", "5"]) == 1
    with pytest.raises(ConfigError, match="--dry-run is for a new run"):
        train.main(["--resume", "--dry-run"])


def test_of_a_run_that_ends_early_the_time_that_was_told_for_all_its_steps_is_told_again(capsys, monkeypatch):
    monkeypatch.setattr(assemble, "measure", lambda *_: Timing(1.0, 1.0, 0.0, 0.0))
    more = ["--max-steps", "400", "--eval-every", "0", "--sample-every", "0", "--save-every", "0"]
    stop, take_step = StopFlag(), loop.take_step
    monkeypatch.setattr(train, "StopFlag", lambda: stop)
    monkeypatch.setattr(
        loop,
        "take_step",
        lambda job, state, *how: take_step(job, state, *how) or state.step < 9 or stop.request(),
    )
    train.main([*SMALL, *more])
    out = capsys.readouterr().out
    assert "time     about 13m20s, 2.0s a step" in out
    assert ", estimated 18s before the first step (13m20s for the 400 that were planned)" in out


def test_a_run_says_how_long_it_will_take_and_afterwards_how_that_was(capsys):
    more = ["--max-steps", "300", "--eval-every", "0", "--sample-every", "0", "--batch-size", "1"]
    train.main([*SMALL, *more, "--out-dir", "a"])
    out = capsys.readouterr().out
    assert "time     about " in out and " a step; evaluations, samples and saves included" in out
    assert " before the first step" in out and ", estimated " in out
    train.main([*SMALL, *more[2:], "--max-steps", "299", "--out-dir", "b"])
    assert "estimated" in capsys.readouterr().out.split("memory ")[-1], "memory, as always"
