"""What a step holds, what is said beforehand, and that later steps ask for nothing."""

import os
import re
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from microgpt.core import arrays, native
from microgpt.machine import rates
from microgpt.model import ModelConfig
from microgpt.runs.settings import TrainConfig
from microgpt.training.needs import activation_bytes
from microgpt.training.thread_choice import TrialStep

ROOT = Path(__file__).parents[2]
SHAPES = [  # layers, heads, channels, window, vocabulary, dropout; batch
    (ModelConfig(4, 12, 192, 128, 1300, dropout=0.1), 4),
    (ModelConfig(9, 2, 96, 130, 600), 5),
    (ModelConfig(2, 4, 128, 256, 5000, dropout=0.1), 1),
    (ModelConfig(5, 8, 192, 128, 1300, n_kv_head=4, mlp="swiglu", norm="layernorm", bias="qkv mlp norm"), 4),
    (ModelConfig(5, 8, 192, 128, 2600, norm_place="both", qk_norm="head", logit_cap=9.0, tied=False), 4),
    (ModelConfig(5, 8, 192, 128, 600, embedding_mix=True, value_embedding=2, positions="learned"), 4),
]


def trial(model, batch_size, recompute):
    native.set_threads(1)  # each takes a little for itself
    arrays.release()
    return TrialStep(model, TrainConfig(batch_size=batch_size, recompute=recompute, threads="1"), batch_size)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("model, batch_size", SHAPES)
def test_a_step_holds_what_the_estimate_says(model, batch_size, recompute):
    step, before = trial(model, batch_size, recompute), arrays.held()[1]
    step()
    estimate = activation_bytes(model, step.optimizer.config)
    assert arrays.held()[1] - before == pytest.approx(estimate, rel=0.1)


@pytest.mark.parametrize("n_embd", [64, 384])  # a thread has a matrix of its own; all are at the largest
def test_what_muon_works_in_is_part_of_it(n_embd):
    model = ModelConfig(1, 4, n_embd, 8, 50)
    native.set_threads(3)
    arrays.release()
    step = TrialStep(model, TrainConfig(batch_size=1, optimizer="muon", threads="3"), 1)
    before = arrays.held()[1]
    step()
    estimate = activation_bytes(model, step.optimizer.config)
    of_adam = activation_bytes(model, TrainConfig(batch_size=1, optimizer="adam"))
    native.set_threads(1)
    assert arrays.held()[1] - before == pytest.approx(estimate, rel=0.15) and estimate > 1.5 * of_adam


def test_evaluations_and_the_peak_of_the_machine_add_nothing_to_a_step():
    """Logits of more rows than are made at once lie there once, and nothing stays of a measured product."""
    step = trial(ModelConfig(2, 4, 128, 256, 5000), 4, False)
    before = arrays.held()[1]
    rates.product_flop_per_s.__wrapped__("fp32")  # which the other tests do once for all
    assert arrays.held()[1] <= before
    step.model.token_losses(step.batch)
    step.model.token_results(step.batch)
    step()
    assert arrays.held()[1] - before < 1.1 * activation_bytes(step.model.config, step.optimizer.config)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("model, batch_size", [SHAPES[0], *SHAPES[-3:]])
def test_the_second_and_third_step_ask_for_no_memory(model, batch_size, recompute):
    step = trial(model, batch_size, recompute)
    step()
    held = arrays.held()
    tracemalloc.start()
    try:
        step(), step()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert arrays.held() == held
    assert peak < batch_size * model.seq_len * model.n_embd * 4, "no array of NumPy's own either"


@pytest.mark.parametrize("flags", [[], ["--recompute"]])
def test_the_estimate_of_a_run_is_near_its_peak(flags, tmp_path):
    """Seven times 26 MB of weights, gradients, moments and copies to be saved; and activations."""
    (tmp_path / "text.txt").write_text("".join(f"{n} hats cost {7 * n} coins.\n\n" for n in range(3000)))
    words = [
        "-m",
        "microgpt.train",
        "--preset",
        "10m",
        "--n-layer",
        "8",
        "--merges",
        "100",
        "--max-steps",
        "1",
        "--batch-size",
        "4",
        "--eval-every",
        "0",
        "--sample-every",
        "0",
        "--threads",
        "1",
        "--out-dir",
        "run",
        "--data",
        "text.txt",
        *flags,
    ]
    done = subprocess.run(
        [sys.executable, *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "MICROGPT_DATA_DIR": str(tmp_path / "data")},
    )
    assert done.returncode == 0, done.stderr
    peak, estimate = re.search(r"at most ([\d.]+) GB \(estimated ([\d.]+) ", done.stdout).groups()
    assert f"about {estimate} GB of memory" in done.stdout
    assert float(peak) == pytest.approx(float(estimate), rel=0.15)
