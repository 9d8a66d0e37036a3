"""A run that is resumed: for longer, from another checkpoint, by its name; and what is refused then."""

import re
import shutil
from pathlib import Path

import pytest

from microgpt.commands import train
from microgpt.common.errors import MicrogptError
from microgpt.common.words import command_line
from microgpt.evaluation.loss import Evaluation
from microgpt.runs.metrics import read_metrics
from microgpt.training import assemble, loop, run
from tests.commands.train.toys import SMALL, TEXT, new, tensors
from tests.training.fakes import FakeTime


def test_a_contradiction_is_told_as_typed_and_before_threads_are_tried(monkeypatch):
    assert new("--max-steps", "1") == 0
    monkeypatch.setattr(run, "settle_threads", lambda *_: pytest.fail("threads were tried"))
    with pytest.raises(MicrogptError) as error:
        train.main(["--resume", "runs/a", "--max-steps", "2", "--text-documents", "file"])
    assert "resumed with --text-documents file (the run has paragraphs);" in str(error.value)
    Path("text.txt").write_text(TEXT * 2)
    with pytest.raises(MicrogptError, match="corpus was"):
        train.main(["--resume", "runs/a", "--max-steps", "2"])


def test_resume_without_a_path_takes_the_newest_run_and_a_finished_one_says_so(capfd):
    new("--max-steps", "3", out="runs/a")
    new("--max-steps", "3", out="runs/b")
    assert train.main(["--resume"]) == 0
    err = capfd.readouterr().err
    assert "runs/b is finished: 3 steps are done; to train on" in err
    assert "no run was named: runs/b is the one that saved last, 20" in err
    train.main(["--resume", "b"])
    assert "no run was named" not in capfd.readouterr().err


def rates(run):
    lines = read_metrics(Path(run, "metrics.jsonl"))
    return {line["step"]: line["lr"] for line in lines if line["event"] == "train"}


LONGER = ["--recipe", "road", "--lr", "0.01", "--log-every", "1", "--eval-every", "0", "--sample-every", "0"]


def test_a_finished_run_trains_on_without_a_leap_of_its_rate_and_says_how(capfd):
    new(*LONGER, "--max-steps", "60")
    capfd.readouterr()
    assert train.main(["--resume", "runs/a", "--max-steps", "140"]) == 0
    told = capfd.readouterr().err
    found = rates("runs/a")
    assert abs(found[61] - found[60]) < 0.0004 and max(found[n] for n in range(61, 141)) <= 0.003
    assert f"{found[140]:.2g}" == "0.001" and found[80] > 2 * found[60]
    assert "140 steps instead of 60; the learning rate goes from 0.001 up to 0.003 over 30 steps" in told
    assert ", then down to 0.001 at step 140" in told


def test_a_finished_run_trains_on_for_a_time_and_its_advice_is_right(capfd, monkeypatch):
    new(*LONGER, "--max-steps", "60")
    capfd.readouterr()
    assert train.main(["--resume", "runs/a"]) == 0
    advice = capfd.readouterr().err
    line = command_line("train", "--resume", "runs/a")
    assert "runs/a is finished: 60 steps are done" in advice
    assert f"{line} --max-time 20m, or --max-steps 120" in advice
    monkeypatch.setattr(assemble, "planned_steps", lambda *_: 80)
    monkeypatch.setattr(loop, "is_quarter", lambda *_: False)  # the plan stays
    assert train.main(["--resume", "runs/a", "--max-time", "20m"], now=FakeTime(tick=0.5)) == 0
    out, err = capfd.readouterr()
    assert "the run now has 140 steps instead of 60" in err and "finished: 80 steps" in out
    train.main(["--resume", "runs/a/step_00000060", "--out-dir", "runs/b", "--max-steps", "140"])
    assert tensors("runs/a/step_00000140") == tensors("runs/b/step_00000140"), "measuring changes nothing"
    assert train.main(["--resume", "runs/b", "--max-steps", "140"]) == 0
    assert "runs/b is finished: 140 steps" in capfd.readouterr().err


def test_a_run_that_trains_on_is_resumed_to_the_last_bit():
    new(*LONGER, "--max-steps", "60")
    train.main(["--resume", "runs/a", "--max-steps", "140", "--save-every", "50", "--keep", "9"])
    shutil.copytree("runs/a/step_00000100", "runs/b/step_00000100")
    train.main(["--resume", "runs/b"])
    assert tensors("runs/b/step_00000140") == tensors("runs/a/step_00000140")


def test_a_finished_run_that_is_to_branch_off_is_named_with_a_command_that_every_command_may_say(capfd):
    """The quickstart goes on with its run by `train`, but has not all its flags."""
    assert new("--max-steps", "3", "--eval-every", "0") == 0
    assert train.main(["--resume", "runs/a", "--max-steps", "3", "--out-dir", "runs/b"]) == 0
    said = capfd.readouterr().err
    assert "runs/a is finished: 3 steps" in said and "runs/b" not in said and not Path("runs/b").exists()
    assert command_line("train", "--resume", "runs/a") + " --max-time 20m, or --max-steps 6" in said


def test_a_run_can_branch_off_an_older_checkpoint(capfd):
    new("--max-steps", "6", "--save-every", "2", "--keep", "9")
    with pytest.raises(MicrogptError, match="already went on to step_00000006"):
        train.main(["--resume", "runs/a/step_00000002"])
    train.main(["--resume", "runs/a/step_00000002", "--out-dir", "runs/b"])
    assert tensors("runs/a/step_00000006") == tensors("runs/b/step_00000006")
    steps = [line["step"] for line in read_metrics(Path("runs/b/metrics.jsonl")) if line["event"] == "eval"]
    assert steps == [0, 4, 6]


def test_a_time_into_which_no_step_fits_is_told_and_does_nothing(capfd, monkeypatch):
    new("--max-steps", "4", "--save-every", "2")
    branch = ["--resume", "runs/a/step_00000002", "--out-dir", "runs/c", "--max-steps", "9000"]
    assert train.main([*branch, "--max-time", "1h"], now=FakeTime(tick=60)) == 0
    before = Path("runs/c/metrics.jsonl").read_text().count('"eval"')
    monkeypatch.setattr(assemble, "measure", None)  # it is not worth it
    capfd.readouterr()
    assert train.main(["--resume", "runs/c", "--max-time", "3s"], now=FakeTime(tick=0.5)) == 1
    assert "warning  no step fits into --max-time 3s; give more time" in capfd.readouterr().out
    assert Path("runs/c/metrics.jsonl").read_text().count('"eval"') == before, "it takes no time to evaluate"


def test_a_branch_that_ends_at_once_has_its_own_checkpoint():
    new("--max-steps", "4", "--save-every", "2")
    train.main(
        ["--resume", "runs/a/step_00000002", "--out-dir", "runs/b", "--max-time", "1s"], now=FakeTime(tick=1)
    )
    assert tensors("runs/a/step_00000002") == tensors("runs/b/step_00000002")
    events = [line["event"] for line in read_metrics(Path("runs/b/metrics.jsonl"))]
    assert events.count("start") == events.count("resume") == 1


def test_a_resume_cannot_plan_its_steps_anew():
    new("--max-time", "4s", "--sample-every", "0", "--eval-every", "0", now=FakeTime(tick=0.001))
    with pytest.raises(MicrogptError, match="--max-steps 0"):
        train.main(["--resume", "runs/a", "--max-steps", "0"])


def test_resume_skips_a_damaged_checkpoint_and_says_why(capfd):
    new("--max-steps", "6", "--save-every", "2")
    good = tensors("runs/a/step_00000006")
    Path("runs/a/step_00000006/optimizer.safetensors").write_bytes(b"nothing")
    train.main(["--resume", "runs/a"])
    err = capfd.readouterr().err
    assert "skipping a checkpoint: " in err and "going on from runs/a/step_00000004" in err
    assert tensors("runs/a/step_00000006") == good


CONTRADICTIONS = (
    "--lr 0.5",
    "--batch-size 9",
    "--preset 10m",
    "--n-embd 64",
    "--held-out-share 0.5",
    "--bad-lines skip",
    "--packing documents",
    "--merges 21",
    "--seed 4",
    "--seed 4 --beta1 0.5",
)


def test_resume_refuses_flags_that_contradict_the_run_by_name():
    new("--max-steps", "2")
    for flags in CONTRADICTIONS:
        with pytest.raises(MicrogptError) as error:
            train.main(["--resume", "runs/a", "--max-steps", "4", *flags.split()])
        assert all(flag in str(error.value) for flag in re.findall("--[a-z0-9-]+", flags)), flags
    assert train.main(["--resume", "runs/a", *SMALL, "--data", "text.txt", "--max-steps", "3"]) == 0


def test_resume_goes_on_from_the_newest_and_tells_of_a_better_one(monkeypatch, capfd):
    losses = iter([5.0, 3.0, 4.0, 4.0])
    monkeypatch.setattr(loop, "evaluate", lambda *args: Evaluation(next(losses), 1.0))
    new("--max-steps", "8", "--save-every", "4", "--sample-every", "0")
    train.main(["--resume", "a", "--max-steps", "9"])
    told = "from runs/a/step_00000008\nmicrogpt: better on held-out text: step 4, 1.000 bits per byte"
    assert told in capfd.readouterr().err and Path("runs/a/step_00000004").is_dir()


def test_resume_takes_the_name_of_a_run_and_branches_off_a_step_by_it():
    new("--max-steps", "6", "--save-every", "2", "--keep", "9")
    assert train.main(["--resume", "a", "--max-steps", "8"]) == 0
    with pytest.raises(MicrogptError, match=r"runs/a already went on to step_00000008"):
        train.main(["--resume", "a@4"])
    assert train.main(["--resume", "a@4", "--out-dir", "runs/b", "--max-steps", "6"]) == 0
    assert tensors("runs/a/step_00000006") == tensors("runs/b/step_00000006")


def test_fewer_steps_than_are_done_are_refused_where_the_plan_is_not_done(capfd):
    new("--max-steps", "12", "--stop-after", "1", "--lr", "1e-30", "--min-lr", "0", "--eval-every", "2")
    with pytest.raises(
        MicrogptError, match=r"--max-steps 2: \d+ of 12 steps of runs/a are done; leave it out"
    ):
        train.main(["--resume", "runs/a", "--max-steps", "2"])
