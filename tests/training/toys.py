"""A tiny run through `train_run`, on a text of a few lines."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

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


KILLED = """
import json, os, signal, sys
import microgpt.tuning.kinds
from microgpt.runs.events import Trained
from microgpt.runs.spec import Spec
from microgpt.training.run import train_run

def kill(event):
    if isinstance(event, Trained) and event.step == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

train_run(Spec.from_dict(json.loads(sys.argv[1])), sys.argv[2], [kill])
"""


def ended_by_kill(script, *words, **how):
    """Run a script in a process of its own; whether that was killed."""
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", script, *map(str, words)], env=env, check=False, **how)
    return done.returncode == -signal.SIGKILL


def train_and_kill(spec, run, step):
    """Train a run and kill it, as by kill -9, after a step."""
    assert ended_by_kill(KILLED, json.dumps(spec.to_dict()), run, step)


def checkpoint_bytes(outcome):
    return [(outcome.checkpoint / f"{name}.safetensors").read_bytes() for name in ("model", "optimizer")]


def trained_lines(run):
    return [line["loss_nats"] for line in read_metrics(run / "metrics.jsonl") if line["event"] == "train"]
