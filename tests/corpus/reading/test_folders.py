"""Which files a folder gives, and what is said of the others."""

import json
import os

import pytest

from microgpt.common.errors import DataError
from microgpt.corpus.prepared.config import DataConfig
from microgpt.corpus.prepared.make import prepare
from microgpt.corpus.reading.folders import MADE_HERE, OTHER, find_files
from microgpt.model import GPT, ModelConfig
from microgpt.runs.checkpoint import Snapshot, persist
from microgpt.runs.metrics import MetricsLog
from microgpt.runs.settings import TrainConfig
from microgpt.runs.spec import Plan
from microgpt.training.adam import Adam


def found(folder, *suffixes):
    """Names of the files in a folder, and of what is left out by why."""
    left_out = {}

    def note(why, path):
        left_out.setdefault(why, []).append(os.path.relpath(path, folder))

    files = find_files([folder], pytest.fail, note, suffixes)
    return [os.path.relpath(file, folder) for file in files], left_out


@pytest.fixture
def run(tmp_path, tokenizer):
    """A run directory beside texts."""
    run = tmp_path / "runs" / "a"
    run.mkdir(parents=True)
    config = ModelConfig(n_layer=1, n_head=1, n_embd=8, seq_len=8, vocab_size=tokenizer.vocab_size)
    model, train = GPT(config).init(1), TrainConfig()
    snapshot = Snapshot(model, Adam(model, train), tokenizer)
    persist(snapshot.fill(Plan(config, train, DataConfig()).to_dict(), {"step": 7, "corpus": ""}), run, 2)
    with MetricsLog(run / "metrics.jsonl") as log:
        log.write("start", 0, n_params=1)
    return run


def test_what_microgpt_made_is_never_text(write, tmp_path, run, tokenizer):
    write("a.txt", "a word\n\nb word\n\nc word")
    prepare(tmp_path / "a.txt", merges=2)
    tokenizer.save(tmp_path / "tokenizer.json")
    tokenizer.save(tmp_path / "any name.json")
    (run.parent / "b").mkdir()
    (run.parent / "b" / "metrics.jsonl").touch()  # killed before its first step
    files, left_out = found(tmp_path)
    assert files == ["a.txt"]
    assert list(left_out) == [MADE_HERE]
    folders = {name for name in left_out[MADE_HERE] if (tmp_path / name).is_dir()}
    assert folders == {"runs/a/step_00000007"}
    assert {"any name.json", "tokenizer.json", "runs/a/metrics.jsonl", "runs/b/metrics.jsonl"} < {
        *left_out[MADE_HERE]
    }


def test_a_checkpoint_anywhere_is_none_of_the_corpus(write, tmp_path, run):
    write("a.txt", "a")
    (run / "step_00000007").rename(tmp_path / "best")
    assert found(tmp_path)[0] == ["a.txt"]
    (tmp_path / "best" / "model.safetensors").unlink()
    (tmp_path / "best").rename(tmp_path / "step_00000009")
    assert found(tmp_path)[0] == ["a.txt"], "damaged, but by its name one"


def test_a_damaged_prepared_corpus_is_no_text_either(write, tmp_path):
    write("a.txt", "a word\n\nb word\n\nc word")
    made = prepare(tmp_path / "a.txt", merges=2, out_dir=tmp_path / "made").directory
    (made / "meta.json").write_text("{")
    (made / "tokenizer.json").write_text("{")
    assert found(tmp_path)[0] == ["a.txt"]


def test_texts_beside_what_is_made_are_read(write, tmp_path, run):
    """Names alone hide nothing: others have files of these names, too."""
    for name in ("val.tokens", "mine/val.tokens", "mine/train.tokens"):
        write(name, "a user's own")
    names = ["notes.txt", "meta.json", "metrics.jsonl", "tokenizer.json", "state.json", "manifest.json"]
    for name in names:
        write(f"mine/{name}", '{"text": "a"}')
    write("runs/a/chat.jsonl", '{"text": "saved"}')
    files, left_out = found(tmp_path)
    assert files == [*sorted(f"mine/{name}" for name in names), "runs/a/chat.jsonl"]
    assert left_out[OTHER] == ["val.tokens", "mine/train.tokens", "mine/val.tokens"]


def test_linked_folders_are_followed_once_and_never_in_a_circle(write, tmp_path):
    write("in/a/x.txt", "x")
    write("outside/y.txt", "y")
    write("in/z/keep.txt", "z")
    for name, target in (
        ("in/link", "../outside"),
        ("in/again", "../outside"),
        ("in/a/self", "."),
        ("in/a/up", ".."),
        ("in/root", "/"),
        ("outside/back", "../in/a"),
    ):
        (tmp_path / name).symlink_to(target)
    files, left_out = found(tmp_path / "in")
    assert sorted(os.path.basename(name) for name in files) == ["keep.txt", "x.txt", "y.txt"]
    assert left_out == {}


def test_a_linked_folder_that_is_named_is_opened(write, tmp_path):
    write("real/x.txt", "x")
    (tmp_path / "link").symlink_to("real")
    assert found(tmp_path / "link")[0] == ["x.txt"]


def test_other_ends_of_names_can_be_text(write, tmp_path):
    for name in ("a.txt", "b.md", "c.RST.gz", "d.py", "e"):
        write(name, "text")
    assert found(tmp_path) == (["a.txt"], {OTHER: ["b.md", "c.RST.gz", "d.py", "e"]})
    assert found(tmp_path, ".md", ".rst")[0] == ["a.txt", "b.md", "c.RST.gz"]
    (tmp_path / "a.txt").unlink()
    with pytest.raises(DataError, match=r"no corpus file.*--suffix"):
        found(tmp_path)


def test_metadata_of_another_program_is_a_corpus(write, tmp_path):
    write("meta.json", json.dumps({"text": "a"}))
    assert found(tmp_path) == (["meta.json"], {})


def test_a_link_to_a_name_that_no_file_can_have_is_passed_over(tmp_path):
    (tmp_path / "meta.json").symlink_to("x" * 3000)
    (tmp_path / "a.txt").write_text("some text")
    found = find_files([tmp_path], lambda error: None)
    assert [path.name for path in found] == ["a.txt"]
