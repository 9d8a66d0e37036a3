"""The folder that a corpus is prepared in: whose it is, what it replaces, and how damage is told."""

import errno
import json
import os
import subprocess
import sys

import pytest

from microgpt.common.errors import DataError
from microgpt.corpus.prepared import make as room
from microgpt.corpus.prepared.folder import is_prepared
from microgpt.corpus.prepared.make import prepare, prepare_held_out
from microgpt.corpus.prepared.split import HeldOutWanted
from microgpt.files import folder as cache
from tests.corpus.lines import chat_line


def test_the_folder_is_named_and_complete(chats, tmp_path):
    done = prepare(chats, merges=50)
    assert done.directory.parent == tmp_path / "data" / "prepared"
    names = ["meta.json", "tokenizer.json", "train.tokens", "val.tokens"]
    assert sorted(os.listdir(done.directory)) == names
    assert os.listdir(done.directory.parent) == [done.directory.name]
    meta = json.loads((done.directory / "meta.json").read_text())
    assert meta == done.meta
    assert meta["train"]["documents"] + meta["val"]["documents"] == 3000
    assert meta["train"]["tokens"] == done.train.n_tokens
    assert meta["skipped"] == {"lines": 0, "examples": [], "files": 0, "parts": {}}
    assert meta["files_read"] == 1


def test_nothing_is_left_behind_by_a_failure(write, tmp_path):
    with pytest.raises(DataError):
        prepare(write("x.jsonl", chat_line("a", "b") * 3 + "{broken\n"), merges=5)
    assert os.listdir(tmp_path / "data" / "prepared") == []


DAMAGES = {
    "cut": lambda data: data[:-3],
    "emptied": lambda data: b"",
    "a bit": lambda data: bytes([*data[:100], data[100] ^ 128, *data[101:]]),
}


@pytest.mark.parametrize("name", ["meta.json", "tokenizer.json", "train.tokens", "val.tokens"])
@pytest.mark.parametrize("damage", [None, *DAMAGES])
def test_a_damaged_folder_is_made_anew_and_it_is_said(chats, capsys, name, damage):
    first = prepare(chats, merges=50)
    path = first.directory / name
    whole = path.read_bytes()
    path.unlink()
    if damage:
        path.write_bytes(DAMAGES[damage](whole))
    capsys.readouterr()
    prepare(chats, merges=50)
    told = capsys.readouterr().err
    assert path.read_bytes() == whole
    assert told.startswith(f"microgpt: {path}: ") and told.endswith("; it is replaced\n")
    assert told.count("\n") == 1


@pytest.mark.parametrize("where", [300, -3])
def test_one_bit_in_a_prepared_folder_is_noticed(chats, tmp_path, tokenizer, where):
    """In the ids and in the offsets of the documents."""
    prepare(chats, tokenizer=tokenizer, out_dir=tmp_path / "mine")
    path = tmp_path / "mine" / "val.tokens"
    data = bytearray(path.read_bytes())
    data[where] ^= 1
    path.write_bytes(data)
    for use in (prepare, lambda folder: prepare_held_out(folder, tokenizer)):
        with pytest.raises(DataError, match=r"val\.tokens: the tokens are damaged.*; prepare the corpus"):
            use(tmp_path / "mine")


def test_a_folder_of_ones_own_choice(chats, write, tmp_path, capsys):
    done = prepare(chats, merges=50, out_dir=tmp_path / "mine")
    assert done.directory == tmp_path / "mine"
    capsys.readouterr()
    other = write("y.txt", "other\n\ntext")
    again = prepare(other, merges=2, out_dir=tmp_path / "mine", overwrite=True)
    assert again.train.n_documents == 1
    assert capsys.readouterr().err == (
        f"microgpt: {done.directory}: the corpus that was prepared there, of {chats}, is another one; "
        "it is replaced\n"
    )
    write("full/precious.txt", "keep me")
    with pytest.raises(DataError, match="other files"):
        prepare(chats, merges=50, out_dir=tmp_path / "full")
    assert (tmp_path / "full" / "precious.txt").exists()


@pytest.mark.parametrize("change", ["text", "merges", "tokenizer", "held_out"])
def test_another_corpus_is_not_replaced_unless_told(chats, write, tmp_path, tokenizer, change):
    """Runs may have been trained on it."""
    before = prepare(chats, merges=50, out_dir=tmp_path / "mine")
    bytes_before = before.train.path.read_bytes()
    source = write("y.txt", "other\n\ntext") if change == "text" else chats
    how = {"merges": 5 if change == "merges" else 50}
    how |= {"tokenizer": tokenizer} if change == "tokenizer" else {}
    how |= {"wanted": HeldOutWanted(held_out_share=0.5)} if change == "held_out" else {}
    with pytest.raises(DataError, match=rf"another corpus .* of {chats}, .*--out-dir.*--overwrite"):
        prepare(source, out_dir=tmp_path / "mine", **how)
    assert before.train.path.read_bytes() == bytes_before
    assert prepare(source, out_dir=tmp_path / "mine", overwrite=True, **how).meta["key"] != before.meta["key"]


def test_the_same_content_under_another_name_is_no_change(chats, write, tmp_path, capsys):
    before = prepare(chats, merges=50, out_dir=tmp_path / "mine")
    changed_at = before.train.path.stat().st_mtime_ns
    for overwrite in (False, True):
        copy = write("moved/copy", chats.read_bytes())
        prepare(copy, merges=50, out_dir=tmp_path / "mine", overwrite=overwrite)
    assert before.train.path.stat().st_mtime_ns == changed_at and capsys.readouterr().err == ""


def test_files_beside_a_prepared_corpus_are_kept(chats, write, tmp_path):
    prepare(chats, merges=50, out_dir=tmp_path / "mine")
    notes = write("mine/notes.txt", "keep me")
    for out_dir in (tmp_path / "mine", notes):
        with pytest.raises(DataError, match="other files"):
            prepare(write("y.txt", "other\n\ntext"), merges=5, out_dir=out_dir)
    assert notes.read_text() == "keep me"


def test_what_a_killed_process_left_is_removed(chats, tmp_path):
    stale = tmp_path / "data" / "prepared" / ".microgpt-building-x"
    stale.mkdir(parents=True)
    (stale / "train.tokens").write_bytes(b"half")
    done = prepare(chats, merges=50)
    assert os.listdir(stale.parent) == [done.directory.name]


def test_of_several_processes_one_works_and_the_others_wait(write, tmp_path):
    path = write("x.txt", "some text\n\n" * 2000)
    code = (
        "import sys; from microgpt.corpus.prepared import make as room; real = room.train\n"
        "def spy(*args, **how): print('trained'); return real(*args, **how)\n"
        "room.train = spy; print(room.prepare(sys.argv[1], merges=3).train.n_tokens)"
    )
    command = [sys.executable, "-c", code, str(path)]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, env=env, text=True) for _ in range(3)]
    words = [word for worker in workers for word in worker.communicate()[0].split()]
    alone = prepare(path, merges=3)
    assert words.count("trained") <= 2  # twice for one corpus as small as this, by one process
    assert words.count(str(alone.train.n_tokens)) == 3


def refusing(number):
    """A system call that fails so."""

    def refuse(*args, **how):
        raise OSError(number, os.strerror(number))

    return refuse


def test_a_place_that_cannot_be_written_is_one_clear_line(chats, write, tmp_path, monkeypatch):
    blocker = write("blocker", "a file")
    with pytest.raises(DataError, match=r"cannot write the prepared corpus.*with MICROGPT_DATA_DIR"):
        prepare(chats, merges=50, root=blocker / "inside")
    monkeypatch.setattr(cache.Path, "mkdir", refusing(errno.ENOSPC))
    with pytest.raises(DataError, match=r"cannot write the prepared corpus.*with --out-dir"):
        prepare(chats, merges=50, out_dir=tmp_path / "mine")


def test_a_prepared_folder_is_a_corpus(chats, tmp_path, tokenizer):
    made = prepare(chats, merges=50, out_dir=tmp_path / "mine")
    chats.unlink()
    again = prepare(tmp_path / "mine", merges=9)
    assert (again.meta, again.tokenizer) == (made.meta, made.tokenizer)
    assert prepare_held_out(tmp_path / "mine", made.tokenizer).path == made.val.path
    with pytest.raises(DataError, match="another tokenizer"):
        prepare(tmp_path / "mine", tokenizer=tokenizer)
    with pytest.raises(DataError, match="stands alone"):
        prepare([tmp_path / "mine", "smalltalk"])


def test_a_foreign_description_is_not_deleted(chats, write, tmp_path):
    notes = write("mine/meta.json", '{"of": "somebody else"}')
    with pytest.raises(DataError, match="other files"):
        prepare(chats, merges=50, out_dir=tmp_path / "mine")
    assert notes.exists()


@pytest.mark.parametrize(
    "missing", [["meta.json"], ["train.tokens", "val.tokens"], ["meta.json", "val.tokens"]]
)
def test_a_damaged_folder_of_ones_own_can_be_prepared_again(chats, tmp_path, missing):
    before = prepare(chats, merges=50, out_dir=tmp_path / "mine").meta
    for name in missing:
        (tmp_path / "mine" / name).unlink()
    assert prepare(chats, merges=50, out_dir=tmp_path / "mine").meta == before


def test_tokens_of_somebody_else_are_not_deleted(chats, write, tmp_path):
    foreign = write("mine/train.tokens", "words of another program")
    with pytest.raises(DataError, match="other files"):
        prepare(chats, merges=50, out_dir=tmp_path / "mine")
    assert foreign.exists()


def test_a_link_leads_to_the_folder_of_ones_own_choice(chats, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    for merges in (5, 6):
        done = prepare(chats, merges=merges, out_dir=tmp_path / "link", overwrite=True)
        assert done.directory == tmp_path / "real"
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize(
    "place, words", [(".", "cannot be replaced"), ("closed/mine", r"cannot write there \(Read-only file ")]
)
def test_a_place_that_is_not_for_us_is_refused_before_the_work(chats, tmp_path, monkeypatch, place, words):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    monkeypatch.setattr(room, "Corpus", lambda *args: pytest.fail("the corpus was opened"))
    monkeypatch.setattr(os, "mkdir", refusing(errno.EROFS))
    with pytest.raises(DataError, match=words):
        prepare(chats, merges=5, out_dir=place)


def test_the_description_tells_what_is_there(write, tokenizer, tmp_path, monkeypatch):
    write("x.txt", "ab ab\n\nab")
    monkeypatch.chdir(tmp_path)
    done = prepare("x.txt", merges=700)
    assert done.meta["merges"] == len(done.tokenizer.merges) < 20
    assert done.meta["sources"] == [str(tmp_path / "x.txt")]
    assert prepare("x.txt", tokenizer=tokenizer).meta["merges"] == 20


@pytest.mark.parametrize(
    "change",
    [
        {"skipped": None},
        {"skipped": {"lines": 1}},
        {"skipped": {"lines": "1", "examples": ["x"]}},
        {"key": 1},
        {"skipped": {"lines": 1, "examples": [2]}},
        {"skipped": {"lines": 0, "example": []}},
        {"sources": "abc"},
    ],
)
def test_a_description_that_was_edited_is_one_clear_line(chats, tmp_path, change):
    made = prepare(chats, merges=50, out_dir=tmp_path / "mine")
    (tmp_path / "mine" / "meta.json").write_text(json.dumps(made.meta | change))
    with pytest.raises(DataError, match=r"mine.meta\.json: not the description"):
        prepare(tmp_path / "mine")


@pytest.mark.parametrize("damage", ["changed", "removed"])
@pytest.mark.parametrize("name", ["meta.json", "tokenizer.json", "train.tokens", "val.tokens"])
def test_a_damaged_prepared_folder_is_one_clear_line(chats, tmp_path, name, damage):
    prepare(chats, merges=50, out_dir=tmp_path / "mine")
    (tmp_path / "mine" / name).unlink()
    if damage == "changed":
        (tmp_path / "mine" / name).write_bytes(b"{}")
    with pytest.raises(DataError, match=f"mine.{name}.*prepare"):
        prepare(tmp_path / "mine")


def test_a_prepared_folder_without_any_token_file_is_no_text(chats, tmp_path):
    made = prepare(chats, merges=50, out_dir=tmp_path / "mine")
    for tokens in made.sides.values():
        tokens.path.unlink()
    with pytest.raises(DataError, match=r"mine.train\.tokens.*prepare"):
        prepare(tmp_path / "mine")


def test_out_of_memory_names_what_helps_a_corpus(tmp_path):
    def starved(_):
        raise MemoryError

    def missing():
        raise DataError("nothing here")

    with pytest.raises(DataError, match=r"^out of memory while a corpus was prepared; take fewer --threads"):
        cache.make_folder(tmp_path / "x", missing, starved, "--out-dir")
    assert not (tmp_path / "x").exists()


def test_a_link_to_a_name_that_no_file_can_have_is_no_prepared_corpus(tmp_path):
    """The system refuses to look at it (ENAMETOOLONG), which is an answer, not an error."""
    (tmp_path / "train.tokens").symlink_to("x" * 300)
    (tmp_path / "a.txt").write_text("Some text.\n\n" * 9)
    assert not is_prepared(tmp_path)
    assert prepare([tmp_path], merges=3, root=tmp_path.parent / "made").train.n_documents > 0
