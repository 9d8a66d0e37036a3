"""Which text `microgpt eval` measures, and that it is none that the run was trained on."""

import json

import pytest

from microgpt.commands import eval
from microgpt.common.errors import CheckpointError, ConfigError, DataError
from microgpt.corpus.prepared.config import DataConfig
from microgpt.corpus.prepared.make import prepare as prepare_corpus
from microgpt.corpus.smalltalk import FAMILIES
from microgpt.model import GPT, ModelConfig
from microgpt.runs import checkpoint
from microgpt.runs.settings import TrainConfig
from tests.commands.random_run import PLAIN_TEXT, save


@pytest.fixture(autouse=True)
def here(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.delenv("MICROGPT_DATA_DIR", raising=False)


def test_eval_of_smalltalk_shows_loss_and_exam(capsys):
    assert eval.main(["runs/a", "--questions", "2", "--show-errors", "1"]) == 0
    out = capsys.readouterr().out
    assert "on smalltalk (the held-out part): " in out and "nats/token" in out and "bits per byte" in out
    assert all(f"\n{family} " in out for family in FAMILIES) and "\nall " in out
    assert out.count("  answered ") == len(FAMILIES)


def test_eval_as_json_agrees_with_its_own_counts(capsys):
    assert eval.main(["--json", "--questions", "1"]) == 0
    report = json.loads(capsys.readouterr().out)
    nats = report["loss"] * report["n_tokens"]
    assert report["bpb"] == pytest.approx(nats / 0.693147 / report["n_bytes"], rel=1e-5)
    assert report["exam"]["asked"] == len(FAMILIES) and report["step"] == 7


def test_eval_of_a_file_is_about_all_of_it_and_has_no_exam(tmp_path, capsys):
    path = tmp_path / "text.txt"
    path.write_text(PLAIN_TEXT)
    assert eval.main(["runs/a", "--data", str(path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["part"] == "all of it" and report["exam"] is None
    assert report["n_bytes"] == sum(len(part) for part in PLAIN_TEXT.split("\n\n"))


def test_eval_reads_text_as_it_is_told_but_not_what_the_run_was_trained_on(place, tmp_path, capsys):
    (tmp_path / "text.txt").write_bytes(PLAIN_TEXT.encode() + b"caf\xe9\n")
    with pytest.raises(DataError, match=r"text\.txt:161: .*--bad-lines skip"):
        eval.main(["runs/a", "--data", str(tmp_path / "text.txt")])
    capsys.readouterr()
    how = ["--bad-lines", "skip", "--text-documents", "file"]
    assert eval.main(["runs/a", "--data", str(tmp_path / "text.txt"), *how]) == 0
    out, err = capsys.readouterr()
    assert "(all of it): 1 document, " in out and "1 bad line left out" in err
    _, tokenizer, _ = checkpoint.load_model(place / "runs" / "a")
    config = ModelConfig(n_layer=1, n_head=1, n_embd=4, seq_len=32, vocab_size=tokenizer.vocab_size)
    data = DataConfig(data=(str(tmp_path / "text.txt"),))
    save(tmp_path / "run", GPT(config).init(0), tokenizer, data)
    with pytest.raises(ConfigError, match="--bad-lines, --text-documents: a run's own corpus"):
        eval.main([str(tmp_path / "run"), *how])


def test_eval_can_score_a_part(capsys):
    eval.main(["--json", "--questions", "0", "--max-tokens", "256"])
    assert json.loads(capsys.readouterr().out)["n_tokens"] == 256


def test_eval_measures_the_windows_that_the_run_was_trained_on_or_those_named(place, tmp_path, capsys):
    (tmp_path / "text.txt").write_text(PLAIN_TEXT)
    _, tokenizer, _ = checkpoint.load_model(place / "runs" / "a")
    config = ModelConfig(n_layer=1, n_head=1, n_embd=4, seq_len=32, vocab_size=tokenizer.vocab_size)
    save(tmp_path / "run", GPT(config).init(0), tokenizer, DataConfig(), TrainConfig(packing="documents"))

    def measured(run, *flags):
        eval.main([str(run), "--data", str(tmp_path / "text.txt"), "--json", *flags])
        report = json.loads(capsys.readouterr().out)
        return tuple(report[name] for name in ("packing", "n_documents", "n_tokens", "n_bytes"))

    whole, stream = measured(tmp_path / "run"), measured(place / "runs" / "a")
    assert (whole[:2], stream[:2]) == (("documents", 80), ("stream", 80))
    assert whole[2] == stream[2] - 79, "the first <|bos|> is scored by neither, 79 by one"
    assert whole[3] == stream[3]
    assert measured(tmp_path / "run", "--packing", "stream") == stream


@pytest.mark.parametrize("named", [False, True])
def test_eval_of_a_runs_own_file_is_about_its_held_out_part_only(tmp_path, capsys, named):
    path = tmp_path / "text.txt"
    path.write_text("\n\n".join(f"Line {i} tells of the number {i * i}." for i in range(300)))
    prepared = prepare_corpus([str(path)], merges=20, root=tmp_path / "data" / "prepared")
    config = ModelConfig(
        n_layer=1, n_head=1, n_embd=4, seq_len=32, vocab_size=prepared.tokenizer.vocab_size, init_std=0.3
    )
    data = DataConfig(data=(str(path),), merges=20)
    save(tmp_path / "run", GPT(config).init(0), prepared.tokenizer, data, corpus=prepared.meta["key"])
    assert eval.main([str(tmp_path / "run"), "--json"] + (["--data", str(path)] if named else [])) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["n_documents"] == prepared.val.n_documents < 300 and report["part"] == "the held-out part"


@pytest.mark.parametrize("named", ["own/a.txt", "own/link.txt", "own/a.txt new.txt", "own", "."])
def test_eval_refuses_a_part_of_what_the_run_was_trained_on(place, tmp_path, monkeypatch, named):
    """All of it would be a number about text seen in training."""
    (tmp_path / "own").mkdir()
    for name in ("own/a.txt", "own/b.txt", "new.txt"):
        (tmp_path / name).write_text(PLAIN_TEXT)
    (tmp_path / "own" / "link.txt").symlink_to("a.txt")
    trained = (str(tmp_path / "own" / "a.txt"), str(tmp_path / "own" / "b.txt"))
    _, tokenizer, _ = checkpoint.load_model(place / "runs" / "a")
    config = ModelConfig(n_layer=1, n_head=1, n_embd=4, seq_len=32, vocab_size=tokenizer.vocab_size)
    save(tmp_path / "run", GPT(config).init(0), tokenizer, DataConfig(data=trained))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="trained on"):
        eval.main(["run", "--data", *named.split()])
    assert eval.main(["run", "--data", "new.txt"]) == 0


def test_eval_knows_what_a_prepared_corpus_was_made_of(tmp_path, capsys):
    for name, number in (("a", 3), ("b", 5), ("c", 7)):
        text = "\n\n".join(f"Line {i} tells of the number {i * number}." for i in range(300))
        (tmp_path / f"{name}.txt").write_text(text)
    made = prepare_corpus(tmp_path / "a.txt", merges=20, out_dir=tmp_path / "mine")
    other = prepare_corpus(tmp_path / "b.txt", tokenizer=made.tokenizer, out_dir=tmp_path / "other")
    config = ModelConfig(n_layer=1, n_head=1, n_embd=4, seq_len=32, vocab_size=made.tokenizer.vocab_size)
    data = DataConfig(data=(str(tmp_path / "mine"),))
    save(tmp_path / "run", GPT(config).init(0), made.tokenizer, data, corpus=made.meta["key"])

    def measured(*flags):
        eval.main([str(tmp_path / "run"), "--json", *flags])
        report = json.loads(capsys.readouterr().out)
        return report["n_documents"], report["part"]

    assert measured() == (made.val.n_documents, "the held-out part")
    assert measured("--data", str(tmp_path / "other")) == (other.val.n_documents, "the held-out part")
    assert measured("--data", str(tmp_path / "a.txt")) == (made.val.n_documents, "the held-out part")
    how = {"out_dir": tmp_path / "mine", "overwrite": True}
    prepare_corpus(tmp_path / "c.txt", tokenizer=made.tokenizer, **how)
    with pytest.raises(CheckpointError, match="not any more what it was trained on"):
        measured()


def test_eval_of_smalltalk_beside_a_file_names_both_parts(tmp_path, capsys):
    path = tmp_path / "text.txt"
    path.write_text(PLAIN_TEXT)
    eval.main(["runs/a", "--data", "smalltalk", str(path), "--json", "--questions", "0"])
    assert json.loads(capsys.readouterr().out)["part"] == "all of it, of smalltalk the held-out part"


def test_eval_refuses_a_corpus_that_is_not_the_one_trained_on(tmp_path, place):
    path = tmp_path / "text.txt"
    path.write_text(PLAIN_TEXT)
    _, tokenizer, _ = checkpoint.load_model(place / "runs" / "a")
    config = ModelConfig(n_layer=1, n_head=1, n_embd=4, seq_len=32, vocab_size=tokenizer.vocab_size)
    save(tmp_path / "run", GPT(config).init(0), tokenizer, DataConfig(data=(str(path),), merges=20))
    with pytest.raises(CheckpointError, match="not any more what it was trained on"):
        eval.main([str(tmp_path / "run")])
