"""microgpt runs: what a folder of runs holds, in a table and as JSON."""

import json
import os

import pytest

from microgpt.commands import runs
from microgpt.common.errors import ConfigError
from microgpt.corpus.prepared.config import DataConfig
from microgpt.model import GPT, ModelConfig, count_parameters
from microgpt.runs.checkpoint import Snapshot, persist
from microgpt.runs.layout import RunDirectory
from microgpt.runs.settings import TrainConfig
from microgpt.runs.spec import Plan
from microgpt.runs.state import TrainState
from microgpt.tokenizer import SPECIALS, Tokenizer
from microgpt.training.adam import Adam


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def save(run, losses, when=1_900_000_000, measured_at=None, **more):
    """A run of a tiny model.  losses: by step; when: of its last checkpoint, in seconds since 1970.
    measured_at: the step that the losses are of, if not their own.  more: in its config.json."""
    run.mkdir(parents=True)
    tokenizer = Tokenizer([], list(SPECIALS))
    model = GPT(ModelConfig(n_layer=1, n_head=1, n_embd=4, seq_len=8, vocab_size=tokenizer.vocab_size))
    document = Plan(model.config, TrainConfig(), DataConfig(), "tiny").to_dict() | more
    snapshot = Snapshot(model, Adam(model, TrainConfig()), tokenizer)
    for step, loss in losses.items():
        metrics = (
            {} if loss is None else {"val_loss": loss, "val_bpb": loss / 2, "val_step": measured_at or step}
        )
        path = persist(
            snapshot.fill(document, TrainState(step=step, tokens=8 * step, metrics=metrics).to_dict()),
            run,
            99,
        )
        os.utime(path, (when, when))
    return count_parameters(model.config)


def listed(capsys, *words):
    assert runs.main(list(words)) == 0
    return capsys.readouterr().out


def test_a_table_of_the_newest_run_first_with_the_best_checkpoint_marked(here, capsys):
    n = save(here / "runs" / "old", {5: None}, when=1_700_000_000)
    save(here / "runs" / "new", {1000: 2.0, 2000: 1.5, 3000: 1.75})
    (here / "runs" / "empty").mkdir()
    (here / "runs" / "file").write_text("")
    titles, new, old, mark = listed(capsys).splitlines()
    assert titles.split() == ["run", "params", "tokens", "bpb", "state", "steps", "kept", "disk"]
    assert new.split()[:5] == ["new", f"{n:,}", "24k", "0.875", "stopped"] and "1000 2000* 3000 " in new
    assert old.split()[:5] == ["old", f"{n:,}", "40", "stopped", "5"]
    assert "RUN@best" in mark and mark.startswith("* ")
    assert titles.index("steps kept") == new.index("1000"), "they stand below each other"


def test_bits_per_byte_of_answers_alone_are_marked(here, capsys):
    save(here / "runs" / "plain", {1: 2.0})
    assert "answers" not in listed(capsys)
    save(here / "runs" / "tuned", {1: 3.0}, train=TrainConfig(answers_only=True).to_dict())
    out = listed(capsys)
    rows = {line.split()[0]: line for line in out.splitlines()}
    assert " a 1.500 " in rows["tuned"] and " a " not in rows["plain"]
    assert rows["tuned"].index("1.500") == rows["plain"].index("1.000"), "digits stand below each other"
    assert rows["a"].startswith("a of the assistant's answers alone") and max(map(len, rows.values())) <= 80
    found = {one["name"]: one["bpb_of_answers"] for one in json.loads(listed(capsys, "--json"))}
    assert found == {"plain": False, "tuned": True}


def test_a_result_of_an_earlier_step_is_told_with_it(here, capsys):
    save(here / "runs" / "stopped", {1043: 1.5}, measured_at=1000)
    assert listed(capsys).splitlines()[1].split()[3] == "0.750@1000"
    assert json.loads(listed(capsys, "--json"))[0]["bpb_step"] == 1000


def test_no_line_is_wider_than_80_columns_and_the_best_and_newest_step_stay(here, capsys):
    losses = {100_000 * number: 3.0 - (number == 3) for number in range(1, 10)}
    long = "a-very-long-name-" * 5 + "end"
    save(here / "runs" / long, losses)
    save(here / "runs" / "short", {1: 2.0})
    lines = listed(capsys).splitlines()
    of_long = lines.index(long)
    assert max(len(line) for line in lines if line != long) <= 80
    assert lines[of_long + 1].startswith("     ") and "300000* .. 900000" in lines[of_long + 1]
    assert any(line.startswith("short  ") for line in lines)


def test_json_has_all_of_it(here, capsys):
    n = save(here / "elsewhere" / "x", {1: 2.0, 2: 1.5, 3: 1.75})
    (found,) = json.loads(listed(capsys, "elsewhere", "--json"))
    assert (found["name"], found["path"]) == ("x", "elsewhere/x")
    assert (found["preset"], found["n_params"]) == ("tiny", n)
    assert (found["step"], found["bpb"], found["max_steps"]) == (3, 0.875, TrainConfig().max_steps)
    kept = [(one["step"], one["best"], one["whole"], one["held_out_loss"]) for one in found["checkpoints"]]
    assert kept == [(3, False, True, 1.75), (2, True, True, 1.5), (1, False, True, 2.0)]
    files = [path for path in (here / "elsewhere").rglob("*") if path.is_file()]
    assert found["bytes"] == sum(path.stat().st_size for path in files)
    assert found["bytes"] == sum(one["bytes"] for one in found["checkpoints"])
    assert found["saved"].startswith("2030-03-1")
    assert (found["tokens"], found["state"], found["origin"]) == (24, "stopped", None)


def test_what_runs_and_what_is_done_and_where_a_run_branched_off(here, capsys):
    last = TrainConfig().max_steps
    save(here / "runs" / "x", {last: 1.5})
    save(here / "runs" / "y", {1: 1.5}, branch_of="runs/x/step_00020000")
    with RunDirectory(here / "runs" / "y"):
        out = listed(capsys)
        assert " running " in out and " finished " in out
        assert out.splitlines()[-1] == "y went on from runs/x/step_00020000"
    assert " running " not in listed(capsys)


def test_a_damaged_checkpoint_is_marked_and_not_read_for_facts(here, capsys):
    save(here / "runs" / "x", {1: 2.0, 2: 1.5})
    (here / "runs" / "x" / "step_00000002" / "model.safetensors").write_bytes(b"half")
    out = listed(capsys)
    assert "1* 2?" in out and "damaged: microgpt verify RUN" in out and " 1.000@1 " in out
    (here / "runs" / "x" / "step_00000001" / "manifest.json").unlink()
    assert "1? 2?" in listed(capsys)


def test_no_runs(here, capsys):
    assert "no run with a checkpoint in runs/; next: " in listed(capsys)
    assert json.loads(listed(capsys, "--json")) == []
    with pytest.raises(ConfigError, match="nowhere: no such directory"):
        runs.main(["nowhere"])


@pytest.mark.parametrize("n, text", {512: "1 kB", 35_400_000: "35.4 MB", 1_230_000_000: "1.23 GB"}.items())
def test_sizes_are_short(n, text):
    assert runs.short_size(n) == text


@pytest.mark.parametrize("n, text", {3_456: "3,456", 961_792: "0.962M", 34_100_000: "34.1M"}.items())
def test_counts_are_short(n, text):
    assert runs.short_count(n) == text
