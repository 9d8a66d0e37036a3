"""Where a run lies: nothing of a user's is touched, and nothing is left of what is refused."""

import os
import shutil
from pathlib import Path

import pytest

from microgpt.commands import train
from microgpt.common.errors import MicrogptError
from microgpt.runs.metrics import read_metrics
from microgpt.training import run
from tests.commands.train.toys import SMALL, new


def kinds(folder):
    """Every path in a folder, with the content of files."""
    return {path: path.is_file() and path.read_bytes() for path in Path(folder).rglob("*")}


def test_a_used_directory_is_refused_with_both_choices():
    new("--max-steps", "2")
    with pytest.raises(MicrogptError, match=r"--resume runs/a.*--out-dir"):
        new("--max-steps", "2")


def test_a_directory_that_cannot_be_written_is_one_line(monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # as for a user who is not root
    Path("runs/a").mkdir(parents=True)
    with pytest.raises(MicrogptError, match="cannot use runs/a as run directory: Permission denied"):
        new("--max-steps", "2")


@pytest.mark.parametrize("flags", ["--resume mine", "--out-dir mine --data /nonexistent", "--out-dir mine"])
def test_a_session_that_is_refused_leaves_a_users_directory_as_it_is(flags):
    for name in (".tmp_notes", ".tmp_step_00000003_7", ".tmp_removed"):
        (Path("mine") / name).mkdir(parents=True)
        (Path("mine") / name / "a").write_text("x")
    if flags == "--out-dir mine":
        (Path("mine") / "metrics.jsonl").write_text('{"loss": 3}\n')
    before = kinds("mine")
    with pytest.raises(MicrogptError):
        train.main([*SMALL, "--data", "text.txt", "--max-steps", "2", *flags.split()])
    assert kinds("mine") == before


def test_an_empty_directory_of_the_users_outlives_a_run_that_fails():
    Path("mine").mkdir()
    for out in ("mine", "ours"):
        with pytest.raises(MicrogptError, match="nonexistent"):
            train.main([*SMALL, "--data", "nonexistent", "--out-dir", out])
    assert Path("mine").is_dir() and not Path("ours").exists()


def test_a_log_of_something_else_is_not_touched():
    new("--max-steps", "2")
    for place, flags in (("runs/a", ["--resume", "runs/a"]), ("b", ["--resume", "runs/a", "--out-dir", "b"])):
        Path(place).mkdir(exist_ok=True)
        Path(place, "metrics.jsonl").write_text('{"loss": 3}\n')
        with pytest.raises(MicrogptError, match=r"metrics\.jsonl is not the log of a run"):
            train.main([*flags, "--max-steps", "4"])
        assert Path(place, "metrics.jsonl").read_text() == '{"loss": 3}\n'
        Path("runs/a/metrics.jsonl").unlink(missing_ok=True)
    assert train.main(["--resume", "runs/a", "--max-steps", "4"]) == 0, "without a log it goes on"


@pytest.mark.parametrize("name", ["best", "step_00000004"])
def test_a_checkpoint_that_was_copied_out_of_its_run_asks_for_a_directory(name):
    new("--max-steps", "4")
    home = Path("home")
    shutil.copytree("runs/a/step_00000004", home / name)
    (home / "metrics.jsonl").write_text("mine\n" * 1000)
    before = kinds(home)
    with pytest.raises(MicrogptError, match=rf"home/{name} is a checkpoint outside a run; .*--out-dir DIR"):
        train.main(["--resume", f"home/{name}", "--max-steps", "6"])
    assert train.main(["--resume", f"home/{name}", "--max-steps", "6", "--out-dir", "runs/b"]) == 0
    assert kinds(home) == before and Path("runs/b/step_00000006").is_dir()
    assert "mine" not in Path("runs/b/metrics.jsonl").read_text()


@pytest.mark.parametrize(
    "folder, name",
    [
        ("runs/a/step_00000004", "."),
        ("runs/a", "step_00000004"),
        (".", "link"),
    ],
)
def test_a_checkpoint_goes_on_in_its_run_however_it_is_named(folder, name, monkeypatch, workplace):
    new("--max-steps", "4")
    Path("link").symlink_to("runs/a/step_00000004")
    monkeypatch.chdir(folder)
    assert train.main(["--resume", name, "--max-steps", "6"]) == 0
    made = sorted(path.name for path in (workplace / "runs/a").iterdir())
    assert made == ["metrics.jsonl", "step_00000004", "step_00000006", "trained_on.hashes"]
    events = [line["event"] for line in read_metrics(workplace / "runs/a/metrics.jsonl")]
    assert events.count("start") == events.count("resume") == 1


@pytest.mark.parametrize("out", ["step_00001000", "x"])
def test_a_run_is_not_put_where_a_checkpoint_is_expected(out):
    if out == "x":
        Path("x").mkdir()
        Path("x/manifest.json").write_text("{}")
    with pytest.raises(MicrogptError, match=f"{out} is a checkpoint by its name or .*another --out-dir"):
        new("--max-steps", "2", out=out)
    assert list(Path(".").glob(f"{out}/*")) == ([Path("x/manifest.json")] if out == "x" else [])


def test_two_runs_of_one_second_get_a_name_each(monkeypatch):
    class Noon(run.datetime):
        @classmethod
        def now(cls):
            return cls(2030, 1, 2, 12)

    monkeypatch.setattr(run, "datetime", Noon)
    for _ in range(2):
        assert train.main([*SMALL, "--data", "text.txt", "--threads", "1", "--max-steps", "1"]) == 0
    names = sorted(path.name for path in Path("runs").iterdir())
    assert names == ["tiny-20300102-120000", "tiny-20300102-120000-2"]
    assert all(Path("runs", name, "step_00000001").is_dir() for name in names)
