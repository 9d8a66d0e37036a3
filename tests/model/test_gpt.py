"""The whole model: counts, gradients, causality, the shift, initial values, threads, and PyTorch."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from microgpt.common.errors import ConfigError, ShapeError
from microgpt.core import native, random
from microgpt.model import GPT, Batch, ModelConfig, count_parameters
from microgpt.model.layer import Call
from microgpt.model.presets import COUNTED_WITH, COUNTED_WITH_OTHERS, PRESETS

KEYS = random.keys(0, "dropout of the tests", range(3))
SMALL = ModelConfig(n_layer=2, n_head=2, n_embd=12, seq_len=9, vocab_size=17, dropout=0.2, init_std=0.3)
LOOKING_BACK = replace(SMALL, look_back=2)


def tokens(name, B, T, V=17):
    draws = random.uniform(random.key(0, name), B * T)
    return (draws * V).astype(np.int32).reshape(B, T)


def small(dtype, config=SMALL):
    model = GPT(config, dtype)
    model.init(5)
    for name in model.params:  # norm weights away from one, where a wrong gradient could hide
        if "ln" in name:
            model.params[name][:] = 1 + 0.3 * random.normal(random.key(1, name), config.n_embd)
    return model


@pytest.mark.parametrize("name, vocab_size, count", [("10m", 2188, 10_003_712), ("34m", 4188, 33_472_896)])
def test_known_counts(name, vocab_size, count):
    config = ModelConfig.from_preset(name, vocab_size)
    assert count_parameters(config) == count
    C, L = config.n_embd, config.n_layer
    assert count == 12 * L * C * C + (2 * L + 1) * C + vocab_size * C


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "tiny"])
def test_presets_are_named_by_what_they_count_to(name):
    vocab_size = COUNTED_WITH_OTHERS.get(name, COUNTED_WITH)
    size = name.partition("-")[0]
    millions = float(size[:-1]) * {"m": 1, "b": 1000}[size[-1]]
    assert count_parameters(ModelConfig.from_preset(name, vocab_size)) == pytest.approx(
        millions * 1e6, rel=0.05
    )


def test_counted_parameters_are_the_parameters_there_are():
    model = small(np.float32)
    assert model.params.flat.size == sum(x.size for x in model.params.values()) == count_parameters(SMALL)


GROUPED = replace(SMALL, n_head=3, n_kv_head=1)


@pytest.mark.parametrize("config", [SMALL, GROUPED, LOOKING_BACK])
@pytest.mark.parametrize("keys", [None, KEYS[:2]])
def test_gradient_of_the_whole_model(keys, config):
    """Central differences in float64, every tensor: a random direction, and some single coordinates."""
    model = small(np.float64, config)
    ids, targets = tokens("ids", 2, 9), tokens("targets", 2, 9)
    targets[0, 3] = -1
    model.loss_and_grad(Batch(ids, targets), keys)

    def loss_at(name, direction, h):
        model.params[name][:] += h * direction
        probe = GPT(config, np.float64)
        probe.params.flat[:] = model.params.flat
        nats, n = probe.loss_and_grad(Batch(ids, targets), keys)
        model.params[name][:] -= h * direction
        assert n == 17
        return nats

    for name, grad in model.grads.items():
        direction = random.normal(random.key(2, name), grad.size).reshape(grad.shape)
        one = np.zeros_like(grad)
        one.flat[random.bits(random.key(3, name), 1)[0] % np.uint64(grad.size)] = 1
        for d in (direction, one):
            slope = (loss_at(name, d, 1e-5) - loss_at(name, d, -1e-5)) / 2e-5
            size = np.abs(grad).max() * np.sqrt((d * d).sum())
            assert abs(slope - (grad * d).sum()) <= 1e-6 * size, name


def test_a_frozen_parameter_has_no_gradient_and_the_others_keep_theirs():
    frozen = ("h.0.attn.qkv.weight", "h.1.ln_2.weight", "wte.weight", "h.1.mlp.proj.weight")
    ids, targets = tokens("ids", 2, 9), tokens("targets", 2, 9)
    whole, part = small(np.float32), GPT(SMALL, frozen=frozen)
    part.params.flat[:] = whole.params.flat
    assert part.loss_and_grad(Batch(ids, targets), KEYS[:2]) == whole.loss_and_grad(
        Batch(ids, targets), KEYS[:2]
    )
    assert set(whole.grads) - set(part.grads) == set(frozen)
    for name, grad in part.grads.items():
        assert grad.tobytes() == whole.grads[name].tobytes(), name


@pytest.mark.parametrize("level", native.supported_levels())
def test_float32_agrees_with_float64(level):
    ids, targets = tokens("ids", 3, 9), tokens("targets", 3, 9)
    truth = small(np.float64)
    truth_nats, n = truth.loss_and_grad(Batch(ids, targets), KEYS)
    native.use_level(level)
    try:
        model = small(np.float32)
        nats = model.loss_and_grad(Batch(ids, targets), KEYS)[0]
    finally:
        native.use_level()
    assert nats == pytest.approx(truth_nats, rel=1e-5) and n == ids.size
    for name, grad in model.grads.items():
        assert np.abs(grad - truth.grads[name]).max() <= 1e-4 * np.abs(truth.grads[name]).max(), name


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("cuts", [(4,), (1, 5), (2, 3), (1, 2, 3, 4, 5)])
def test_parts_of_a_batch_add_up_to_the_whole(cuts, recompute):
    """Masks of uneven counts, one of them empty; a row is dropped from alike, whatever is beside it."""
    ids, targets = tokens("ids", 6, 9), tokens("targets", 6, 9)
    for row, n in enumerate((9, 1, 5, 0, 7, 2)):
        targets[row, n:] = -1
    keys = random.keys(0, "rows", range(6))
    whole, parts = small(np.float64), small(np.float64)
    if recompute:
        parts = GPT(SMALL, np.float64, recompute=True)
        parts.params.flat[:] = whole.params.flat
    summed = whole.loss_and_grad(Batch(ids, targets), keys)
    sums = [
        parts.loss_and_grad(Batch(ids[start:end], targets[start:end]), keys[start:end])
        for start, end in zip((0, *cuts), (*cuts, 6), strict=True)
    ]
    assert sum(n for _, n in sums) == summed[1] == 24
    assert sum(nats for nats, _ in sums) == pytest.approx(summed[0], rel=1e-13)
    for name, grad in whole.grads.items():
        assert np.abs(parts.grads[name] - grad).max() <= 1e-12 * np.abs(grad).max(), name


@pytest.mark.parametrize("dtype, close", [(np.float64, 1e-12), (np.float32, 1e-4)])
def test_documents_of_one_row_are_as_they_are_in_rows_of_their_own(dtype, close):
    """Behind one another with their starts, or each alone with nothing behind it."""
    config = ModelConfig(2, 2, 12, 9, 17, init_std=0.3, look_back=2)
    ids, targets = tokens("ids", 1, 9), tokens("targets", 1, 9)
    packed, alone = small(dtype, config), small(dtype, config)
    nats, n = packed.loss_and_grad(
        Batch(ids, targets, starts=np.array([[0, 0, 0, 3, 3, 3, 3, 3, 8]], np.int32))
    )
    parts = [slice(0, 3), slice(3, 8), slice(8, 9)]
    sums = [alone.loss_and_grad(Batch(ids[:, part], targets[:, part])) for part in parts]
    assert n == 9 and nats == pytest.approx(sum(nats for nats, _ in sums), rel=close)
    for name, grad in packed.grads.items():
        assert np.abs(alone.grads[name] - grad).max() <= close * np.abs(grad).max(), name
    losses = packed.token_losses(Batch(ids, targets, starts=np.zeros_like(ids)))
    assert abs(losses.sum() - nats) > 1e-3, "one document of nine is another"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_weight_is_how_often_a_target_counts(dtype):
    """Three rows of one loss each, or one row weighted by three; a weight may be negative, or nothing."""
    ids, targets = tokens("ids", 1, 9), tokens("targets", 1, 9)
    weights = np.array([[3, 1, 0, 1, -2, 1, 1, 0.5, 1]])
    weighted, summed = small(dtype), small(dtype)
    nats, n = weighted.loss_and_grad(Batch(ids, targets, weights))
    assert n == 9, "targets, not weights"
    total = 0.0
    for place, weight in enumerate(weights[0]):
        one = small(dtype)
        only = np.where(np.arange(9) == place, targets, -1).astype(np.int32)
        total += weight * one.loss_and_grad(Batch(ids, only))[0]
        summed.grads.flat[:] += dtype(weight) * one.grads.flat
    assert nats == pytest.approx(total, rel=1e-5)
    for name, grad in summed.grads.items():
        assert np.abs(weighted.grads[name] - grad).max() <= 1e-4 * np.abs(grad).max(), name
    ones = small(dtype)
    assert ones.loss_and_grad(Batch(ids, targets, np.ones((1, 9)))) == small(dtype).loss_and_grad(
        Batch(ids, targets)
    )


def test_a_batch_without_targets_has_no_loss_and_no_gradient():
    model, ids = small(np.float32), tokens("ids", 2, 9)
    assert model.loss_and_grad(Batch(ids, np.full_like(ids, -1)), KEYS[:2]) == (0.0, 0)
    assert not model.grads.flat.any()


@pytest.mark.parametrize("config", [SMALL, LOOKING_BACK])
def test_no_token_sees_the_future(config):
    model, ids = small(np.float32, config), tokens("ids", 1, 9)
    before = model.logits(ids)
    for t in range(1, 9):
        changed = ids.copy()
        changed[0, t] = (changed[0, t] + 1) % 17
        after = model.logits(changed)
        assert after[0, :t].tobytes() == before[0, :t].tobytes()
        assert (after[0, t] != before[0, t]).any()


def test_each_sequence_looks_back_on_itself_alone():
    """By hand: x_t = wte[id_t] + back[0] wte[id_(t-1)] + back[1] wte[id_(t-2)]."""
    model, ids = small(np.float64, LOOKING_BACK), tokens("ids", 2, 5)
    table, back = model.params["wte.weight"], model.params["wte.back"]
    x = model.embedding.forward(ids, model.params, Call(2, 5)).reshape(2, 5, -1)
    for b, t in np.ndindex(2, 5):
        expected = table[ids[b, t]].copy()
        for k in range(1, min(t, 2) + 1):
            expected += back[k - 1] * table[ids[b, t - k]]
        np.testing.assert_allclose(x[b, t], expected, rtol=1e-12)


def test_a_document_does_not_look_back_into_the_one_before_it():
    model, ids = small(np.float64, LOOKING_BACK), tokens("ids", 1, 7)
    call = Call(1, 7, starts=np.array([[0, 0, 0, 3, 3, 3, 3]], np.int32))
    together = model.embedding.forward(ids, model.params, call)
    apart = [model.embedding.forward(part, model.params, Call(1, 1)) for part in (ids[:, :3], ids[:, 3:])]
    np.testing.assert_array_equal(together, np.concatenate(apart))


def test_copying_the_input_does_not_score():
    """Where every layer adds nothing, the tied head points back at the input: the loss must be bad for
    targets that follow the input and good only if targets were, wrongly, the input itself."""
    model = small(np.float32)
    model.params.flat[:] = 0
    model.params["wte.weight"][:, :] = np.eye(17, 12) * 30
    model.params["ln_f.weight"][:] = 3
    ids = np.arange(9, dtype=np.int32)[None]
    assert model.token_losses(Batch(ids, ids)).mean() < 0.01
    assert model.token_losses(Batch(ids[:, :-1], np.ascontiguousarray(ids[:, 1:]))).mean() > 10


def test_losses_agree_with_training_and_with_logits():
    model, ids, targets = small(np.float32), tokens("ids", 2, 9), tokens("targets", 2, 9)
    targets[1, 0] = -1
    losses = model.token_losses(Batch(ids, targets))
    assert losses[1, 0] == 0
    nats, n = model.loss_and_grad(Batch(ids, targets))
    assert nats == pytest.approx(losses.sum(), rel=1e-6) and n == 17
    logits = model.logits(ids)[0, 2].astype(np.float64)
    assert losses[0, 2] == pytest.approx(np.log(np.exp(logits).sum()) - logits[targets[0, 2]], rel=1e-5)


def test_initial_loss_is_that_of_a_guess():
    config = ModelConfig.from_preset("tiny", 300)
    ids, targets = tokens("ids", 4, 64, 300), tokens("targets", 4, 64, 300)
    nats, n = GPT(config).init(0).loss_and_grad(Batch(ids, targets))
    assert nats / n == pytest.approx(np.log(300), rel=0.03)


def test_initial_values():
    model = GPT(ModelConfig(3, 2, 64, 16, 500, init_std=0.05)).init(1)
    assert model.params["wte.weight"].std() == pytest.approx(0.05, rel=0.02)
    assert model.params["h.2.mlp.proj.weight"].std() == pytest.approx(0.05 / np.sqrt(6), rel=0.03)
    assert (model.params["h.1.ln_2.weight"] == 1).all()
    assert (GPT(model.config).init(1).params.flat == model.params.flat).all()
    assert (GPT(model.config).init(2).params.flat != model.params.flat).any()


def test_threads_do_not_change_a_bit():
    config = ModelConfig(2, 3, 48, 160, 301, dropout=0.1, look_back=2)
    ids, targets = tokens("ids", 3, 160, 301), tokens("targets", 3, 160, 301)
    digests = set()
    for threads in (1, 2, 3):
        native.set_threads(threads)
        try:
            model = GPT(config).init(0)
            model.loss_and_grad(Batch(ids, targets), KEYS)
        finally:
            native.set_threads(1)
        digests.add(hashlib.sha256(model.grads.flat.tobytes()).hexdigest())
    assert len(digests) == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("keys", [None, KEYS[:2]])
@pytest.mark.parametrize("config", [SMALL, LOOKING_BACK, ModelConfig(3, 5, 130, 77, 203, dropout=0.1)])
def test_recomputing_does_not_change_a_bit(config, keys, dtype):
    ids, targets = (tokens(name, 2, config.seq_len, config.vocab_size) for name in ("ids", "targets"))
    targets[1, 2] = -1
    results = []
    for recompute in (False, True):
        model = GPT(config, dtype, recompute).init(5)
        losses = [model.loss_and_grad(Batch(ids, targets), keys) for _ in range(2)]
        results.append([*losses, model.grads.flat.tobytes(), model.logits(ids).tobytes()])
    assert results[0] == results[1]


def test_dropout_depends_on_its_keys_alone():
    model, ids = small(np.float32), tokens("ids", 2, 9)
    losses = [model.loss_and_grad(Batch(ids, ids), keys)[0] for keys in (KEYS[:2], KEYS[:2], KEYS[1:], None)]
    assert losses[0] == losses[1] and len(set(losses)) == 3


@pytest.mark.parametrize(
    "change, word",
    [
        ({"n_head": 5}, "heads"),
        ({"n_layer": 0}, "n_layer"),
        ({"dropout": 1.0}, "dropout"),
        ({"norm": "batchnorm"}, "norm"),
        ({"n_kv_head": 3}, "n_kv_head"),
        ({"mixer": "attention dance"}, "mixer"),
        ({"mixer": " "}, "mixer"),
        ({"n_embd": 6}, "even"),
        ({"init_std": -1.0}, "init_std"),
        ({"look_back": -1}, "look_back"),
        ({"look_back": 9}, "look_back"),
    ],
)
def test_impossible_configurations_are_refused_by_name(change, word):
    with pytest.raises(ConfigError, match=word):
        ModelConfig(**{**SMALL.to_dict(), **change})


@pytest.mark.parametrize(
    "values",
    [
        {},
        {**SMALL.to_dict(), "colour": 1},
        {**SMALL.to_dict(), "n_embd": "12"},
        {**SMALL.to_dict(), "n_head": True},
    ],
)
def test_foreign_configurations_are_refused(values):
    with pytest.raises(ConfigError):
        ModelConfig.from_dict(values)
    assert ModelConfig.from_dict(LOOKING_BACK.to_dict()) == LOOKING_BACK


def test_a_model_saved_before_models_looked_back_does_not():
    values = SMALL.to_dict()
    del values["look_back"]
    assert ModelConfig.from_dict(values) == SMALL


def test_bad_tokens_are_refused():
    model = small(np.float32)
    with pytest.raises(ShapeError, match="17"):
        model.logits(np.full((1, 3), 17, np.int32))
    with pytest.raises(ShapeError, match="window"):
        model.logits(np.zeros((1, 10), np.int32))


@pytest.mark.oracle("torch")
@pytest.mark.parametrize("starts", [None, [[0, 0, 0, 0, 0, 5, 5, 5, 5], [0, 0, 2, 2, 4, 4, 4, 4, 8]]])
@pytest.mark.parametrize(
    "config",
    [SMALL, replace(LOOKING_BACK, rope_theta=500.0), GROUPED, replace(GROUPED, mlp="swiglu")],
    ids=["plain", "look back", "shared keys", "gated"],
)
def test_same_function_as_torch(config, starts):
    """Logits, loss and every gradient against PyTorch's own operations and its autograd."""
    import torch

    from benchmarks._torch_twin import Twin

    config = replace(config, dropout=0.0)
    model, ids, targets = small(np.float32, config), tokens("ids", 2, 9), tokens("targets", 2, 9)
    targets[0, 4] = targets[1, 0] = -1
    begins = None if starts is None else np.array(starts, np.int32)
    nats, n = model.loss_and_grad(Batch(ids, targets, starts=begins))
    twin = Twin(config, {name: model.params[name] for name in model.params})
    theirs = [torch.from_numpy(array).long() for array in (ids, targets)]
    theirs.append(None if starts is None else torch.from_numpy(begins))
    if starts is None:
        assert np.abs(twin.logits(theirs[0]).detach().numpy() - model.logits(ids)).max() < 1e-5
    loss = twin.loss(*theirs)
    assert n == 16 and nats / n == pytest.approx(loss.item(), rel=1e-5)
    loss.backward()
    for name, grad in model.grads.items():
        wanted = twin.weights[name].grad.numpy()
        assert np.abs(grad / n - wanted).max() <= 1e-4 * np.abs(wanted).max(), name
