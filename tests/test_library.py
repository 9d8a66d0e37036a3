"""What `import microgpt` offers, as README shows it."""

import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import microgpt
from microgpt.chat.loaded import Model
from microgpt.common.errors import CheckpointError, ConfigError
from microgpt.model import GPT, Batch, ModelConfig

ROOT = Path(__file__).parents[1]
QUICK = "max_steps=20, smalltalk_bytes=100_000, merges=100"


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MICROGPT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def test_importing_does_nothing():
    script = (
        "import sys; before = set(sys.modules); import microgpt; "
        "new = {n for n in set(sys.modules) - before if not n.startswith('microgpt')}; "
        "assert not new & {'numpy', 'scipy', 'cffi', 'tqdm', 'argparse'}, new; "
        "assert [n for n in sys.modules if n.startswith('microgpt')] == ['microgpt']; "
        "print(microgpt.__version__, *dir(microgpt))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [microgpt.__version__, *sorted(microgpt.__all__)]
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = microgpt.nothing


def test_the_lines_of_readme_run(place, capsys):
    (lines,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    assert len([line for line in lines.splitlines() if line]) <= 11
    quick = lines.replace("max_steps=300", QUICK)
    assert quick != lines
    found: dict = {}
    exec(quick, found)
    said = capsys.readouterr().out.splitlines()
    assert found["outcome"].step == 20 and said[-1].strip().endswith("]") and float(said[-2]) > 0
    assert [event.step for event in found["events"]][-1] == 20


def test_the_notebook_in_one_file_runs(place, capsys, monkeypatch):
    source = (ROOT / "bin/first_model.py").read_text(encoding="utf-8")
    quick = source.replace("merges=500", "merges=100, smalltalk_bytes=100_000").replace("1500", "20")
    monkeypatch.setattr(sys, "argv", ["first_model.py", str(place / "run")])
    exec(compile(quick, "first_model.py", "exec"), {"__name__": "__main__"})
    assert (place / "run/losses.png").stat().st_size > 5_000
    assert capsys.readouterr().out.count("> ") == 3


class Letters:
    """A tokenizer of one letter a token."""

    specials = ("<|bos|>",)

    def special_id(self, name):
        return 26

    def encode(self, text):
        return np.frombuffer(text, np.uint8).astype(np.int32) - ord("a")


def test_a_score_counts_every_token_once_with_at_least_half_a_window_before_it():
    gpt = GPT(ModelConfig(2, 2, 16, 8, 27, init_std=0.5)).init(0)
    model = Model(gpt, Letters())
    for n in (1, 7, 8, 9, 12, 13, 40):
        text = "abcdefghijklmnopqrstuvwxyz" * 2
        text = text[:n]
        ids = model._ids(text)
        nats, least = 0.0, 8
        for t in range(1, len(ids)):  # each token alone, behind what its window has
            start = 0 if t <= 8 else 5 + (t - 9) // 5 * 5
            window = ids[start : t + 1]
            least = min(least, t - start if t > 4 else 8)
            nats += float(gpt.token_losses(Batch(window[None, :-1], window[None, 1:]))[0, -1])
        score = model.score(text)
        assert (score.n_tokens, score.n_bytes) == (n, n) and least >= 4
        assert score.nats == pytest.approx(nats, rel=1e-5)
        assert score.bits_per_byte == pytest.approx(score.nats / math.log(2) / n)
    with pytest.raises(ConfigError, match="nothing to score"):
        model.score("")


def test_a_model_is_loaded_by_the_names_of_runs_or_refused_in_one_line(place):
    with pytest.raises(CheckpointError, match="no checkpoint under runs/"):
        microgpt.load()
    spec = microgpt.Spec.of("tiny", n_layer=1, seq_len=32, max_steps=2, smalltalk_bytes=50_000, merges=50)
    outcome = microgpt.train_run(spec, "runs/a", [])
    model = microgpt.load("a")
    assert model.path == outcome.checkpoint == microgpt.load("a@newest").path == microgpt.load().path
    first = model.chat("Hello!", temperature=1.0)
    model.chat("And now?", max_tokens=2)
    assert [turn.content for turn in model._conversation.history][::2] == ["Hello!", "And now?"]
    model.forget()
    assert model.chat("Hello!", temperature=1.0) == first, "the same seed, a new conversation"
    assert model.generate("A", max_tokens=3) == model.generate("A", max_tokens=3)
    with pytest.raises(CheckpointError, match="no such directory"):
        microgpt.load("b")
    with pytest.raises(ConfigError, match="temperature"):
        model.generate("A", temperature=-1)
    with pytest.raises(ConfigError, match="sampling: unknown setting warmth"):
        model.chat("A", warmth=1)
