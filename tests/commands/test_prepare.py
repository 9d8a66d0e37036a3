"""`microgpt prepare`: what it tells of a corpus, which tokenizer it takes, what it replaces."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from microgpt.commands import prepare
from microgpt.commands import train as train_command
from microgpt.common.errors import CheckpointError, ConfigError, DataError
from microgpt.corpus.prepared.config import DataConfig
from microgpt.corpus.prepared.make import prepare as prepare_corpus
from microgpt.runs import checkpoint
from tests.commands.random_run import PLAIN_TEXT, save

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def here(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.delenv("MICROGPT_DATA_DIR", raising=False)


def test_prepare_tells_what_is_in_a_corpus(tmp_path, capsys):
    (tmp_path / "x.jsonl").write_text('{"text": "one two"}\nbroken\n' + '{"text": "three"}\n' * 2000)
    how = ["--merges", "9", "--bad-lines", "skip", "--out-dir", str(tmp_path / "out")]
    assert prepare.main([str(tmp_path / "x.jsonl"), *how, "--seq-len", "7", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["train"]["documents"] + found["val"]["documents"] == 2001
    assert found["train"]["windows"] == -(-(found["train"]["tokens"] - 1) // 7)
    assert found["skipped"]["lines"] == 1
    assert prepare.main([str(tmp_path / "out")]) == 0
    out, err = capsys.readouterr()
    assert err == "", "the bad line stands in the table"
    assert f"{found['train']['tokens']:,}" in out and "x.jsonl:2: " in out and f"--data {tmp_path}" in out
    assert found["files"] == 1 and "\nread      1 file\nskipped   1 bad line; the first: " in out


@pytest.mark.parametrize(
    ("n", "share", "warnings"),
    [(400, "0.7", ["more is held out", "documents held out"]), (400, "0.1", ["documents held out"])],
)
def test_prepare_warns_of_a_held_out_part_that_is_small_or_too_large(tmp_path, capsys, n, share, warnings):
    (tmp_path / "x.txt").write_text("\n\n".join(f"text number {i}" for i in range(n)))
    assert prepare.main([str(tmp_path / "x.txt"), "--merges", "2", "--held-out-share", share]) == 0
    found = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning")]
    assert len(found) == len(warnings)
    assert all(text in line for line, text in zip(found, warnings, strict=True))


@pytest.mark.parametrize(("n", "told"), [(1, False), (3, True), (40, False)])
def test_prepare_says_when_few_documents_hold_out_more_than_anybody_wants(tmp_path, capsys, n, told):
    for number in range(n):
        (tmp_path / f"{number}.txt").write_text(f"text number {number}\n\n" * 100)
    assert prepare.main([str(tmp_path), "--merges", "2", "--text-documents", "file"]) == 0
    note = "33% of the text is held out, 10% was to be: it has 3 documents, and each"
    assert (note in capsys.readouterr().out) == told


def test_prepare_tells_what_is_not_learned(tmp_path, capsys):
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0}]
    rows = [{"text": "one"}, {"text": "two"}, {"messages": turns}]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "y.md").write_text("# notes")
    assert prepare.main([str(tmp_path), "--merges", "2", "--out-dir", str(tmp_path / "out")]) == 0
    told = "\nleft out  no text by its name: 1\nleft out  messages of weight 0: 1\n"
    assert told in capsys.readouterr().out
    assert prepare.main([str(tmp_path / "out")]) == 0
    assert told in capsys.readouterr().out
    assert prepare.main([str(tmp_path / "out"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["left_out"] == {"no text by its name": 1, "messages of weight 0": 1}


def test_prepare_tells_of_the_embedded_corpus_beside_files(tmp_path):
    (tmp_path / "x.txt").write_text(PLAIN_TEXT)
    how = {"smalltalk_bytes": 20_000, "merges": 9, "root": tmp_path / "prepared"}
    for sources, told in (
        (["smalltalk", str(tmp_path / "x.txt")], "1 file and the embedded corpus"),
        (["smalltalk"], "the embedded corpus"),
    ):
        assert f"read      {told}" in prepare.lines(prepare_corpus(sources, **how), 64, 0.0)


def test_prepare_takes_suffixes_and_keys(tmp_path, capsys):
    (tmp_path / "x.md").write_text("one\n\ntwo")
    (tmp_path / "y.csv").write_text("frage,antwort\n" + "q,a\nr,b\n" * 9)
    how = ["--merges", "2", "--suffix", ".md,csv", "--keys", "frage,antwort", "--json"]
    assert prepare.main([str(tmp_path), *how, "--out-dir", str(tmp_path / "out")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["train"]["documents"] + found["val"]["documents"] == 20 and found["left_out"] == {}


def test_prepare_tells_of_files_it_passed_over_and_a_next_step_that_a_shell_takes(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for name, text in {"a.txt": PLAIN_TEXT, "b.txt": PLAIN_TEXT, "c.txt": ""}.items():
        (tmp_path / "in" / name).write_text(text)
    place = tmp_path / "it's mine"
    how = ["--merges", "9", "--bad-lines", "skip", "--out-dir", str(place)]
    assert prepare.main([str(tmp_path / "in"), *how]) == 0
    out = capsys.readouterr().out
    assert "\nread      2 files\nskipped   1 file; the first: " in out
    assert shlex.split(out.split("next: ")[1])[-3:] == ["train", "--data", str(place)]


def test_prepare_reads_a_description_of_an_earlier_version(tmp_path, capsys):
    (tmp_path / "x.txt").write_text(PLAIN_TEXT)
    prepare.main([str(tmp_path / "x.txt"), "--merges", "9", "--out-dir", str(tmp_path / "out")])
    meta = json.loads((tmp_path / "out" / "meta.json").read_text())
    del meta["files_read"], meta["skipped"]["files"]
    (tmp_path / "out" / "meta.json").write_text(json.dumps(meta))
    prepare.main([str(tmp_path / "out")])
    assert "\nread      1 file\nskipped   nothing\n" in capsys.readouterr().out


def test_prepare_uses_the_tokenizer_of_another_corpus(tmp_path, capsys):
    (tmp_path / "x.txt").write_text(PLAIN_TEXT)
    (tmp_path / "y.txt").write_text("Some other text.\n\nAnd one more.\n")
    main_folder, other = str(tmp_path / "out"), str(tmp_path / "other")
    prepare.main([str(tmp_path / "x.txt"), "--merges", "9", "--out-dir", main_folder])
    prepare.main([str(tmp_path / "y.txt"), "--tokenizer", main_folder, "--out-dir", other])
    read = [(tmp_path / name / "tokenizer.json").read_bytes() for name in ("out", "other")]
    assert read[0] == read[1]
    with pytest.raises(ConfigError, match="--merges"):
        prepare.main([str(tmp_path / "y.txt"), "--tokenizer", main_folder, "--merges", "3"])
    with pytest.raises(ConfigError, match="--single-digits"):
        prepare.main([str(tmp_path / "y.txt"), "--tokenizer", main_folder, "--single-digits"])


@pytest.mark.parametrize(
    "named",
    ["a", "runs/a", "runs/a/tokenizer.json", "runs/a/step_00000007", "runs/a/step_00000007/tokenizer.json"],
)
def test_prepare_uses_the_tokenizer_of_a_run(place, tmp_path, named):
    (tmp_path / "x.txt").write_text(PLAIN_TEXT)
    out = tmp_path / "out"
    assert prepare.main([str(tmp_path / "x.txt"), "--tokenizer", named, "--out-dir", str(out)]) == 0
    of_run = place / "runs" / "a" / "step_00000007" / "tokenizer.json"
    assert (out / "tokenizer.json").read_bytes() == of_run.read_bytes()


@pytest.mark.parametrize("named", ["none", "runs", "runs/none/tokenizer.json"])
def test_prepare_tells_what_a_tokenizer_can_be(tmp_path, named):
    (tmp_path / "x.txt").write_text(PLAIN_TEXT)
    with pytest.raises(CheckpointError, match="expected a "):
        prepare.main([str(tmp_path / "x.txt"), "--tokenizer", named, "--out-dir", str(tmp_path / "out")])


def test_prepare_replaces_another_corpus_only_with_overwrite(tmp_path, capsys):
    (tmp_path / "x.txt").write_text(PLAIN_TEXT)
    (tmp_path / "y.txt").write_text("Some other text.\n\nAnd one more.\n")
    out = ["--out-dir", str(tmp_path / "out"), "--merges", "3"]
    for _ in range(2):
        assert prepare.main([str(tmp_path / "x.txt"), *out]) == 0
    with pytest.raises(DataError, match="--overwrite"):
        prepare.main([str(tmp_path / "y.txt"), *out])
    assert prepare.main([str(tmp_path / "y.txt"), *out, "--overwrite"]) == 0
    assert "is another one; it is replaced" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="--overwrite is for --out-dir"):
        prepare.main([str(tmp_path / "y.txt"), "--overwrite"])


def test_prepare_holds_out_what_is_named(tmp_path, capsys, monkeypatch):
    (tmp_path / "x.txt").write_text("\n\n".join(f"Line {i}." for i in range(500)))
    (tmp_path / "y.txt").write_text("Held.\n\nLine 7.\n\nToo.")
    monkeypatch.setenv("MICROGPT_DATA_DIR", str(tmp_path / "data"))
    how = [str(tmp_path / "x.txt"), "--merges", "3", "--json"]

    def documents(*flags):
        assert prepare.main([*how, *flags]) == 0
        found = json.loads(capsys.readouterr().out)
        return found["train"]["documents"], found["val"]["documents"]

    assert documents("--held-out", str(tmp_path / "y.txt")) == (499, 3)
    train, val = documents("--held-out-share", "0.2")
    assert train + val == 500 and 70 < val < 130
    held_out = ["--held-out", str(tmp_path / "x.txt")]
    assert prepare.main([str(tmp_path / "y.txt"), *held_out, "--merges", "3"]) == 0
    assert "\nleft out  1 document not trained on: " in capsys.readouterr().out


@pytest.mark.parametrize(
    "flags",
    [
        ["--out-dir", "other"],
        ["--merges", "9"],
        ["--bad-lines", "error"],
        ["--held-out", "x.txt"],
        ["--held-out-share", "0.1"],
    ],
)
def test_a_prepared_folder_takes_no_settings(tmp_path, flags):
    """They would have no effect."""
    (tmp_path / "x.txt").write_text(PLAIN_TEXT)
    folder = str(tmp_path / "out")
    prepare.main([str(tmp_path / "x.txt"), "--merges", "9", "--out-dir", folder])
    with pytest.raises(ConfigError, match=f"{flags[0]}: .*prepared already"):
        prepare.main([folder, *flags])
    if flags[0] != "--out-dir":
        with pytest.raises(ConfigError, match=f"{flags[0]}: .*prepared already"):
            train_command.main(["--data", folder, "--out-dir", str(tmp_path / "run"), *flags])


def test_a_name_that_is_no_utf8_is_printed_and_kept(place, tmp_path):
    path = os.fsencode(tmp_path) + b"/caf\xe9"
    Path(os.fsdecode(path)).write_text(PLAIN_TEXT)
    words = [sys.executable, "-m", "microgpt", "prepare", path, "--merges", "9", "--out-dir", path + b" out"]
    env = os.environ | {"PYTHONIOENCODING": "utf-8:strict", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and "caf\\udce9 out'" in done.stdout
    data = DataConfig(data=(os.fsdecode(path),))
    model, tokenizer, _ = checkpoint.load_model(place / "runs" / "a")
    saved = save(tmp_path / "run", model, tokenizer, data)
    assert checkpoint.read_config(saved)["data"]["data"] == [os.fsdecode(path)]
