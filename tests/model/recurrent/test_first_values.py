"""What tensors of recurrent layers begin as."""

import numpy as np
import pytest

from microgpt.core import random
from microgpt.model import GPT, ModelConfig
from microgpt.model.first_values import BLOCK, orthogonal, orthonormal


@pytest.mark.parametrize("shape", [(5, 5), (BLOCK + 9, BLOCK + 9), (40, 200), (3 * BLOCK, 70)])
def test_orthogonal_values_are_so_whichever_side_is_longer(shape):
    w = orthogonal(0.1)(random.key(0, "w"), shape)
    short = w if shape[0] <= shape[1] else w.T
    assert w.shape == shape
    np.testing.assert_allclose(short @ short.T, 0.01 * np.eye(min(shape)), atol=1e-8)
    assert not np.array_equal(w, orthogonal(0.1)(random.key(0, "other"), shape))


def test_the_rows_of_a_qr_with_a_positive_diagonal_so_that_none_is_likelier():
    drawn = random.normal(random.key(1, "w"), 150 * 170).reshape(150, 170).astype(np.float64)
    q, r = np.linalg.qr(drawn.T)
    np.testing.assert_allclose(orthonormal(drawn), (q * np.sign(np.diag(r))).T, atol=2e-5)


def test_nearly_equal_rows_come_out_orthogonal_too():
    rows = np.ones((4, 9)) + 1e-3 * random.normal(random.key(2, "w"), 36).reshape(4, 9)
    made = orthonormal(rows)
    np.testing.assert_allclose(made @ made.T, np.eye(4), atol=1e-6)


@pytest.mark.parametrize("kind", ["rwkv6", "rwkv7"])
def test_matrices_of_rwkv_begin_as_its_authors_have_them(kind):
    config = ModelConfig(2, 2, 32, 8, 31, mixer=kind, mlp=kind, recurrent_head=16)
    params = GPT(config).init(0).params

    def gain(name):
        """The common length of all rows, or columns, of a matrix whose parts are orthogonal."""
        w = params[f"h.1.{name}.weight"].astype(np.float64)
        singular = np.linalg.svd(w, compute_uv=False)
        assert np.ptp(singular) < 2e-6, name
        return round(float(singular[0]), 5)

    gains = {"receptance": 1, "key": 0.1, "value": 1, "out": 0}
    gains |= {"decay.up": 0.1, "lerp.up": 0.1} if kind == "rwkv7" else {"gate": 0.1}
    assert {name: gain(f"{kind}.{name}") for name in gains} == gains
    assert gain("mlp.fc") == 1 and gain("mlp.proj") == 0
    if kind == "rwkv6":
        up = params["h.1.rwkv6.decay.up.weight"]
        assert 0.009 < np.abs(up).max() <= 0.01 and gain("mlp.receptance") == 0
