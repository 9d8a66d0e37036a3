"""fit and capacity on tables and on runs that were really trained, in this process."""

import json

import numpy as np
import pytest

import microgpt
from microgpt.commands import capacity, fit
from microgpt.common.errors import ConfigError, DataError
from microgpt.corpus.token_file import TokenFile
from microgpt.model import IGNORED, ModelConfig, count_parameters
from microgpt.research.showed import showed
from microgpt.research.table_file import read_table
from microgpt.runs.checkpoint import read_config
from microgpt.runs.kinds import SOURCES
from microgpt.runs.spec import Spec
from microgpt.training.parts import Corpus
from microgpt.training.run import resume_run
from tests.evaluation.test_laws import TABLES, grid

TEXT = "".join(f"The {thing} of number {n} is red.\n\n" for n in range(90) for thing in ("hat", "boat"))
QUICK = {"n_layer": 1, "seq_len": 32, "merges": 30, "batch_size": 8, "threads": 1, "sample_every": 0}


class Twice(Corpus):
    """The corpus with its targets shifted once more, as a loader and a model do that both shift."""

    def batch(self, index):
        batch = super().batch(index)
        targets = np.full_like(batch.targets, IGNORED)
        targets[:, :-1] = batch.targets[:, 1:]
        return batch._replace(targets=targets)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with three runs: one that came to its end, one whose rate did not, one with a fault."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "text.txt").write_text(TEXT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MICROGPT_DATA_DIR", str(folder / "data"))
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setitem(SOURCES, "twice", Twice)
        common = {**QUICK, "data": str(folder / "text.txt"), "eval_tokens": 512}
        for name, settings in (
            ("longer", {"max_steps": 40, "eval_every": 40, "recipe": "road", "warmup_steps": 1}),
            ("whole", {"max_steps": 20, "eval_every": 10}),
            ("half", {"max_steps": 20, "decay_steps": 40, "eval_every": 10}),
            ("twice", {"max_steps": 150, "eval_every": 15, "source": "twice"}),
        ):
            microgpt.train_run(Spec.of("tiny", **common, **settings), folder / name, [])
        data = {name: common[name] for name in ("data", "eval_tokens", "batch_size", "threads")}
        child = Spec.of(parent=str(folder / "whole"), max_steps=2, eval_every=2, **data)
        microgpt.train_run(child, folder / "child", [])
    return folder


@pytest.fixture
def place(runs, monkeypatch):
    """That folder, and what was prepared for it at hand."""
    monkeypatch.setenv("MICROGPT_DATA_DIR", str(runs / "data"))
    monkeypatch.setitem(SOURCES, "twice", Twice)
    return runs


def table_of(points, path, names="N,D,loss"):
    rows = [",".join(map(repr, map(float, row))) for row in zip(*points, strict=True)]
    path.write_text("\n".join([names, *rows]) + "\n")
    return str(path)


# ------------------------------------------------------------------------------------------ fit


def test_fit_tells_the_law_of_a_table(tmp_path, capsys):
    path = table_of(grid(noise=0.002), tmp_path / "t.csv")
    words = ["--table", path, "--draws", "100", "--predict", "8M:100M", "--target-bpb", "1.2"]
    assert fit.main(words) == 0
    out = capsys.readouterr().out
    assert "16 runs of 4 sizes: 500k to 4M parameters, 2M to 60M tokens" in out
    assert "foretold 8M parameters on 100M tokens: 1.2" in out and "target   1.2 takes" in out
    assert "R^2 " in out and "left out: the others foretell it" in out and "C = 6 N D" in out
    assert fit.main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["law"]["E"] == pytest.approx(0.6, abs=0.1) and found["n_runs"] == 16
    low, high = found["intervals"]["alpha"]
    assert low < found["law"]["alpha"] < high and found["models"][0]["tokens"] == 1e8


def test_fit_takes_columns_by_name(tmp_path, capsys):
    path = table_of(grid(), tmp_path / "t.csv", "tokens seen,size,nats")
    with pytest.raises(DataError, match="columns tokens seen,size,nats; expected N,D,loss"):
        fit.main(["--table", path])
    assert fit.main(["--table", path, "--columns", "tokens seen, size,nats", "--draws", "100"]) == 0
    with pytest.raises(ConfigError, match="three names"):
        fit.main(["--table", path, "--columns", "a,b"])


@pytest.mark.parametrize("text", ["1e6,2e6\n", "1e6,much,1.2\n", "1e6,2e6,-1\n", "1e6,2e6,nan\n", ""])
def test_fit_refuses_a_table_that_is_none(tmp_path, text):
    path = tmp_path / "t.csv"
    path.write_text("N,D,loss\n" + text)
    with pytest.raises(DataError, match=r"line 2|no row"):
        fit.main(["--table", str(path)])


def test_fit_tells_each_refusal_in_a_line(tmp_path, capsys):
    points = grid()
    path = table_of(points.where(points.n_params < 1.5e6), tmp_path / "t.csv")
    assert fit.main(["--table", path]) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1 and told[0].startswith("microgpt: 2 of the 3 sizes") and "; train 2M" in told[0]
    for words in ([], ["runs/x", "--table", path]):
        with pytest.raises(ConfigError, match="give one of them"):
            fit.main(words)


def test_fit_refuses_runs_in_mid_schedule(place, capsys):
    assert fit.main([str(place / "whole"), str(place / "half")]) == 2
    told = capsys.readouterr().err
    assert f"in mid-schedule: {place / 'half'} (step 20 of 40)" in told and "1 of the 3" not in told
    assert f"too short for its schedule: {place / 'whole'} (20 steps, the last at 100%" in told
    with pytest.raises(ConfigError, match="named twice"):
        fit.main([str(place / "whole")] * 2)


def test_what_began_with_the_weights_of_another_is_no_point_of_a_law(place, capsys):
    assert fit.main([str(place / "whole"), str(place / "child")]) == 2
    told = capsys.readouterr().err
    assert f"weights of another run: {place / 'child'} (with those of {place / 'whole'}/step_" in told
    with pytest.raises(ConfigError, match=r"child/step_00000002 began with the weights of .*whole"):
        capacity.main([str(place / "child"), "--threads", "1"])


def test_a_run_that_was_trained_on_for_a_few_steps_at_a_low_rate_has_come_down(place):
    resume_run(place / "longer", Spec.of(max_steps=42))
    assert showed(place / "longer").rate < 0.2


def test_what_a_run_showed(place):
    run = showed(place / "whole")
    (checkpoint,) = (place / "whole").glob("step_00000020")
    assert run.n_params == count_parameters(ModelConfig.from_dict(read_config(checkpoint)["model"]))
    assert run.tokens == 20 * 8 * 32 and run.step == run.max_steps == 20
    (tokens,) = (place / "data/prepared").glob("*/train.tokens")
    assert run.rate == 1 and 0.1 < showed(place / "twice").rate < 0.11  # 20 steps never come down
    assert run.passes == run.tokens / TokenFile.open(tokens).n_tokens and 1 < run.loss < 8
    assert run.tok_per_s > 0 and "threads" in run.machine
    assert run.tokenizer == showed(place / "half").tokenizer and run.corpus == showed(place / "half").corpus


def test_fit_draws_a_picture(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    path = table_of(grid(noise=0.002), tmp_path / "t.csv")
    picture = tmp_path / "law.png"
    fit.main(["--table", path, "--draws", "100", "--predict", "8M", "--plot", str(picture)])
    assert picture.read_bytes().startswith(b"\x89PNG")
    words = ["--table", path, "--draws", "100", "--plot"]
    fit.main([*words, str(picture)])  # its own may be drawn again
    picture.write_bytes(b"a photograph")
    with pytest.raises(ConfigError, match="was not made by microgpt; choose another --plot"):
        fit.main([*words, str(picture)])
    assert picture.read_bytes() == b"a photograph"
    with pytest.raises(ConfigError, match=r"--plot law\.txt: expected a name that ends in"):
        fit.main([*words, "law.txt"])


def test_a_published_table_is_read_as_it_lies_there():
    assert len(read_table(TABLES / "chinchilla.csv")) == 240


# ------------------------------------------------------------------------------------------ capacity


def test_capacity_finds_targets_that_were_shifted_twice(place, capsys):
    assert capacity.main([str(place / "twice"), "--threads", "1"]) == 1
    out = capsys.readouterr().out
    assert "verdict  bug: shift: the model foretells the one after next" in out


def test_capacity_says_nothing_without_evidence(place, capsys):
    assert capacity.main([str(place / "whole"), "--threads", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"]["word"] == "not enough evidence" and found["course"] is None
    assert found["tokens"] == 20 * 8 * 32 and found["rate"] == pytest.approx(1.0)
    assert all(one["is_good"] is not False for one in found["findings"])
