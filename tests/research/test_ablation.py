"""One-field changes of a tiny run: what is refused, what goes on after a kill, what is told."""

import csv
import json
import math

import numpy as np
import pytest

from microgpt.commands import ablate as command
from microgpt.common.errors import ConfigError
from microgpt.evaluation.loss import Documents
from microgpt.evaluation.pairs import Side
from microgpt.files import durable
from microgpt.research import ablation
from microgpt.research.ablation import AS_IS, Arm, ablate, arms_of, row
from microgpt.research.ablation_table import markdown
from microgpt.runs.events import Trained
from microgpt.runs.guard import DivergedError
from microgpt.runs.spec import Spec

TEXT = "".join(f"The {thing} of number {n} is red.\n\n" for n in range(90) for thing in ("hat", "boat"))
QUICK = {
    "n_layer": 1,
    "seq_len": 32,
    "merges": 30,
    "batch_size": 8,
    "threads": "1",
    "sample_every": 0,
    "eval_every": 0,
    "probes": False,
    "max_steps": 10,
    "save_every": 5,
    "dropout": 0.1,
}


@pytest.fixture
def spec(write):
    """A run of ten steps."""
    return Spec.of("tiny", data=str(write("text.txt", TEXT)), **QUICK)


@pytest.fixture
def toml(write, spec):
    """The same in a file."""
    lines = [f"{name} = {json.dumps(value)}" for name, value in QUICK.items()]
    return str(write("run.toml", "\n".join(['preset = "tiny"', 'data = "text.txt"', *lines])))


def apart_from_speed(rows):
    return [one._replace(tok_per_s=0.0) for one in rows]


def weights_of(folder):
    return {
        str(path.relative_to(folder)): durable.sha256_of(path)
        for path in folder.rglob("step_00000010/model.safetensors")
    }


def test_a_killed_ablation_goes_on_to_the_same_results(spec, tmp_path):
    arms = arms_of(spec, [("dropout", 0)])
    whole = ablate(arms, 1, tmp_path / "whole")
    steps = []

    def listener(event):
        if isinstance(event, Trained):
            steps.append(event.step)
            if len(steps) == 17:  # the seventh step of the second run
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ablate(arms, 1, tmp_path / "torn", [listener])
    torn = ablate(arms, 1, tmp_path / "torn", [listener])
    assert steps[17:] == [6, 7, 8, 9, 10], "the first run was done, the second saved after step 5"
    assert apart_from_speed(torn) == apart_from_speed(whole)
    assert len(weights_of(tmp_path / "whole")) == 2
    assert weights_of(tmp_path / "torn") == weights_of(tmp_path / "whole")


def test_the_command_tells_each_seed_and_writes_three_files(toml, tmp_path, capsys):
    words = [toml, "--change", "lr=1e-2", "--seeds", "2", "--out-dir", str(tmp_path / "out"), "--json"]
    command.main(words)
    out, err = capsys.readouterr()
    told, base = json.loads(out), json.loads(out)[0]
    assert [one["name"] for one in told] == [AS_IS, "lr=0.01"] and "run 4 of 4: lr=0.01, seed 1" in err
    assert {one["tokens"] for one in told} == {10 * 8 * 32}
    for one in told[1:]:
        by_seed = [a - b for a, b in zip(one["bpb"], base["bpb"], strict=True)]
        assert one["difference_by_seed"] == pytest.approx(by_seed) and by_seed[0] != by_seed[1]
        assert one["difference"] == pytest.approx(sum(by_seed) / 2)
        assert one["documents_low"] < one["difference"] < one["documents_high"]
    with open(tmp_path / "out" / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["name"], r["seed"]) for r in rows[:3]] == [(AS_IS, "0"), (AS_IS, "1"), ("lr=0.01", "0")]
    assert [float(r["bpb"]) for r in rows] == [bpb for one in told for bpb in one["bpb"]]
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == told
    assert "| lr=0.01 |" in (tmp_path / "out" / "results.md").read_text()
    command.main([toml, "--change", "dropout=0", "--seeds", "1", *words[5:]])
    more = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in more] == [AS_IS, "dropout=0"] and more[0]["bpb"] == base["bpb"][:1]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("larnin=1", "there is no setting 'larnin'"),
        ("preset=10m", "there is no setting 'preset'"),
        ("lr=fast", "lr is 'fast', expected float"),
        ("lr=-1", "--lr -1: expected"),
        ("n_head=3", "does not split into 3"),
        ("seed=1,2", "with --seeds"),
        ("data=other.txt", "it changes the text"),
        ("merges=40", "it changes the text"),
        ("vocab-size=300", "it changes the text"),
        ("max_steps=20", "how many tokens"),
        ("epochs=2", "how many tokens"),
        ("stop_after=1", "how many tokens"),
        ("batch_size=3", "2,560 tokens are no whole number of steps of 96"),
        ("dropout=0.1", "has that already"),
        ("lr=1e-3,0.001", "named twice"),
        ("lr", "expected SETTING=VALUE"),
        ("lr=1e-3,", "expected SETTING=VALUE"),
    ],
)
def test_a_change_that_cannot_be_is_refused_in_a_line(toml, tmp_path, change, why):
    with pytest.raises(ConfigError, match=r"^--change [^\n]*$") as refused:
        command.main([toml, "--change", change, "--out-dir", str(tmp_path / "out")])
    assert why in str(refused.value) and not (tmp_path / "out").exists()


@pytest.mark.parametrize("settings", [{"max_time": "5m"}, {"stop_after": 2, "eval_every": 5}])
def test_a_run_of_no_fixed_length_is_refused(spec, settings):
    with pytest.raises(ConfigError, match=f"{next(iter(settings))} is .*give max_steps alone"):
        arms_of(Spec.of(**settings).over(spec), [])


def test_a_change_of_the_batch_keeps_the_tokens(spec):
    base, *arms = arms_of(spec, [("batch_size", 4), ("seq_len", 16), ("grad_accum", 2)])
    assert {arm.tokens for arm in arms} == {base.tokens}
    assert [arm.plan.train.max_steps for arm in arms] == [20, 20, 5]


def test_other_folders_are_left_alone(spec, tmp_path):
    arms = arms_of(spec, [])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "results.md").write_text("mine")
    with pytest.raises(ConfigError, match="holds no ablation"):
        ablate(arms, 1, tmp_path / "mine")
    ablation.claim(tmp_path / "own", arms[0])
    ablation.claim(tmp_path / "own", arms[0])
    ablation.claim(tmp_path / "own", arms_of(Spec.of(threads="2", log_every=3).over(spec), [])[0])
    other = arms_of(Spec.of(lr=1e-3).over(spec), [])
    with pytest.raises(ConfigError, match=r"changes of another run \(lr, min_lr, muon_lr\)"):
        ablation.claim(tmp_path / "own", other[0])


def test_a_change_that_diverges_is_told_and_the_others_go_on(spec, tmp_path, monkeypatch):
    arms = arms_of(spec, [("lr", 1e-2), ("dropout", 0)])
    train_run = ablation.train_run

    def diverging(spec, place, listeners):
        if spec.train["lr"] == 1e-2:
            raise DivergedError("numbers stay bad")
        return train_run(spec, place, listeners)

    monkeypatch.setattr(ablation, "train_run", diverging)
    rows = ablate(arms, 1, tmp_path / "out")
    assert [one.verdict.split(",")[0] == "diverged" for one in rows] == [False, True, False]
    assert "| lr=0.01 | - | - |" in markdown(rows) and rows[2].difference is not None


def side(name, nats):
    n = len(nats)
    return Side(name, Documents(np.asarray(nats, float), *np.full((3, n), 100.0)), "t", "c", "p")


@pytest.mark.parametrize(
    ("shifts", "verdict"),
    [
        ([-9, -10, -11], "lower"),
        ([9, 10, 11], "higher"),
        ([-30, 10, 5], "not told apart"),  # clear over documents, not over seeds
        ([-10], "lower, by one seed"),
    ],
)
def test_the_verdict_asks_documents_and_seeds(spec, tmp_path, shifts, verdict):
    plan = arms_of(spec, [])[0].plan
    hard = np.random.default_rng(0).normal(200, 50, 60)
    base = [side("a", hard) for _ in shifts]
    changed = [side("b", hard + shift + np.tile([-0.5, 0.5], 30)) for shift in shifts]
    found = row(Arm("lr=1", plan), [None] * len(shifts), changed, base)
    assert found.by_seed == pytest.approx([shift / 100 / math.log(2) for shift in shifts])
    assert found.difference.value == pytest.approx(np.mean(found.by_seed)) and found.difference.is_clear
    assert found.verdict == verdict


def test_the_interval_over_seeds_is_that_of_their_mean():
    assert ablation.half_of([1.0, 2.0, 3.0]) == pytest.approx(
        4.303 / math.sqrt(3), rel=1e-3
    )  # Student, 2 free
    assert ablation.half_of([1.0]) is None
