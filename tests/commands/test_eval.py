"""`microgpt eval` and `compare`: numbers that can be checked by hand, and where little is there."""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

from microgpt.batches.batches import eval_windows
from microgpt.commands import canaries, compare, eval, failures, judge, probe
from microgpt.common.errors import CheckpointError, ConfigError, DataError
from microgpt.corpus.prepared.config import DataConfig, prepared
from microgpt.corpus.smalltalk import generate
from microgpt.corpus.token_file import TokenFile, write_token_file
from microgpt.evaluation.held_out import score
from microgpt.files import durable
from microgpt.model import GPT, ModelConfig
from microgpt.runs import checkpoint
from microgpt.runs.settings import TrainConfig
from microgpt.runs.spec import Plan
from microgpt.tokenizer import train
from microgpt.training.adam import Adam


@pytest.fixture(scope="module")
def tokenizer():
    return train([message.content for document in generate(5000) for message in document], n_merges=40)


def saved(run, tokenizer, seq_len, seed=0, **data):
    """A checkpoint of random weights, said to be trained on a short smalltalk."""
    config = ModelConfig(1, 1, 4, seq_len, tokenizer.vocab_size)
    model, settings = GPT(config).init(seed), TrainConfig()
    run.mkdir(parents=True)
    plan = Plan(config, settings, DataConfig(**{"smalltalk_bytes": 100_000, **data}))
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


@pytest.mark.parametrize("n_merges", [0, 300])
def test_a_uniform_model_spends_the_bits_that_a_few_lines_add_up_to(n_merges, tmp_path):
    texts = [message.content for document in generate(4000) for message in document]
    tokenizer = train(texts, n_merges=n_merges)
    documents = [np.array([tokenizer.special_id("<|bos|>"), *tokenizer.encode(text)]) for text in texts]
    write_token_file(tmp_path / "t.tokens", documents, tokenizer)
    tokens = TokenFile.open(tmp_path / "t.tokens")
    V = tokenizer.vocab_size
    model = GPT(ModelConfig(1, 1, 4, 16, V), np.float64)  # no weights at all
    n_scored = sum(len(document) for document in documents) - 1
    n_bytes = sum(len(text.encode()) for text in texts)
    for stride in (None, 5):
        result = score(model, eval_windows(tokens, 16, tokenizer.byte_lengths, stride=stride))
        wanted = math.log2(V) * n_scored / n_bytes
        assert result.bpb == pytest.approx(wanted, rel=1e-9) and result.loss == pytest.approx(math.log(V))
        assert result.documents.bytes.sum() == n_bytes and result.documents.tokens.sum() == n_scored


@pytest.fixture
def runs(tokenizer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, seed in (("a", 0), ("b", 1)):
        saved(tmp_path / "runs" / name, tokenizer, 32, seed)
    return tmp_path / "runs"


def report_of(capsys, command, *words):
    assert command.main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_numbers_come_with_intervals_and_add_up_from_their_parts(runs, capsys, monkeypatch, tokenizer):
    saved(runs / "c", tokenizer, 32, data=(str(runs.parent / "own.txt"),))
    texts = ["\n".join(message.content for message in document) for document in generate(60_000)]
    Path("own.txt").write_text("<|endoftext|>".join(texts))
    trained_on(runs / "c", tokenizer)
    report = report_of(capsys, eval, "c", "--questions", "0")
    assert report["perplexity"] == pytest.approx(math.exp(report["loss"]))
    assert 0 < report["bpb_standard_error"] < report["bpb_half_width"] < 0.2 * report["bpb"]
    for name in ("position", "role", "frequency"):
        rows = report["by"][name].values()
        assert sum(row["n_tokens"] for row in rows) == report["n_tokens"]
        for value in ("loss", "accuracy"):
            mean = sum(row["n_tokens"] * row[value] for row in rows) / report["n_tokens"]
            assert mean == pytest.approx(report[value])
    assert set(report["by"]["role"]) == {"plain text", "markers"}
    losses = [report["baselines"][name]["loss"] for name in ("5-gram", "bigram", "unigram", "uniform")]
    assert losses == sorted(losses) and losses[-1] == pytest.approx(math.log(tokenizer.vocab_size))
    slid = report_of(capsys, eval, "c", "--questions", "0", "--stride", "8")
    assert slid["n_tokens"] == report["n_tokens"] and slid["loss"] != report["loss"]
    for name, one in report["baselines"].items():
        assert slid["baselines"][name] == pytest.approx(one), "they see no windows"
    eval.main(["c"])
    out = capsys.readouterr().out
    assert "this model" in out and "whose words" in out and "as in training: each token is scored once" in out
    with monkeypatch.context() as patch, pytest.raises(ConfigError, match="--stride 33: expected 1 to 32"):
        patch.setattr(eval, "open_checkpoint", lambda *args: pytest.fail("begun"))
        eval.main(["c", "--stride", "33"])
    Path("own.txt").rename("moved.txt")
    monkeypatch.setenv("MICROGPT_DATA_DIR", "elsewhere")
    Path("other.txt").write_text("Hello there, how are you?\n\n" * 20)
    assert report_of(capsys, eval, "c", "--data", "other.txt")["baselines"] == {}
    eval.main(["c", "--data", "other.txt"])
    out = capsys.readouterr().out
    assert "no baselines beside it" in out and "documents are too few" in out


def trained_on(run, tokenizer):
    """Have a checkpoint say that it was trained on its corpus, as that is now."""
    place = next(run.glob("step_*"))
    plan = Plan.from_dict(checkpoint.read_config(place))
    key = prepared(plan.data, 1, tokenizer).meta["key"]
    snapshot = checkpoint.Snapshot(model := GPT(plan.model).init(0), Adam(model, plan.train), tokenizer)
    checkpoint.persist(snapshot.fill(plan.to_dict(), {"step": 1, "metrics": {}, "corpus": key}), run, 2)


def test_compare_tells_two_models_apart_and_the_same_seed_says_the_same(runs, capsys):
    assert compare.main(["a", "b"]) == 0
    out = capsys.readouterr().out
    assert compare.main(["a", "b"]) == 0 and capsys.readouterr().out == out and "warning" not in out
    report, again = report_of(capsys, compare, "a", "b"), report_of(capsys, compare, "b", "a")
    assert report["loss"]["value"] == pytest.approx(-again["loss"]["value"]) and report["differences"] == []
    losses = [report_of(capsys, eval, name, "--questions", "0")["loss"] for name in "ab"]
    assert report["loss"]["value"] == pytest.approx(losses[1] - losses[0])
    assert report_of(capsys, compare, "a", "a")["bpb"]["value"] == 0


def test_compare_warns_of_what_differs_and_goes_by_bytes(runs, capsys):
    other = train(["hello there, how are you today? "] * 3, n_merges=10)
    saved(runs / "c", other, 16)
    Path("t.txt").write_text(
        "Hello there, how are you?<|endoftext|>I am well. Today it rains.<|endoftext|>Bye."
    )
    report = report_of(capsys, compare, "a", "c", "--data", "t.txt")
    assert [what.split()[0] for what in report["differences"]] == ["tokenizers", "the"]
    assert report["loss"] is None and report["n_documents"] == 3
    compare.main(["a", "c", "--data", "t.txt"])
    out = capsys.readouterr().out
    assert "warning: tokenizers differ" in out and "bits per byte alone are compared" in out
    with pytest.raises(ConfigError, match="--max-tokens: windows of the two"):
        compare.main(["a", "c", "--data", "t.txt", "--max-tokens", "20"])
    with pytest.raises(ConfigError, match="1 checkpoint; compare takes two"):
        compare.main(["a"])


def test_probe_looks_at_a_checkpoint_and_its_corpus(runs, tokenizer, capsys, monkeypatch):
    saved(runs / "c", tokenizer, 32, data=(str(runs.parent / "own.txt"),))
    texts = ["\n".join(message.content for message in document) for document in generate(60_000)]
    Path("own.txt").write_text("<|endoftext|>".join(texts))
    trained_on(runs / "c", tokenizer)
    before = sorted(path.relative_to(runs) for path in runs.rglob("*"))
    assert probe.main(["c", "--json"]) == 1, "random weights that say they were trained"
    found = {line["name"]: line["is_good"] for line in map(json.loads, capsys.readouterr().out.splitlines())}
    assert not found.pop("first loss") and False not in found.values() and len(found) > 9
    assert sorted(path.relative_to(runs) for path in runs.rglob("*")) == before
    Path("own.txt").rename("moved.txt")
    assert probe.main(["c", "--json", "--data", "moved.txt"]) == 1
    assert {line["name"] for line in map(json.loads, capsys.readouterr().out.splitlines())} > set(found)
    monkeypatch.setattr("microgpt.training.overfit.MOST_STEPS", 10)
    assert probe.main(["c", "--check", "overfit", "--samples", "3", "--data", "moved.txt"]) == 1
    assert capsys.readouterr().out.startswith("BAD  overfit: ")
    with pytest.raises(SystemExit):
        probe.main(["c", "--samples", "101"])


def test_suites_stand_behind_the_rest_and_in_json(tokenizer, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    place = saved(tmp_path / "run", tokenizer, 40)
    (tmp_path / "b.txt").write_text("Another domain altogether.\n\n" * 9)
    words = [place, "--questions", "0", "--brief", "--max-tokens", "500"]
    assert eval.main([*words, "--suite", "ood,long", "--other", "b.txt"]) == 0
    out = capsys.readouterr().out
    assert "in capitals" in out and "b.txt" in out and "140 to 159" in out and "found again" in out
    assert eval.main([*words, "--suite", "ood", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["suites"]
    assert found["ood"][0]["times"] == 1 and "long" not in found
    with pytest.raises(SystemExit):
        eval.main([*words, "--suite", "odd"])


@pytest.mark.parametrize("command", [canaries, compare, eval, failures, judge])
def test_of_several_models_one_that_is_not_there_is_told_before_the_first_is_opened(
    command, tokenizer, tmp_path, monkeypatch
):
    place = saved(tmp_path / "run", tokenizer, 32)
    monkeypatch.setattr(command, "open_checkpoint", lambda *args, **how: pytest.fail("opened"))
    with pytest.raises(CheckpointError, match="nowhere: no such directory"):
        command.main([place, str(tmp_path / "nowhere")])


def test_a_state_that_is_not_there_is_not_carried_before_any_text_is_read(tokenizer, tmp_path, monkeypatch):
    place = saved(tmp_path / "run", tokenizer, 32)
    monkeypatch.setattr(eval, "text_to_measure", lambda *args: pytest.fail("read"))
    with pytest.raises(ConfigError, match="has no recurrent layer"):
        eval.main([place, "--carry-state"])


def test_weights_are_verified_once_however_large_they_are(tokenizer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place, verified, digest = saved(tmp_path / "run", tokenizer, 32), [], durable.sha256_of
    monkeypatch.setattr(durable, "sha256_of", lambda path: verified.append(path.name) or digest(path))
    assert eval.main([place, "--questions", "0", "--brief"]) == 0
    assert verified.count("model.safetensors") == 1
