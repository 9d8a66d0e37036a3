"""The file of a ladder: how settings of rungs lie over each other, and what is refused in a line."""

import json
import re

import pytest

from microgpt.commands import ladder as command
from microgpt.common.errors import ConfigError
from microgpt.evaluation.judgements import header, row
from microgpt.research.ladder.engine import settle
from microgpt.research.ladder.rungs import Gates, read_ladder
from microgpt.research.ladder.template import template
from tests.evaluation.test_judgements import judgement
from tests.research.ladder.toys import RUNGS, SHARED


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('hypothesis = "More helps."', "", None),
        ("n_embd = 24", "n_embd = 16", "from small to large"),
        ("n_embd = 24", "n_embd = 128", "put a rung between"),
        ("n_embd = 24", 'n_embd = 24\ndata = "ladder.toml"', "reads other text"),
        ("max_steps = 12", 'max_time = "1h"', "--budget"),
        ("max_steps = 12", "seed = 3", "first_seed"),
        ("max_steps = 12", "stop_after = 3", "stop_after"),
        ("eval_every = 5", "eval_every = 0", "held-out loss"),
        ('name = "large"', 'name = "small"', "two rungs are called small"),
        ('name = "large"', 'name = "../x"', "letters, digits"),
        ("n_embd = 24", "n_emb = 24", "no setting 'n_emb'"),
        ("[gates]", "[gates]\ngain = 2.0", "gain is 2.0, expected 0 to 1"),
        ("[gates]", '[gates]\nfinal_from = "big"', "final_from 'big'"),
        ("[gates]", "[gates]\nfar_miss = 0.01", "below miss"),
        ("[run]", "seed = 3\n[run]", "unknown setting seed"),
        ("[run]", "seeds = 0\n[run]", "seeds is 0"),
    ],
)
def test_what_is_no_ladder_is_refused_in_a_line(file, old, new, why):
    file.write_text((SHARED + RUNGS).replace(old, new))
    if why is None:
        assert read_ladder(file).rungs[1].hypothesis == "", "it may be written once the rung below is done"
        return
    with pytest.raises(ConfigError, match=why):
        settle(read_ladder(file))


def test_files_that_a_rung_names_are_looked_at_before_anything_is_trained(file, write):
    """Of judgements and of `ablate`: not there, of another kind, of other runs, without the run beside it."""
    good = [{"name": "as it is", "n_params": 5000, "seed": [0, 1]}]
    rows = header() + row(judgement()._replace(model_a="x", model_b="runs/other-seed0"))
    write("others.csv", rows)
    write("text.csv", "a,b\n1,2\n")
    write("half/results.json", json.dumps(good))
    write("none/results.json", json.dumps([{"name": "lr=1"}]))
    write("none/ablation.json", "{}")
    for line, why in (
        ('judged = ["gone.csv"]', "rung large: .*gone.csv: No such file"),
        ('judged = ["text.csv"]', "rung large: .*text.csv: no file of judgements"),
        ('judged = ["others.csv"]', "rung large: .*expected one that is a run of large"),
        ('ablations = ["gone"]', "rung large: .*gone: expected results.json"),
        ('ablations = ["none"]', "rung large: .*none/results.json: expected results.json"),
        ('ablations = ["half"]', "rung large: .*half/ablation.json is not there"),
    ):
        file.write_text((SHARED + RUNGS).replace('name = "large"', f'name = "large"\n{line}'))
        with pytest.raises(ConfigError, match=rf"^{re.escape(str(file))}: {why}") as refused:
            read_ladder(file)
        assert "\n" not in str(refused.value)
    write("others.csv", header() + row(judgement()._replace(model_a="x", model_b="runs/large-seed0")))
    write("half/ablation.json", json.dumps({"preset": "tiny", "model": {}, "train": {}, "data": {}}))
    both = 'name = "large"\njudged = ["others.csv"]\nablations = ["half"]'
    file.write_text((SHARED + RUNGS).replace('name = "large"', both))
    assert read_ladder(file).rungs[1].ablations == (str(file.parent / "half"),)


def test_rungs_share_the_priors_of_the_run_and_may_have_their_own(file):
    shared = SHARED.replace("[gates]", '[run.priors]\nhead_dim = 8\nnorm = "rmsnorm"\n[gates]')
    file.write_text(shared + RUNGS.replace("n_embd = 24", "n_embd = 24\npriors = {head_dim = 12}"))
    small, large = read_ladder(file).rungs
    assert small.spec.plan().model.n_head == large.spec.plan().model.n_head == 2
    assert large.spec.plan().model.norm == "rmsnorm"


def test_a_rung_has_its_settings_over_those_of_its_file_over_those_of_all(tmp_path):
    (tmp_path / "run.toml").write_text('preset = "tiny"\nlr = 0.5\nepochs = 2.0\nbatch_size = 2\n')
    (tmp_path / "x.toml").write_text(
        '[run]\ndata = "text.txt"\nlr = 0.1\ntokens_per_param = 4.0\nseq_len = 256\nbatch_size = 1\n'
        '[run.priors]\nhead_dim = 8\n[[rung]]\nspec = "run.toml"\nbatch_size = 3\n[[rung]]\npreset = "1m"\n'
    )
    first, second = (rung.spec for rung in read_ladder(tmp_path / "x.toml").rungs)
    assert first.train == {"lr": 0.5, "epochs": 2.0, "batch_size": 3} and first.preset == "tiny"
    assert second.train == {"lr": 0.1, "tokens_per_param": 4.0, "batch_size": 1} and second.preset == "1m"
    assert first.model == second.model == {"seq_len": 256}, "though that is what the default preset has"
    assert first.priors == second.priors == {"head_dim": 8}
    assert first.data == {"data": [str(tmp_path / "text.txt")]}


def test_the_written_file_is_a_ladder_of_the_guides_sizes_and_thresholds(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert command.main(["init"]) == 0
    ladder = read_ladder(tmp_path / "ladder.toml")
    assert [rung.name for rung in ladder.rungs] == ["1m", "3.5m", "8m", "30m", "125m"]
    assert ladder.gates == Gates() and ladder.seeds == 2 and all(rung.hypothesis for rung in ladder.rungs)
    assert (tmp_path / "ladder.toml").read_text() == template()
    with pytest.raises(ConfigError, match="is there already"):
        command.main(["init"])
    with pytest.raises(ConfigError, match="unknown preset"):
        command.main(["init", "other.toml", "--rungs", "1m,2x"])
