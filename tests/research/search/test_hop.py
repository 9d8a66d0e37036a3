"""A larger model of a seed: its shape by the checklist, foretold, killed once, reported on one page."""

import dataclasses
import json
import os
import signal

import pytest

from microgpt.commands import search as command
from microgpt.common.errors import ConfigError
from microgpt.model import count_parameters
from microgpt.model.mlp import inner_width
from microgpt.research import hop, larger
from microgpt.research.seed import export_seed, read_seed
from microgpt.runs.events import Began, Trained
from microgpt.runs.spec import Spec


def test_a_hop_is_foretold_before_its_first_step_and_goes_on_after_a_signal_and_a_kill(
    searched, tmp_path, capsys, monkeypatch
):
    seed = export_seed(searched / "whole", None, tmp_path / "seed")
    monkeypatch.setattr(larger, "HEAD", 16)  # widths are multiples of it
    monkeypatch.setitem(larger.PRIORS, "head_dim", 16)
    monkeypatch.setattr(hop, "N_DRAWS", 50)
    monkeypatch.setattr("microgpt.evaluation.law_runs.MOST_RATE", 1.0)  # of eight steps none come down
    monkeypatch.setattr(hop, "ANCHORS", ((1 / 10, 2), (1 / 5, 1), (1 / 2, 1)))
    folder, lengths, struck = tmp_path / "hop", [], []

    def listener(event):
        if isinstance(event, Began):
            lengths.append(event.max_steps)
        if isinstance(event, Trained) and event.step == lengths[-1] and not struck:
            struck.append(event)  # between the last step of a smaller one and what is measured there
            os.kill(os.getpid(), signal.SIGTERM)
        if isinstance(event, Trained) and event.step == 3 and (folder / "prediction.json").exists():
            raise KeyboardInterrupt

    wanted = hop.Wanted(100e3, 3600.0, 4.0)
    with pytest.raises(SystemExit):
        hop.run_hop(read_seed(seed), wanted, folder, [listener])
    with pytest.raises(KeyboardInterrupt):
        hop.run_hop(read_seed(seed), wanted, folder, [listener])
    file = folder / "prediction.json"
    before, written = file.read_bytes(), file.stat().st_mtime_ns
    assert json.loads(before)["bpb"], "stored while the hop is being trained"
    command.main(
        ["hop", str(seed), "--to", "100k", "--budget", "1h", "--times", "4", "--out-dir", str(folder)]
    )
    told = capsys.readouterr().out
    assert file.stat().st_mtime_ns == written, "never again"
    prediction, result = json.loads(before), json.loads((folder / "result.json").read_text())
    assert f"foretold {prediction['bpb']:.4f}" in told and "greatest gradient norm" in told
    assert result["misses"]["bpb"] == pytest.approx(result["showed"]["loss"] / prediction["bpb"] - 1)
    assert len(result["anchors"]) == 4
    ratios = [one["tokens"] / one["n_params"] for one in [*result["anchors"], result["showed"]]]
    assert max(ratios) / min(ratios) < 1.1, "all on one ray"
    page = (folder / "report.html").read_text()
    assert page.count("<svg") == 2 and not any(
        word in page for word in ("<script", "<link", "src=", "url(http")
    )
    for text in (
        "tokens of a step",
        "Where the seed comes from",
        "R^2",
        "within" if "within" in told else "outside",
    ):
        assert text in page


def test_the_checklist_of_a_hop():
    """Ten times the tokens are 3.5 times the steps; width, heads, hidden width and window by their rules."""
    spec = Spec.of("tiny", n_embd=192, n_head=6, n_layer=6, seq_len=256, attention="local_global", lr=1e-3)
    seed = dataclasses.replace(spec, train={**spec.train, "max_steps": 200}).plan(1000)
    plan = larger.scaled(seed, 34e6)
    model, n = plan.model, count_parameters(plan.model)
    assert abs(n / 34e6 - 1) < 0.05 and model.head_size == 64 and model.n_embd > 2 * 192
    assert 2 * model.heads.H_kv == model.heads.H and inner_width(model, False) == 4 * model.n_embd
    assert model.heads_of(0).window == 6 * 16 and model.heads_of(0).stride == 16
    long = larger.lengthened(plan, seed, 10 * seed.planned_tokens, 0.2)
    assert long.planned_tokens == pytest.approx(10 * seed.planned_tokens, rel=0.02)
    assert 3 <= long.train.max_steps / 200 <= 4
    assert 2.5 <= long.train.windows_per_step / seed.train.windows_per_step <= 3.3
    assert long.train.eval_every == round(0.2 * long.train.max_steps)
    items = {name: (a, b) for name, a, b in larger.checklist(seed, long)}
    assert items["tokens"][1].endswith("(10 times)") and items["heads"][1].endswith(" of 64")
    with pytest.raises(ConfigError, match="not even one layer"):
        larger.scaled(seed, 2e4)
