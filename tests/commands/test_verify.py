"""microgpt verify: what is whole, what is damaged, and that it only looks."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from microgpt.commands import verify
from microgpt.common.errors import CheckpointError
from microgpt.corpus.prepared.config import DataConfig
from microgpt.corpus.prepared.make import prepare
from microgpt.corpus.token_file import TokenFile, write_token_file
from microgpt.files import durable
from microgpt.files.records import json_bytes
from microgpt.files.tensors import write_tensors
from microgpt.model import GPT, ModelConfig
from microgpt.runs.checkpoint import ALL_FILES, MANIFEST, Snapshot, load_model, load_tokenizer, persist
from microgpt.runs.metrics import MetricsLog
from microgpt.runs.settings import TrainConfig
from microgpt.runs.spec import Plan
from microgpt.runs.state import TrainState
from microgpt.runs.trained_on import RECORD, remember
from microgpt.tokenizer import SPECIALS, Tokenizer
from microgpt.training.adam import Adam


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A run of a tiny model with checkpoints at 1 and 2."""
    run = tmp_path_factory.mktemp("verify") / "run"
    run.mkdir()
    tokenizer = Tokenizer([], list(SPECIALS))
    config = ModelConfig(n_layer=1, n_head=1, n_embd=4, seq_len=8, vocab_size=tokenizer.vocab_size)
    model = GPT(config).init(0)
    document = Plan(config, TrainConfig(), DataConfig()).to_dict()
    for step in (1, 2):
        state = TrainState(step=step, metrics={"val_loss": 3.25, "val_step": step}).to_dict()
        snap = Snapshot(model, Adam(model, TrainConfig()), tokenizer)
        persist(snap.fill(document, state), run, keep=2)
    with MetricsLog(run / "metrics.jsonl") as log:
        log.write("train", 1, loss=5.0)
        log.write("train", 2, loss=4.0)
    return run


@pytest.fixture
def run(template, tmp_path):
    return shutil.copytree(template, tmp_path / "run")


def sign(checkpoint):
    """Make the manifest agree with the files, as whoever writes a hostile checkpoint would."""
    files = {name: durable.describe(checkpoint / name)._asdict() for name in ALL_FILES}
    (checkpoint / MANIFEST).write_bytes(json_bytes({"format": 1, "files": files}))


def change(path, **values):
    path.write_bytes(json_bytes(json.loads(path.read_text()) | values))


def test_a_whole_run(run, capsys):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    assert verify.main([str(run)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [
        "what",
        "step_00000002",
        "step_00000001",
        "metrics.jsonl",
        "all",
    ]
    assert all("whole, held-out loss 3.2500" in line for line in lines[1:3]) and "whole, 2 events" in lines[3]
    size = sum(path.stat().st_size for path in (run / "step_00000002").iterdir())
    assert lines[1].split()[1:3] == ["2", f"{size:,}"]
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_the_record_of_what_was_trained_on(run, tmp_path, capsys):
    tokenizer = load_tokenizer(run / "step_00000002")
    write_token_file(tmp_path / "x.tokens", [np.arange(3), np.arange(4)], tokenizer)
    remember(run, TokenFile.open(tmp_path / "x.tokens"))
    assert verify.main([str(run)]) == 0 and "whole, 2 documents" in capsys.readouterr().out
    path = run / RECORD
    path.write_bytes(path.read_bytes()[:-1])
    assert verify.main([str(run)]) == 1
    assert f"DAMAGED: {path}: damaged; without it, eval" in capsys.readouterr().out


@pytest.mark.parametrize("name", [*ALL_FILES, MANIFEST])
def test_a_flipped_bit_in_any_file(run, capsys, name):
    path = run / "step_00000002" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)
    assert verify.main([str(run)]) == 1
    out = capsys.readouterr().out
    assert out.count("DAMAGED") == 1 and out.endswith("1 of 3 damaged\n")
    assert name in out or name == MANIFEST  # a damaged manifest may blame another file


def not_finite(checkpoint):
    config = json.loads((checkpoint / "config.json").read_text())["model"]
    model = GPT(ModelConfig.from_dict(config))
    model.params["ln_f.weight"][2] = np.nan
    (checkpoint / "model.safetensors").unlink()
    write_tensors(checkpoint / "model.safetensors", model.params)


def model_with(**values):
    def hostile(checkpoint):
        config = json.loads((checkpoint / "config.json").read_text())
        change(checkpoint / "config.json", model=config["model"] | values)

    return hostile


def no_moments(checkpoint):
    shutil.copy(checkpoint / "model.safetensors", checkpoint / "optimizer.safetensors")


def other_tokenizer(checkpoint):
    Tokenizer([(97, 98)], list(SPECIALS)).save(checkpoint / "tokenizer.json")


@pytest.mark.parametrize(
    "hostile, words",
    [
        (not_finite, "ln_f.weight holds a value that is not finite"),
        (no_moments, "optimizer.safetensors: tensor h.0.attn.proj.weight is not part"),
        (other_tokenizer, "the model has 261 tokens, its tokenizer 262"),
        (model_with(n_layer=10**9), "1000000000 layers, but there are only 8 tensors"),
        (model_with(n_layer=2), "tensor h.1.attn.proj.weight is missing"),
        (model_with(n_embd=8), "this model needs"),
        (model_with(n_layer=-1), "n_layer is -1"),
        (lambda path: change(path / "config.json", train={"lr": "fast"}), "lr is 'fast'"),
        (lambda path: change(path / "state.json", step=3), "of step 3; was the directory renamed"),
        (lambda path: change(path / "state.json", updates="many"), "updates is 'many'"),
    ],
)
def test_what_a_manifest_can_not_know(run, capsys, hostile, words):
    hostile(run / "step_00000002")
    sign(run / "step_00000002")
    assert verify.main([str(run / "step_00000002")]) == 1
    assert words in capsys.readouterr().out


@pytest.mark.parametrize(
    "line, words",
    [
        (b"nothing\n", "metrics.jsonl, line 3"),
        (b'{"event": "train"}\n', "line 3: no event with a step"),
        (b'{"event": "train", "step": 1, "loss": NaN}\n', "line 3"),
        (b"\xff\n", "line 3"),
        (b" " * (2 << 20), "line 3: more than 1 MB"),
    ],
)
def test_a_damaged_line_of_metrics(run, capsys, line, words):
    with open(run / "metrics.jsonl", "ab") as file:
        file.write(line)
    assert verify.main([str(run)]) == 1
    assert words in capsys.readouterr().out


def test_what_a_kill_leaves_is_no_damage(run, capsys):
    with open(run / "metrics.jsonl", "ab") as file:
        file.write(b'{"event": "tr')
    (run / ".tmp_step_00000003_7").mkdir()
    assert verify.main([str(run)]) == 0
    out = capsys.readouterr().out
    assert "2 events, and the beginning of one" in out and "unfinished; the next save removes it" in out


def test_a_prepared_corpus(run, tmp_path, capsys):
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(f"This is document {number}, of some words." for number in range(60)))
    folder = tmp_path / "prepared"
    prepare((str(text),), merges=0, out_dir=folder)
    assert verify.main([str(run), str(folder)]) == 0
    assert "all 5 whole" in capsys.readouterr().out
    path = folder / "train.tokens"
    data = bytearray(path.read_bytes())
    data[-300] ^= 1
    path.write_bytes(data)
    assert verify.main([str(folder)]) == 1
    out = capsys.readouterr().out
    assert "DAMAGED" in out and "train.tokens" in out and "1 of 2 damaged" in out
    path.unlink()
    assert verify.main([str(folder)]) == 1
    out = capsys.readouterr().out
    assert "DAMAGED" in out and "train.tokens" in out and "1 of 2 damaged" in out


def test_a_checkpoint_that_the_library_of_the_format_wrote(run, capsys):
    """As the first checkpoints of microgpt were: other order, the same tensors."""
    for name in ("model.safetensors", "optimizer.safetensors"):
        path = run / "step_00000002" / name
        safetensors.numpy.save_file(safetensors.numpy.load_file(path), path, {"written": "by the library"})
    sign(run / "step_00000002")
    assert verify.main([str(run)]) == 0
    ours, theirs = (load_model(run / f"step_0000000{step}")[0].params.flat for step in (1, 2))
    np.testing.assert_array_equal(ours, theirs)


def test_wrong_places_are_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    for place in ("nowhere", "file", "."):
        with pytest.raises(CheckpointError, match="expected a run") as error:
            verify.main([str(tmp_path / place)])
        assert "\n" not in str(error.value)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="no checkpoint under runs/"):
        verify.main([])


def test_a_checkpoint_that_a_training_removes_meanwhile_is_passed_over(run, capsys):
    tasks = verify.tasks_of(run)
    shutil.rmtree(run / "step_00000001")
    assert [finding.problem for finding in verify.look(tasks)] == ["", ""]


def test_a_folder_of_runs_is_all_of_them_by_their_paths(run, tmp_path, capsys, monkeypatch):
    shutil.copytree(run, tmp_path / "runs" / "a")
    shutil.copytree(run, tmp_path / "runs" / "b")
    (tmp_path / "runs" / "notes").mkdir()
    monkeypatch.chdir(tmp_path)
    assert verify.main(["runs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    files = ("step_00000002", "step_00000001", "metrics.jsonl")
    paths = [f"runs/{name}/{file}" for name in "ab" for file in files]
    assert [line.split()[0] for line in lines[1:-1]] == paths
    assert lines[-1] == "all 6 whole"
    assert verify.main(["b", "a@best"]) == 0
    assert capsys.readouterr().out.splitlines()[-2].split()[0] == "runs/a/step_00000001"
    (tmp_path / "runs" / "b" / "step_00000001" / "config.json").write_bytes(b"{}")
    assert verify.main(["runs"]) == 1 and "1 of 6 damaged" in capsys.readouterr().out
    with pytest.raises(CheckpointError, match=r"notes: no checkpoint in it; expected .* a folder of runs"):
        verify.main(["runs/notes"])


def test_what_no_training_removes_must_be_there(run):
    tasks = verify.tasks_of(run)
    (run / "metrics.jsonl").unlink()
    assert [bool(finding.problem) for finding in verify.look(tasks)] == [False, False, True]


def test_nothing_found_is_not_all_whole(run, capsys, monkeypatch):
    monkeypatch.setattr(verify, "tasks_of", lambda place: [verify.Task(Path(place), str, may_go=True)])
    assert verify.main([str(run / "gone")]) == 1
    assert "nothing is left" in capsys.readouterr().out


def test_a_file_that_goes_while_it_is_measured(run, monkeypatch):
    """A save beside this renames or removes what it wrote."""
    folder = run / ".tmp_step_00000003_7"
    folder.mkdir()
    (folder / "short").write_bytes(b"12345")
    (folder / "going").write_bytes(b"123")

    def is_file(path):
        is_there = real(path)
        if path.name == "going":
            path.unlink(missing_ok=True)
        return is_there

    real = Path.is_file
    monkeypatch.setattr(Path, "is_file", is_file)
    (finding,) = verify.look([verify.Task(folder, lambda path: "", may_go=True)])
    assert finding.n_bytes == 5 and not finding.problem


def test_a_folder_that_cannot_be_listed_is_damaged_and_no_crash(run, monkeypatch):
    def refused(*_):
        raise OSError(5, os.strerror(5))

    monkeypatch.setattr(Path, "rglob", refused)
    (finding,) = verify.look([verify.task_of_checkpoint(run / "step_00000002")])
    assert "Input/output error" in finding.problem


def test_a_slot_that_lacks_a_tensor_is_found_by_the_command_itself(run):
    """In a process of its own, where nothing else has said what optimizers keep."""
    tensors = safetensors.numpy.load_file(run / "step_00000002/optimizer.safetensors")
    del tensors["m2.ln_f.weight"]
    safetensors.numpy.save_file(tensors, run / "step_00000002/optimizer.safetensors")
    sign(run / "step_00000002")
    command = [sys.executable, "-m", "microgpt", "verify", str(run / "step_00000002")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "tensor m2.ln_f.weight is missing" in done.stdout
