"""The benchmarks run, verify before they time, and refuse what they cannot do in one line."""

import dataclasses
import importlib.util
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import _machine, _torch_peer, gemm, names, ops, scaling, step, threads
from microgpt.common.errors import MicrogptError
from microgpt.core import native
from microgpt.core.cases import CASES
from microgpt.core.ops import gelu_forward, linear_forward
from microgpt.machine.memory import peak_memory
from microgpt.model import ModelConfig, count_parameters, flop_per_token

ROOT = Path(__file__).parents[2]
TINY = ["--preset", "tiny", "--vocab-size", "300", "--threads", "1", "--steps", "1", "--json"]
TABLE = ["--preset", "tiny", "--vocab-size", "300", "--threads", "1,2", "--steps", "1", "--json"]


@pytest.fixture(autouse=True)
def one_thread():
    yield
    native.set_threads(1)


def last_json(capsys):
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_a_step_is_measured(capsys):
    step.main(TINY)
    found = last_json(capsys)
    assert found["threads"] == 1 and found["step_s"] > 0 and found["mfu"] > 0
    assert found["mfu"] == pytest.approx(found["model_gflops"] / found["gemm_peak_gflops"], abs=0.05)
    assert 0 < found["peak_rss_bytes"] <= peak_memory() and 0 <= found["python_share"] < 1
    assert found["n_params"] == 34_336 and "ratio" not in found


@pytest.mark.parametrize(
    "main, flags, words",
    [
        (step.main, [*TINY, "--threads", "many"], "--threads many"),
        (step.main, [*TINY, "--steps", "0"], "--steps"),
        (ops.main, ["--threads", "0"], "--threads 0"),
        (ops.main, ["--repeats", "0"], "--repeats 0"),
        (ops.main, ["dance"], "dance"),
        (threads.main, [*TABLE, "--threads", "1,x"], "--threads x"),
        (threads.main, [*TABLE, "--batch-size", "0"], "--batch-size"),
        (scaling.main, ["--steps", "0"], "--steps 0"),
        (gemm.main, ["--repeats", "0"], "--repeats"),
    ],
)
def test_mistakes_are_named(main, flags, words):
    with pytest.raises(MicrogptError, match=words):
        main(flags)


def test_products_are_verified_and_timed(capsys, monkeypatch):
    gemm.main(["--preset", "tiny", "--threads", "1", "--repeats", "1", "--json"])
    rows = last_json(capsys)["models"]["tiny"]
    assert [row["product"].split()[0] for row in rows[:3]] == ["y", "dx", "dweight"] and len(rows) == 16
    assert {name for row in rows for name in row["gflops"]} == {kernel.name for kernel in gemm.kernels()}
    true = gemm.reference.to_bf16
    monkeypatch.setattr(gemm.reference, "to_bf16", lambda x: true(x) * (1 + 1e-4))
    monkeypatch.setattr(gemm, "kernels", lambda: [gemm.Kernel("bf16", "bf16", "native")])
    with pytest.raises(MicrogptError, match=r"y of .* is wrong; not timed"):
        gemm.main(["--preset", "tiny", "--threads", "1", "--repeats", "1"])


def test_the_kernel_clock_counts_c_and_nothing_else(monkeypatch):
    ticks = itertools.count()
    monkeypatch.setattr(_machine, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    kernels, products, x = native.lib, native.products, np.ones((64, 64), np.float32)
    with _machine.kernel_clock() as clock:
        assert clock.seconds == 0 and native.lib.MG_PARTIALS == kernels.MG_PARTIALS
        gelu_forward(x)
        first = clock.seconds
        next(ticks)  # time that passes outside
        gelu_forward(x)
        assert first > 0 and clock.seconds == 2 * first
        for precision in ("fp32", "bf16"):
            linear_forward(x, x, precision)
        assert clock.seconds > 3 * first
    assert native.lib is kernels and native.products is products
    with pytest.raises(ZeroDivisionError), _machine.kernel_clock():
        raise ZeroDivisionError
    assert native.lib is kernels and native.products is products


# ---- operations ----------------------------------------------------------------------------------


def test_operations_are_measured_against_the_limit_of_their_kind(capsys, monkeypatch):
    monkeypatch.setattr(ops, "gemm_peak_gflops", lambda width: 100.0)
    monkeypatch.setattr(ops, "stream_gb_per_s", lambda n_bytes: 10.0)
    monkeypatch.setattr(ops, "kernel_seconds", lambda case, repeats: case.flop(*case.bench) / 50e9)
    ops.main(["--threads", "1", "--repeats", "1", "--json"])
    found = last_json(capsys)["operations"]
    assert set(found) == set(CASES)
    assert {name for name, row in found.items() if row["unit"] == "GFLOP/s"} >= {"linear", "attention"}
    assert {name for name, row in found.items() if row["unit"] == "GB/s"} >= {"rmsnorm", "gelu", "residual"}
    assert found["linear"]["share"] == 0.5
    N, C = CASES["rmsnorm"].bench
    assert found["rmsnorm"]["rate"] == pytest.approx(24 * N * C / (14 * N * C / 50), rel=1e-3)


def test_an_operation_is_really_timed():
    assert ops.kernel_seconds(CASES["residual"], 1) > 0 and _machine.stream_gb_per_s(1e6, 1) > 0


def test_pytest_benchmark_walks_the_same_table_and_the_default_run_does_not(tmp_path, pytestconfig):
    flags = ["-q", "-p", "no:cacheprovider", "-k", "without_dropout", f"--benchmark-json={tmp_path}/found"]
    command = [sys.executable, "-m", "pytest", "benchmarks", "--benchmark-only", *flags]
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    done = subprocess.run(command, cwd=ROOT, env=alone, capture_output=True, text=True, timeout=600)
    chosen = [name for name in CASES if "without_dropout" in name]
    counts = f"{len(chosen)} passed, {len(CASES) - len(chosen)} deselected"
    assert done.returncode == 0 and counts in done.stdout, done.stdout
    found, *_ = json.loads((tmp_path / "found").read_text())["benchmarks"]
    assert found["stats"]["rounds"] == 20 and found["stats"]["min"] > 0
    assert pytestconfig.getini("testpaths") == ["tests"]
    assert found["extra_info"]["kernel_s"] == pytest.approx(found["stats"]["median"])


@pytest.mark.parametrize("key", ["forward", "backward"])
def test_a_wrong_operation_is_not_timed(key, monkeypatch):
    case = CASES["gelu"]
    if key == "forward":

        def broken(i):
            return case.forward(i)[0] * (1.01 if i["x"].dtype == np.float32 else 1), None
    else:

        def broken(dy, *others):
            return {name: grad * np.float32("nan") for name, grad in case.backward(dy, *others).items()}

    monkeypatch.setitem(CASES, "gelu", dataclasses.replace(case, **{key: broken}))
    with pytest.raises(MicrogptError, match=r"gelu: (y|dx) is wrong"):
        ops.main(["gelu", "--threads", "1", "--repeats", "1"])


# ---- tables --------------------------------------------------------------------------------------


def test_threads_take_turns_and_those_above_the_cpus_are_marked(capsys, monkeypatch):
    monkeypatch.setattr(threads, "available_cpus", lambda: 1)
    monkeypatch.setattr(threads, "gemm_peak_gflops", lambda *args, **others: 100.0 * native.threads())
    threads.main(TABLE)
    out = capsys.readouterr().out
    rows = json.loads(out.splitlines()[-1])["models"][0]["rows"]
    assert [(row["threads"], row["above_cpus"], row["gemm_peak_gflops"]) for row in rows] == [
        (1, False, 100),
        (2, True, 200),
    ]
    assert rows[0]["speedup"] == 1 and "2* " in out and "* above the 1 CPUs" in out


def test_speed_up_is_the_median_of_the_turns_and_share_that_of_the_same_threads():
    config = ModelConfig.from_preset("tiny", 300)
    found = threads.row(2, [0.1, 0.2, 0.1], [0.2, 0.3, 0.9], 64, config, 1.0)
    assert found["step_s"] == 0.1 and found["speedup"] == 2.0 and found["tok_per_s"] == 640
    assert found["mfu"] == pytest.approx(640 * flop_per_token(config) / 1e9, rel=0.01)


def test_one_thread_is_always_in_the_table(monkeypatch):
    monkeypatch.setattr(threads, "available_cpus", lambda: 6)
    assert threads.counts_of("4,2") == [1, 2, 4] and threads.counts_of(None) == [1, 2, 4, 6]
    assert threads.counts_of("auto") == [1, 6]


def test_predicted_cost_follows_the_flop_and_the_rest_stays_flat():
    rows = scaling.SWEEPS["window"]
    flop = [row.batch_size * row.config.seq_len * flop_per_token(row.config) for row in rows]
    found = scaling.costs(rows, [count / 1e11 for count in flop])  # a machine of a constant rate
    for row, cost in zip(rows, found, strict=True):
        assert cost["predicted_token_us"] == pytest.approx(cost["token_us"], rel=1e-3)
        assert cost["rest_us"] == pytest.approx(6 * count_parameters(row.config) / 1e5, rel=1e-3)
    assert found[-1]["attention_share"] > 0.3 and [row.config.seq_len for row in rows][-1] == 2048


def test_a_sweep_is_measured_and_drawn(capsys, monkeypatch):
    rows = [scaling.Row(T, 1, scaling.shape(32, 1, T, 50)) for T in (8, 64)]
    monkeypatch.setitem(scaling.SWEEPS, "window", rows)
    scaling.main(["--sweep", "window", "--steps", "1", "--threads", "1", "--json"])
    lines = capsys.readouterr().out.splitlines()
    found = json.loads(lines[-1])["sweeps"]["window"]
    assert [row["value"] for row in found] == [8, 64] and max(line.count("#") for line in lines) > 20


# ---- PyTorch -------------------------------------------------------------------------------------


def test_without_pytorch_there_is_one_clear_line(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MicrogptError, match="--vs-torch: PyTorch is not installed"):
        step.main([*TINY, "--vs-torch"])


def test_the_ratio_is_the_median_of_the_turns():
    assert step.against([1.0, 2.0, 1.0], [2.0, 6.0, 9.0]) == {"torch_step_s": 6.0, "ratio": 3.0}
    assert step.against([1.0], []) == {}


@pytest.mark.oracle("torch")
def test_the_peer_answers_from_a_process_of_its_own(capsys):
    step.main([*TINY, "--vs-torch"])
    found = last_json(capsys)
    rounding = 1e-5 * (1 + found["ratio"]) + 1e-3 * found["step_s"]
    assert found["torch_step_s"] == pytest.approx(found["ratio"] * found["step_s"], abs=rounding)
    peer = _torch_peer.TorchPeer(ModelConfig.from_preset("tiny", 300), 1)
    with peer:
        peer._process.kill()
        peer._process.wait()
        with pytest.raises(MicrogptError, match="the PyTorch process ended"):
            peer.seconds(1)
    assert peer._process.stdout.closed


def test_names_of_a_list_are_drawn_asked_and_marked_by_kind(tmp_path, monkeypatch, capsys):
    listed = ["Olivia", "Željko", "Jean-Luc", "Ana Paula", "Paris", "Иван", "42", " Olivia ", ""]
    (tmp_path / "names.txt").write_text("\n".join(listed), encoding="utf-8")
    answers = {"Olivia": "Your name is Olivia.", "Željko": "Your name is Zeljko.", "Jean-Luc": "Jean!"}

    class Session:
        def __init__(self, *_):
            self.told = ""

        def reset(self):
            self.told = ""

        def reply(self, text):
            self.told = self.told or text.removeprefix("My name is ").removesuffix(".")
            yield answers.get(self.told, f"You are {self.told}.") if text == "What is my name?" else "Okay."

    monkeypatch.setattr(names, "trained_words", lambda: {"Paris", "Okay"})
    monkeypatch.setattr(names, "load_model", lambda run: (None, None, None))
    monkeypatch.setattr(names, "ChatSession", Session)
    names.main(["run", "--names", str(tmp_path / "names.txt"), "--show", "1"])
    out = capsys.readouterr().out
    assert "5 names; 1 occur in training and are not drawn; 4 drawn, 0 of them in training text" in out
    assert out.count("plain 1/1 100.0%  accents 0/1 0.0%  two parts 1/2 50.0%  all 2/4 50.0%") == 2
    assert "Željko: Your name is Zeljko." in out or "Jean-Luc: Jean!" in out
