import numpy as np
import pytest

from microgpt.batches.batches import IGNORED
from microgpt.batches.carried import N_STRETCHES, BatchesInOrder, EvalInOrder, continued
from microgpt.batches.packing import DOCUMENTS, STREAM
from microgpt.common.errors import DataError
from microgpt.corpus.token_file import TokenFile, write_token_file


class Plain:
    """A vocabulary of 1000 ids, each standing for id % 5 bytes."""

    vocab_size, sha256 = 1000, "00" * 32
    byte_lengths = (np.arange(1000) % 5).astype(np.int32)


@pytest.fixture
def stream(tmp_path):
    """A token file with the ids 0, 1, 2 ... in documents of so many, so that an id tells its place."""

    def stream(*lengths):
        ends = np.cumsum(lengths)
        documents = [np.arange(end - n, end, dtype=np.int32) for n, end in zip(lengths, ends, strict=True)]
        write_token_file(tmp_path / "s.tokens", documents, Plain())
        return TokenFile.open(tmp_path / "s.tokens")

    return stream


@pytest.mark.parametrize(("n", "accum"), [(61, 1), (100, 2), (97, 3), (500, 2), (43, 3)])
def test_rows_go_on_where_they_ended_and_every_token_comes(stream, n, accum):
    batches = BatchesInOrder(stream(n), 7, 2, accum, None, STREAM)
    n_each = batches.n_windows // (2 * accum)
    seen = set()
    for k in range(n_each):
        for j in range(accum):
            batch = batches.batch(k * accum + j)
            assert batch.starts is None and (batch.targets == batch.ids + 1).all()
            assert (batches.begins(k * accum + j) == (k == 0)).all()
            if k:
                before = batches.batch((k - 1) * accum + j)
                assert (batch.ids[:, 0] == before.targets[:, -1]).all()
            seen |= set(batch.targets.reshape(-1).tolist())
    assert seen == set(range(1, n)), "in an epoch each token but the first is a target"
    assert (n_each - 1) * 7 * 2 * accum < n - 1 <= n_each * 7 * 2 * accum
    again = batches.batch(n_each * accum)
    assert (again.ids == batches.batch(0).ids).all() and batches.begins(n_each * accum).all()


def test_documents_that_do_not_see_each_other_begin_within_windows_and_with_them(stream):
    lengths = [5, 9, 1, 13, 30, 3, 10]  # documents begin at 0, 5, 14, 15, 28, 58, 61
    batches = BatchesInOrder(stream(*lengths), 7, 1, 1, None, DOCUMENTS)
    borders, targets = np.cumsum([0, *lengths[:-1]]), []
    for k in range(batches.n_windows):
        batch = batches.batch(k)
        ids = batch.ids[0]
        assert batches.begins(k).tolist() == [ids[0] in borders]
        starts = np.zeros(7, int) if batch.starts is None else batch.starts[0]
        documents = np.searchsorted(borders, ids, side="right")
        wanted = [int(np.flatnonzero(documents == document)[0]) for document in documents]
        assert starts.tolist() == wanted
        targets += batch.targets[batch.targets != IGNORED].tolist()
    assert {k for k in range(batches.n_windows) if batches.begins(k)[0]} == {0, 2, 4}
    assert set(targets) == set(range(71)) - set(borders.tolist())


def test_a_text_without_a_window_for_each_stretch_is_refused(stream):
    BatchesInOrder(stream(43), 7, 2, 3, None, STREAM)
    with pytest.raises(DataError, match=r"reads 6 stretches side by side.*42 tokens are too few"):
        BatchesInOrder(stream(42), 7, 2, 3, None, STREAM)


@pytest.mark.parametrize("packing", [STREAM, DOCUMENTS])
@pytest.mark.parametrize("n", [2, 9, 30, 57, 58, 64, 65, 170])
def test_held_out_windows_go_on_and_score_every_token_once(stream, n, packing):
    tokens = stream(*[5] * (n // 5), *([n % 5] if n % 5 else []))
    windows = EvalInOrder(tokens, 7, Plain.byte_lengths, packing=packing)
    scored, ended, is_new = [], {}, []
    for batch, places in zip(windows.batches(3), windows.places(3), strict=True):
        is_scored = batch.targets != IGNORED
        scored += batch.targets[is_scored].tolist()
        assert (places[is_scored] == batch.targets[is_scored]).all()
        for b, row in enumerate(batch.ids):
            assert row[0] == ended.get(b, row[0])
            ended[b] = row[0] + 7
        remembered = batch.memory.get("a", np.zeros((len(batch.ids), 2)))
        is_new.append(
            [(row[0] % 5 == 0) == (not x.any()) for row, x in zip(batch.ids, remembered, strict=True)]
        )
        batch.memory["a"] = np.ones((len(batch.ids), 2))
    firsts = {0} if packing == STREAM else set(range(0, n, 5))
    assert sorted(scored) == sorted(set(range(n)) - firsts)
    assert windows.n_tokens == len(scored) and windows.n_stretches <= N_STRETCHES
    if packing == DOCUMENTS:
        assert all(map(all, is_new[1:])), "forgotten is what stands before a document, and that alone"


def test_a_part_of_the_held_out_text_begins_where_the_whole_does(stream):
    tokens = stream(1 + 7 * 83)
    whole, part = (EvalInOrder(tokens, 7, Plain.byte_lengths, most) for most in (None, 7 * 20))
    assert part.n_windows == 20 and part.n_tokens == 140
    first = [next(windows.batches(1)).ids for windows in (whole, part)]
    assert (first[0] == first[1]).all() and len(first[0]) == N_STRETCHES
    assert [len(batch.ids) for batch in part.batches(1)] == [8, 8, 4]


def test_what_is_remembered_goes_on_in_the_rows_that_do():
    rows = np.full((3, 2, 2), np.nan)
    rows[1] = 5
    found = continued({"a": rows}, np.array([True, False]))["a"]
    assert (
        found.tolist() == [[[0, 0], [0, 0]], [[5, 5], [5, 5]]] and rows[1].all() and np.isnan(rows[0]).all()
    )
