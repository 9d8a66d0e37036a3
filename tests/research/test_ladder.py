"""A ladder of toys: climbed, killed and climbed again, stopped at gates, forced; what is refused."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from microgpt.commands import ladder as command
from microgpt.common.errors import ConfigError
from microgpt.evaluation.law_runs import Showed
from microgpt.evaluation.laws import Law
from microgpt.files import durable
from microgpt.files.records import read_json
from microgpt.reporting.ladder_page import ladder_page
from microgpt.research.ablation import trained
from microgpt.research.ladder import budget, evidence, gates
from microgpt.research.ladder.checklist import checklist
from microgpt.research.ladder.document import document
from microgpt.research.ladder.engine import Standing, climb, settle, standings, with_fitted
from microgpt.research.ladder.foretelling import foretold
from microgpt.research.ladder.gates import FAIL, NONE, OPEN, PASS, Case
from microgpt.research.ladder.people import Judged, table_of
from microgpt.research.ladder.rungs import Gates, Ladder, Rung, read_ladder
from microgpt.research.ladder.state import State
from microgpt.research.ladder.template import template
from microgpt.research.showed import showed
from microgpt.runs.events import Trained
from microgpt.runs.spec import Spec
from microgpt.training.horizon import Timing
from microgpt.training.overfit import Overfit

TEXT = "".join(
    f"The {thing} of number {n} is {look}.\n\n"
    for n in range(90)
    for thing, look in (("hat", "red"), ("boat", "as old as the hills"))
)
SHARED = """
[run]
data = "text.txt"
preset = "tiny"
n_layer = 1
seq_len = 32
merges = 40
batch_size = 4
threads = "1"
sample_every = 0
eval_every = 10
save_every = 10
probes = false
lr = 2e-2
muon_lr = 5e-2
max_steps = 25
[gates]
windows_by_heart = 10
law_from = "1k"
"""
RUNGS = """
[[rung]]
name = "small"
n_embd = 16
hypothesis = "Training works."
[[rung]]
name = "large"
n_embd = 24
hypothesis = "More helps."
"""
# Climbs with a listener that kills its own process at the n-th event.
KILLED = """
import os, signal, sys
from pathlib import Path
from microgpt.research.ladder import evidence
from microgpt.research.ladder.engine import climb
from microgpt.research.ladder.rungs import read_ladder
from microgpt.training.overfit import Overfit
evidence.overfit = lambda *how: Overfit(1.0, how[-1], 100, 0.1)
heard = []
def listener(event):
    heard.append(event)
    if len(heard) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
climb(read_ladder(Path(sys.argv[1])), Path(sys.argv[2]), [listener], is_forced=True)
"""


def learned_at_once(model, batches, config, clock, n_windows):
    """In the place of learning by heart, which takes toys long and has tests of its own."""
    return Overfit(1.0, n_windows, 100, 0.1)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """A folder with text, the file of a ladder, and that ladder climbed to its end past its gates."""
    folder = tmp_path_factory.mktemp("ladder")
    (folder / "text.txt").write_text(TEXT)
    (folder / "ladder.toml").write_text(SHARED + RUNGS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MICROGPT_DATA_DIR", str(folder / "data"))
        patch.setattr(evidence, "overfit", learned_at_once)
        climb(read_ladder(folder / "ladder.toml"), folder / "whole", is_forced=True)
    return folder


@pytest.fixture
def place(toy, monkeypatch):
    """That folder, and what was prepared for it at hand."""
    monkeypatch.setenv("MICROGPT_DATA_DIR", str(toy / "data"))
    monkeypatch.setattr(evidence, "overfit", learned_at_once)
    return toy


def timeless(found):
    """What is known of a ladder, without what a clock had to do with."""
    timed = ("began", "seconds", "tok_per_s", "hours", "peak_bytes", "folder")
    if isinstance(found, dict):
        return {name: timeless(one) for name, one in found.items() if name not in timed}
    return [timeless(one) for one in found] if isinstance(found, list) else found


def weights_of(folder):
    return {
        str(path.relative_to(folder)): durable.sha256_of(path)
        for path in folder.rglob("step_00000025/model.safetensors")
    }


def test_a_ladder_that_is_killed_again_and_again_comes_to_the_same_results(place):
    torn, file = place / "torn", place / "ladder.toml"
    words = [sys.executable, "-c", KILLED, str(file), str(torn)]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    for n_events in ("14", "40", "33"):  # within the first run; the last event of another; in a later rung
        ended = subprocess.run([*words, n_events], env=env, capture_output=True)
        assert ended.returncode == -9, ended.stderr.decode()
        for leftover in torn.rglob("large-seed*.json"):  # as if it had been killed before that was written
            leftover.unlink()
    climb(read_ladder(file), torn, is_forced=True)
    ladder = read_ladder(file)
    one, other = (timeless(document(ladder, State.read(place / name))) for name in ("whole", "torn"))
    assert one == other
    assert len(weights_of(torn)) == 4 and weights_of(torn) == weights_of(place / "whole")


def test_a_run_that_was_stopped_after_its_last_step_is_measured_when_it_goes_on(place, tmp_path):
    plan, last = settle(read_ladder(place / "ladder.toml"))[0][0].plan, 25

    def listener(event):
        if isinstance(event, Trained) and event.step == last:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit):
        trained(plan, tmp_path / "run", [listener])
    checkpoint = trained(plan, tmp_path / "run", [])
    whole = place / "whole" / "small-seed0"
    assert showed(checkpoint.parent).loss == showed(whole).loss
    assert durable.sha256_of(checkpoint / "model.safetensors") == durable.sha256_of(
        whole / checkpoint.name / "model.safetensors"
    )


def test_a_ladder_that_was_killed_before_its_record_had_its_name_may_begin(tmp_path):
    (tmp_path / ".tmp_ladder.json_7").write_text("{")
    assert State.read(tmp_path).begun == []
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds no ladder"):
        State.read(tmp_path)


def test_rungs_share_the_priors_of_the_run_and_may_have_their_own(place):
    file = place / "priors.toml"
    shared = SHARED.replace("[gates]", '[run.priors]\nhead_dim = 8\nnorm = "rmsnorm"\n[gates]')
    file.write_text(shared + RUNGS.replace("n_embd = 24", "n_embd = 24\npriors = {head_dim = 12}"))
    small, large = read_ladder(file).rungs
    assert small.spec.plan().model.n_head == large.spec.plan().model.n_head == 2
    assert large.spec.plan().model.norm == "rmsnorm"


def test_what_is_stated_is_stated_before_anything_is_trained(place, tmp_path):
    seen = []

    def listener(event):
        begun = State.read(tmp_path / "out").begun
        seen.append((begun[-1].name, begun[-1].hypothesis, "why_not" in begun[-1].foretold))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        climb(read_ladder(place / "ladder.toml"), tmp_path / "out", [listener])
    assert {*seen} == {("small", "Training works.", True)}
    (tmp_path / "out" / "ladder.json").unlink()
    with pytest.raises(ConfigError, match="holds no ladder"):
        climb(read_ladder(place / "ladder.toml"), tmp_path / "out")


def test_a_gate_that_is_not_passed_ends_the_climb_and_force_is_recorded(place, capsys, monkeypatch):
    out = str(place / "stopped")
    assert command.main(["run", str(place / "ladder.toml"), "--out-dir", out]) == 1
    told, _ = capsys.readouterr()
    assert "rung     small" in told and "rung     large" not in told and "next     change" in told
    state = State.read(Path(out))
    assert [one.name for one in state.begun] == ["small"] and not state.begun[0].forced
    whole = State.read(place / "whole")
    assert {"law", "forecast"} <= set(whole.begun[0].forced)
    assert (
        command.main(["status", str(place / "ladder.toml"), "--out-dir", str(place / "whole"), "--json"]) == 0
    )
    told = json.loads(capsys.readouterr().out)
    assert [rung["forced"] for rung in told["rungs"]] == [list(one.forced) for one in whole.begun]
    assert [question["title"] for question in told["checklist"]] == [
        "Technical readiness",
        "Scientific validity",
        "Capability advancement",
        "Resource forecasting",
    ]


def test_the_page_needs_nothing_beside_it(place, capsys):
    words = [str(place / "ladder.toml"), "--out-dir", str(place / "whole")]
    assert command.main(["report", *words]) == 0
    page = (place / "whole" / "report.html").read_text()
    for text in (
        "Training works.",
        "More helps.",
        "Four questions",
        "resumes exactly",
        "<svg",
        "Forced past",
    ):
        assert text in page
    assert "prefers-color-scheme: dark" in page and "var(--ink)" in page
    assert not re.search(r"""(src|href)="(?!#)|@import|url\((?!#)""", page.replace("xlink:href", "href"))
    told = document(read_ladder(place / "ladder.toml"), State.read(place / "whole"))
    told["rungs"][1]["foretold"] |= {"loss": 2.5, "run_low": 2.4, "run_high": 2.6, "hours": None}
    del told["rungs"][1]["foretold"]["why_not"]
    law = Law(0.5, 20.0, 0.25, ratio=4.0)._asdict()
    told["law"] = {"law": law, "r_squared": 0.99, "spread": 0.01, "n_runs": 4, "n_sizes": 2}
    page = ladder_page(told)
    assert "0.5 + 20 N^-0.25, along 4 tokens" in page and "2.4000 to 2.6000" in page and "0.9900" in page
    (place / "mine.html").write_text("mine")
    with pytest.raises(ConfigError, match="not made by microgpt"):
        command.main(["report", *words, "--out", str(place / "mine.html")])


def test_the_toy_shows_proof_of_life(place):
    ladder, state = read_ladder(place / "ladder.toml"), State.read(place / "whole")
    for one in standings(ladder, state):
        verdicts = {result.gate: result.verdict for result in one.results}
        assert (
            verdicts["resume"] == verdicts["tokenizer"] == verdicts["by_heart"] == verdicts["seeds"] == PASS
        )
        assert verdicts["law"] == verdicts["forecast"] == OPEN
        assert "recipe" not in verdicts and "kappa" not in verdicts, "asked of large ones alone"
        assert len({run["showed"]["loss"] for run in one.case.whole}) == 2


def test_begun_rungs_keep_their_place_their_settings_and_their_hypothesis(place):
    state = State.read(place / "whole")
    text = (place / "ladder.toml").read_text()
    changed = place / "changed.toml"
    for old, new, why in (
        ('name = "small"', 'name = "other"', "rung small was begun as number 1"),
        ("n_embd = 24", "n_embd = 32", r"large was begun with other settings \(n_embd"),
        ("max_steps = 25", "max_steps = 30", r"small was begun with other settings \(max_steps"),
    ):
        changed.write_text(text.replace(old, new))
        with pytest.raises(ConfigError, match=why):
            climb(read_ladder(changed), place / "whole")
    with pytest.raises(ConfigError, match="--budget: rungs were begun without one"):
        climb(read_ladder(place / "ladder.toml"), place / "whole", budget_s=60)
    changed.write_text(
        text.replace("Training works.", "I knew it.").replace("[gates]", "[gates]\ngain = 0.5")
    )
    told = document(read_ladder(changed), state)["rungs"][0]
    assert told["hypothesis"] == "Training works." and told["changed_gates"] == ["gain"]


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('hypothesis = "More helps."', "", None),
        ("n_embd = 24", "n_embd = 16", "from small to large"),
        ("n_embd = 24", "n_embd = 128", "put a rung between"),
        ("n_embd = 24", 'n_embd = 24\ndata = "ladder.toml"', "reads other text"),
        ("max_steps = 25", 'max_time = "1h"', "--budget"),
        ("max_steps = 25", "seed = 3", "first_seed"),
        ("max_steps = 25", "stop_after = 3", "stop_after"),
        ("eval_every = 10", "eval_every = 0", "held-out loss"),
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
def test_what_is_no_ladder_is_refused_in_a_line(place, old, new, why):
    file = place / "refused.toml"
    file.write_text((SHARED + RUNGS).replace(old, new))
    if why is None:
        assert read_ladder(file).rungs[1].hypothesis == "", "it may be written once the rung below is done"
        return
    with pytest.raises(ConfigError, match=why):
        settle(read_ladder(file))


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


# ------------------------------------------------------------------------------------------ gates


def run(bpb, loss=2.0, name="r", **others):
    showed = Showed(name, 1e6, 4e6, bpb)._asdict()
    log = {"trouble": [], "seconds": 10.0}
    holds_back = {"word": "data", "why": "so"}
    made = {"showed": showed, "loss": loss, "findings": [], "above": {}, "states": [], "log": log}
    return made | {"holds_back": holds_back} | others


def case(bpbs, below=None, n_params=1e6, canaries=(), foretold=None, losses=(2.0, 2.0), **thresholds):
    runs = [run(bpb, loss) for bpb, loss in zip(bpbs, losses, strict=False)]
    what = foretold or {"why_not": "no rung is below", "passes": 1.0, "tokens": 4e6}
    return Case(
        Rung("r", Spec("tiny")),
        Gates(**thresholds),
        n_params,
        runs,
        {},
        list(canaries),
        what,
        None,
        [],
        below,
    )


def canary(name, right, of=200):
    found = gates.share(right, of)
    return {name: {"asked": of, "right": right, "share": found.value, "low": found.low, "high": found.high}}


def test_better_takes_the_gain_with_each_seed():
    below = case([1.0, 1.0])
    assert gates.better(case([0.95, 0.94], below)).verdict == PASS
    assert gates.better(case([0.95, 0.96], below)).verdict == OPEN
    assert gates.better(case([0.96, 0.96], below)).verdict == FAIL
    assert gates.better(case([0.97, 0.97], below, losses=(1.5, 1.4))).verdict == PASS, "half a nat is enough"
    assert gates.better(case([0.5], below)).verdict == OPEN, "one seed is no evidence"
    assert gates.seeds(case([0.5])).verdict == OPEN and gates.seeds(case([0.5, 0.5])).verdict == PASS


def test_runs_of_one_seed_are_compared_and_those_that_diverged_show_nothing():
    below = case([1.0] * 3)._replace(runs=[None, run(1.0), run(2.0)])
    above = case([1.0] * 3, below)._replace(runs=[run(0.9), run(0.99), run(1.8)])
    assert gates.better(above).verdict == OPEN, "1 % and 10 %, of the second and third seed"
    lost = case([])._replace(runs=[None, None])
    assert [gates.probes(lost).verdict, gates.calm(lost).verdict] == [OPEN, FAIL]


def test_people_compare_it_with_the_rung_below_and_no_other():
    preference = SimpleNamespace(wins_a=10, wins_b=90, n=100, ties=0, p=0.001, better="b", is_enough=True)
    verdict = SimpleNamespace(preference=preference)
    below = case([1.0, 1.0])._replace(rung=Rung("5m", Spec("tiny")))
    for other, said in (("runs/x/5m-seed0", PASS), ("runs/x/0.5m-seed0", OPEN)):
        one = case([0.9, 0.9], below)._replace(judged=Judged(verdict, "b", other))
        assert gates.preferred(one).verdict == said


def test_a_recipe_is_compared_with_the_rung_of_its_size(tmp_path):
    def spec(**train):
        return {"preset": "tiny", "model": {}, "train": train, "data": {}}

    rungs = {1_000: spec(lr=2e-3), 4_000: spec(lr=1e-3)}
    rows = [{"name": "as it is", "n_params": 1_050, "seed": [0, 1]}]
    rows += [{"name": f"x={i}", "n_params": 1_050, "verdict": "higher", "difference": 0.1} for i in range(3)]
    (tmp_path / "results.json").write_text(json.dumps(rows))
    with pytest.raises(ConfigError, match="is not there"):
        table_of(str(tmp_path), rungs)
    one = case([1.0, 1.0], case([1.2, 1.2], n_params=1_000), n_params=4_000)
    for recipe, said in ((spec(lr=2e-3), PASS), (spec(lr=1e-3), OPEN)):
        (tmp_path / "ablation.json").write_text(json.dumps(recipe))
        assert gates.recipe(one._replace(tables=[table_of(str(tmp_path), rungs)])).verdict == said


def test_the_forecast_passes_within_5_and_fails_beyond_10_percent():
    told = {"loss": 1.0, "run_low": 0.99, "run_high": 1.01}
    for bpb, verdict in ((1.04, PASS), (0.96, PASS), (1.07, OPEN), (0.93, OPEN), (1.11, FAIL), (0.89, FAIL)):
        assert gates.forecast(case([bpb, bpb], foretold=told)).verdict == verdict
    assert gates.forecast(case([1.0], foretold=told)).verdict == OPEN
    assert gates.forecast(case([1.0, 1.0])).verdict == OPEN


def test_what_is_foretold_is_the_law_of_the_rungs_below():
    law = Law(0.5, 20.0, 0.25)
    below = [
        Showed(
            f"{size:g}-{k}",
            size,
            4 * size,
            float(law.loss(size, 0.0)) * (1 + 0.001 * k),
            tok_per_s=1e9 / size,
        )
        for size in (0.5e6, 1e6, 2e6)
        for k in (-1, 1)
    ]
    found = foretold(below, 4_000_000, 16_000_000, 8_000_000)
    assert found["loss"] == pytest.approx(float(law.loss(4e6, 0.0)), rel=5e-3)
    assert found["run_low"] < found["loss"] < found["run_high"] and found["passes"] == 2.0
    assert "5.0 passes" in foretold(below, 4_000_000, 40_000_000, 8_000_000)["why_not"]
    assert "2 of the 3 sizes" in foretold(below[:4], 2_000_000, 8_000_000, 8_000_000)["why_not"]
    assert foretold([], 1, 1, 1)["why_not"] == "no rung is below"


def test_canaries_are_up_where_intervals_are_apart_with_each_seed():
    def asked(*right):
        return {
            "canaries": {k: v for n, r in zip("abcd", right, strict=True) for k, v in canary(n, r).items()}
        }

    low, high = asked(50, 50, 50, 190), asked(90, 90, 90, 199)
    assert (
        gates.canaries(case([1, 1], case([1, 1], canaries=[low, low]), canaries=[high, high])).verdict == PASS
    )
    less = asked(90, 90, 62, 199)
    one = case([1, 1], case([1, 1], canaries=[low, low]), canaries=[high, less])
    assert gates.canaries(one).verdict == OPEN, "the third is up with one seed"
    one = case([1, 1], case([1, 1], canaries=[low, low]), canaries=[less, less])
    assert gates.canaries(one).verdict == FAIL and "2 of 4" in gates.canaries(one).text


def test_canaries_whose_intervals_overlap_are_not_up():
    def asked(right):
        return {"canaries": {k: v for name in "abc" for k, v in canary(name, right, of=40).items()}}

    low, high = [asked(10)] * 2, [asked(16)] * 2  # 15 points of 40 items
    assert gates.canaries(case([1, 1], case([1, 1], canaries=low), canaries=high)).verdict == FAIL


def test_states_are_sound_or_it_cannot_be_told():
    def told(*verdicts):
        states = [{"test": "S1 size", "verdict": verdict, "text": "so"} for verdict in verdicts]
        return case([1.0])._replace(runs=[run(1.0, states=states)])

    assert gates.states(told("pass", "warn")).verdict == PASS
    assert gates.states(told("pass", "fail")).verdict == FAIL
    assert gates.states(told()).verdict == NONE, "attention alone has none"
    few = told(evidence.TOO_LITTLE)
    assert gates.states(few).verdict == gates.balance(few).verdict == OPEN


def test_c1_to_c5_are_pooled_and_bounded_by_wilson():
    def asked(right):
        return {"categories": {name: {"right": right, "asked": 200} for name in (*gates.POOLED, "C6")}}

    for one, other, verdict in (  # of 1,000 in each, over both seeds
        (170, 170, PASS),
        (163, 170, OPEN),
        (150, 170, OPEN),
        (150, 150, FAIL),
    ):
        assert gates.coherent(case([1, 1], canaries=[asked(one), asked(other)])).verdict == verdict


def test_leaps_are_to_be_explained():
    leap = {"log": {"trouble": [{"event": "spike", "step": 7}], "seconds": 1.0}}
    one = case([1.0])._replace(runs=[run(1.0, **leap)])
    assert gates.calm(one).verdict == OPEN and gates.calm(case([1.0])).verdict == PASS
    told = one._replace(rung=Rung("r", Spec("tiny"), explained="the text has a page of digits there"))
    assert gates.calm(told).verdict == PASS


def test_a_training_whose_seeds_come_apart_is_not_called_reproducible():
    leaps = gates.Result("calm", "no leaps", PASS, "")
    seeds = gates.Result("seeds", "two seeds", PASS, "")
    ladder = Ladder("x", ())
    for bpbs, answer in (((1.0, 1.01), "yes"), ((1.0, 1.08), "no")):
        technical, science, *_ = checklist(ladder, Standing(case(bpbs), None, [leaps, seeds]))
        assert technical.parts[0].answer == science.parts[2].answer == answer
        assert technical.answer == "no" if answer == "no" else technical.answer == OPEN


# ------------------------------------------------------------------------------------------ time


def test_a_budget_gives_each_rung_the_same_share_of_its_tokens():
    plans = [
        Spec.of("tiny", max_steps=n, eval_every=0, sample_every=0, save_every=0).plan() for n in (100, 400)
    ]
    timings = [Timing(0.1, 0.0, 0.0, 0.0), Timing(0.4, 0.0, 0.0, 0.0)]  # 10 and 160 seconds
    whole_s = 2 * 170 / budget.FOR_TRAINING
    found = budget.fitted(["a", "b"], plans, timings, 2, whole_s / 2)
    assert found.share == pytest.approx(0.5, abs=0.01)
    assert 49 <= found.steps["a"] <= 50 and 198 <= found.steps["b"] <= 200
    assert found.expected_s <= whole_s / 2
    assert budget.fitted(["a", "b"], plans, timings, 2, 2 * whole_s).steps == {"a": 100, "b": 400}
    with pytest.raises(ConfigError, match="10 steps would be left for rung a"):
        budget.fitted(["a", "b"], plans, timings, 2, whole_s / 10)


def test_a_ladder_keeps_to_the_steps_that_were_fitted(place, tmp_path, monkeypatch):
    timings = [Timing(1.0, 0.0, 0.0, 0.0)] * 2
    monkeypatch.setattr(budget, "FEWEST_STEPS", 2)
    monkeypatch.setattr("microgpt.research.ladder.engine.timings_of", lambda plans, prepared: timings)
    ladder, out = read_ladder(place / "ladder.toml"), tmp_path / "out"
    climb(ladder, out, budget_s=4 * 10 / budget.FOR_TRAINING)
    state = read_json(out / "ladder.json")
    assert state["rungs"][0]["spec"]["train"]["max_steps"] == state["fitted"]["steps"]["small"] == 10
    monkeypatch.setattr("microgpt.research.ladder.engine.timings_of", lambda *_: pytest.fail("timed again"))
    climb(ladder, out)
    with pytest.raises(ConfigError, match="were fitted into"):
        climb(ladder, out, budget_s=5.0)
    later = settle(ladder)[0][1]._replace(rung=Rung("later", Spec("tiny")))
    assert with_fitted(later, State.read(out)).plan.train.max_steps == 10, "the same share of its tokens"
