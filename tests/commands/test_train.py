"""The command on a tiny model and corpus: exact resume, signals, time limit, one line for each mistake."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import microgpt
from benchmarks.torture.signals import hear_signals
from microgpt.commands import eval as microgpt_eval
from microgpt.commands import prepare, train
from microgpt.common.errors import MicrogptError
from microgpt.common.flags import shown_value
from microgpt.common.words import command_line
from microgpt.core import native
from microgpt.corpus.token_file import TokenFile
from microgpt.evaluation.loss import Evaluation
from microgpt.model import GPT
from microgpt.runs.checkpoint import load_model
from microgpt.runs.events import Listeners
from microgpt.runs.metrics import read_metrics
from microgpt.tokenizer import Tokenizer
from microgpt.training import assemble, loop, needs, run, thread_choice
from microgpt.training.clock import Clock
from tests.training.fakes import FakeTime

ROOT = Path(__file__).parents[2]
TEXT = "".join(
    f"A {color} {thing} costs {n} coins.\nThe {thing} of number {n} is {color}, not {n + 1}.\n\n"
    for n in range(40)
    for color in ("red", "green", "blue")
    for thing in ("hat", "boat", "lamp")
)
SMALL = [
    "--preset",
    "tiny",
    "--n-layer",
    "1",
    "--seq-len",
    "16",
    "--merges",
    "20",
    "--dropout",
    "0.1",
    "--batch-size",
    "2",
    "--eval-every",
    "4",
    "--eval-tokens",
    "64",
]


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """An empty folder with a corpus in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MICROGPT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path


def new(*flags, out="runs/a", threads="1", **options):
    words = [*SMALL, "--data", "text.txt", "--out-dir", out, "--threads", threads, *flags]
    return train.main(words, **options)


def tensors(checkpoint):
    """The hashes of weights and moments."""
    files = json.loads((Path(checkpoint) / "manifest.json").read_text())["files"]
    return [files[name]["sha256"] for name in ("model.safetensors", "optimizer.safetensors")]


@pytest.mark.parametrize("grad_accum", ["1", "2"])
def test_10_and_10_steps_equal_20_on_any_number_of_threads(grad_accum, capfd):
    assert new("--max-steps", "20", "--grad-accum", grad_accum) == 0
    assert new("--max-steps", "10", "--grad-accum", grad_accum, out="runs/b", threads="2") == 0
    assert train.main(["--resume", "runs/b", "--max-steps", "20"]) == 0
    assert tensors("runs/a/step_00000020") == tensors("runs/b/step_00000020")
    losses = [
        [
            (line["step"], line["loss_nats"])
            for line in read_metrics(Path(run, "metrics.jsonl"))
            if line["event"] in ("train", "eval")
        ]
        for run in ("runs/a", "runs/b")
    ]
    assert set(losses[0]) < set(losses[1])
    assert [step for step, _ in set(losses[1]) - set(losses[0])] == [10]  # evaluated once more, at its end
    assert "going on from runs/b/step_00000010" in capfd.readouterr().err


@pytest.fixture
def any_bf16(monkeypatch):
    """bf16 on every CPU: computed in steps where there is no instruction for it."""
    if native.choose_precision("auto") != "bf16":
        monkeypatch.setenv("MICROGPT_ISA", native.supported_levels()[-1])
    yield
    monkeypatch.undo()


def test_bf16_belongs_to_the_run_and_5_and_5_steps_equal_10(any_bf16, capfd):
    flags = ["--precision", "bf16", "--batch-size", "4"]  # 64 rows, enough to be multiplied in bf16
    assert new(*flags, "--max-steps", "10") == 0
    assert new(*flags, "--max-steps", "5", out="runs/b", threads="2") == 0
    with pytest.raises(MicrogptError, match=r"precision was bf16, is fp32"):
        train.main(["--resume", "runs/b", "--precision", "fp32", "--max-steps", "10"])
    assert train.main(["--resume", "runs/b", "--precision", "auto", "--max-steps", "10"]) == 0
    assert tensors("runs/a/step_00000010") == tensors("runs/b/step_00000010")
    assert ", bf16; about" in capfd.readouterr().out
    change = ["--precision", "fp32", "--max-steps", "12", "--allow-inexact"]
    assert train.main(["--resume", "runs/b", *change]) == 0, "where bf16 cannot be had, the run is not lost"
    new(*flags[2:], "--max-steps", "10", out="runs/c")
    weights = [load_model(run)[0].params.flat for run in ("runs/a", "runs/c")]
    assert 0 < abs(weights[0] - weights[1]).max() < 0.02


def test_a_contradiction_is_told_as_typed_and_before_threads_are_tried(monkeypatch):
    assert new("--max-steps", "1") == 0
    monkeypatch.setattr(run, "settle_threads", lambda *_: pytest.fail("threads were tried"))
    with pytest.raises(MicrogptError) as error:
        train.main(["--resume", "runs/a", "--max-steps", "2", "--text-documents", "file"])
    assert "resumed with --text-documents file (the run has paragraphs);" in str(error.value)
    Path("text.txt").write_text(TEXT * 2)
    with pytest.raises(MicrogptError, match="corpus was"):
        train.main(["--resume", "runs/a", "--max-steps", "2"])


def test_10_and_10_steps_equal_20_with_whole_documents(capfd):
    flags = ["--packing", "documents", "--seq-len", "100", "--prompt-loss-weight", "0.5"]
    assert new(*flags, "--max-steps", "20") == 0
    assert new(*flags, "--max-steps", "10", out="runs/b") == 0
    out = capfd.readouterr().out
    n_windows, fill = re.search(r"windows  ([\d,]+) of whole documents, ([\d.]+) % full", out).groups()
    epochs = re.search(r"([\d.]+) epochs", out)[1]
    assert 20 * 2 / int(n_windows) == pytest.approx(float(epochs), abs=0.005) and 50 < float(fill) <= 100
    with pytest.raises(MicrogptError, match=r"--packing stream \(the run has documents\)"):
        train.main(["--resume", "runs/b", "--packing", "stream", "--max-steps", "20"])
    assert train.main(["--resume", "runs/b", "--max-steps", "20"]) == 0
    assert tensors("runs/a/step_00000020") == tensors("runs/b/step_00000020")
    new(*flags[2:], "--max-steps", "20", out="runs/c")
    assert tensors("runs/c/step_00000020") != tensors("runs/a/step_00000020"), "the setting does something"


def test_every_checkpoint_goes_on_to_the_same_bits_across_epochs():
    """Real batches in the middle of epochs and across their ends, evaluations and samples between."""
    flags = [
        "--seq-len",
        "64",
        "--batch-size",
        "30",
        "--grad-accum",
        "2",
        "--sample-every",
        "3",
        "--keep",
        "99",
        "--save-every",
        "2",
        "--max-steps",
        "11",
    ]
    assert new(*flags) == 0

    def trained(run):
        lines = read_metrics(Path(run, "metrics.jsonl"))
        return [(line["step"], line["loss_nats"]) for line in lines if line["event"] == "train"]

    for step in (2, 4, 6, 8, 10):
        out = f"runs/from{step}"
        train.main(["--resume", f"runs/a/step_{step:08d}", "--out-dir", out, "--threads", "2"])
        assert tensors(f"{out}/step_00000011") == tensors("runs/a/step_00000011")
        assert trained(out) == trained("runs/a")


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


def test_a_run_may_recompute_in_any_of_its_sessions():
    assert new("--max-steps", "12") == 0
    assert new("--max-steps", "4", "--recompute", out="runs/b") == 0
    assert train.main(["--resume", "runs/b", "--max-steps", "8", "--no-recompute"]) == 0
    assert train.main(["--resume", "runs/b", "--max-steps", "12", "--recompute"]) == 0
    assert tensors("runs/a/step_00000012") == tensors("runs/b/step_00000012")
    config = json.loads(Path("runs/b/step_00000012/config.json").read_text())
    assert config["train"]["recompute"] is True


@pytest.mark.parametrize("sizes", [("4", "2"), ("1", "8"), ("2", "4")])
def test_a_step_of_the_real_model_does_not_depend_on_how_it_is_cut(sizes, tmp_path):
    """Every gradient in float64, with dropout, prompts left out and whole documents: uneven counts."""
    chats = [
        {
            "messages": [{"role": "user", "content": f"say {n} " * (1 + n % 9)}]
            + [{"role": "assistant", "content": f"{n} " * (1 + n % 4)}] * (n % 3)
        }
        for n in range(1, 200)
    ]
    Path("chats.jsonl").write_text("".join(json.dumps(chat) + "\n" for chat in chats))
    found = []
    for batch_size, grad_accum in (("8", "1"), sizes):
        flags = [
            *SMALL,
            "--data",
            "chats.jsonl",
            "--out-dir",
            f"runs/{batch_size}",
            "--threads",
            "1",
            "--batch-size",
            batch_size,
            "--grad-accum",
            grad_accum,
            "--prompt-loss-weight",
            "0.3",
            "--packing",
            "documents",
            "--seq-len",
            "40",
        ]
        spec = train.spec_from(train.parser().parse_args(flags))
        plan = spec.plan()
        prepared = assemble.open_corpus(plan)
        plan = spec.plan(prepared.tokenizer.vocab_size)
        Path(f"runs/{batch_size}").mkdir(parents=True)
        job = assemble.start(plan, prepared, Path(f"runs/{batch_size}"), Clock(), Listeners()).job
        job.log.close()
        job.model = GPT(plan.model, np.float64).init(0)
        found.append((loop.accumulate(job, 3 * int(grad_accum), stop=False), job.model.grads))
    (one, whole), (other, cut) = found
    assert one[1] == other[1] and one[0] == pytest.approx(other[0], rel=1e-12)
    for name, grad in whole.items():
        assert np.abs(cut[name] - grad).max() <= 1e-12 * np.abs(grad).max(), name


def test_a_corpus_of_prompts_alone_is_refused(capfd):
    chats = [{"messages": [{"role": "user", "content": f"Red {n} river"}]} for n in range(300)]
    Path("prompts.jsonl").write_text("".join(json.dumps(chat) + "\n" for chat in chats))
    flags = [*SMALL, "--data", "prompts.jsonl", "--out-dir", "runs/p", "--max-steps", "2"]
    with pytest.raises(MicrogptError, match="--prompt-loss-weight 0: nothing to learn"):
        train.main([*flags, "--prompt-loss-weight", "0"])
    assert train.main([*flags, "--prompt-loss-weight", "0.5"]) == 0


def test_a_run_of_an_older_arithmetic_is_not_gone_on_with_unknowingly():
    state = {"versions": {"microgpt": "1"}, "corpus": "c"}
    assert assemble.differences(state, {**state, "arithmetic": 2}) == ["arithmetic was 1, is 2"]
    assert not assemble.differences({**state, "arithmetic": 2}, {**state, "arithmetic": 2})


def test_header_and_summary_tell_the_truth(capfd):
    new("--max-steps", "5", "--grad-accum", "3")
    out, err = capfd.readouterr()
    model, tokenizer, state = load_model("runs/a")
    assert f"{model.params.flat.size:,} parameters" in out and f"vocabulary {tokenizer.vocab_size}" in out
    assert "plan     5 steps of 96 tokens (2 windows x 3)" in out and "machine  1 thread," in out
    assert f"finished: 5 steps, {5 * 96} tokens" in out and "runs/a/step_00000005" in out
    assert f"{state['metrics']['val_bpb']:.4f} bits per byte (step 5)" in out
    assert out.rstrip().endswith(f"next     {command_line('chat', 'runs/a')}")
    numbers = r"loss \d\.\d+  held-out \d\.\d+ bpb at step 0  lr [\d.]+e-4  norm [\d.]+  "
    numbers += r"[\d.]+k? tok/s  \d+% of peak"
    assert re.search(f"step 1/5  {numbers}  .* left", err)


def test_resume_without_a_path_takes_the_newest_run_and_a_finished_one_says_so(capfd):
    new("--max-steps", "3", out="runs/a")
    new("--max-steps", "3", out="runs/b")
    assert train.main(["--resume"]) == 0
    assert "runs/b is finished: 3 steps are done; to train on" in capfd.readouterr().err


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
    assert out.rstrip().endswith(command_line("chat", "runs/b/step_00000004"))


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


def test_a_branch_that_ends_at_once_has_its_own_checkpoint():
    new("--max-steps", "4", "--save-every", "2")
    train.main(
        ["--resume", "runs/a/step_00000002", "--out-dir", "runs/b", "--max-time", "1s"], now=FakeTime(tick=1)
    )
    assert tensors("runs/a/step_00000002") == tensors("runs/b/step_00000002")
    events = [line["event"] for line in read_metrics(Path("runs/b/metrics.jsonl"))]
    assert events.count("start") == events.count("resume") == 1


def test_a_held_out_loss_that_is_no_number_is_reported_as_that(monkeypatch, capfd):
    monkeypatch.setattr(loop, "evaluate", lambda *args: Evaluation(math.nan, math.inf))
    new("--max-steps", "2")
    train.main(["--resume", "runs/a", "--max-steps", "3"])
    out, err = capfd.readouterr()
    assert "held out nan nats/token, inf bits per byte (step 3)" in out and "held-out inf bpb" in err


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


MISTAKES = {
    "--max-steps 0": "--max-time",
    "--lr -1": "--lr -1",
    "--n-head 5": "heads",
    "--data none.txt": "none.txt",
    "--data empty.txt": "empty",
    "--data short.txt": "",
    "--seq-len 100000": "window",
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
    assert not list(Path("runs").glob("*"))


@pytest.mark.parametrize(
    "flags",
    [
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
    ],
)
def test_resume_refuses_flags_that_contradict_the_run_by_name(flags):
    new("--max-steps", "2")
    with pytest.raises(MicrogptError) as error:
        train.main(["--resume", "runs/a", "--max-steps", "4", *flags.split()])
    assert all(flag in str(error.value) for flag in re.findall("--[a-z0-9-]+", flags))
    assert train.main(["--resume", "runs/a", *SMALL, "--data", "text.txt", "--max-steps", "3"]) == 0


def test_resume_refuses_another_corpus_unless_told(capfd):
    new("--max-steps", "2")
    Path("text.txt").write_text(TEXT + "One more line of text.\n")
    with pytest.raises(MicrogptError, match=r"tokenizer was .* corpus was .* --allow-inexact"):
        train.main(["--resume", "runs/a", "--max-steps", "4"])
    before, again = load_model("runs/a")[1], ["--resume", "runs/a", "--allow-inexact", "--max-steps"]
    assert train.main([*again, "4"]) == 0 and load_model("runs/a")[1].sha256 == before.sha256
    text = capfd.readouterr().err
    assert "warning: not the same run to the last bit: corpus was" in text and "tokenizer was" not in text
    assert train.main([*again, "6"]) == 0 and "not the same run" not in capfd.readouterr().err
    marks = [line.get("inexact", []) for line in read_metrics(Path("runs/a/metrics.jsonl"))]
    assert [len(mark) for mark in marks if mark] == [1]


def test_what_was_resumed_over_another_corpus_goes_on_exactly_from_there(capfd):
    """The corpus then has the run's tokenizer, not one of its own, and is known by that."""
    new("--max-steps", "2")
    Path("text.txt").write_text(TEXT + "One more line of text.\n")
    for out, steps in (("runs/b", "4"), ("runs/c", "6")):
        changed = ["--resume", "runs/a", "--allow-inexact", "--out-dir", out]
        assert train.main([*changed, "--max-steps", steps]) == 0
    assert train.main(["--resume", "runs/b", "--max-steps", "6"]) == 0
    assert tensors("runs/b/step_00000006") == tensors("runs/c/step_00000006")
    assert evaluated(capfd, "runs/b")["part"] == "the held-out part"


def evaluated(capfd, *words):
    """What `microgpt eval --json` says."""
    capfd.readouterr()
    assert microgpt_eval.main([*words, "--json"]) == 0
    return json.loads(capfd.readouterr().out)


@pytest.mark.parametrize("how", ["files", "a folder", "prepared"])
def test_a_corpus_that_was_moved_is_known_by_its_content(capfd, how):
    if how == "prepared":
        prepare.main(["text.txt", "--merges", "20", "--out-dir", "mine"])
        start = ["--data", "mine", *(word for word in SMALL if word not in ("--merges", "20"))]
    elif how == "a folder":
        Path("mine").mkdir()
        Path("text.txt").rename("mine/a.txt")
        start = [*SMALL, "--data", "mine"]
    else:
        Path("text.txt").rename("mine")
        start = [*SMALL, "--data", "mine"]
    for out, steps in (("runs/a", "4"), ("runs/b", "2")):
        train.main([*start, "--out-dir", out, "--max-steps", steps, "--threads", "1"])
    before = evaluated(capfd, "runs/a")
    shutil.rmtree("data/prepared", ignore_errors=True)
    Path("elsewhere").mkdir()
    Path("mine").rename("elsewhere/other")
    with pytest.raises(MicrogptError, match=r"mine: not there any more; .*--data"):
        train.main(["--resume", "runs/b", "--max-steps", "3"])
    moved = ["--data", "elsewhere/other"]
    assert train.main(["--resume", "runs/b", "--max-steps", "3", *moved]) == 0
    assert train.main(["--resume", "runs/b", "--max-steps", "4"]) == 0, "its new place is remembered"
    assert tensors("runs/a/step_00000004") == tensors("runs/b/step_00000004")
    after = evaluated(capfd, "runs/a", *moved)
    same = ("loss", "n_tokens", "part")
    assert [after[name] for name in same] == [before[name] for name in same]


def test_a_project_that_was_moved_as_a_whole_goes_on(capfd, monkeypatch, workplace):
    (workplace / "project" / "texts").mkdir(parents=True)
    monkeypatch.chdir(workplace / "project")
    (workplace / "text.txt").rename("texts/mine.txt")
    train.main([*SMALL, "--data", "texts/mine.txt", "--out-dir", "runs/a", "--max-steps", "2"])
    (workplace / "project").rename(workplace / "renamed")
    monkeypatch.chdir(workplace / "renamed")
    shutil.rmtree(workplace / "data")
    assert evaluated(capfd, "runs/a")["part"] == "the held-out part"
    assert train.main(["--resume", "runs/a", "--max-steps", "4"]) == 0
    Path("texts/mine.txt").rename("gone")
    assert train.main(["--resume", "runs/a", "--max-steps", "5"]) == 0, "what was prepared of it is enough"
    assert "mine.txt is not there any more; going by what was prepared of it" in capfd.readouterr().err
    shutil.rmtree(workplace / "data")
    Path("mine.txt").write_text("Quite another text by the same name.\n\nIndeed.")
    with pytest.raises(MicrogptError, match="not there any more"):
        train.main(["--resume", "runs/a", "--max-steps", "6", "--allow-inexact"])


def test_a_run_can_go_on_with_other_data_when_told(capfd):
    new("--max-steps", "2")
    Path("other.txt").write_text(TEXT.replace("boat", "goat"))
    more = ["--resume", "runs/a", "--data", "other.txt", "--max-steps", "4"]
    with pytest.raises(MicrogptError, match=r"corpus was .* --allow-inexact"):
        train.main(more)
    assert train.main([*more, "--allow-inexact"]) == 0
    trained = TEXT.strip().split("\n\n")
    Path("both.txt").write_text("\n\n".join([*trained, "Never seen."]))
    report = evaluated(capfd, "runs/a", "--data", "both.txt")
    assert report["n_trained_documents"] > 0.8 * len(trained), "the first corpus is not forgotten"


def test_text_that_was_trained_on_is_told_and_left_out_in_any_file(capfd):
    new("--max-steps", "2")
    held_out = held_out_texts()
    seen, unseen = TEXT.split("\n\n")[:90], ["A line of its own.", "And another."]
    Path("part.txt").write_text("\n\n".join([*seen, *unseen]))
    Path("unseen.txt").write_text("\n\n".join(unseen))
    microgpt_eval.main(["runs/a", "--data", "part.txt"])
    told = re.search(
        r": (\d+) documents, .*left out: (\d+) documents that the run was trained on",
        capfd.readouterr().out,
        re.S,
    )
    scored, left_out = map(int, told.groups())
    assert scored == 2 + sum(text in held_out for text in seen) and left_out == 92 - scored
    reports = [evaluated(capfd, "runs/a", "--data", name) for name in ("part.txt", "unseen.txt")]
    assert [report["n_trained_documents"] for report in reports] == [left_out, 0]
    assert evaluated(capfd, "runs/a")["n_trained_documents"] == 0


def test_all_of_it_trained_on_is_refused_without_any_path_in_common():
    new("--max-steps", "2")
    texts = [text for text in TEXT.strip().split("\n\n") if text not in held_out_texts()]
    Path("elsewhere.txt").write_text("\n\n".join(texts[10:50]))
    with pytest.raises(MicrogptError, match=r"elsewhere\.txt: the run was trained on every document of it"):
        microgpt_eval.main(["runs/a", "--data", "elsewhere.txt"])


def held_out_texts():
    """The documents that the only prepared corpus holds out."""
    folder = next(path.parent for path in Path("data/prepared").glob("*/train.tokens"))
    tokens, tokenizer = TokenFile.open(folder / "val.tokens"), Tokenizer.load(folder / "tokenizer.json")
    documents = np.split(np.asarray(tokens.ids), tokens.offsets[1:].astype(int))
    return {tokenizer.decode(ids[1:-1]).decode() for ids in documents}


def test_held_out_files_are_the_held_out_part_of_a_run(capfd):
    Path("held.txt").write_text("A blue house.\n\nA red house costs 9 coins.\n\nSmall.")
    new("--max-steps", "2", "--held-out", "held.txt")
    n_documents = len(set(TEXT.strip().split("\n\n")))
    assert f"corpus   {n_documents:,} documents" in capfd.readouterr().out.replace("\u2009", "")
    own = evaluated(capfd, "runs/a")
    assert own["n_documents"] == 3
    Path("held.txt").rename("moved.txt")
    with pytest.raises(MicrogptError, match=r"--held-out-share 0\.1"):
        train.main(["--resume", "runs/a", "--held-out-share", "0.1", "--max-steps", "4"])
    assert train.main(["--resume", "runs/a", "--held-out", "moved.txt", "--max-steps", "4"]) == 0
    assert evaluated(capfd, "runs/a", "--data", "moved.txt")["n_trained_documents"] == 0
    new("--max-steps", "2", "--held-out-share", "0.3", out="runs/b")
    assert 0.2 < evaluated(capfd, "runs/b")["n_documents"] / n_documents < 0.4


def test_the_size_of_the_held_out_part_and_what_chance_does_to_it_are_told(capfd):
    new("--max-steps", "2", "--held-out-share", "0.2", "--eval-tokens", "100000")
    told = r"held out (\d\.\d+) \+- (\d\.\d+) nats/token.*\n +on (\d+) documents, ([\d,]+) tokens"
    summary = re.search(told, capfd.readouterr().out)
    loss, half, n_documents, n_tokens = (float(text.replace(",", "")) for text in summary.groups())
    report = evaluated(capfd, "runs/a")
    assert (report["n_documents"], report["n_tokens"]) == (n_documents, n_tokens)
    assert report["loss"] == pytest.approx(loss, abs=1e-3)
    assert report["loss_half_width"] == pytest.approx(half, abs=1e-3) and 0 < half < 0.1 * loss
    assert 1.96 < report["loss_half_width"] / report["loss_standard_error"] < 2.1


def test_a_used_directory_is_refused_with_both_choices():
    new("--max-steps", "2")
    with pytest.raises(MicrogptError, match=r"--resume runs/a.*--out-dir"):
        new("--max-steps", "2")


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
        "[steps, default 30 for --preset 10m]",
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


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_the_resumed_run_equals_a_straight_one(number, code, monkeypatch, capfd):
    steady = ["--lr", "0.001", "--min-lr", "0.001", "--warmup-steps", "0"]  # however many steps are planned
    real = loop.accumulate

    def accumulate(job, position, *others):
        if position == 7:
            with pytest.raises(MicrogptError, match="another training is using runs/a"):
                train.main(["--resume", "runs/a"])
            signal.raise_signal(number)
        return real(job, position, *others)

    hear_signals()
    with monkeypatch.context() as struck:
        struck.setattr(loop, "accumulate", accumulate)
        assert new(*steady, "--max-steps", "1000000000") == code
    out, err = capfd.readouterr()
    assert "stopped at step" in out and "--resume runs/a" in out and "Traceback" not in err
    end = int(next(Path("runs/a").glob("step_*")).name[5:]) + 5
    assert 7 <= end - 5 <= 8
    train.main(["--resume", "runs/a", "--max-steps", str(end)])
    new(*steady, "--max-steps", str(end), out="runs/b")
    assert tensors(f"runs/a/step_{end:08d}") == tensors(f"runs/b/step_{end:08d}")


def test_a_second_interrupt_leaves_at_once():
    code = """
import os
from microgpt.training import stop
parent = os.getppid()
with stop.StopFlag():
    print(1, flush=True)
    while os.getppid() == parent: ...
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        preexec_fn=hear_signals,
    )
    try:
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)  # the first one, of either kind, only asks
        assert process.stderr.readline() == "\n" and "stopping" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=600)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGINT


def test_samples_continue_held_out_documents_and_do_not_change_the_run(capfd):
    new("--max-steps", "6", "--sample-every", "3")
    new("--max-steps", "6", "--sample-every", "0", out="runs/b")
    samples = [line for line in read_metrics(Path("runs/a/metrics.jsonl")) if line["event"] == "sample"]
    assert [line["step"] for line in samples] == [3, 6] and all(" => " in line["text"] for line in samples)
    assert any(line["text"].startswith(("A ", "The ")) for line in samples)
    assert "--- sample after 3 steps" in capfd.readouterr().err
    assert tensors("runs/a/step_00000006") == tensors("runs/b/step_00000006")


def test_a_resume_that_may_differ_in_the_last_bit_says_why_and_is_refused_unless_told(capfd, monkeypatch):
    new("--max-steps", "2")
    real = native.info()
    other = {"isa": "other", "gemm": "g", "blas_core": "Other", "blas": "b", "precision": "fp8", "threads": 7}
    monkeypatch.setattr(native, "info", lambda precision: real | other)
    monkeypatch.setattr(microgpt, "__version__", "9")
    with pytest.raises(MicrogptError) as error:
        train.main(["--resume", "runs/a", "--max-steps", "4"])
    for name in ("isa", "gemm", "blas_core", "blas", "precision"):
        assert f"{name} was {real[name]:.16}, is {other[name]};" in str(error.value)
    assert "microgpt was " in str(error.value) and "threads was" not in str(error.value)
    assert train.main(["--resume", "runs/a", "--max-steps", "4", "--allow-inexact"]) == 0
    assert f"not the same run to the last bit: isa was {real['isa']}, is other" in capfd.readouterr().err


def test_a_directory_that_cannot_be_written_is_one_line(monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # as for a user who is not root
    Path("runs/a").mkdir(parents=True)
    with pytest.raises(MicrogptError, match="cannot use runs/a as run directory: Permission denied"):
        new("--max-steps", "2")


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


# ---- what is not ours


def kinds(folder):
    """Every path in a folder, with the content of files."""
    return {path: path.is_file() and path.read_bytes() for path in Path(folder).rglob("*")}


@pytest.mark.parametrize("flags", ["--resume mine", "--out-dir mine --data /nonexistent", "--out-dir mine"])
def test_a_session_that_is_refused_leaves_a_users_directory_as_it_is(flags):
    for name in (".tmp_notes", ".tmp_step_00000003_7", ".tmp_removed"):
        (Path("mine") / name).mkdir(parents=True)
        (Path("mine") / name / "a").write_text("x")
    if flags == "--out-dir mine":
        (Path("mine") / "metrics.jsonl").write_text('{"loss": 3}\n')
    before = kinds("mine")
    with pytest.raises(MicrogptError):
        train.main([*SMALL, "--data", "text.txt", "--max-steps", "2", *flags.split()])
    assert kinds("mine") == before


def test_an_empty_directory_of_the_users_outlives_a_run_that_fails():
    Path("mine").mkdir()
    for out in ("mine", "ours"):
        with pytest.raises(MicrogptError, match="nonexistent"):
            train.main([*SMALL, "--data", "nonexistent", "--out-dir", out])
    assert Path("mine").is_dir() and not Path("ours").exists()


def test_a_log_of_something_else_is_not_touched():
    new("--max-steps", "2")
    for place, flags in (("runs/a", ["--resume", "runs/a"]), ("b", ["--resume", "runs/a", "--out-dir", "b"])):
        Path(place).mkdir(exist_ok=True)
        Path(place, "metrics.jsonl").write_text('{"loss": 3}\n')
        with pytest.raises(MicrogptError, match=r"metrics\.jsonl is not the log of a run"):
            train.main([*flags, "--max-steps", "4"])
        assert Path(place, "metrics.jsonl").read_text() == '{"loss": 3}\n'
        Path("runs/a/metrics.jsonl").unlink(missing_ok=True)
    assert train.main(["--resume", "runs/a", "--max-steps", "4"]) == 0, "without a log it goes on"


@pytest.mark.parametrize("name", ["best", "step_00000004"])
def test_a_checkpoint_that_was_copied_out_of_its_run_asks_for_a_directory(name):
    new("--max-steps", "4")
    home = Path("home")
    shutil.copytree("runs/a/step_00000004", home / name)
    (home / "metrics.jsonl").write_text("mine\n" * 1000)
    before = kinds(home)
    with pytest.raises(MicrogptError, match=rf"home/{name} is a checkpoint outside a run; .*--out-dir DIR"):
        train.main(["--resume", f"home/{name}", "--max-steps", "6"])
    assert train.main(["--resume", f"home/{name}", "--max-steps", "6", "--out-dir", "runs/b"]) == 0
    assert kinds(home) == before and Path("runs/b/step_00000006").is_dir()
    assert "mine" not in Path("runs/b/metrics.jsonl").read_text()


@pytest.mark.parametrize(
    "folder, name",
    [
        ("runs/a/step_00000004", "."),
        ("runs/a", "step_00000004"),
        (".", "link"),
    ],
)
def test_a_checkpoint_goes_on_in_its_run_however_it_is_named(folder, name, monkeypatch, workplace):
    new("--max-steps", "4")
    Path("link").symlink_to("runs/a/step_00000004")
    monkeypatch.chdir(folder)
    assert train.main(["--resume", name, "--max-steps", "6"]) == 0
    made = sorted(path.name for path in (workplace / "runs/a").iterdir())
    assert made == ["metrics.jsonl", "step_00000004", "step_00000006", "trained_on.hashes"]
    events = [line["event"] for line in read_metrics(workplace / "runs/a/metrics.jsonl")]
    assert events.count("start") == events.count("resume") == 1


@pytest.mark.parametrize("out", ["step_00001000", "x"])
def test_a_run_is_not_put_where_a_checkpoint_is_expected(out):
    if out == "x":
        Path("x").mkdir()
        Path("x/manifest.json").write_text("{}")
    with pytest.raises(MicrogptError, match=f"{out} is a checkpoint by its name or .*another --out-dir"):
        new("--max-steps", "2", out=out)
    assert list(Path(".").glob(f"{out}/*")) == ([Path("x/manifest.json")] if out == "x" else [])


def test_two_runs_of_one_second_get_a_name_each(monkeypatch):
    class Noon(run.datetime):
        @classmethod
        def now(cls):
            return cls(2030, 1, 2, 12)

    monkeypatch.setattr(run, "datetime", Noon)
    for _ in range(2):
        assert train.main([*SMALL, "--data", "text.txt", "--threads", "1", "--max-steps", "1"]) == 0
    names = sorted(path.name for path in Path("runs").iterdir())
    assert names == ["tiny-20300102-120000", "tiny-20300102-120000-2"]
    assert all(Path("runs", name, "step_00000001").is_dir() for name in names)


# ---- names


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
