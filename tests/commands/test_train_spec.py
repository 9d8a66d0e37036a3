"""A run from a file of settings equals the one it was written for; its length can be said as people do."""

import hashlib
import re
from pathlib import Path

import pytest

from microgpt.commands import train
from microgpt.common.errors import MicrogptError
from microgpt.files.records import read_json
from microgpt.runs.layout import checkpoints

TEXT = "".join(f"Hat {n} costs {7 * n % 31} coins, not {n + 1}.\n\n" for n in range(400))
SMALL = ["--preset", "tiny", "--n-layer", "1", "--seq-len", "16", "--merges", "20", "--dropout", "0.1"]
SMALL += [
    "--batch-size",
    "2",
    "--eval-every",
    "0",
    "--sample-every",
    "0",
    "--data",
    "text.txt",
    "--threads",
    "1",
]


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "text.txt").write_text(TEXT)


def newest(run):
    return max(checkpoints(Path(run)))


def weights(run):
    return hashlib.sha256((newest(run)[1] / "model.safetensors").read_bytes()).hexdigest()


def test_a_spec_that_was_written_and_the_config_of_a_run_start_an_equal_run(capfd):
    flags = [*SMALL, "--max-steps", "6", "--lr", "0.01", "--seed", "3"]
    assert train.main([*flags, "--write-spec", "run.toml"]) == 0
    assert not Path("runs").exists(), "only the file was written"
    assert "train --spec run.toml" in capfd.readouterr().err
    train.main([*flags, "--out-dir", "a"])
    train.main(["--spec", "run.toml", "--out-dir", "b"])
    train.main(["--spec", str(newest("a")[1] / "config.json"), "--out-dir", "c"])
    assert weights("a") == weights("b") == weights("c")
    train.main(["--spec", "run.toml", "--seed", "4", "--out-dir", "d"])
    assert weights("d") != weights("a"), "what is typed counts"
    train.main(["--resume", "b", "--spec", "run.toml", "--max-steps", "8"])
    assert newest("b")[0] == 8


def test_a_spec_of_another_run_is_refused_on_resume():
    train.main([*SMALL, "--max-steps", "2", "--out-dir", "a"])
    Path("run.toml").write_text("[train]\nseed = 9\n")
    with pytest.raises(MicrogptError, match=r"--seed 9 \(the run has 0\)"):
        train.main(["--resume", "a", "--spec", "run.toml"])
    with pytest.raises(MicrogptError, match="--write-spec is for a new run"):
        train.main(["--resume", "a", "--write-spec", "other.toml"])


@pytest.mark.parametrize("packing", ["stream", "documents"])
def test_a_run_of_epochs_sees_each_window_so_often_and_may_be_lengthened(packing, capfd):
    train.main([*SMALL, "--seq-len", "40", "--packing", packing, "--epochs", "0.5", "--out-dir", "a"])
    assert 0.5 <= float(re.search(r"([\d.]+) epochs", capfd.readouterr().out)[1]) < 0.52, "in whole steps"
    train.main(["--resume", "a", "--epochs", "0.75"])
    document = read_json(newest("a")[1] / "config.json")["train"]
    assert document["max_steps"] == newest("a")[0] and document["epochs"] is None
    before = newest("a")[0]
    train.main(["--resume", "a", "--epochs", "0.75"])
    assert "is finished" in capfd.readouterr().err and newest("a")[0] == before
    with pytest.raises(MicrogptError, match="each say how long"):
        train.main(["--resume", "a", "--epochs", "1", "--max-steps", "9"])


def test_a_run_of_tokens_takes_the_steps_that_hold_them():
    train.main([*SMALL, "--grad-accum", "2", "--tokens", "0.2k", "--out-dir", "a"])
    assert newest("a")[0] == 4, "200 tokens at 2 x 2 x 16 a step"
    train.main([*SMALL, "--n-embd", "8", "--n-head", "1", "--tokens-per-param", "0.05", "--out-dir", "b"])
    n_params = 12 * 64 + 3 * 8 + 281 * 8
    assert newest("b")[0] == -(-n_params // 20 // 32)


def test_a_length_in_words_may_have_a_time_limit_besides():
    train.main([*SMALL, "--tokens", "200", "--max-time", "1h", "--out-dir", "a"])
    assert newest("a")[0] == 7
