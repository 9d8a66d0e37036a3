"""A run that goes on equals one that was never stopped, to the bit, however it was cut and stopped."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import microgpt
from benchmarks.torture.signals import hear_signals
from microgpt.commands import train
from microgpt.common.errors import MicrogptError
from microgpt.core import native
from microgpt.model import GPT
from microgpt.runs.checkpoint import load_model
from microgpt.runs.events import Listeners
from microgpt.runs.metrics import read_metrics
from microgpt.training import assemble, loop
from microgpt.training.clock import Clock
from microgpt.training.identity import differences
from tests.commands.train.toys import SMALL, new, tensors


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


def test_a_run_of_an_older_arithmetic_is_not_gone_on_with_unknowingly():
    state = {"versions": {"microgpt": "1"}, "corpus": "c"}
    assert differences(state, {**state, "arithmetic": 2}) == ["arithmetic was 1, is 2"]
    assert not differences({**state, "arithmetic": 2}, {**state, "arithmetic": 2})


ROOT = Path(__file__).parents[3]


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
