"""A tiny run through `train_run`, on a text of a few lines."""

import pytest

from microgpt.runs.metrics import read_metrics
from microgpt.runs.spec import Spec

TEXT = "".join(f"The {thing} of number {n} is red.\n\n" for n in range(60) for thing in ("hat", "boat"))


@pytest.fixture
def text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MICROGPT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path / "text.txt"


def small(text, steps, **settings):
    values = {"n_layer": 2, "seq_len": 16, "merges": 20, "batch_size": 2, "eval_every": 4, "eval_tokens": 64}
    values |= {
        "sample_every": 5,
        "threads": "1",
        "log_every": 1,
        "max_steps": steps,
        "recipe": "road",
        "lr": 0.01,
        "min_lr": 0.0,
    }
    return Spec.of("tiny", data=str(text), **(values | settings))


def checkpoint_bytes(outcome):
    return [(outcome.checkpoint / f"{name}.safetensors").read_bytes() for name in ("model", "optimizer")]


def trained_lines(run):
    return [line["loss_nats"] for line in read_metrics(run / "metrics.jsonl") if line["event"] == "train"]
