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


def test_priors_train_as_the_settings_they_become(capfd):
    rules = 'head_dim = 8\nffn = "3x"\nkv_groups = 2\nrope_theta = 500\nrope_theta_jitter = 0.3\n'
    rules += 'attention = "local_global"\nwindow = "sqrt(T)"\nglobal_stride = "sqrt(T)"\nnorm = "layernorm"\n'
    Path("rules.toml").write_text(f"[priors]\n{rules}tokens_per_param = 0.001\n")
    flags = [*SMALL, "--max-steps", "3", "--seed", "5", "--spec", "rules.toml"]
    train.main([*flags, "--write-spec", "run.toml"])
    text = Path("run.toml").read_text()
    for line in (
        "# By the prior head_dim = 8.\nn_head = 4\n",
        "# By the prior ffn = 3x.\nn_inner = 96\n",
        "# By the prior window = sqrt(T).\nwindow = 4\n",
    ):
        assert line in text
    assert "priors rope_theta_jitter = 0.3, tokens_per_param = 0.001" in text and "[priors]" not in text
    train.main([*flags, "--out-dir", "a"])
    train.main(["--spec", "run.toml", "--out-dir", "b"])
    assert weights("a") == weights("b")
    train.main(["--resume", "a", "--spec", "rules.toml", "--max-steps", "4"])
    Path("rules.toml").write_text(f"[priors]\n{rules.replace('3x', '4x')}")
    with pytest.raises(MicrogptError, match=r"--n-inner 128 \(the run has 96\)"):
        train.main(["--resume", "a", "--spec", "rules.toml"])
    with pytest.raises(MicrogptError, match="are for a new model; the weights of"):
        train.main(["--from", "a", "--data", "text.txt", "--spec", "rules.toml", "--out-dir", "c"])
    capfd.readouterr()
    assert train.main([*flags, "--spec", "rules.toml", "--n-head", "2", "--dry-run"]) == 0
    told = capfd.readouterr().out
    assert re.search(r"head_dim +8 +n_head +2 +1\n", told) and "warning" not in told


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
