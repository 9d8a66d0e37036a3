"""Several texts in one run: shares hold to the window, each text goes its own way, nothing is remembered."""

import numpy as np
import pytest

from microgpt.batches.batches import Batches
from microgpt.batches.mixed import ROUND, MixedBatches, spread
from microgpt.common.errors import ConfigError
from microgpt.corpus.token_file import TokenFile, write_token_file
from tests.batches.test_batches import Plain


@pytest.fixture
def mixed(tmp_path):
    def stream(number, n):
        path = tmp_path / f"{number}.tokens"
        if not path.exists():
            write_token_file(path, [np.arange(n, dtype=np.int32)], Plain())
        return TokenFile.open(path)

    def mixed(shares, batch_size=4, sizes=(400, 90, 200)):
        files = [stream(number, n) for number, n in enumerate(sizes[: len(shares)])]
        parts = [Batches(file, 9, batch_size, seed=number) for number, file in enumerate(files)]
        return MixedBatches(parts, shares, batch_size)

    return mixed


@pytest.mark.parametrize("shares", [(0.7, 0.3), (0.001, 0.999), (1 / 3, 1 / 3, 1 / 3), (0.5, 0.45, 0.05)])
def test_after_any_number_of_windows_each_text_had_its_share(shares):
    had = (np.tile(spread(shares), 2)[:, None] == np.arange(len(shares))).cumsum(0)
    wanted = np.arange(1, 2 * ROUND + 1)[:, None] * np.array(shares)
    assert np.abs(had - wanted).max() < 1 + 2 * ROUND * 1e-3 / 3
    if np.allclose(np.array(shares) * ROUND % 1, 0):
        assert (had[ROUND - 1] == np.round(np.array(shares) * ROUND)).all()


def test_each_text_is_read_in_its_own_order_without_a_gap(mixed):
    made = mixed((0.75, 0.25))
    rows = [row for index in range(40) for row in made.batch(index).ids.tolist()]
    of = spread((0.75, 0.25))[:160].tolist()
    for part in (0, 1):
        own = [row for row, number in zip(rows, of, strict=True) if number == part]
        alone = made.parts[part].rows(0, len(own))
        assert own == alone.ids.tolist()
    assert made.n_windows == round(made.parts[0].n_windows / 0.75)


def test_any_batch_can_be_made_first(mixed):
    late = mixed((0.5, 0.3, 0.2)).batch(700)
    made = mixed((0.5, 0.3, 0.2))
    for index in (3, 250, 700):
        again = made.batch(index)
    assert again.ids.tobytes() == late.ids.tobytes() and again.targets.tobytes() == late.targets.tobytes()


def test_shares_that_do_not_add_up_are_refused(mixed):
    for shares in ((0.7, 0.2), (0.9996, 0.0004), (1.2, -0.2)):
        with pytest.raises(ConfigError, match=r"expected numbers from 0\.001 on that add up to 1"):
            mixed(shares)
