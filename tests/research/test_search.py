"""Searches: what is drawn, what goes on, what a kill changes, what is found; two with tiny runs."""

import dataclasses
import itertools
import json
import math
import os
import signal

import numpy as np
import pytest

from microgpt.commands import search as command
from microgpt.common.errors import ConfigError
from microgpt.files import durable
from microgpt.model import count_parameters
from microgpt.model.mlp import inner_width
from microgpt.research import hop, larger
from microgpt.research import search as room
from microgpt.research.front import hypervolume, on_front
from microgpt.research.sampling import draw, ended
from microgpt.research.search import Candidates, Measured, run_search
from microgpt.research.search_file import read_search, search_from, search_text
from microgpt.research.search_table import front_of, lineage, markdown, members
from microgpt.research.seed import read_seed
from microgpt.research.trials import AGAIN, DIVERGED, FINISHED, IMPOSSIBLE, STOPPED, TABLE, Trial, read_trials
from microgpt.runs.events import Trained
from microgpt.runs.guard import DivergedError
from microgpt.runs.spec import Spec
from microgpt.training.run import train_run

TEXT = "".join(f"The {thing} of number {n} is red.\n\n" for n in range(90) for thing in ("hat", "boat"))
RUN = {
    "preset": "tiny",
    "n_layer": 1,
    "n_embd": 32,
    "seq_len": 32,
    "merges": 30,
    "batch_size": 8,
    "eval_tokens": 512,
    "threads": "1",
    "dropout": 0.1,
}
SPACE = {"n_layer": [1, 2, 3], "n_inner": [32, 64, 128], "lr": {"low": 1e-3, "high": 1e-2, "log": True}}
STEP = 8 * 32  # tokens


def document(write, space=SPACE, run=None, **settings):
    """A search as a file has it."""
    text = str(write("text.txt", TEXT))
    return {
        "candidates": 9,
        "startup": 4,
        "population": 4,
        "tokens": 10 * STEP,
        "finalists": 0,
        **settings,
        "run": {**RUN, "data": text, **(run or {})},
        "space": dict(space),
    }


@pytest.fixture
def made(write):
    """Makes a search."""
    return lambda *args, **settings: search_from(document(write, *args, **settings))


class Fake:
    """Measures by a formula, and remembers what it was asked to train."""

    def __init__(self, killed_at=()):
        self.calls, self.killed_at, self.n = [], list(killed_at), 0

    def __call__(self, number, plan, steps):
        self.n += 1
        if self.n in self.killed_at:
            raise KeyboardInterrupt
        self.calls.append((number, steps))
        inner = plan.model.n_inner or 4 * plan.model.n_embd
        worse = abs(math.log(plan.train.lr / 4e-3)) + 3 / plan.model.n_layer + 10 / inner
        return Measured(worse + 20 / steps, 1000.0)


def found(trials):
    return [dataclasses.astuple(one) for one in trials]


# ------------------------------------------------------------------------------------------ what is drawn


@pytest.mark.parametrize("sampler", ["nsga2", "tpe"])
def test_a_killed_search_goes_on_to_the_same_result(made, tmp_path, sampler):
    search = made(sampler=sampler, candidates=7, startup=3, population=3)
    whole = run_search(search, tmp_path / "whole", Fake())
    torn, fake = [], Fake(killed_at=(3, 4, 9))
    for _ in fake.killed_at:
        with pytest.raises(KeyboardInterrupt):
            run_search(search, tmp_path / "torn", fake)
    torn = run_search(search, tmp_path / "torn", fake)
    assert found(torn) == found(whole) and sum(one.is_trained for one in whole) == 7
    tables = [(tmp_path / name / TABLE).read_bytes() for name in ("whole", "torn")]
    assert tables[0] == tables[1] and len(tables[0].splitlines()) == len(whole)
    assert len({json.dumps(one.settings) for one in whole}) > 4


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_samplers_that_learn_draw_better_ones_later(made, sampler):
    search, known = made(sampler=sampler, objectives=["bpb"], startup=8, population=8), []
    for number in range(48):
        drawn = draw(search.config, search.space, known, number)
        x = drawn.settings
        known.append(ended(drawn, [abs(math.log(x["lr"] / 4e-3)) + 3 / x["n_layer"] + 10 / x["n_inner"]], {}))
    values = [one.value for one in known]
    assert np.mean(values[32:]) < np.mean(values[:16]) - 0.2


def test_the_rung_stops_what_is_worse_than_the_median_and_tokens_are_those_of_the_rungs(made, tmp_path):
    fake = Fake()
    trials = run_search(made(), tmp_path / "out", fake)
    assert {one.state for one in trials[:4]} == {FINISHED}, "the first are never stopped"
    stopped = [one for one in trials if one.state == STOPPED]
    assert stopped and all(one.bpb is None and one.tokens == 2 * STEP for one in stopped)
    for one in trials[4:]:
        before = [other.rung_bpb for other in trials[: one.number] if other.rung_bpb is not None]
        if one.rung_bpb is not None:
            assert (one.state == STOPPED) == (one.rung_bpb > np.median(before))
    assert not {one.number for one in stopped} & {
        one.number for one in front_of(trials, ("bpb", "state_bytes"))
    }
    done = [one for one in trials if one.state == FINISHED]
    assert sum(one.tokens for one in trials) == STEP * (10 * len(done) + 2 * len(stopped))
    assert [call for call in fake.calls if call[1] == 10] == [(one.number, 10) for one in done]


def test_a_threshold_and_never(made, tmp_path):
    trials = run_search(made(stop=1e-6, candidates=2), tmp_path / "all", Fake())
    assert {one.state for one in trials} <= {STOPPED, AGAIN} and "the threshold is 0.0000" in trials[0].why
    trials = run_search(made(stop="never", candidates=5, startup=2), tmp_path / "none", Fake())
    assert {one.state for one in trials} <= {FINISHED, AGAIN}


def test_a_search_of_which_nothing_can_be_trained_says_why(made, tmp_path):
    search = made({"n_head": [3, 5]}, sampler="random", candidates=2)
    with pytest.raises(ConfigError, match=r"none of 40 draws can be trained; .*does not split"):
        run_search(search, tmp_path / "out", Fake())


def test_a_rung_is_a_share_of_few_parts(made, tmp_path):
    trials = run_search(made(rung=0.333, candidates=2, tokens=9 * STEP), tmp_path / "out", fake := Fake())
    assert fake.calls[0][1] == 3 and trials[0].tokens in (3 * STEP, 9 * STEP)
    with pytest.raises(ConfigError, match=r"between 0\.01 and 0\.99"):
        run_search(made(rung=0.0001), tmp_path / "other", Fake())


def test_what_cannot_be_diverges_or_came_before_takes_no_place(made, tmp_path):
    class Diverging(Fake):
        def __call__(self, number, plan, steps):
            if plan.model.n_layer == 2 and steps == 10:
                raise DivergedError("numbers stay bad")
            return super().__call__(number, plan, steps)

    space = {"n_layer": [1, 2, 3], "n_head": [1, 3]}
    search = made(space, sampler="random", candidates=3, stop="never")
    trials = run_search(search, tmp_path / "out", Diverging())
    by_settings = {}
    for one in trials:
        if one.settings["n_head"] == 3:
            assert one.state == IMPOSSIBLE and "does not split into 3" in one.why and one.tokens == 0
        elif one.settings["n_layer"] in by_settings:
            assert one.state == AGAIN and one.tokens == 0
            assert one.bpb == by_settings[one.settings["n_layer"]].bpb
        else:
            by_settings[one.settings["n_layer"]] = one
            assert one.state == (DIVERGED if one.settings["n_layer"] == 2 else FINISHED)
    assert len(by_settings) == 3 and len(front_of(trials, ("bpb",))) == 1
    told = markdown(members(trials, ("bpb",)), trials)
    assert "2 finished" in told and "1 diverged" in told and f"{10 * 3 * STEP:,} tokens" in told


# ------------------------------------------------------------------------------------------ with real runs


def sha_of(run, step=10):
    return durable.sha256_of(run / f"step_{step:08d}" / "model.safetensors")


@pytest.fixture
def toml(write):
    """A search in a file, whose candidates take ten steps."""
    lines = [f"{name} = {json.dumps(value)}" for name, value in {**RUN, "n_layer": 1}.items()]
    write("text.txt", "".join(TEXT.replace(" of number ", f" of number {n}") for n in range(1, 10)))
    head = 'candidates = 3\nstartup = 2\npopulation = 2\ntokens = 2560\nstop = "never"\nfinalists = 0\n[run]'
    tail = 'data = "text.txt"\n[space]\nlr = {low = 1e-3, high = 1e-2}\nn_inner = [32, 64]\n'
    return write("small.toml", "\n".join([head, *lines, tail]))


def test_a_real_search_killed_and_survivors_equal_straight_runs(toml, tmp_path, capsys):
    command.main(["run", str(toml), "--out-dir", str(tmp_path / "whole")])
    out = capsys.readouterr().out
    assert "3 finished" in out and "; 7,680 tokens" in out and "| bits/byte |" in out
    search, trials = read_trials(tmp_path / "whole")
    steps = []

    def listener(event):
        if isinstance(event, Trained):
            steps.append(event.step)
            if len(steps) in (5, 15):  # past the rung of the first; before that of the second
                raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run_search(read_search(toml), tmp_path / "torn", room.RunTrainer(tmp_path / "torn", [listener]))
    torn = run_search(read_search(toml), tmp_path / "torn", room.RunTrainer(tmp_path / "torn", [listener]))
    assert steps[:7] == [1, 2, 3, 4, 5, 3, 4] and steps[13:17] == [1, 2, 1, 2], "from the rung, or again"

    def apart_from_speed(those):
        return [dataclasses.replace(one, tok_per_s=0) for one in those]

    assert apart_from_speed(torn) == apart_from_speed(trials)
    one = trials[1]
    spec = Candidates(search).sparse_spec(one.settings)
    straight = train_run(spec, tmp_path / "straight", [])
    shas = [sha_of(straight.run), *(sha_of(room.place_of(tmp_path / x, 1)) for x in ("whole", "torn"))]
    assert len(set(shas)) == 1
    assert straight.metrics["val_bpb"] == one.bpb != one.rung_bpb
    command.main(["frontier", str(tmp_path / "whole"), "--json", "--plot", str(tmp_path / "front.svg")])
    best = json.loads(capsys.readouterr().out)
    assert best[0]["bpb"] == min(other.bpb for other in trials) and (tmp_path / "front.svg").stat().st_size
    command.main(["frontier", str(tmp_path / "whole"), "--csv"])
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(trials)


def test_a_signal_between_the_last_step_and_what_is_measured_there_loses_nothing(toml, tmp_path):
    search, steps = read_search(toml), [2, 10]  # those of the rung, and all

    def listener(event):
        if isinstance(event, Trained) and event.step in steps:
            steps.remove(event.step)
            os.kill(os.getpid(), signal.SIGTERM)

    one = search._replace(config=dataclasses.replace(search.config, candidates=1))
    for _ in range(2):
        with pytest.raises(SystemExit):
            run_search(one, tmp_path / "torn", room.RunTrainer(tmp_path / "torn", [listener]))
    torn = run_search(one, tmp_path / "torn", room.RunTrainer(tmp_path / "torn", [listener]))[0]
    whole = run_search(one, tmp_path / "whole", room.RunTrainer(tmp_path / "whole"))[0]
    assert (torn.rung_bpb, torn.bpb) == (whole.rung_bpb, whole.bpb) and torn.bpb is not None
    assert sha_of(room.place_of(tmp_path / "torn", 0)) == sha_of(room.place_of(tmp_path / "whole", 0))


def test_children_carry_the_tokens_of_their_parents(made, tmp_path):
    parent = tmp_path / "parent"
    spec = made().base
    train_run(dataclasses.replace(spec, train={**spec.train, "max_steps": 3, "probes": False}), parent, [])
    search = made({"lr": [1e-3, 2e-3]}, {"parent": str(parent), "preset": "tiny"}, candidates=2, stop="never")
    trials = run_search(search, tmp_path / "out", Fake())
    assert {(one.parent_tokens, one.tokens) for one in trials if one.is_trained} == {(3 * STEP, 10 * STEP)}
    assert all(one.parent.startswith(str(parent)) for one in trials)
    told = markdown(members(trials, ("bpb",)), trials)
    assert "parents that had seen 768 tokens" in told
    other = tmp_path / "other"
    train_run(dataclasses.replace(spec, train={**spec.train, "max_steps": 2, "probes": False}), other, [])
    mixed = made({"lr": [1e-3], "parent": [str(parent), str(other)]})
    with pytest.raises(ConfigError, match="compared only with their like"):
        run_search(mixed, tmp_path / "mixed", Fake())


# ------------------------------------------------------------------------------------------ the front


def test_the_front_and_its_volume_are_those_of_the_definition():
    rng = np.random.default_rng(0)
    for n_objectives in (1, 2, 3):
        costs = rng.integers(0, 5, (12, n_objectives)).astype(float)
        slow = [not any((other <= one).all() and (other < one).any() for other in costs) for one in costs]
        assert on_front(costs).tolist() == slow
        reference = np.full(n_objectives, 5.0)
        cells = np.stack(np.meshgrid(*[np.arange(5)] * n_objectives), -1).reshape(-1, n_objectives)
        covered = (costs[None] <= cells[:, None]).all(-1).any(1).sum()
        assert hypervolume(costs, reference) == covered
    assert hypervolume(np.array([[1.0, 6.0]]), np.array([5.0, 5.0])) == 0


def test_lineage_leads_to_chance_by_members_of_earlier_fronts():
    objectives, rng = ("bpb", "flop_per_token"), np.random.default_rng(0)
    trials = [
        Trial(number, {"n_layer": int(n), "lr": float(lr)}, FINISHED, bpb=lr + 3 / n, flop_per_token=n)
        for number, (n, lr) in enumerate(zip(rng.integers(1, 5, 30), rng.random(30), strict=True))
    ]
    for member in members(trials, objectives):
        chain = lineage(member.trial, trials, objectives)
        assert chain == sorted(chain, reverse=True) and chain[-1] == 0
        for child, parent in itertools.pairwise(chain):
            assert trials[parent] in front_of(trials[:child], objectives)
        if member.origin is not None:
            before = trials[member.origin].settings
            now = {**before, **{name: after for name, (_, after) in member.changes.items()}}
            assert now == member.trial.settings


# ------------------------------------------------------------------------------------------ the file


@pytest.mark.parametrize(
    ("space", "settings", "why"),
    [
        ({"larnin": [1]}, {}, r"\[space\] larnin: there is no setting"),
        ({"lr": 1e-3}, {}, "expected a list of values"),
        ({"lr": []}, {}, "expected numbers"),
        ({"lr": [1e-3, 1e-3]}, {}, "twice"),
        ({"lr": {"low": 1, "high": 0}}, {}, "low below high"),
        ({"lr": {"low": 0, "high": 1, "log": True}}, {}, "above 0 with log"),
        ({"lr": {"lo": 0}}, {}, "lo is not known"),
        ({"merges": [10, 20]}, {}, "changes the text"),
        ({"seed": [1, 2]}, {}, "same seeds"),
        ({"priors": {"head_dimm": [8]}}, {}, r"head_dimm is no prior \(did you mean head_dim"),
        ({"max_steps": [1, 2]}, {}, "how many tokens"),
        ({}, {}, "names no setting"),
        (SPACE, {"sampler": "best"}, "sampler is best"),
        (SPACE, {"objectives": ["flop_per_token"]}, "bpb first"),
        (SPACE, {"objectives": ["bpb", "tok_per_s", "flop_per_token"]}, "two measures of one thing"),
        (SPACE, {"stop": "soon"}, "stop is 'soon'"),
        (SPACE, {"rung": 1.0}, "rung is 1.0"),
        (SPACE, {"tokens": "many"}, "tokens 'many'"),
        (SPACE, {"run": {"max_steps": 3}}, "said once, by tokens"),
    ],
)
def test_a_search_that_cannot_be_is_refused_in_a_line(made, space, settings, why):
    run = settings.pop("run", None)
    with pytest.raises(ConfigError, match=why) as refused:
        made(space, run, **settings)
    assert "\n" not in str(refused.value)


def test_the_file_of_init_is_a_search_and_is_not_written_over(tmp_path, capsys):
    path = tmp_path / "search.toml"
    command.main(["init", str(path)])
    assert path.read_text() == search_text()
    search = read_search(path)
    assert search.config == type(search.config)() and {"lr", "n_layer"} <= set(search.space)
    with pytest.raises(ConfigError, match="there already"):
        command.main(["init", str(path)])


def test_priors_are_searched_as_settings_are(made, tmp_path):
    space = {"priors": {"head_dim": [8, 16], "ffn": ["2x", "3x"]}}
    candidates = Candidates(made(space, {"n_layer": 1}))
    plan = candidates.plan({"priors.head_dim": 8, "priors.ffn": "3x"})
    assert (plan.model.n_head, plan.model.n_inner) == (4, 96)
    trials = run_search(made(space, candidates=2, stop="never"), tmp_path / "out", Fake())
    assert set(trials[0].settings) == {"priors.head_dim", "priors.ffn"} and trials[0].state == FINISHED


def test_other_folders_are_left_alone(made, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds no search"):
        run_search(made(), tmp_path / "mine", Fake())
    run_search(made(candidates=1), tmp_path / "own", Fake())
    assert len(run_search(made(candidates=2), tmp_path / "own", Fake())) >= 2, "more may be asked for later"
    with pytest.raises(ConfigError, match=r"another search \(search.seed, space.lr\)"):
        run_search(made({**SPACE, "lr": [1e-3]}, seed=1), tmp_path / "own", Fake())
    with pytest.raises(ConfigError, match="holds no search"):
        command.main(["frontier", str(tmp_path / "mine")])


# ------------------------------------------------------------------------------------------ finals and seeds


def test_finalists_have_seeds_and_settings_set_back_and_a_seed_has_all_of_it(
    toml, tmp_path, capsys, monkeypatch
):
    text = toml.read_text().replace("candidates = 3", "candidates = 2").replace("n_inner = [32, 64]", "")
    toml.write_text(text.replace("finalists = 0", "finalists = 1\nseeds = 2"))
    folder, out = tmp_path / "out", tmp_path / "seed"
    command.main(["run", str(toml), "--out-dir", str(folder)])
    err = capsys.readouterr().err
    search, trials = read_trials(folder)
    best = front_of(trials, search.config.objectives)[0]
    place = folder / "finals" / f"{best.number:04d}"
    rows = json.loads((place / "results.json").read_text())
    assert (
        rows[0]["name"] == "as it is"
        and len(rows[0]["bpb"]) == 2
        and {one["tokens"] for one in rows} == {10 * STEP}
    )
    assert [one["name"].split("=")[0] for one in rows[1:]] == ["lr"]
    assert "run 1 of 4" in err and sha_of(place / "as-it-is-seed0") == sha_of(
        room.place_of(folder, best.number)
    )
    mean = sum(rows[0]["bpb"]) / 2
    command.main(["frontier", str(folder), "--json"])
    assert json.loads(capsys.readouterr().out)[0]["bpb_of_seeds"]["mean"] == pytest.approx(mean)
    command.main(["export-seed", str(folder), "--out-dir", str(out)])
    seed = read_seed(out)
    assert seed.trial == best and seed.trials == trials and seed.rung_tokens == 2 * STEP
    assert seed.spec.train["lr"] == best.settings["lr"] and (out / "results.json").exists()
    assert sha_of(out) == json.loads((out / "seed.json").read_text())["sha256"]
    plan = seed.spec.plan(Candidates(search).vocab_size)
    assert plan == Candidates(search).plan(best.settings), "spec.toml makes the same run"
    with pytest.raises(ConfigError, match="there already"):
        command.main(["export-seed", str(folder), "--out-dir", str(out)])
    with pytest.raises(ConfigError, match="candidate 7 has not finished; on the front are"):
        command.main(["export-seed", str(folder), "--candidate", "7", "--out-dir", str(tmp_path / "b")])
    hopped_from(out, tmp_path, capsys, monkeypatch)


def hopped_from(seed, tmp_path, capsys, monkeypatch):
    """A hop of the seed: foretold before its first step, killed once, reported on one page."""
    monkeypatch.setattr(hop, "N_DRAWS", 50)
    monkeypatch.setattr(hop, "ANCHORS", ((1 / 10, 2), (1 / 5, 1), (1 / 2, 1)))
    folder = tmp_path / "hop"

    def listener(event):
        if isinstance(event, Trained) and event.step == 5 and (folder / "prediction.json").exists():
            raise KeyboardInterrupt

    wanted = hop.Wanted(700e3, 3600.0, 4.0)
    with pytest.raises(KeyboardInterrupt):
        hop.run_hop(read_seed(seed), wanted, folder, [listener])
    before = (folder / "prediction.json").read_bytes()
    assert json.loads(before)["bpb"], "stored while the hop is being trained"
    command.main(
        ["hop", str(seed), "--to", "700k", "--budget", "1h", "--times", "4", "--out-dir", str(folder)]
    )
    told = capsys.readouterr().out
    assert (folder / "prediction.json").read_bytes() == before
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
    tokens = 200 * seed.train.batch_size * 256
    long = larger.lengthened(plan, seed, 10 * tokens, 0.2)
    step, before = long.train.batch_size * long.train.grad_accum, seed.train.batch_size
    assert long.train.max_steps * step * 256 == pytest.approx(10 * tokens, rel=0.02)
    assert 3 <= long.train.max_steps / 200 <= 4 and 2.5 <= step / before <= 3.3
    assert long.train.eval_every == round(0.2 * long.train.max_steps)
    items = {name: (a, b) for name, a, b in larger.checklist(seed, long)}
    assert items["tokens"][1].endswith("(10 times)") and items["heads"][1].endswith(" of 64")
    with pytest.raises(ConfigError, match="not even one layer"):
        larger.scaled(seed, 2e4)
