"""A start from counts: what it counts, its gradient, where it comes to, and runs that begin so."""

import dataclasses
import hashlib
import itertools
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

from microgpt.common.errors import ConfigError
from microgpt.core import native
from microgpt.model import GPT, Batch, ModelConfig
from microgpt.planning.outline import before_steps
from microgpt.runs.events import Evaluated, LearnedBigrams, Listeners, Told
from microgpt.runs.spec import Spec
from microgpt.training import assemble
from microgpt.training.bigrams import count_pairs, descend, learn_bigrams, loss_and_grad, refuse_too_long
from microgpt.training.clock import Clock
from microgpt.training.horizon import planned_steps, run_s
from microgpt.training.run import resume_run, train_run
from tests.training.fakes import FakeTime
from tests.training.toys import KILLED, checkpoint_bytes, ended_by_kill, small

V = 23
OWN_HEAD = {"tied": False, "init_out": "zero", "init_head_std": 1e-5, "embedding_norm": True}
TABLE = ModelConfig(2, 2, 32, 8, V, **OWN_HEAD)


def text_of(ids, vocab_size=V):
    """What `count_pairs` reads of a token file."""
    ids = np.asarray(ids, np.uint16)
    return SimpleNamespace(ids=ids, n_tokens=len(ids), vocab_size=vocab_size, offsets=np.zeros(1, np.uint64))


def some_ids(n=400, seed=0):
    """A text in which some tokens are frequent and one never comes."""
    return (np.random.default_rng(seed).random(n) ** 2 * (V - 1)).astype(int)


def test_pairs_are_counted_as_they_come():
    ids = some_ids()
    pairs = count_pairs(text_of(ids))
    table = np.zeros((V, V))
    for a, b in itertools.pairwise(ids):
        table[a, b] += 1
    found = np.zeros((V, V))
    for a in range(V):
        here = slice(pairs.ends[a], pairs.ends[a + 1])
        found[a, pairs.nexts[here]] = pairs.counts[here]
    np.testing.assert_array_equal(found, table)
    assert pairs.ends[V] == pairs.ends[V - 1] == len(pairs.nexts), "the last token never comes"


def test_blocks_add_up_and_documents_that_do_not_see_each_other_have_no_pair_between_them(monkeypatch):
    stream = text_of(some_ids())
    stream.offsets = np.array([0, 7, 100, 399], np.uint64)
    whole, apart = count_pairs(stream), count_pairs(stream, across=False)
    monkeypatch.setattr("microgpt.training.bigrams.BLOCK", 33)
    for pairs, across in ((whole, True), (apart, False)):
        again = count_pairs(stream, across)
        assert all(np.array_equal(a, b) for a, b in zip(pairs, again, strict=True))
    assert whole.counts.sum() == 399 and apart.counts.sum() == 396


@pytest.mark.parametrize(
    "others", [{}, {"logit_cap": 3.0}, {"embedding_norm": False}, {"bias": "head"}, {"norm": "layernorm"}]
)
@pytest.mark.parametrize("rows", [1 << 22, 5 * V])
def test_the_gradient_is_that_of_the_whole_model_while_its_branches_are_zero(others, rows, monkeypatch):
    monkeypatch.setattr("microgpt.training.bigrams.LOGITS", rows)
    ids = some_ids(65)
    models = []
    for _ in range(2):
        model = GPT(ModelConfig(2, 2, 32, 64, V, **(OWN_HEAD | others)), np.float64).init(3)
        model.params["head.weight"][:] = np.random.default_rng(1).normal(size=(V, 32))
        models.append(model)
    whole, table = models
    batch = Batch(ids[None, :-1].astype(np.int32), ids[None, 1:].astype(np.int32))
    nats, n = whole.loss_and_grad(batch)
    assert loss_and_grad(table, count_pairs(text_of(ids))) == pytest.approx(nats, rel=1e-6) and n == 64
    for name in ("wte.weight", "head.weight"):
        np.testing.assert_allclose(table.grads[name], whole.grads[name], rtol=0, atol=1e-6)


def test_it_comes_near_to_what_pairs_can_tell_and_leaves_the_rest_alone():
    ids = some_ids(4000)
    model = GPT(TABLE).init(0)
    before = {name: model.params[name].copy() for name in model.params}
    told = list(descend(model, count_pairs(text_of(ids)), 60))
    table = np.zeros((V, V))
    np.add.at(table, (ids[:-1], ids[1:]), 1)
    rows = np.maximum(table.sum(1, keepdims=True), 1)
    floor = -(table[table > 0] * np.log((table / rows)[table > 0])).sum() / table.sum()
    assert told[0] == pytest.approx(math.log(V), abs=1e-3) and floor < told[-1] < floor + 0.03
    changed = {name for name in before if not np.array_equal(before[name], model.params[name])}
    assert changed == {"wte.weight", "head.weight"} and not model.grads.flat.any()


def test_threads_change_nothing():
    pairs, found = count_pairs(text_of(some_ids(4000))), set()
    for threads in (1, 2):
        native.set_threads(threads)
        model = GPT(TABLE).init(0)
        list(descend(model, pairs, 3))
        found.add(hashlib.sha256(model.params.flat.tobytes()).hexdigest())
    native.set_threads(1)
    assert len(found) == 1


def test_what_takes_long_is_told():
    seconds, lines = iter(range(0, 1000, 4)), []
    counted = learn_bigrams(
        GPT(TABLE).init(0), count_pairs(text_of(some_ids())), 7, lambda: next(seconds), lines.append
    )
    assert lines[0] == "embedding and head learn what follows each of 23 tokens ..."
    assert [line.split(":")[0] for line in lines[1:]] == ["pass 3 of 7", "pass 6 of 7"]
    assert counted.passes == 7 and 0 < counted.loss_nats < math.log(V) and counted.dt_s > 28
    assert counted.told().startswith("bigrams: pass 7, the last, found 2.")


def test_passes_that_would_not_end_in_time_are_refused_after_the_first_or_before():
    def begin(left_s):
        seconds = itertools.count(0, 4)
        pairs = count_pairs(text_of(some_ids()))
        return learn_bigrams(GPT(TABLE).init(0), pairs, 7, lambda: next(seconds), lambda text: None, left_s)

    assert begin(28).passes == 7
    seconds, tokens = itertools.count(0, 4), SimpleNamespace(vocab_size=V)
    model = GPT(TABLE).init(0)
    refuse_too_long(model, tokens, 7, lambda: next(seconds), 28)
    assert not model.grads.flat.any()
    with pytest.raises(ConfigError, match=r"^--bigram-passes 7 would take 28s, and 27s are left"):
        refuse_too_long(model, tokens, 7, lambda: next(seconds), 27)
    with pytest.raises(ConfigError, match=r"^--bigram-passes 7 would take 28s, and 27s are left; give more"):
        begin(27)


# ------------------------------------------------------------------------------------------ runs


def counted(text, steps, **settings):
    return small(text, steps, **(OWN_HEAD | {"bigram_passes": 30, "lr": 1e-4} | settings))


def test_they_are_refused_before_anything_else_takes_time(text, tmp_path, monkeypatch):
    monkeypatch.setattr(assemble, "model_findings", None)
    with pytest.raises(ConfigError, match=r"--bigram-passes 30 would take 30s, and 1[0-9]s are left"):
        train_run(counted(text, 2, max_time="20s"), tmp_path / "run", [], now=FakeTime(tick=1))
    assert not (tmp_path / "run").exists()


def test_a_run_begins_with_what_pairs_tell(text, tmp_path):
    first = {}
    for passes in (0, 30):
        heard = []
        train_run(counted(text, 2, bigram_passes=passes), tmp_path / f"r{passes}", [heard.append])
        assert [event.passes for event in heard if isinstance(event, LearnedBigrams)] == [30] * (passes > 0)
        assert not any("first loss" in event.text for event in heard if isinstance(event, Told))
        first[passes] = next(event.bpb for event in heard if isinstance(event, Evaluated))
    assert first[30] < 0.7 * first[0]


@pytest.mark.parametrize("lr", [0.5, 1e-9])
def test_a_run_that_ends_above_what_pairs_told_says_so(text, tmp_path, capsys, lr):
    outcome = train_run(counted(text, 3, lr=lr, min_lr=lr, warmup_steps=1), tmp_path / "run")
    is_worse = outcome.metrics["val_bpb"] > outcome.metrics["bigrams_bpb"]
    assert is_worse == ("warning  pairs of tokens alone told" in capsys.readouterr().out)
    assert is_worse or lr < 0.5


def test_what_goes_back_to_the_beginning_has_learned_them_too(text, tmp_path):
    plan = counted(text, 2).plan()
    prepared = assemble.open_corpus(plan)
    plan = dataclasses.replace(plan, model=dataclasses.replace(plan.model, vocab_size=281))
    job = assemble.start(plan, prepared, tmp_path, Clock(), Listeners()).job
    begun = job.model.params.flat.copy()
    job.model.params.flat[:] = 7
    job.fill()
    job.log.close()
    np.testing.assert_array_equal(job.model.params.flat, begun)


def test_a_plan_counts_the_time_before_the_first_step(text, tmp_path):
    plan = counted(text, 2, bigram_passes=9).plan(281)
    ticks = itertools.count()
    clock = Clock(now=lambda: float(next(ticks)))
    timing = assemble.measured(plan, assemble.open_corpus(plan), clock)
    assert timing.start_s >= 9 and timing.start_s % 9 == 0
    assert "before the steps" in before_steps(timing)[0]
    free = dataclasses.replace(timing, start_s=0.0)
    assert before_steps(free) == []
    assert run_s(5, timing, plan.train) - run_s(5, free, plan.train) == timing.start_s
    assert planned_steps(1000.0, timing, plan.train) < planned_steps(1000.0, free, plan.train)


def test_a_run_that_was_killed_ends_with_the_same_bits(text, tmp_path):
    spec = counted(text, 8, save_every=2)
    straight = train_run(spec, tmp_path / "straight")
    assert ended_by_kill(KILLED, json.dumps(spec.to_dict()), tmp_path / "killed", 5)
    resumed = resume_run(tmp_path / "killed", Spec())
    assert resumed.step == 8 and checkpoint_bytes(straight) == checkpoint_bytes(resumed)


def test_the_recipe_sprint_is_fast_from_counts():
    fast, sprint = (Spec.of("10m-untied", recipe=name).plan().train for name in ("fast", "sprint"))
    assert (fast.bigram_passes, fast.embedding_rate, fast.muon_lr) == (0, 1, 0.02)
    assert (sprint.bigram_passes, sprint.embedding_rate, sprint.muon_lr) == (60, 0.1, 0.04)
    assert (fast.shallow_blocks, sprint.shallow_blocks, sprint.shallow_share) == (0, 2, 0.7)
    assert (
        sprint.lr == fast.lr and Spec.of("10m-untied", recipe="sprint", lr=4e-3).plan().train.muon_lr == 0.02
    )
    with pytest.raises(
        ConfigError,
        match=r"^--recipe sprint, which has --bigram-passes 60: a tied head .* a preset such as 10m-untied",
    ):
        Spec.of("10m", recipe="sprint").plan()
    two = {"recipe": "sprint", "n_layer": 2}
    with pytest.raises(
        ConfigError, match=r"^--recipe sprint, which has --shallow-blocks 2: expected fewer than"
    ):
        Spec.of("10m-untied", **two).plan()
    assert Spec.of("10m-untied", **two, shallow_blocks=0).plan().train.bigram_passes == 60


@pytest.mark.parametrize(
    "settings, told",
    [
        ({"preset": "1m"}, "a tied head"),
        ({"preset": "10m-untied", "init_out": "scaled"}, "--init-out zero"),
        ({"preset": "10m-untied", "look_back": 2}, "a row is not of its token alone"),
    ],
)
def test_where_it_cannot_be_it_is_refused(settings, told):
    with pytest.raises(ConfigError, match=f"--bigram-passes 5: .*{told}"):
        Spec.of(**settings, bigram_passes=5).plan()
