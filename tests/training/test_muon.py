"""Muon against the numbers of its authors' code and its formula; what it keeps; runs that go on with it."""

import itertools
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from microgpt.core import ops
from microgpt.model import GPT, Arena, Batch, ModelConfig, count_parameters
from microgpt.model.architecture import table
from microgpt.model.parameters import Parameter
from microgpt.runs.events import Trained
from microgpt.runs.kept import verify
from microgpt.runs.spec import Spec
from microgpt.training.muon import POLYNOMIALS, Muon
from microgpt.training.needs import needs_of, slot_floats
from microgpt.training.run import train_run
from tests.training.fakes import StopAt, make_config

# Three updates of KellerJordan/Muon (commit 857d1adc, MIT) in float64: weights, gradients, and the first
# gradient made orthogonal; rate 0.02, decay 0.1.
GOLDEN = Path(__file__).with_name("muon_fp64.npz")
QKV = ModelConfig(2, 4, 32, 8, 23, n_kv_head=2, mlp="swiglu", n_inner=24)


@pytest.mark.parametrize("shape", ["8x32", "32x8", "16x16"])
def test_updates_are_those_of_its_authors(shape):
    with np.load(GOLDEN) as golden:
        known = {name.partition("/")[2]: golden[name] for name in golden if name.startswith(f"{shape}/")}
    params = Arena([Parameter("a", known["w0"].shape, 0.0)], np.float64)
    model = SimpleNamespace(params=params, grads=params.zeros_like(), precision="fp32", idle=())
    params["a"][:] = known["w0"]
    muon = Muon(model, make_config(optimizer="muon", weight_decay=0.1, muon_lr=0.02, lr=0.05))
    for step in range(3):
        model.grads["a"][:] = 4 * known[f"g{step}"]
        muon.apply(0.05, grad_scale=0.25)
        np.testing.assert_allclose(params["a"], known[f"w{step + 1}"], rtol=0, atol=1e-10)
        assert not model.grads.flat.any()
    made = known["g0"][None].copy()
    ops.newton_schulz(made, *POLYNOMIALS["newton-schulz"])
    np.testing.assert_allclose(made[0], known["ns_g0"], rtol=0, atol=1e-10)


@pytest.mark.parametrize("name, farthest", [("newton-schulz", 0.35), ("polar-express", 0.15)])
@pytest.mark.parametrize("shape", [(60, 200), (200, 60)])
def test_singular_values_come_near_to_one_and_singular_vectors_stay(name, farthest, shape):
    x = np.random.default_rng(0).standard_normal((1, *shape), np.float32)
    left, _, right = np.linalg.svd(x[0], full_matrices=False)
    ops.newton_schulz(x, *POLYNOMIALS[name])
    values = np.linalg.svd(x[0], compute_uv=False)
    assert np.abs(values - 1).max() < farthest
    inner = left.T @ x[0] @ right.T
    assert np.abs(inner - np.diag(np.diag(inner))).max() < 1e-4


@pytest.mark.parametrize("shape", [(100, 400), (400, 100), (100, 110)])
@pytest.mark.parametrize("name", POLYNOMIALS)
def test_singular_values_of_all_sizes_do_not_cost_exactness(name, shape):
    """Small ones grow by hundreds, and so do errors of the inner products that several steps share."""
    left, _, right = np.linalg.svd(np.random.default_rng(0).standard_normal(shape), full_matrices=False)
    x = ((left * np.arange(1, 101.0) ** -2) @ right)[None].astype(np.float32)
    truth = x.astype(np.float64)
    for array in (x, truth):
        ops.newton_schulz(array, *POLYNOMIALS[name])
    assert np.abs(x - truth).max() < 3e-5


def gradients(model, n):
    """Those of n batches, by number."""
    ids = np.random.default_rng(3).integers(0, 23, (n, 2, 8), np.int32)
    for rows in ids:
        yield model.loss_and_grad(Batch(rows, np.roll(rows, -1, 1)))[1]


def orthogonal(u):
    x = u / (np.sqrt((u**2).sum()) + 1e-7)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.775 * a + 2.0315 * a @ a) @ x
    return x


def test_each_part_of_a_packed_matrix_is_orthogonal_by_itself_and_the_rest_is_adams():
    config = make_config(optimizer="muon", muon_lr=0.1, lr=0.01, weight_decay=0.1, grad_clip=0.0)
    model = GPT(QKV).init(1)
    muon, before = Muon(model, config), {name: w.astype(np.float64) for name, w in model.params.items()}
    (n,) = gradients(model, 1)
    grads = {name: g.astype(np.float64) / n for name, g in model.grads.items()}
    muon.update(0.005, 1.0, n)  # half of the peak rate

    parts = {"h.1.attn.qkv.weight": (32, 16, 16), "h.0.mlp.fc.weight": (24, 24), "h.0.mlp.proj.weight": (32,)}
    for name, rows in parts.items():
        wanted, cuts = [], np.cumsum(rows)[:-1]
        for w, g in zip(np.split(before[name], cuts), np.split(grads[name], cuts), strict=True):
            factor = math.sqrt(max(1, w.shape[0] / w.shape[1]))
            wanted.append((1 - 0.05 * 0.1) * w - 0.05 * factor * orthogonal((0.05 + 0.95 * 0.05) * g))
        np.testing.assert_allclose(model.params[name], np.concatenate(wanted), rtol=0, atol=2e-6)
    for name, decay in {"wte.weight": 0.1, "ln_f.weight": 0.0}.items():
        update = grads[name] / (np.abs(grads[name]) + config.eps) + decay * before[name]  # of a first step
        np.testing.assert_allclose(model.params[name], before[name] - 0.005 * update, rtol=0, atol=2e-6)
    assert muon.updates == 1 and not model.grads.flat.any()


def test_kernels_follow_the_reference_through_a_model():
    models = [GPT(QKV, dtype).init(1) for dtype in (np.float32, np.float64)]
    for model in models:
        muon = Muon(model, make_config(optimizer="muon", muon_lr=0.02, weight_decay=0.1))
        for n in gradients(model, 3):
            muon.update(0.01, muon.grad_norm(n), n)
    for name, weights in models[0].params.items():
        np.testing.assert_allclose(weights, models[1].params[name], rtol=0, atol=2e-3, err_msg=name)


def test_parts_of_packed_matrices_are_in_the_table():
    blocks = {p.name: p.row_blocks for p in table(QKV)}
    assert blocks["h.0.attn.qkv.weight"] == (32, 16, 16) and blocks["h.0.mlp.fc.weight"] == (24, 24)
    assert blocks["h.0.attn.proj.weight"] == (32,) and blocks["ln_f.weight"] == (32,)
    plain = {p.name: p.row_blocks for p in table(ModelConfig(1, 2, 16, 8, 23))}
    assert plain["h.0.mlp.fc.weight"] == (64,) and plain["h.0.attn.qkv.weight"] == (16, 16, 16)


def test_frozen_parameters_stay_and_have_no_slots():
    frozen = ("wte.weight", "h.0.mlp.fc.weight", "h.1.ln_2.weight")
    models = [GPT(QKV).init(1), GPT(QKV, frozen=frozen).init(1)]
    for model in models:
        muon = Muon(model, make_config(optimizer="muon"))
        for n in gradients(model, 1):
            muon.update(0.01, 1.0, n)
    kept = {name for slot in muon.slots.values() for name in slot}
    assert kept == set(model.params) - set(frozen)
    for name, start in GPT(QKV).init(1).params.items():
        whole, part = (model.params[name].tobytes() for model in models)
        assert part == (start.tobytes() if name in frozen else whole), name


def test_a_rate_of_zero_before_the_first_step_changes_nothing():
    model = GPT(QKV).init(1)
    model.params["h.0.attn.proj.weight"][0, 0] = -0.0
    before = model.params.flat.tobytes()
    muon = Muon(model, make_config(optimizer="muon", weight_decay=0.1))
    muon.apply(lr=0.0)
    assert model.params.flat.tobytes() == before
    assert not any(slot.flat.any() for slot in muon.slots.values())


def small(text, **settings):
    values = {"n_layer": 2, "seq_len": 16, "merges": 20, "batch_size": 2, "eval_every": 4, "eval_tokens": 64}
    values |= {"recipe": "fast", "threads": "1", "log_every": 1, "max_steps": 12, "sample_every": 0}
    return Spec.of("tiny", data=str(text), **(values | settings))


@pytest.fixture
def text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MICROGPT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    words = itertools.cycle(["the", "cat", "sat", "on", "a", "mat", "and", "saw", "other", "cats", "there"])
    (tmp_path / "text.txt").write_text(
        "\n\n".join(" ".join(next(words) for _ in range(9)) for _ in range(200))
    )
    return tmp_path / "text.txt"


def test_a_run_by_the_fast_recipe_learns_and_goes_on_to_the_bit(text):
    heard = []
    whole = train_run(small(text), "whole", [heard.append])
    stop = StopAt(5)
    first = train_run(small(text), "cut", [stop], stop=stop)
    second = train_run(small(text), "cut", [])
    assert first.why == "stopped" and second.step == whole.step == 12
    for name in ("model", "optimizer"):
        files = [one.checkpoint / f"{name}.safetensors" for one in (whole, second)]
        assert files[0].read_bytes() == files[1].read_bytes()
    losses = [event.loss_nats for event in heard if isinstance(event, Trained)]
    assert losses[-1] < losses[0] - 0.5
    verify(whole.checkpoint)


def test_memory_is_that_of_one_momentum_and_two_moments(text):
    plan = small(text).plan()
    adam = small(text, optimizer="adam").plan()
    hidden = 12 * 2 * 32 * 32
    assert slot_floats(plan.model, "muon") == hidden + 2 * (count_parameters(plan.model) - hidden)
    needs, of_adam = (needs_of(one.model, one.train) for one in (plan, adam))
    assert of_adam.slots - needs.slots == of_adam.copies - needs.copies == 4 * hidden
