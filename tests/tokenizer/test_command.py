"""microgpt tokenizer, from outside."""

import gzip
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.torture.signals import hear_signals
from microgpt.tokenizer import Tokenizer, TokenizerError, __main__, train
from tests.tokenizer import texts as bpe_texts

ROOT = Path(__file__).parents[2]
TEXT = " ".join(bpe_texts.SENTENCES * 3)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a text and a tokenizer trained on it by the command."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_bytes(TEXT.encode() + b"\xff\n")
    assert __main__.main(["train", "text.txt", "--merges", "50", "--tiktoken", "ranks"]) == 0
    return tmp_path


def test_train_writes_both_files(folder, capsys):
    assert Tokenizer.load(folder / "tokenizer.json") == train([TEXT.encode() + b"\xff\n"], 50)
    assert len((folder / "ranks").read_text().splitlines()) == 306
    assert __main__.main(["train", "text.txt", "--merges", "1", "--specials", "<s>", "--out", "x.json"]) == 0
    assert "1 merges, 1 specials" in capsys.readouterr().out
    assert Tokenizer.load(folder / "x.json").specials == ("<s>",)


def test_several_files_are_several_documents(folder):
    (folder / "a").write_text("xy ")
    (folder / "b").write_text(" xy")
    assert __main__.main(["train", "a", "b", "--out", "x.json"]) == 0
    assert Tokenizer.load("x.json") == train(["xy ", " xy"])


def test_encode_and_decode_are_inverse(folder, capfdbinary):
    assert __main__.main(["encode", "text.txt"]) == 0
    ids = capfdbinary.readouterr().out
    tokenizer = Tokenizer.load("tokenizer.json")
    assert [int(i) for i in ids.split()] == tokenizer.encode(TEXT.encode() + b"\xff\n").tolist()
    (folder / "ids").write_bytes(ids)
    assert __main__.main(["decode", "ids"]) == 0
    assert capfdbinary.readouterr().out == TEXT.encode() + b"\xff\n"


def test_what_is_no_id_is_shown(folder, capsys):
    (folder / "ids").write_bytes(b"97 a\xffc 98")
    capsys.readouterr()
    assert __main__.main(["decode", "ids"]) == 2
    assert capsys.readouterr().err == "error: ids: expected ids, numbers between spaces; got 'a\ufffdc'\n"


def test_show(folder, capsys):
    capsys.readouterr()
    assert __main__.main(["show"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 256 + 50 + 5
    assert lines[98] == "     97  'a'" and lines[-1] == "    310  <|end|>"
    assert __main__.main(["show", "--text", "a b"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "     97  'a'"


@pytest.mark.parametrize(
    "arguments, word",
    [
        (["train", "missing.txt"], "missing.txt"),
        (["train", "text.txt", "--merges", "-1"], "n_merges"),
        (["train", "text.txt", "--threads", "0"], "threads"),
        (["encode", "text.txt", "--tokenizer", "no"], "no"),
        (["train", "text.txt", "--out", "no/such/folder"], "cannot be written"),
        (["decode", "text.txt"], "ids"),
        (["train", "text.txt", "--specials", "a"], "taken"),
        (["show", "--tokenizer", "text.txt"], "not a tokenizer"),
    ],
)
def test_mistakes_end_in_one_line(arguments, word, folder, capsys):
    capsys.readouterr()
    assert __main__.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and word in error


@pytest.mark.parametrize(
    "flags",
    [
        ["--out", "text.txt"],
        ["--out", "link"],
        ["--out", "./new"],
        ["--out", "."],
        ["--tiktoken", "text.txt"],
    ],
)
def test_train_overwrites_neither_a_text_nor_its_own_other_file(flags, folder, capsys):
    (folder / "link").symlink_to("text.txt")
    before = (folder / "text.txt").read_bytes()
    capsys.readouterr()
    assert __main__.main(["train", "text.txt", "--tiktoken", "new", *flags]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and " name a" in error
    assert (folder / "text.txt").read_bytes() == before and not (folder / "new").exists()


@pytest.mark.parametrize(
    "data, word",
    [
        (b"", "empty"),
        (gzip.compress(b"text"), "gzip"),
        (b"\x28\xb5\x2f\xfd..", "zstd"),
    ],
    ids=["empty", "gzip", "zstd"],
)
def test_a_file_without_text_is_a_mistake(data, word, folder, capsys):
    (folder / "x").write_bytes(data)
    capsys.readouterr()
    assert __main__.main(["train", "text.txt", "x", "--out", "x.json"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: x: ") and error.count("\n") == 1 and word in error
    assert not (folder / "x.json").exists()


def test_a_binary_file_is_learnt_from_with_a_warning(folder, capsys):
    (folder / "x").write_bytes(b"\x7fELF\0\0")
    capsys.readouterr()
    assert __main__.main(["train", "x", "--merges", "1", "--out", "x.json"]) == 0
    assert capsys.readouterr().err == "warning: x: this looks like no text; it is learnt from byte by byte\n"


def test_a_folder_is_no_place_for_a_file(tmp_path):
    with pytest.raises(TokenizerError, match="folder"):
        Tokenizer([], []).save(tmp_path)
    with pytest.raises(TokenizerError, match="folder"):
        Tokenizer([], []).save(".")


@pytest.mark.parametrize(
    "command, word",
    [
        ("encode <&-", "input"),
        ("decode ids >&-", "output"),
        ("show >/dev/full", "output"),
    ],
)
def test_a_closed_or_full_stream_is_a_mistake_too(command, word, folder):
    if "/dev/full" in command and not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    (folder / "ids").write_text("97 98")
    shell = f"{sys.executable} -m microgpt.tokenizer {command}"
    done = subprocess.run(
        shell,
        shell=True,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 2 and done.stderr.startswith(f"error: standard {word}")
    assert done.stderr.count("\n") == 1


def test_ctrl_c_stops_with_130_and_leaves_no_file(tmp_path):
    """The input is a pipe that is filled without end, so that the signal surely arrives while counting."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    process = subprocess.Popen(
        [sys.executable, "-m", "microgpt.tokenizer", "train", pipe, "--out", tmp_path / "t.json"],
        stderr=subprocess.PIPE,
        cwd=ROOT,
        preexec_fn=hear_signals,
    )
    with open(pipe, "wb", buffering=0) as file, pytest.raises(BrokenPipeError):  # opens when the command does
        for n in range(1_000_000):
            file.write(b"some words " * 10_000)
            if n == 30:
                process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=600)
    assert process.returncode == 130 and error == b"stopped\n"
    assert not (tmp_path / "t.json").exists()
