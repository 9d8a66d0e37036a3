"""Where `python -m tokenizer` writes, and what it says where little can be written or had."""

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from microgpt.tokenizer import Tokenizer, TokenizerError, __main__, pieces, train

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a text."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("one two three four " * 9)
    return tmp_path


def learn(*flags):
    return __main__.main(["train", "text.txt", "--merges", "2", *map(str, flags)])


# ---- places ----


def make_pipe(path):
    os.mkfifo(path)


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)


def make_loop(path):
    path.symlink_to(path.name)


def make_link_to_a_pipe(path):
    os.mkfifo("other")
    path.symlink_to("other")


def make_link_to_a_folder(path):
    Path("other").mkdir()
    path.symlink_to("other")


MAKERS = [Path.mkdir, make_pipe, make_socket, make_loop, make_link_to_a_pipe, make_link_to_a_folder]


def as_it_is(name):
    """All that is known of a name, but for when it was looked at last: following a link is a look."""
    status = os.lstat(name)
    return status.st_mode, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


@pytest.mark.parametrize("flag", ["--out", "--tiktoken"])
@pytest.mark.parametrize("make", MAKERS)
def test_what_is_no_file_is_refused_before_the_work_and_stays(make, flag, folder, capsys, monkeypatch):
    make(folder / "place")
    before = as_it_is("place")
    monkeypatch.setattr(__main__, "train", lambda *_: pytest.fail("the work was begun"))
    assert learn(flag, "place") == 2
    said = capsys.readouterr().err
    assert said.startswith("error: place: cannot be written: it is a ") and said.count("\n") == 1
    assert as_it_is("place") == before
    with pytest.raises(TokenizerError, match="place: cannot be written"):
        Tokenizer([], []).save("place")


def test_a_device_is_refused_and_stays(folder, capsys):
    for device in ("/dev/null", "/dev/zero"):
        assert learn("--out", device) == 2 and "it is a device" in capsys.readouterr().err
        assert stat.S_ISCHR(os.stat(device).st_mode)


@pytest.mark.parametrize("there", [True, False])
def test_a_link_is_followed_and_stays(there, folder):
    """Into another folder, over two links, to a file that is there or not yet."""
    (folder / "far").mkdir()
    if there:
        (folder / "far" / "file").write_text("old")
    (folder / "near").symlink_to("far/link")
    (folder / "far" / "link").symlink_to("file")
    assert learn("--out", "near", "--tiktoken", "ranks") == 0
    assert os.readlink("near") == "far/link" and os.readlink("far/link") == "file"
    assert len(Tokenizer.load("far/file").merges) == 2
    assert sorted(os.listdir("far")) == ["file", "link"]


def test_two_links_to_one_file_are_one_place(folder, capsys):
    (folder / "a").symlink_to("file")
    (folder / "b").symlink_to("file")
    assert learn("--out", "a", "--tiktoken", "b") == 2
    assert "name another file" in capsys.readouterr().err and not (folder / "file").exists()


def test_a_file_that_is_replaced_keeps_its_rights(folder):
    (folder / "out.json").write_text("old")
    os.chmod("out.json", 0o640)
    assert learn("--out", "out.json") == 0 and stat.S_IMODE(os.stat("out.json").st_mode) == 0o640


@pytest.mark.parametrize("name", ["a\0b", "x" * 300, "text.txt/x", ""])
def test_a_name_that_cannot_be_is_one_line(name, folder, capsys):
    assert learn("--out", name) == 2
    assert capsys.readouterr().err.count("\n") == 1


# ---- streams ----


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_name_is_printed_on_any_output(encoding, folder):
    code = """
import sys
from tokenizer.__main__ import main
special, *names = sys.argv[1:]
for name in names:
    assert main(["train", "text.txt", "--merges", "1", "--out", name, "--specials", special]) == 0
    assert main(["show", "--tokenizer", name]) == 0
"""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding}
    names = ("café.json", "漢\x1b[31m.json", b"caf\xe9.json")
    words = [sys.executable, "-c", code, "<|énd 漢|>", *names]
    done = subprocess.run(words, capture_output=True, env=env)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert [line.count(b"json: vocabulary 258") for line in said[::260]] == [1, 1, 1], said[::260]
    assert all(line.startswith(b"    257  <|") for line in said[259::260])
    assert b"\x1b" not in done.stdout


def test_an_error_with_any_name_is_one_harmless_line(folder, capsys):
    assert __main__.main(["encode", "\x1b[31m\n\udce9" + "x" * 5000]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said[:-1].isprintable() and len(said) < 600


@pytest.mark.parametrize(
    "flag, text",
    [
        ("--threads", "0"),
        ("--threads", "100000"),
        ("--threads", "9" * 400),
        ("--threads", "9" * 5000),
        ("--merges", "1" + 26 * "0"),
        ("--merges", "nan"),
        ("--merges", ""),
        ("--nonsense", "\x1b"),
    ],
)
def test_absurd_flags_are_refused_at_once_in_one_line(flag, text, folder, capsys, monkeypatch):
    monkeypatch.setattr("tokenizer.training.Counter", lambda salt: pytest.fail("one was made for a thread"))
    try:
        code = learn(f"{flag}={text}")
    except SystemExit as end:
        code = end.code
    said = capsys.readouterr().err
    assert code == 2 and said.startswith("error: ") and said.count("\n") == 1 and len(said) < 600


# ---- little to be had ----


def test_out_of_memory_is_one_line_with_advice(folder, capsys, monkeypatch):
    def starved(*_):
        raise MemoryError

    monkeypatch.setattr(__main__, "train", starved)
    assert learn() == 2
    assert capsys.readouterr().err == "error: out of memory; learn from less text, or with fewer --threads\n"
    assert os.listdir() == ["text.txt"]


def test_a_system_that_refuses_threads_is_one_line(folder, capsys, monkeypatch):
    def refused(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(pieces.ThreadPoolExecutor, "submit", refused)
    assert learn("--threads", "4") == 2
    said = capsys.readouterr().err
    assert said.startswith("error: the system refuses another thread") and "fewer" in said
    monkeypatch.undo()
    with pytest.raises(RuntimeError, match="mine"):  # of the work itself it is none of ours
        list(pieces.map_threads(lambda _: (_ for _ in ()).throw(RuntimeError("mine")), [1, 2], 2))


def test_ids_are_written_a_piece_at_a_time(folder, capsys, monkeypatch):
    """Where nothing is buffered, as in many containers, each write is a call of the system."""
    train(["a"], 0).save("tokenizer.json")
    writes = []
    monkeypatch.setattr(sys, "stdout", type("Out", (), {"write": writes.append, "flush": lambda: None}))
    assert __main__.main(["encode", "text.txt"]) == 0
    assert len("".join(writes).split()) == 19 * 9 and len(writes) <= 4
