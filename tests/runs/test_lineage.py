"""Runs that begin with the weights of another: what is recorded, adapters in files of their own, refusals."""

import itertools
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from microgpt.commands.train import main as train_main
from microgpt.common.errors import CheckpointError, ConfigError
from microgpt.files.records import read_json
from microgpt.files.tensors import about, shapes_in
from microgpt.runs.checkpoint import load_model
from microgpt.runs.inspection import look, tasks_of_run
from microgpt.runs.kept import weights_sha256
from microgpt.runs.lineage import load_adapted, plans
from microgpt.runs.spec import Plan, Spec
from microgpt.training.needs import checkpoint_bytes, memory_estimate
from microgpt.training.run import resume_run, train_run
from tests.training.fakes import StopAt
from tests.training.toys import checkpoint_bytes as bytes_of
from tests.training.toys import small, text  # noqa: F401

OTHER = "".join(f"The {thing} of number {n} was blue.\n\n" for n in range(60) for thing in ("coat", "shoe"))
ADAPTERS = {"lora_rank": 2, "lora_targets": "q v down", "base_weights": "bf16"}


@pytest.fixture
def parent(text):  # noqa: F811
    (text.parent / "other.txt").write_text(OTHER)
    return train_run(small(text, 6), "runs/parent", [])


def child(steps, **settings):
    """A spec that trains the parent on other text."""
    spec = small("other.txt", steps, **settings)
    model = {name: value for name, value in spec.model.items() if name in settings}
    return Spec(None, model, spec.train, {"data": spec.data["data"]}, "parent")


def config_of(outcome):
    return read_json(outcome.checkpoint / "config.json")


def test_a_run_begins_with_the_weights_of_another_and_records_whose(parent):
    before, _, _ = load_model(parent.checkpoint)
    first = train_run(child(1, lr=1e-9, min_lr=0.0), "a", [])
    model, tokenizer, _ = load_model(first.checkpoint)
    assert np.abs(model.params.flat - before.params.flat).max() < 1e-7
    assert tokenizer.sha256 == load_model(parent.checkpoint)[1].sha256
    assert config_of(first)["parent"] == {
        "place": str(parent.checkpoint.resolve()),
        "sha256": weights_sha256(parent.checkpoint),
        "step": 6,
        "tokens": 6 * 32,
    }
    second = train_run(Spec(None, {}, child(1).train, {"data": ["other.txt"]}, "a"), "b", [])
    assert config_of(second)["parent"]["tokens"] == 7 * 32, "those of its parent count, too"


def test_parents_are_followed_as_far_as_they_are_the_ones(parent):
    """Not into what took their place, which may be the child itself."""
    plan = Plan.from_dict(config_of(train_run(child(6), "runs/b", [])))
    names = [one.data.data[0].rpartition("/")[2] for one in plans(plan)]
    assert names == ["other.txt", "text.txt"]
    shutil.rmtree("runs/parent")
    assert list(plans(plan)) == [plan], "gone"
    Path("runs/b").rename("runs/parent")
    assert parent.checkpoint.is_dir() and list(itertools.islice(plans(plan), 9)) == [plan]
    (parent.checkpoint / "config.json").write_text("{")
    assert list(plans(plan)) == [plan]


@pytest.mark.parametrize("adapters", [{}, ADAPTERS], ids=["all weights", "adapters"])
def test_a_stopped_run_of_another_goes_on_to_the_bit(parent, adapters):
    straight = train_run(child(8, **adapters), "straight", [])
    stop = StopAt(3)
    train_run(child(8, **adapters), "cut", [stop], stop=stop)
    assert bytes_of(train_run(child(8, **adapters), "cut", [])) == bytes_of(straight)
    assert [finding.problem for finding in look(tasks_of_run(Path("straight")))] == [""] * 3


def test_adapters_are_saved_alone_and_found_beside_their_base(parent):
    outcome = train_run(child(8, **ADAPTERS), "runs/mine", [])
    file = outcome.checkpoint / "model.safetensors"
    assert {name.split(".")[-2] for name in shapes_in(file)} == {"q", "v", "down"}
    assert about(file)["base_sha256"] == weights_sha256(parent.checkpoint)
    moments = shapes_in(outcome.checkpoint / "optimizer.safetensors")
    assert {name.partition(".")[2] for name in moments} == set(shapes_in(file))
    model, _, _ = load_model(outcome.checkpoint)
    again, _, _ = load_adapted(parent.checkpoint, "mine")
    base, _, _ = load_model(parent.checkpoint)
    ids = np.arange(12, dtype=np.int32)[None]
    assert np.abs(model.logits(ids) - again.logits(ids)).max() < 0.02, "one lies in bf16"
    assert np.abs(again.logits(ids) - base.logits(ids)).max() > 1e-3
    plan = Plan.from_dict(config_of(outcome))
    assert checkpoint_bytes(plan.model, plan.train) < checkpoint_bytes(base.config, plan.train) / 5
    assert memory_estimate(plan.model, plan.train) < memory_estimate(base.config, plan.train)


def test_adapters_are_refused_beside_other_weights_and_without_their_base(parent):
    mine = train_run(child(2, **ADAPTERS), "runs/mine", [])
    other = train_run(small("other.txt", 2), "runs/other", [])
    with pytest.raises(CheckpointError, match=r"model.safetensors: made beside the weights \w{16}, those of"):
        load_adapted(other.checkpoint, "mine")
    with pytest.raises(CheckpointError, match="no file of adapters"):
        load_adapted(parent.checkpoint, "other")
    with pytest.raises(ConfigError, match=r"holds adapters; `microgpt merge mine --out-dir DIR`"):
        train_run(Spec.of(parent="mine", data="other.txt", max_steps=1), "c", [])
    with pytest.raises(ConfigError, match="adapters go beside weights that were trained"):
        train_run(small("other.txt", 2, lora_rank=2), "d", [])
    moved = parent.checkpoint.rename(parent.checkpoint.with_name("step_00000007"))
    with pytest.raises(CheckpointError, match="these adapters belong to the weights with SHA-256"):
        load_model(mine.checkpoint)
    load_adapted(moved, str(mine.checkpoint / "model.safetensors"))
    shutil.copytree(other.checkpoint, parent.checkpoint)
    with pytest.raises(CheckpointError, match="other weights are there now"):
        load_model(mine.checkpoint)


def test_what_the_weights_are_cannot_be_asked_for_otherwise(parent):
    for settings, line in (
        ({"n_layer": 3}, r"--n-layer 3: the weights of .* have 2; leave it out"),
        ({"look_back": 2}, "--look-back 2: the weights"),
    ):
        with pytest.raises(ConfigError, match=line):
            train_run(child(1, **settings), "x", [])
    with pytest.raises(ConfigError, match=r"--preset 10m: the weights of .* have tiny"):
        train_run(Spec("10m", {}, {}, {"data": ["other.txt"]}, "parent"), "x", [])
    with pytest.raises(CheckpointError, match="nobody: no such directory"):
        train_run(Spec.of(parent="nobody", data="other.txt"), "x", [])
    assert not os.path.exists("x")


def test_a_window_may_grow_and_positions_are_scaled_with_it(parent):
    wider = train_run(child(2, seq_len=32, rope_scaling="ntk"), "wide", [])
    model, _, _ = load_model(wider.checkpoint)
    assert (model.config.seq_len, model.config.rope_factor) == (32, 2.0)
    resume_run("wide", Spec.of(max_steps=4), None)


def test_the_command_begins_with_another_run(parent, capsys):
    words = ["--from", "parent", "--max-steps", "1", "--out-dir", "a", "--threads", "1", "--eval-every", "0"]
    with pytest.raises(ConfigError, match="--from parent: name with --data"):
        train_main(words)
    assert train_main([*words, "--data", "other.txt", "--extend-context", "24", "--lora-rank", "2"]) == 0
    model, _, _ = load_model("a")
    assert (model.config.seq_len, model.config.lora_rank) == (24, 2)
    shown = capsys.readouterr().out
    assert "loss by position" in shown and re.search(r"\n +21 to +23  \d\.\d{4}  \d\.\d{4}\n", shown)
