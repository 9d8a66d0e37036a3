"""What the command says and takes: flags, memory, disk, threads, time; one line for each mistake."""

import json
import math
import re
import shutil
from pathlib import Path

import pytest

from microgpt.commands import train
from microgpt.common.errors import MicrogptError
from microgpt.common.flags import shown_value
from microgpt.common.words import command_line
from microgpt.evaluation.loss import Evaluation
from microgpt.runs.checkpoint import load_model
from microgpt.training import loop, needs, thread_choice
from tests.commands.train.toys import SMALL, new
from tests.training.fakes import FakeTime


def test_a_run_too_large_for_the_memory_is_refused_with_what_would_fit(monkeypatch):
    monkeypatch.setattr(needs, "available_memory", lambda: 120e6)
    with pytest.raises(MicrogptError) as error:
        new("--batch-size", "5000", "--n-layer", "4")
    way = r"--batch-size (\d+) --grad-accum (\d+)"
    match = re.search(rf"{way} or --recompute {way} fits", str(error.value))
    assert "takes about" in str(error.value) and "0.1 GB are free" in str(error.value)
    sizes = [int(number) for number in match.groups()]
    assert not Path("runs").exists() and sizes[0] < sizes[2] < 5000
    assert sizes[0] * sizes[1] == sizes[2] * sizes[3] == 5000, "steps of as many tokens"
    assert new("--batch-size", match[1], "--n-layer", "4", "--max-steps", "1", "--eval-every", "0") == 0
    monkeypatch.setattr(needs, "available_memory", lambda: 1e6)
    with pytest.raises(MicrogptError, match="take a smaller model or --seq-len"):
        new(out="runs/b")
    with pytest.raises(MicrogptError, match="take a smaller model or --seq-len"):
        train.main(["--resume", "runs/a", "--max-steps", "2"])


def test_memory_that_runs_out_is_one_line_that_names_the_good_checkpoint(monkeypatch):
    real = loop.accumulate

    def accumulate(job, position, *others):
        if position == 5:
            raise MemoryError
        return real(job, position, *others)

    monkeypatch.setattr(loop, "accumulate", accumulate)
    with pytest.raises(MicrogptError, match=r"at step 5; runs/a/step_00000004 is good.*--recompute") as error:
        new("--max-steps", "9", "--save-every", "4")
    assert "\n" not in str(error.value)


def test_a_full_disk_is_seen_before_the_start(monkeypatch):
    new("--max-steps", "2")
    usage = shutil.disk_usage(".")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    for begin in (lambda: new(out="runs/b"), lambda: train.main(["--resume", "runs/a", "--max-steps", "4"])):
        with pytest.raises(MicrogptError, match="MB free on that disk"):
            begin()


def test_header_and_summary_tell_the_truth(capfd):
    new("--max-steps", "5", "--grad-accum", "3")
    out, err = capfd.readouterr()
    model, tokenizer, state = load_model("runs/a")
    assert f"{model.params.flat.size:,} parameters" in out and f"vocabulary {tokenizer.vocab_size}" in out
    assert "plan     5 steps of 96 tokens (2 windows x 3)" in out and "machine  1 thread," in out
    assert f"finished: 5 steps, {5 * 96} tokens" in out and "runs/a/step_00000005" in out
    assert f"{state['metrics']['val_bpb']:.4f} bits per byte (step 5)" in out
    assert out.rstrip().endswith(f"next     {command_line('sample', 'runs/a')}"), "it is plain text"
    numbers = r"loss \d\.\d+  held-out \d\.\d+ bpb at step 0  lr [\d.]+e-4  norm [\d.]+  "
    numbers += r"[\d.]+k? tok/s  \d+% of peak"
    assert re.search(f"step 1/5  {numbers}  .* left", err)


def test_many_passes_over_a_text_are_told_and_a_better_model_before_the_end(capfd, monkeypatch):
    losses = iter([3.0, 1.5, 2.0, 2.5, 2.6, 2.6])
    monkeypatch.setattr(loop, "evaluate", lambda *_: Evaluation(loss := next(losses), loss / 2))
    new("--max-steps", "12", "--save-every", "4", "--keep", "1")
    out = capfd.readouterr().out
    assert "warning" not in out
    better = "better   1.5000 nats/token, 0.7500 bits per byte held out at step 4: "
    assert better + "runs/a/step_00000004" in out
    shutil.rmtree("runs/a/step_00000004")
    train.main(["--resume", "runs/a", "--max-steps", "16"])
    assert better + "no checkpoint of it; --save-every" in capfd.readouterr().out
    losses = iter([3.0, 1.5, 2.0, 2.5])
    new("--max-steps", "100000", "--stop-after", "2", out="runs/b")
    out = capfd.readouterr().out
    passes = re.search(r"warning  the same text comes ([\d,]+) times", out)[1]
    assert int(passes.replace(",", "")) > 4 and f"{passes} epochs" in out
    assert "ended at step 12 of 100,000, 2 evaluations without gain: 12 steps" in out
    assert out.rstrip().endswith(command_line("sample", "runs/b/step_00000004"))


def test_a_held_out_loss_that_is_no_number_is_reported_as_that(monkeypatch, capfd):
    monkeypatch.setattr(loop, "evaluate", lambda *args: Evaluation(math.nan, math.inf))
    new("--max-steps", "2")
    train.main(["--resume", "runs/a", "--max-steps", "3"])
    out, err = capfd.readouterr()
    assert "held out nan nats/token, inf bits per byte (step 3)" in out and "held-out inf bpb" in err


MISTAKES = {
    "--max-steps 0": "--max-time",
    "--lr -1": "--lr -1",
    "--n-head 5": "heads",
    "--data none.txt": "none.txt",
    "--data empty.txt": "empty",
    "--data short.txt": "",
    "--seq-len 100000": "text.txt: ",
    "--vocab-size 300 --merges 7": "--vocab-size 300 contradicts --merges 7",
    "--vocab-size 100": "--vocab-size 100: bytes and markers alone are 261; give more",
    "--data=": "an empty path names no corpus",
    "--vocab-size 20": "--vocab-size 20",
    "--vocab-size 60000": "--vocab-size 60000",
    "--threads 0": "--threads 0",
    "--out-dir text.txt": "text.txt is not a directory",
    "--resume nowhere": "nowhere",
    "--allow-inexact": "--allow-inexact is for --resume",
    "--resume text.txt": "text.txt",
    "--resume data": "data: no checkpoint",
    "--max-time 1ms": "--max-time",
    "--init-std nan": "init_std",
    "--rope-theta inf": "rope_theta",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing_behind(line, workplace):
    (workplace / "empty.txt").write_text("")
    (workplace / "short.txt").write_text("hi")
    (workplace / "data").mkdir()
    flags = line.split()
    if "--data" not in flags and "--resume" not in flags:
        flags = [*SMALL, "--data", "text.txt", *flags]
    if "--vocab-size" in flags and "--merges" not in line:
        flags.remove("--merges"), flags.remove("20")
    with pytest.raises(MicrogptError) as error:
        train.main(flags)
    assert MISTAKES[line] in str(error.value) and "\n" not in str(error.value)
    assert str(workplace / "data") not in str(error.value), "a place of our own, which nobody typed"
    assert not list(Path("runs").glob("*"))


def test_max_time_plans_the_steps_and_keeps_the_limit(capfd):
    now = FakeTime(tick=0.001)
    assert new("--max-time", "4s", "--sample-every", "0", now=now) == 0
    assert 3 < now.s < 4
    err = capfd.readouterr().err
    planned = int(re.search(r"so the run has ([\d,]+) steps", err)[1].replace(",", ""))
    recorded = json.loads(next(Path("runs/a").glob("step_*/config.json")).read_text())["train"]["max_steps"]
    assert recorded > 10 and planned > 10  # the two differ where the speed does
    new("--max-time", "1s", "--max-steps", "10000000", out="runs/b", now=FakeTime(tick=0.001))
    out, _ = capfd.readouterr()
    assert "time is up at step" in out and f"next     {command_line('train', '--resume', 'runs/b')}" in out


def test_help_shows_every_setting_with_unit_and_default(capsys):
    with pytest.raises(SystemExit) as stopped:
        train.main(["--help"])
    text = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert stopped.value.code == 0
    for part in (
        "--warmup-steps",
        "[steps, default 10 for --preset 10m]",
        "--n-embd",
        "--merges",
        "optimizer:",
        "model:",
        "--max-time",
        "10m",
        "--grad-clip",
        "[default 10m]",
        "--resume",
    ):
        assert part in text
    assert text.count("data:") == 1


@pytest.mark.parametrize(
    "preset, vocab_size",
    [("tiny", 300), ("tiny", 40_000), ("1m", 300), ("1m", 4261), ("10m", 300), ("34m", 300), ("34m", 60_000)],
)
def test_the_defaults_that_help_tells_are_those_that_are_used(preset, vocab_size, capsys):
    for flags in (["--preset", preset, "--help"], ["--help", f"--preset={preset}"]):
        with pytest.raises(SystemExit):
            train.main(flags)
        text = re.sub(r"\s+", " ", capsys.readouterr().out)
        plan = train.spec_from(train.parser().parse_args(["--preset", preset])).plan(vocab_size)
        values = plan.train.to_dict() | plan.model.to_dict()
        for name in ("lr", "min_lr", "warmup_steps", "max_steps", "n_layer", "seq_len", "dropout"):
            flag, told = "--" + name.replace("_", "-"), shown_value(values[name])
            assert re.search(rf"{flag} [^\]]*\bdefault {re.escape(told)}( for --preset {preset})?\]", text)


def test_the_rate_is_on_the_screen_and_prints_as_it_was_meant(capfd):
    new("--recipe", "road", "--max-steps", "100", "--eval-every", "0")
    out = capfd.readouterr().out
    assert "rate     from 0 up to 0.003 over 30 steps, then down to 0.0003 at step 100" in out
    with pytest.raises(MicrogptError, match=r"\(the run has 0\.0003\)"):
        train.main(["--resume", "runs/a", "--min-lr", "0.1", "--max-steps", "200"])
    new("--recipe", "road", "--max-steps", "3", out="runs/b")
    assert "rate     from 0 up to 0.0003, too few steps to come down" in capfd.readouterr().out


def test_the_variable_sets_the_threads_and_a_flag_beats_it(capfd, monkeypatch):
    monkeypatch.setenv("MICROGPT_THREADS", "3")
    flags = [*SMALL, "--data", "text.txt", "--out-dir", "runs/a", "--max-steps", "1"]
    assert train.main(flags) == 0 and "machine  3 threads" in capfd.readouterr().out
    monkeypatch.setenv("MICROGPT_THREADS", "1")
    assert train.main(["--resume", "runs/a", "--max-steps", "2"]) == 0
    assert "machine  1 thread," in capfd.readouterr().out
    assert train.main(["--resume", "runs/a", "--max-steps", "3", "--threads", "2"]) == 0
    assert "machine  2 threads" in capfd.readouterr().out
    monkeypatch.setenv("MICROGPT_THREADS", "few")
    with pytest.raises(MicrogptError, match="MICROGPT_THREADS few: "):
        train.main(["--resume", "runs/a", "--max-steps", "4"])


def test_auto_probes_the_run_and_its_resume_remembers(capfd, monkeypatch):
    probed = []
    monkeypatch.delenv("MICROGPT_THREADS", raising=False)
    monkeypatch.setattr(thread_choice, "available_cpus", lambda: 3)
    monkeypatch.setattr(thread_choice, "RUN_SHARE", math.inf)
    found = thread_choice.Finding(2, {2: 0.5, 3: 0.6}, steady=True)
    monkeypatch.setattr(thread_choice, "_probed", lambda step, *_: probed.append(step.model.config) or found)
    assert new("--max-steps", "2", threads="auto") == 0
    out, err = capfd.readouterr()
    assert "threads: 2 of 3 (probed: 2 -> 500 ms, 3 -> 600 ms)\n" in err and "machine  2 threads" in out
    assert train.main(["--resume", "runs/a", "--max-steps", "3"]) == 0
    out, err = capfd.readouterr()
    assert "threads: 2 of 3 (measured earlier: " in err and "machine  2 threads" in out
    assert probed == [load_model("runs/a")[0].config]
