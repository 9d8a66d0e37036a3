"""What a model computes in, and what its matrices are stored in: no matter of other models beside it."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest

from microgpt.common.errors import CheckpointError, ConfigError
from microgpt.core import native, random
from microgpt.core.ops import bf16_bits, bf16_floats
from microgpt.files.tensors import header, write_tensors
from microgpt.model import GPT, Batch, ModelConfig
from microgpt.runs.checkpoint import WEIGHTS, load_weights

CONFIG = ModelConfig(n_layer=2, n_head=2, n_embd=24, seq_len=64, vocab_size=70, dropout=0.1, init_std=0.3)
MATRICES = [
    *("wte.weight", "h.0.attn.qkv.weight", "h.0.attn.proj.weight", "h.0.mlp.fc.weight"),
    *("h.0.mlp.proj.weight", "h.1.mlp.fc.weight"),
]


@pytest.fixture(params=native.supported_levels())
def level(request):
    threads = native.threads()
    native.use_level(request.param)
    native.set_threads(2)
    yield request.param
    native.use_level()
    native.set_threads(threads)


def tokens(name, B, T=64):
    draws = random.uniform(random.key(0, name), B * T)
    return (draws * CONFIG.vocab_size).astype(np.int32).reshape(B, T)


def learned(model, steps=4):
    """All numbers of some steps of gradient descent, each followed by what the model then says, as bytes."""
    found = []
    for step in range(steps):
        ids = tokens(f"step {step}", 2)
        nats, n = model.loss_and_grad(Batch(ids, np.roll(ids, -1, 1)), random.keys(0, "keys", range(2)))
        state = model.new_state()
        found += [np.float64(nats), model.token_losses(Batch(ids[:1, :40], ids[:1, 1:41]))]
        found += [model.next_logits([(state, part)]) for part in (ids[0, :50], ids[0, 50:51], ids[0, 51:60])]
        for name, grad in model.grads.items():
            weight = model.params[name]
            weight -= 0.1 / n * grad
            found.append(grad.copy())
            grad[:] = 0
    return b"".join(array.tobytes() for array in found)


def test_models_of_two_precisions_share_a_process_and_no_bit(level):
    alone = {precision: learned(GPT(CONFIG, precision=precision).init(1)) for precision in ("fp32", "bf16")}
    assert alone["fp32"] != alone["bf16"]
    start = Barrier(4)

    def beside_others(precision):
        start.wait()
        return learned(GPT(CONFIG, precision=precision).init(1))

    with ThreadPoolExecutor(4) as threads:
        wanted = ["fp32", "bf16"] * 2
        for precision, found in zip(wanted, threads.map(beside_others, wanted), strict=True):
            assert found == alone[precision]


def test_an_unknown_precision_is_refused():
    with pytest.raises(ConfigError, match=r"^precision 'fp8': expected fp32, bf16$"):
        GPT(CONFIG, precision="fp8").loss_and_grad(Batch(tokens("ids", 1), tokens("ids", 1)))


def stored_in_bf16(precision="fp32", **others):
    return GPT(CONFIG, precision=precision, frozen=MATRICES, types=dict.fromkeys(MATRICES, "bf16"), **others)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_matrices_in_bf16_are_the_floats_that_they_stand_for_to_the_bit(level, precision):
    stored = stored_in_bf16(precision).init(1)
    floats = GPT(CONFIG, precision=precision, frozen=MATRICES).init(1)
    for name in MATRICES:
        assert (bf16_bits(floats.params[name]) == stored.params[name]).all()
        floats.params[name][:] = bf16_floats(stored.params[name])
    assert learned(stored) == learned(floats)
    ids = tokens("ids", 2)
    assert stored.logits(ids).tobytes() == floats.logits(ids).tobytes()


def test_a_matrix_in_bf16_takes_half_the_memory_and_keeps_its_place_by_name():
    stored, plain = stored_in_bf16().init(1).params, GPT(CONFIG).init(1).params
    assert list(stored) == list(plain)
    assert all(2 * stored[name].nbytes == plain[name].nbytes for name in MATRICES)
    assert stored.flat.size == plain.flat.size - sum(plain[name].size for name in MATRICES)
    for name in set(plain) - set(MATRICES):
        assert np.shares_memory(stored[name], stored.flat) and (stored[name] == plain[name]).all()
    assert stored.zeros_like()["wte.weight"].dtype == np.uint16


def test_in_float64_all_is_float64():
    reference = stored_in_bf16(dtype=np.float64).init(1)
    assert {array.dtype for array in reference.params.values()} == {np.dtype(np.float64)}
    assert np.isfinite(reference.logits(tokens("ids", 1))).all()


@pytest.mark.parametrize(
    "name, type, frozen, words",
    [
        ("wte.weight", "bf16", (), r"^wte.weight is to be stored as bf16, but is trained; only frozen"),
        (
            "ln_f.weight",
            "bf16",
            ("ln_f.weight",),
            r"^ln_f.weight is to be stored as bf16, but is a gain; only",
        ),
        ("wte.weight", "fp8", ("wte.weight",), r"^wte.weight: type 'fp8'; expected fp32, bf16$"),
    ],
)
def test_what_may_not_be_stored_so_is_refused(name, type, frozen, words):
    with pytest.raises(ConfigError, match=words):
        GPT(CONFIG, frozen=frozen, types={name: type})


def test_no_checkpoint_takes_the_bits_for_numbers():
    with pytest.raises(
        CheckpointError, match=r"^tensor wte.weight is uint16; a file of tensors holds float32"
    ):
        header(dict(stored_in_bf16().params))


def test_weights_of_a_checkpoint_are_rounded_to_the_types_of_the_model(tmp_path):
    plain, stored = GPT(CONFIG).init(2).params, stored_in_bf16()
    write_tensors(tmp_path / WEIGHTS, plain)
    load_weights(tmp_path, stored)
    for name, array in stored.params.items():
        assert (array == (bf16_bits(plain[name]) if name in MATRICES else plain[name])).all()


def test_bf16_is_the_upper_half_rounded_to_nearest_even():
    cases = {
        -0.0: -0.0,
        1 + 2**-8: 1,
        1 + 3 * 2**-8: 1 + 2**-6,
        -1 - 3 * 2**-8: -1 - 2**-6,
        2 - 2**-8: 2,
        1 + 2**-8 + 2**-20: 1 + 2**-7,
        3.4e38: np.inf,
        -np.inf: -np.inf,
        2**-133: 2**-133,
        2**-134: 0,  # a tie
    }
    x = np.array(list(cases), np.float32)
    assert bf16_floats(bf16_bits(x)).tobytes() == np.array(list(cases.values()), np.float32).tobytes()
    nans = np.array([0x7F800001, 0xFFFFFFFF], np.uint32).view(np.float32)
    assert np.isnan(bf16_floats(bf16_bits(nans))).all()
