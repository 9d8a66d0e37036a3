"""The record of what a run was trained on: whole or not there, and it only grows."""

import numpy as np
import pytest

from microgpt.corpus.prepared.fingerprints import fingerprints
from microgpt.corpus.token_file import TokenFile, write_token_file
from microgpt.files import durable
from microgpt.runs.trained_on import RECORD, recorded, remember
from microgpt.tokenizer import train


@pytest.fixture
def tokens(tmp_path):
    """A token file of these documents."""
    tokenizer = train(["some text"], n_merges=2)

    def tokens(*documents):
        path = tmp_path / f"{documents}.tokens"
        write_token_file(path, [np.array(ids, np.int32) for ids in documents], tokenizer)
        return TokenFile.open(path)

    return tokens


@pytest.fixture
def runs(tmp_path):
    """Two empty run directories."""
    paths = tmp_path / "a", tmp_path / "b"
    for path in paths:
        path.mkdir()
    return paths


def test_what_a_run_is_trained_on_only_grows(tokens, runs):
    run, branch = runs
    first, second = tokens([1, 2], [3, 4], [1, 2]), tokens([3, 4], [5, 6])
    remember(run, first)
    assert set(recorded(run)) == set(fingerprints(first)) and len(recorded(run)) == 2
    remember(run, first, before=run)
    remember(branch, second, before=run, is_same=False)
    assert set(recorded(branch)) == {*fingerprints(first), *fingerprints(second)}
    assert set(recorded(run)) == set(fingerprints(first))
    remember(run, first, before=branch)
    assert set(recorded(run)) == set(recorded(branch)), "a branch brings along what it came from"


def test_a_run_without_a_record_gets_one_only_where_it_would_be_whole(tokens, runs):
    old, branch = runs
    remember(branch, tokens([1, 2]), before=old, is_same=False)
    assert recorded(branch) is None, "what the old run was trained on cannot be told any more"
    remember(old, tokens([1, 2]), before=old)
    assert len(recorded(old)) == 1


def test_a_damaged_record_is_none(tokens, runs):
    remember(runs[0], tokens([1, 2], [3, 4]))
    path = runs[0] / RECORD
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:-8], whole[:40] + bytes([whole[40] ^ 1]) + whole[41:], b""):
        path.write_bytes(damaged)
        assert recorded(runs[0]) is None


def test_a_record_that_cannot_be_written_costs_only_itself(tokens, runs, monkeypatch, capsys):
    (runs[0] / f".tmp_{RECORD}").write_bytes(b"of a killed session")
    remember(runs[0], tokens([1, 2]))
    before = recorded(runs[0])

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable, "write_file", full)
    remember(runs[0], tokens([3, 4]), before=runs[0], is_same=False)
    assert (recorded(runs[0]) == before).all()
    assert "No space left on device; `microgpt eval` will not know" in capsys.readouterr().err
