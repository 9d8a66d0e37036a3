"""Whole documents in windows: everything is reachable, every target comes once, every window begins well."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microgpt.batches.batches import IGNORED, Batches, eval_windows
from microgpt.batches.packing import DOCUMENTS, DocumentWindows, best_fit
from microgpt.common.errors import DataError

BOS = 1000
LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=50).filter(lambda lengths: max(lengths) > 1)
SEQ_LEN = st.integers(1, 30)


def corpus(lengths):
    """Documents of BOS and ids that tell their place: 1000 + place in the stream, BOS itself excepted."""
    ids = BOS + np.arange(sum(lengths), dtype=np.uint16)
    offsets = (np.cumsum(lengths) - lengths).astype("<u8")
    ids[offsets.astype(np.int64)] = BOS
    names = {"path": "c.tokens", "name": "c"}
    return SimpleNamespace(**names, ids=ids, offsets=offsets, n_tokens=len(ids), vocab_size=5000)


def documents_of(tokens):
    return np.split(tokens.ids.astype(int), tokens.offsets[1:].astype(int))


def epoch_of(batches, epoch=0):
    """(ids, targets) of each window of an epoch; the batch size is 1."""
    first = epoch * batches.n_windows
    return [tuple(a[0] for a in batches.batch(i)[:2]) for i in range(first, first + batches.n_windows)]


def contexts(tokens, seq_len):
    """What must stand before each target: its document, from the last cut before it on."""
    return {
        token: document[(i - 1) // seq_len * seq_len : i].tolist()
        for document in documents_of(tokens)
        for i, token in enumerate(document.tolist())
        if i
    }


@given(LENGTHS, SEQ_LEN, st.integers(0, 3))
def test_every_target_comes_once_an_epoch_after_its_own_document(lengths, seq_len, seed):
    tokens = corpus(lengths)
    before = contexts(tokens, seq_len)
    batches = Batches(tokens, seq_len, 1, seed, packing=DOCUMENTS)
    for epoch in range(2):
        seen = Counter()
        for ids, targets in epoch_of(batches, epoch):
            assert ids.dtype == targets.dtype == np.int32 and ids.shape == targets.shape == (seq_len,)
            for t in np.flatnonzero(targets != IGNORED):
                context = before[int(targets[t])]
                assert ids[: t + 1].tolist()[-len(context) :] == context
            seen.update(targets[targets != IGNORED].tolist())
        assert seen == Counter(before.keys())


@given(LENGTHS, SEQ_LEN)
def test_windows_begin_at_bos_or_go_on_with_a_long_document(lengths, seq_len):
    tokens = corpus(lengths)
    cuts = {
        token
        for document in documents_of(tokens)
        if len(document) > seq_len + 1
        for token in document[seq_len:-1:seq_len].tolist()
    }
    firsts = [int(ids[0]) for ids, _ in epoch_of(Batches(tokens, seq_len, 1, 0, packing=DOCUMENTS))]
    assert set(firsts) <= {BOS} | cuts
    assert Counter(first for first in firsts if first != BOS) == Counter(cuts), "each cut opens one window"


@given(LENGTHS, SEQ_LEN)
def test_a_short_document_lies_whole_in_one_window_and_the_rest_is_not_scored(lengths, seq_len):
    tokens = corpus(lengths)
    layout = DocumentWindows(tokens, seq_len)
    pieces = [layout.pieces(number) for number in range(layout.n_windows)]
    assert all(sum(piece.length for piece in window) <= seq_len + 1 for window in pieces)
    placed = Counter(piece[:2] for window in pieces for piece in window)
    for start, length in zip(tokens.offsets.tolist(), lengths, strict=True):
        assert placed[(start, length)] == (1 < length <= seq_len + 1)
    n_targets = sum(piece.length - 1 for window in pieces for piece in window)
    scored = [targets for _, targets in epoch_of(Batches(tokens, seq_len, 1, 0, packing=DOCUMENTS))]
    assert n_targets == sum((targets != IGNORED).sum() for targets in scored)
    used = sum(piece.length for window in pieces for piece in window)
    assert layout.fill == pytest.approx(used / (seq_len + 1) / layout.n_windows)


@given(LENGTHS, SEQ_LEN, st.integers(1, 7), st.integers(0, 9))
def test_a_batch_is_a_pure_function_of_seed_and_index(lengths, seq_len, batch_size, seed):
    tokens = corpus(lengths)
    straight = Batches(tokens, seq_len, batch_size, seed, packing=DOCUMENTS)
    want = [np.stack(straight.batch(i)[:2]) for i in range(9)]
    for i in (8, 0, 5):
        again = Batches(corpus(lengths), seq_len, batch_size, seed, packing=DOCUMENTS)
        assert (np.stack(again.batch(i)[:2]) == want[i]).all()


def test_the_packing_is_fixed_for_ever():
    """A change would make the resume of a saved run another run."""
    layout = DocumentWindows(corpus([5, 3, 21, 2, 8, 6, 1, 4]), 8)
    assert [[piece[:2] for piece in layout.pieces(number)] for number in range(layout.n_windows)] == [
        [(8, 9)],
        [(16, 9)],
        [(24, 5), (46, 4)],
        [(31, 8)],
        [(5, 3), (39, 6)],
        [(0, 5), (29, 2)],
    ]


@given(LENGTHS, SEQ_LEN)
def test_each_token_is_told_where_its_document_begins(lengths, seq_len):
    """Where a row holds one document alone, there is nothing to tell."""
    batches = Batches(corpus(lengths), seq_len, 3, 0, packing=DOCUMENTS)
    for index in range(3):
        pieces = [batches._layout.pieces(number) for number in batches.windows(index)]
        wanted = []
        for row in pieces:
            begins = np.cumsum([0, *(length for _, length, _ in row[:-1])])
            told = np.repeat(begins, [length for _, length, _ in row])
            wanted.append([*told, *[begins[-1]] * (seq_len + 1)][:seq_len])
        starts = batches.batch(index).starts
        if any(any(row) for row in wanted):
            assert starts.tolist() == wanted and starts.dtype == np.int32
        else:
            assert starts is None
    stream = Batches(corpus([40, 40]), 7, 3, 0)
    assert all(stream.batch(index).starts is None for index in range(5))


def naive_best_fit(lengths, room, capacity):
    """One item after the other.  Returns the room left in each bin."""
    room = list(room)
    for length in sorted(lengths, reverse=True):
        fitting = [i for i, left in enumerate(room) if left >= length]
        best = min(fitting, key=lambda i: room[i], default=len(room))
        if best == len(room):
            room.append(capacity)
        room[best] -= length
    return room


@given(st.lists(st.integers(1, 20), max_size=80), st.lists(st.integers(0, 19), max_size=20))
def test_packing_many_at_once_is_best_fit_decreasing(lengths, room):
    bins = best_fit(np.array(lengths, np.int64), np.array(room, np.int64), 20)
    loads = np.bincount(bins, lengths, minlength=len(room))
    left = np.concatenate([room, np.full(len(loads) - len(room), 20)]) - loads
    assert sorted(left.tolist()) == sorted(naive_best_fit(lengths, room, 20))


def test_windows_of_documents_like_chats_are_full():
    lengths = np.random.default_rng(0).lognormal(4.5, 0.7, 20_000).astype(np.int64) + 2
    assert DocumentWindows(corpus_of(lengths), 256).fill > 0.99


def corpus_of(lengths):
    """Offsets alone: packing needs no more."""
    return SimpleNamespace(name="c", offsets=np.cumsum(lengths) - lengths, n_tokens=int(lengths.sum()))


@given(LENGTHS, SEQ_LEN)
def test_evaluation_scores_each_target_once_too(lengths, seq_len):
    tokens = corpus(lengths)
    if tokens.n_tokens < 2:
        return
    byte_lengths = np.arange(5000) % 5
    windows = eval_windows(tokens, seq_len, byte_lengths, packing=DOCUMENTS)
    targets = np.concatenate([batch.targets for batch in windows.batches(3)])
    scored = targets[targets != IGNORED]
    assert sorted(scored.tolist()) == sorted(contexts(tokens, seq_len))
    assert (windows.n_tokens, windows.n_bytes) == (scored.size, byte_lengths[scored].sum())


def test_documents_without_a_target_and_damaged_offsets_are_refused():
    with pytest.raises(DataError, match="no document of two tokens"):
        Batches(corpus([1, 1, 1]), 8, 1, 0, packing=DOCUMENTS)
    for offsets in ([3, 5], [0, 50], [0, 9, 4]):
        tokens = corpus([20, 20])
        tokens.offsets = np.array(offsets, "<u8")
        with pytest.raises(DataError, match="offsets are out of order"):
            DocumentWindows(tokens, 8)
