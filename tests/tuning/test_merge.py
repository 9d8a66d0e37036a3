"""Adapters that become part of their matrices: the same model, in a run like any other."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from microgpt.commands.chat import main as chat
from microgpt.commands.merge import main as merge_command
from microgpt.commands.sample import main as sample
from microgpt.common.errors import CheckpointError, ConfigError
from microgpt.evaluation.loss import Evaluation
from microgpt.model import GPT
from microgpt.runs.checkpoint import load_model
from microgpt.runs.inspection import look, tasks_of_run
from microgpt.training import loop
from microgpt.training.run import train_run
from microgpt.tuning.merge import merged
from tests.model.test_lora import KINDS, lively, tokens
from tests.runs.test_lineage import child, parent  # noqa: F401
from tests.training.toys import text  # noqa: F401


@pytest.mark.parametrize("config", KINDS.values(), ids=KINDS)
def test_a_merged_model_computes_what_its_adapters_did(config):
    model = lively(dataclasses.replace(config, lora_dropout=0.0))
    whole = merged(model)
    assert not whole.config.lora_rank and set(whole.params) == {n for n in model.params if ".lora_" not in n}
    np.testing.assert_allclose(whole.logits(tokens("ids")), model.logits(tokens("ids")), rtol=0, atol=1e-10)
    base = GPT(whole.config, np.float64)
    for name, weight in base.params.items():
        weight[:] = model.params[name]
    assert np.abs(base.logits(tokens("ids")) - model.logits(tokens("ids"))).max() > 1e-3


def test_the_command_writes_a_run_like_any_other(parent, capsys):  # noqa: F811
    train_run(child(3, lora_rank=2, lr=0.05), "runs/mine", [])
    assert merge_command(["mine", "--out-dir", "runs/whole"]) == 0
    assert "microgpt chat runs/whole" in capsys.readouterr().out
    adapted, whole = load_model("mine")[0], load_model("whole")[0]
    ids = np.arange(12, dtype=np.int32)[None]
    assert np.abs(adapted.logits(ids) - whole.logits(ids)).max() < 1e-4
    assert [finding.problem for finding in look(tasks_of_run(Path("runs/whole")))] == ["", ""]
    with pytest.raises(ConfigError, match="has no adapters; it is a whole model already"):
        merge_command(["parent", "--out-dir", "x"])
    with pytest.raises(ConfigError, match="already holds a run"):
        merge_command(["mine", "--out-dir", "runs/whole"])
    train_run(dataclasses.replace(child(1), parent="whole"), "on", [])


def test_the_best_is_merged_where_the_newest_is_clearly_worse(parent, monkeypatch):  # noqa: F811
    losses = iter([3.0, 1.0, 2.0, 2.0])
    monkeypatch.setattr(loop, "evaluate", lambda *_: Evaluation(next(losses), 1.0))
    train_run(child(6, lora_rank=2, eval_every=3, save_every=3), "runs/mine", [])
    assert merge_command(["mine", "--out-dir", "runs/whole"]) == 0
    assert [path.name for path in Path("runs/whole").glob("step_*")] == ["step_00000003"]


def test_chat_and_sample_take_adapters_beside_their_model_alone(parent, capsys, monkeypatch):  # noqa: F811
    train_run(child(3, lora_rank=2, lr=0.05), "runs/mine", [])
    words = ["-p", "The", "-t", "0", "--max-tokens", "6", "--threads", "1"]
    said = {}
    for name, who in (("with", ["parent", "--adapter", "mine"]), ("own", ["mine"]), ("without", ["parent"])):
        assert sample([*who, *words]) == 0
        said[name] = capsys.readouterr().out
    assert said["with"] == said["own"] != said["without"]
    train_run(child(2), "runs/other", [])
    for command, more in ((sample, words), (chat, [])):
        with pytest.raises(CheckpointError, match="made beside the weights"):
            command(["other", "--adapter", "mine", *more])
