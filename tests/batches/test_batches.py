import tracemalloc
from collections import Counter

import numpy as np
import pytest

from microgpt.batches.batches import IGNORED, Batches, eval_windows, shifted
from microgpt.common.errors import DataError
from microgpt.corpus.token_file import TokenFile, write_token_file


class Plain:
    """A vocabulary of 1000 ids, each standing for id % 5 bytes."""

    vocab_size, sha256 = 1000, "00" * 32
    byte_lengths = (np.arange(1000) % 5).astype(np.int32)


@pytest.fixture
def stream(tmp_path):
    """A token file with the ids 0, 1, 2 ... n-1, so that an id tells its place."""

    def stream(n):
        write_token_file(tmp_path / "s.tokens", [np.arange(n, dtype=np.int32)], Plain())
        return TokenFile.open(tmp_path / "s.tokens")

    return stream


def starts(batches, indices):
    return [int(row[0]) for i in indices for row in batches.batch(i)[0]]


def stacked(windows, batch_size=3):
    """All ids and targets of a set of evaluation windows."""
    return [
        np.concatenate(arrays)
        for arrays in zip(*(batch[:2] for batch in windows.batches(batch_size)), strict=True)
    ]


def test_targets_are_the_next_ids():
    ids, targets = shifted(np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.int32))
    assert ids.tolist() == [[1, 2, 3], [5, 6, 7]]
    assert targets.tolist() == [[2, 3, 4], [6, 7, 8]]


def test_batches_have_the_shape_and_type_of_the_contract(stream):
    for array in Batches(stream(100), seq_len=7, batch_size=3, seed=0).batch(0)[:2]:
        assert array.shape == (3, 7)
        assert array.dtype == np.int32
        assert array.flags.c_contiguous


@pytest.mark.parametrize("n", [8, 9, 14, 15, 16, 100, 501])
def test_every_token_but_the_first_is_a_target(stream, n):
    batches = Batches(stream(n), seq_len=7, batch_size=1, seed=0)
    seen = set()
    for i in range(batches.n_windows):
        ids, targets, *_ = batches.batch(i)
        assert (targets == ids + 1).all()
        seen |= set(targets.ravel().tolist())
    assert seen == set(range(1, n))


@pytest.mark.parametrize("batch_size", [1, 3, 4, 50])
def test_each_window_exactly_once_an_epoch(stream, batch_size):
    batches = Batches(stream(200), seq_len=9, batch_size=batch_size, seed=5)
    n, epochs = batches.n_windows, 4
    drawn = [number for i in range(-(-n * epochs // batch_size)) for number in batches.windows(i)]
    for epoch in range(epochs):
        assert Counter(drawn[epoch * n : (epoch + 1) * n]) == Counter(range(n))


def test_a_batch_is_a_pure_function_of_seed_and_index(stream):
    tokens = stream(300)
    straight = Batches(tokens, 8, 5, seed=1)
    want = [straight.batch(i)[0].tolist() for i in range(40)]
    for i in [39, 0, 17, 3, 16]:
        assert Batches(tokens, 8, 5, seed=1).batch(i)[0].tolist() == want[i]
    backwards = Batches(tokens, 8, 5, seed=1)
    assert [backwards.batch(i)[0].tolist() for i in reversed(range(40))] == want[::-1]


def test_seeds_and_epochs_have_different_orders(stream):
    tokens = stream(900)
    epochs = [range(112), range(113, 225)]
    orders = [starts(Batches(tokens, 8, 1, seed), epoch) for seed in (0, 1) for epoch in epochs]
    assert len({tuple(order) for order in orders}) == 4
    assert all(order != sorted(order) for order in orders)


def test_the_order_is_fixed_for_ever(stream):
    assert Batches(stream(100), 9, 4, seed=7).windows(0) == [3, 1, 5, 2]


def test_a_corpus_shorter_than_one_window_is_refused(stream):
    Batches(stream(9), 8, 1, 0)
    with pytest.raises(DataError, match=r"8 tokens.*window of 8 \+ 1.*--seq-len"):
        Batches(stream(8), 8, 1, 0)


def test_an_id_outside_the_vocabulary_is_found(stream):
    tokens = stream(100)
    with open(tokens.path, "r+b") as file:
        file.seek(88 + 2 * 50)
        file.write(b"\xff\xff")
    batches = Batches(TokenFile.open(tokens.path), 100 - 1, 1, 0)
    with pytest.raises(DataError, match="outside the vocabulary"):
        batches.batch(0)


@pytest.mark.parametrize("n", [2, 3, 8, 9, 10, 57, 64, 65])
def test_evaluation_scores_each_token_once(stream, n):
    windows = eval_windows(stream(n), 8, Plain.byte_lengths)
    ids, targets = stacked(windows)
    scored = targets[targets != IGNORED]
    assert scored.tolist() == list(range(1, n))
    assert (ids[targets != IGNORED] == scored - 1).all()
    assert windows.n_tokens == n - 1
    assert windows.n_bytes == Plain.byte_lengths[1:n].sum()
    assert ids.min() >= 0
    assert ids.dtype == targets.dtype == np.int32


def test_evaluation_on_a_part_is_evenly_spread_and_fixed(stream):
    tokens = stream(801)
    windows = eval_windows(tokens, 8, Plain.byte_lengths, max_tokens=80)
    ids, targets = stacked(windows)
    assert ids[:, 0].tolist() == [i * 80 for i in range(10)]
    again = eval_windows(tokens, 8, Plain.byte_lengths, max_tokens=80)
    assert (stacked(again, 10)[1] == targets).all()
    assert windows.n_bytes == Plain.byte_lengths[targets].sum()


@pytest.mark.parametrize("max_tokens", [1, 7, 8, 10**9])
def test_evaluation_has_at_least_one_window_and_at_most_all(stream, max_tokens):
    windows = eval_windows(stream(50), 8, Plain.byte_lengths, max_tokens)
    assert windows.n_windows == len(stacked(windows)[0]) == (7 if max_tokens > 50 else 1)


def test_evaluation_holds_one_batch_of_a_corpus_however_long(tmp_path):
    write_token_file(tmp_path / "s.tokens", [np.arange(200_000, dtype=np.int32) % 1000], Plain())
    tokens = TokenFile.open(tmp_path / "s.tokens")
    tracemalloc.start()
    windows = eval_windows(tokens, 50, Plain.byte_lengths)
    sizes = [len(batch.ids) for batch in windows.batches(16)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sizes == [16] * 250 and windows.n_tokens == 199_999
    assert peak < 300_000, "all windows at once are 1.6 MB"


def test_one_token_cannot_be_evaluated(stream):
    with pytest.raises(DataError, match="too few"):
        eval_windows(stream(1), 8, Plain.byte_lengths)


@pytest.mark.parametrize("packing", ["stream", "documents"])
def test_the_document_of_each_target_is_told_and_some_alone_can_be_scored(tmp_path, packing):
    lengths = [3, 12, 5, 2, 30, 4]
    documents = [np.full(length, number, np.int32) for number, length in enumerate(lengths)]
    write_token_file(tmp_path / "s.tokens", documents, Plain())
    tokens = TokenFile.open(tmp_path / "s.tokens")
    whole = eval_windows(tokens, 8, Plain.byte_lengths, packing=packing)
    for batch, places in zip(whole.batches(3), whole.places(3), strict=True):
        targets, owners = batch.targets, whole.owners(places)
        assert (owners[targets != IGNORED] == targets[targets != IGNORED]).all()
    assert whole.n_documents == whole.n_all_documents == 6
    is_scored = np.array([True, False, False, True, True, False])
    part = eval_windows(tokens, 8, Plain.byte_lengths, packing=packing, is_scored=is_scored)
    targets = np.concatenate([batch.targets for batch in part.batches(3)])
    everything = np.concatenate([batch.targets for batch in whole.batches(3)])
    kept = np.isin(everything, [0, 3, 4])
    assert (targets[kept] == everything[kept]).all() and (targets[~kept] == IGNORED).all()
    assert (part.n_tokens, part.n_documents) == (kept.sum(), 3)
    assert part.n_bytes == Plain.byte_lengths[everything[kept]].sum()


@pytest.mark.parametrize("packing", ["stream", "documents"])
@pytest.mark.parametrize("stride", [1, 3, 8])
def test_windows_that_slide_score_each_token_once_with_enough_before_it(tmp_path, packing, stride):
    T, lengths = 8, [3, 12, 5, 2, 30, 9, 4]
    documents = np.split(np.arange(sum(lengths), dtype=np.int32), np.cumsum(lengths)[:-1])
    write_token_file(tmp_path / "s.tokens", documents, Plain())  # every id is its place
    windows = eval_windows(
        TokenFile.open(tmp_path / "s.tokens"), T, Plain.byte_lengths, None, packing, None, stride
    )
    scored = []
    for batch, places in zip(windows.batches(3), windows.places(3), strict=True):
        is_scored = batch.targets != IGNORED
        assert (places[is_scored] == batch.targets[is_scored]).all()
        starts = np.zeros_like(batch.ids) if batch.starts is None else batch.starts
        for b, t in zip(*np.nonzero(is_scored), strict=True):
            target, n_before = batch.targets[b, t], t + 1 - starts[b, t]
            assert (batch.ids[b, starts[b, t] : t + 1] == np.arange(target - n_before, target)).all()
            begin = 0 if packing == "stream" else windows.tokens.offsets[windows.owners(places[b, t])]
            assert n_before >= min(T - stride, target - begin)
            scored.append(target)
    firsts = [0] if packing == "stream" else np.cumsum([0, *lengths[:-1]])
    assert sorted(scored) == sorted(set(range(sum(lengths))) - set(firsts)) and windows.n_tokens == len(
        scored
    )
