"""`microgpt eval` where little is there: a window too short for the exam, no folder to write in."""

import json
import os
from pathlib import Path

import pytest

from microgpt.commands import eval
from microgpt.common.errors import DataError
from microgpt.corpus.prepared.config import DataConfig
from microgpt.corpus.smalltalk import generate
from microgpt.model import GPT, ModelConfig
from microgpt.runs import checkpoint
from microgpt.runs.settings import TrainConfig
from microgpt.runs.spec import Plan
from microgpt.tokenizer import train
from microgpt.training.adam import Adam


@pytest.fixture(scope="module")
def tokenizer():
    return train([message.content for document in generate(5000) for message in document], n_merges=40)


def saved(run, tokenizer, seq_len):
    """A checkpoint of random weights, said to be trained on a short smalltalk."""
    config = ModelConfig(1, 1, 4, seq_len, tokenizer.vocab_size)
    model, settings = GPT(config).init(0), TrainConfig()
    run.mkdir(parents=True)
    plan = Plan(config, settings, DataConfig(smalltalk_bytes=100_000))
    snapshot = checkpoint.Snapshot(model, Adam(model, settings), tokenizer)
    return str(checkpoint.persist(snapshot.fill(plan.to_dict(), {"step": 1, "metrics": {}}), run, 2))


@pytest.mark.parametrize("seq_len", [1, 2, 10, 40])
def test_a_window_without_room_for_the_exam_gives_the_loss_all_the_same(
    seq_len, tokenizer, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    place = saved(tmp_path / "run", tokenizer, seq_len)
    assert eval.main([place, "--questions", "1", "--json"]) == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert report["loss"] > 0 and (report["exam"] is None) == ("no exam: " in err) == (seq_len <= 10)
    assert eval.main([place, "--questions", "1"]) == 0
    assert " nats/token" in capsys.readouterr().out


def test_where_nothing_can_be_written_the_result_is_the_same(tokenizer, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    place = saved(tmp_path / "run", tokenizer, 32)
    (tmp_path / "b.txt").write_text("Hello there.\n\n" * 50)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    os.mkdir(tmp_path / "tmp")
    for words in (["--questions", "0"], ["--data", "b.txt"]):
        reports = []
        for root in ("data", "file/data"):  # a folder can be made; cannot
            monkeypatch.setenv("MICROGPT_DATA_DIR", str(tmp_path / root))
            assert eval.main([place, *words, "--json"]) == 0
            reports.append(json.loads(capsys.readouterr().out))
        assert reports[0] == reports[1]
        assert not os.listdir(tmp_path / "tmp"), "nothing stays behind"


def test_text_that_cannot_be_read_is_still_refused(tokenizer, tmp_path, monkeypatch):
    place = saved(tmp_path / "run", tokenizer, 32)
    monkeypatch.setenv("MICROGPT_DATA_DIR", str(tmp_path / "data"))
    with pytest.raises(DataError, match=r"missing\.txt"):
        eval.main([place, "--data", str(Path(tmp_path, "missing.txt"))])
