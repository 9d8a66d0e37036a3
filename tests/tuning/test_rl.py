"""Learning from rewards: golden numbers, gradients, draws, a run that earns more, resumed to the bit."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest

from microgpt.commands import rl as command
from microgpt.commands.rl import main as rl
from microgpt.common.errors import ConfigError, DataError, MicrogptError
from microgpt.decoding.decoder import Decoder, Request, answer_all, next_logits
from microgpt.decoding.sampler import log_softmax
from microgpt.decoding.several import drawn, several_answers
from microgpt.files.records import read_json
from microgpt.model import GPT, IGNORED, ModelConfig
from microgpt.model.leash import Leash
from microgpt.runs.checkpoint import load_model
from microgpt.runs.events import Empty, Evaluated, Trained
from microgpt.runs.metrics import MetricsLog, read_metrics
from microgpt.training.identity import differences
from microgpt.training.run import train_run
from microgpt.tuning.answers import Answered, rows_of
from microgpt.tuning.rewards import function_of
from microgpt.tuning.rl import (
    against_others,
    best_alone,
    rl_spec,
)
from tests.training.fakes import StopAt
from tests.training.toys import TEXT, checkpoint_bytes, small, train_and_kill
from tests.tuning.test_sft import FIXED

WORTH = """
def worth(prompt, answer):
    return answer.count("e")

def asked(prompt, answer):
    return float(prompt.startswith("Say "))

def nothing(prompt, answer):
    return None
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a trained toy, conversations and a file of rewards, entered for all tests."""
    where = tmp_path_factory.mktemp("rl")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(where)
        patch.setenv("MICROGPT_DATA_DIR", str(where / "data"))
        patch.setenv("XDG_CACHE_HOME", str(where / "cache"))
        Path("text.txt").write_text(TEXT)
        talk = [[{"role": "user", "content": f"Say {n}."}, {"role": "assistant", "content": f"It is {n}."}]
                for n in range(90)]  # fmt: skip
        Path("talk.jsonl").write_text("\n".join(json.dumps({"messages": chat}) for chat in talk))
        Path("worth.py").write_text(WORTH)
        train_run(small(where / "text.txt", 4, merges=60, seq_len=96), "runs/parent", [])
        yield where


def spec_of(steps, told=None, **settings):
    told = {"reward": "worth.py:worth", "answers": 4, "answer_tokens": 12} | (told or {})
    values = FIXED | {"max_steps": steps, "batch_size": 8, "eval_every": 100, "data": ["talk.jsonl"]}
    return rl_spec("parent", values | settings, **told)


def facts_of(heard, name):
    steps = [event for event in heard if isinstance(event, (Trained, Empty))]
    return [event.facts[name] for event in steps if name in event.facts]


# -------------------------------------------------------------------------------- advantages and the loss


def test_each_reward_is_compared_with_the_mean_of_the_others():
    rewards = np.array([[1.0, 0.0, 0.5, 0.1], [0.0, 0.0, 1.0, 1.0]])
    golden = [[0.8, -0.533333, 0.133333, -0.4], [-0.666667, -0.666667, 0.666667, 0.666667]]
    assert against_others(rewards) == pytest.approx(np.array(golden), abs=1e-6)
    for row, its in zip(rewards, against_others(rewards), strict=True):
        for i, value in enumerate(row):
            assert its[i] == pytest.approx(value - np.delete(row, i).mean())


def test_the_first_of_the_best_is_learned_and_nothing_where_all_are_alike():
    rewards = np.array([[0.0, 2.0, 2.0], [1.0, 1.0, 1.0], [0.0, -1.0, -2.0]])
    assert best_alone(rewards).tolist() == [[0, 1, 0], [0, 0, 0], [1, 0, 0]]


@pytest.mark.parametrize(("cap", "forbidden"), [(0.0, None), (4.0, [3, 11])])
def test_the_loss_is_the_formula_and_its_gradient_that_of_the_loss(cap, forbidden):
    """-sum A ln q + beta sum KL, written out; central differences through the model, in float64."""
    config = ModelConfig(2, 2, 8, 12, 17, init_std=0.3, logit_cap=cap)
    model, other = (GPT(config, np.float64).init(seed) for seed in (1, 2))
    draw = np.random.default_rng(0)
    allowed = np.setdiff1d(np.arange(17), forbidden or []).astype(np.int32)
    answered = [
        Answered(draw.integers(0, 17, n).astype(np.int32), draw.choice(allowed, m))
        for n, m in ((2, 5), (4, 3), (2, 2), (4, 8))
    ]
    batch = rows_of(answered)._replace(forbidden=forbidden and np.array(forbidden))
    advantages = against_others(np.array([[1.0, 0.0], [0.2, 0.3]])).reshape(-1)
    weights = advantages[:, None] * np.ones(batch.ids.shape)
    batch = batch._replace(weights=weights, leash=Leash(0.7, other.reader(batch)))

    def log_p(of):
        logits = of.logits(batch.ids)
        return logits - np.log(np.exp(logits).sum(-1, keepdims=True))

    def loss():
        ours, theirs = log_p(model), log_p(other)
        total = 0.0
        for row, one in enumerate(answered):
            for t, token in enumerate(one.answer, len(one.prompt) - 1):
                p = np.exp(ours[row, t])
                total -= advantages[row] * (ours[row, t, token] - np.log(p[allowed].sum()))
                total += 0.7 * (p * (ours[row, t] - theirs[row, t])).sum()
        return total

    nats, n = model.loss_and_grad(batch)
    assert n == 18 == (batch.targets != IGNORED).sum() and nats == pytest.approx(loss(), abs=1e-10)
    p, ours, theirs = np.exp(log_p(model)), log_p(model), log_p(other)
    kl = (p * (ours - theirs)).sum(-1)[batch.targets != IGNORED]
    assert model.facts["kl"] == pytest.approx(kl.mean()) and kl.min() > 0
    flat = model.params.flat
    for i in range(0, flat.size, 37):
        sides = []
        for step in (1e-5, -1e-5):
            flat[i] += step
            sides.append(loss())
            flat[i] -= step
        assert (sides[0] - sides[1]) / 2e-5 == pytest.approx(model.grads.flat[i], abs=1e-6)


def test_the_numbers_of_single_and_double_precision_agree():
    config = ModelConfig(2, 2, 8, 12, 17, init_std=0.3)
    row = rows_of([Answered(np.arange(4, dtype=np.int32), np.arange(8, dtype=np.int32))])
    found = []
    for dtype in (np.float32, np.float64):
        model, other = (GPT(config, dtype).init(seed) for seed in (1, 2))
        batch = row._replace(weights=-0.4 * np.ones(row.ids.shape), leash=Leash(2.0, other.reader(row)))
        found.append((model.loss_and_grad(batch)[0], model.grads.flat.copy()))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-5)
    assert found[0][1] == pytest.approx(found[1][1], abs=1e-5)


def test_the_policy_that_learns_is_the_one_that_answered(place, monkeypatch):
    """Of each token of the answers of a step: what decoding gave it, and what the loss of the step says."""
    seen, whole = [], GPT.loss_and_grad

    def spied(model, batch, *others):
        losses, of_all = model.token_losses(batch), model.token_losses(batch._replace(forbidden=None))
        for row, t in np.argwhere(batch.targets != IGNORED)[::5]:
            decoder = Decoder(model, tokenizer)
            (logits,) = next_logits([(decoder, batch.ids[row, : t + 1])])
            drawn_with = -log_softmax(logits)[batch.targets[row, t]]
            seen.append((drawn_with, losses[row, t], of_all[row, t]))
        found = whole(model, batch, *others)
        weighted = (batch.weights * losses)[batch.targets != IGNORED].sum()
        seen.append((weighted, found[0], math.inf))
        return found

    tokenizer = load_model("parent")[1]
    monkeypatch.setattr(GPT, "loss_and_grad", spied)
    train_run(spec_of(1, {"kl": 0.0}), "policy", [])
    drawn_with, learned, of_all = np.array(seen).T
    assert len(seen) > 4 and learned == pytest.approx(drawn_with, abs=1e-4)
    assert (of_all - drawn_with).min() > 0.01, "markers have some of the probability, so it matters"


# -------------------------------------------------------------------------------- answers


def test_draws_have_the_shares_that_the_model_gives_them():
    logits = np.log(np.array([0.5, 0.0, 0.3, 0.2]) + 1e-300)[None].repeat(1000, 0)
    logits[:, 1] = -np.inf
    tokens = drawn(logits, (np.arange(1000) + 0.5) / 1000, 1.0)
    assert np.bincount(tokens, minlength=4).tolist() == [500, 0, 300, 200]
    sharp = np.array([0.5, 0.0, 0.3, 0.2]) ** 2
    tokens = drawn(logits, (np.arange(1000) + 0.5) / 1000, 0.5)
    assert np.abs(np.bincount(tokens, minlength=4) - 1000 * sharp / sharp.sum()).max() < 1
    assert drawn(logits, np.full(1000, 0.99), 0.0).tolist() == [0] * 1000
    with pytest.raises(MicrogptError, match="not finite"):
        drawn(logits * np.nan, np.zeros(1000), 1.0)


def test_answers_made_together_are_those_made_one_by_one(place, monkeypatch):
    model, tokenizer, _ = load_model("parent")
    words = ("The hat", "The boat of number 7 is", "The")
    prompts = [np.array([tokenizer.special_id("<|bos|>"), *tokenizer.encode(w)], np.int32) for w in words]
    alone = dict(answer_all(model, tokenizer, [Request(prompt, max_tokens=9) for prompt in prompts]))
    ask = (model, tokenizer, prompts, [9, 9, 9], 2)
    for its, number in zip(several_answers(*ask, 0.0, 1), range(3), strict=True):
        assert [one.ids for one in its] == [alone[number].ids] * 2
        assert its[0].is_whole == (alone[number].finish == "stop")
    once, again, other = (several_answers(*ask, 1.0, key) for key in (1, 1, 2))
    assert once == again != other and once[0][0] != once[0][1], "each has draws of its own"
    long = np.resize(prompts[1], 94)
    ((answer,),) = several_answers(model, tokenizer, [long], [50], 1, 0.0, 1)
    assert len(answer.ids) == 3 or answer.is_whole, "the window is full"
    monkeypatch.setattr("microgpt.decoding.several.MOST_ROWS", 2)
    parts = several_answers(*ask, 0.0, 1)
    assert [one.ids for its in parts for one in its] == [alone[n].ids for n in (0, 0, 1, 1, 2, 2)]


# -------------------------------------------------------------------------------- runs


@pytest.mark.parametrize(
    ("name", "value"), [("advantage", "baseline"), ("advantage", "rloo"), ("method", "exit")]
)
def test_a_run_earns_more_than_at_its_beginning(place, name, value):
    heard = []
    train_run(spec_of(20, {name: value}, lr=0.01, batch_size=16), value, [heard.append])
    rewards, kl = facts_of(heard, "reward"), facts_of(heard, "kl")
    assert np.mean(rewards[-5:]) > 1.5 * np.mean(rewards[:5])
    assert kl[0] == pytest.approx(0, abs=1e-6) and kl[-1] > 0.01
    assert facts_of(heard, "ended_share")[0] <= 1 and facts_of(heard, "answer_tokens")[0] > 0


def test_a_tighter_leash_holds_it_nearer_to_its_parent(place):
    apart = []
    for kl in (0.1, 50.0):
        heard = []
        train_run(spec_of(10, {"kl": kl}, lr=0.01), f"leash-{kl}", [heard.append])
        apart.append(facts_of(heard, "kl")[-1])
    assert apart[1] < apart[0] / 4


def test_rewards_of_a_step_that_is_skipped_do_not_move_the_baseline(place, monkeypatch):
    heard, calls, whole = [], [], GPT.loss_and_grad

    def poisoned(model, *others):
        found = whole(model, *others)
        calls.append(model)
        if len(calls) == 2:
            model.grads.flat[:] = np.nan
        return found

    monkeypatch.setattr(GPT, "loss_and_grad", poisoned)
    train_run(spec_of(3, {"advantage": "baseline"}), "poisoned", [heard.append])
    (first, last), baselines = facts_of(heard, "reward"), facts_of(heard, "baseline")
    assert first != last and baselines == pytest.approx([first, first + 0.05 * (last - first)], abs=1e-9)


def test_a_step_in_which_no_answer_is_better_than_another_changes_nothing(place, monkeypatch):
    """Neither by the leash nor by momentum, which the two steps before left."""
    heard, steps = [], itertools.count()
    alike = lambda rewards: best_alone(rewards) * (next(steps) < 2)  # noqa: E731
    monkeypatch.setattr("microgpt.tuning.rl.best_alone", alike)
    spec = spec_of(4, {"method": "exit", "kl": 1.0}, save_every=2, keep=9)
    last = train_run(spec, "alike", [heard.append]).checkpoint
    for name in ("model.safetensors", "optimizer.safetensors"):
        assert (last / name).read_bytes() == (last.parent / "step_00000002" / name).read_bytes()
    kinds = [type(event) for event in heard if isinstance(event, (Trained, Empty))]
    assert kinds == [Trained, Trained, Empty, Empty]
    told = next(event for event in heard if isinstance(event, Empty))
    assert "all answers to each prompt are worth the same" in told.told() and told.facts["reward"] > 0


@pytest.mark.parametrize(
    ("told", "settings"),
    [({"advantage": "baseline"}, {}), ({"method": "exit", "kl": 0.0}, {"lora_rank": 2})],
    ids=["all weights", "adapters"],
)
def test_a_stopped_run_goes_on_to_the_bit(place, told, settings):
    name = "adapted" if settings else "whole"
    spec, heard = spec_of(6, told, **settings), []
    straight = train_run(spec, f"straight-{name}", [heard.append])
    stop, again = StopAt(3), []
    train_run(spec, f"cut-{name}", [stop], stop=stop)
    assert checkpoint_bytes(train_run(spec, f"cut-{name}", [again.append])) == checkpoint_bytes(straight)
    assert facts_of(heard, "baseline")[-3:] == facts_of(again, "baseline")


def test_a_killed_run_goes_on_to_the_bit(place):
    train_and_kill(spec_of(6, save_every=2), "killed", 5)
    straight, heard = train_run(spec_of(6, save_every=2), "unharmed", []), []
    assert checkpoint_bytes(
        train_run(spec_of(6, save_every=2), "killed", [heard.append])
    ) == checkpoint_bytes(straight)
    assert 2 <= len(facts_of(heard, "reward")) <= 4, "it went on from a checkpoint"
    now = read_json(straight.checkpoint / "state.json")
    before = {name: value for name, value in now.items() if name != "arithmetic_of_source"}
    assert differences(before, now) == [
        "batches were made by version 1 of the arithmetic of their source, now by 2"
    ], "of what drew otherwise"


def test_what_cannot_be_is_refused(place):
    for told, settings, line in (
        ({"reward": "beauty"}, {}, "--reward beauty: expected text, exam or FILE.py:function"),
        ({"reward": "gone.py:worth"}, {}, "there is no such file"),
        ({"reward": "worth.py:gone"}, {}, "there is no function gone"),
        ({"reward": "exam", "families": "sums"}, {}, "--families sums: expected greetings"),
        ({"families": "order"}, {}, "--families order: those are of --reward exam"),
        ({"answers": 3}, {}, "--batch-size 8 answers a step: expected a multiple of --answers 3"),
        ({"answers": 1}, {}, "--answers 1: rloo compares"),
        ({}, {"grad_accum": 2}, "--grad-accum 2"),
        ({"reward": "worth.py:nothing"}, {}, "it gave None, expected a finite number"),
        ({"method": "luck"}, {}, "expected reinforce or exit"),
        ({"temperature": 0.7}, {}, "--temperature 0.7: expected 1 with --method reinforce"),
        ({"method": "exit", "temperature": 0.0}, {}, "--temperature 0: expected 1"),
    ):
        with pytest.raises(ConfigError, match=line):
            train_run(spec_of(2, told, **settings), "refused", [])
    with pytest.raises(DataError, match="no answer of an assistant in the training text"):
        train_run(spec_of(2, data=["text.txt"]), "refused", [])


def test_a_function_sees_what_the_user_said_and_may_not_change_on_the_way(place):
    heard = []
    train_run(spec_of(1, {"reward": "worth.py:asked"}), "asked", [heard.append])
    assert facts_of(heard, "reward") == [1.0]
    stop = StopAt(1)
    train_run(spec_of(2), "cut", [stop], stop=stop)
    Path("worth.py").write_text(WORTH + "\n")
    with pytest.raises(ConfigError, match=r"worth\.py: not the file that the run began with"):
        rl(["--resume", "cut"])
    Path("worth.py").write_text(WORTH)
    assert function_of("worth.py:worth")("", "eeee") == 4


def test_the_best_are_learned_with_dropout(place, monkeypatch):
    """Fewer rows than windows of a step, each with a key of its own."""
    seen, whole = [], GPT.loss_and_grad

    def spied(model, batch, keys=None, *others):
        seen.append((len(batch.ids), len(keys)))
        return whole(model, batch, keys, *others)

    monkeypatch.setattr(GPT, "loss_and_grad", spied)
    spec = spec_of(2, {"method": "exit"}, dropout=0.1)
    assert train_run(spec, "dropped", []).step == 2
    assert all(rows == keys for rows, keys in seen) and min(seen)[0] < spec.train["batch_size"]


def test_the_command(place, capsys):
    with pytest.raises(ConfigError, match="rewards need --from RUN"):
        rl(["--from", "parent"])
    words = ["--from", "parent", "--reward", "exam", "--families", "order,name", "--threads", "1"]
    words += ["--max-steps", "2", "--batch-size", "4", "--answers", "2", "--eval-every", "1"]
    assert rl([*words, "--out-dir", "runs/exam"]) == 0
    shown = capsys.readouterr().out
    assert "exam (order,name); reinforce against rloo, 2 prompts a step, 2 answers each, KL x 0.1" in shown
    assert shown.count("\n       ") >= 3 and "bits/byte" in shown
    for flag, value in (("--from", "parent"), ("--reward", "text"), ("--kl", "0.3")):
        with pytest.raises(ConfigError, match=f"{flag}: cannot be changed where a run goes on"):
            rl(["--resume", "exam", flag, value])
    assert rl(["--resume", "exam", "--max-steps", "3"]) == 0


def test_the_table_counts_each_step_however_seldom_steps_are_written_down(tmp_path):
    """All empty steps are; of others as many have to be."""
    with MetricsLog(tmp_path / "log", every=4) as log:
        for step in range(1, 9):
            facts = {"reward": float(step)}
            if step % 2:
                log.hear(Empty(step, step, facts=facts))
            else:
                log.hear(Trained(step, 1.0, 1e-3, 1.0, 9, 1.0, 9.0, 1.0, 1.0, facts=facts))
        log.hear(Evaluated(8, 1.0, 2.0, None, 1, 1, 1, 1.0, 1.0))
    assert command.table(read_metrics(tmp_path / "log"))[-1].split() == ["8", "4.500", "2.0000"]


def test_the_table_at_the_end_is_that_of_a_run_that_was_never_stopped(place, capsys):
    words = ["--from", "parent", "--reward", "worth.py:worth", "--data", "talk.jsonl", "--threads", "1"]
    words += ["--max-steps", "5", "--batch-size", "4", "--answers", "2", "--answer-tokens", "9"]
    words += ["--eval-every", "2", "--lr", "0.01"]
    assert rl([*words, "--out-dir", "runs/never-stopped"]) == 0
    whole, stop = capsys.readouterr().out.split("\n   steps ")[1], StopAt(3)
    spec = command.spec_from(command.parser().parse_args(words))
    train_run(spec, "runs/stopped", [stop], stop=stop)
    assert rl(["--resume", "stopped"]) == 0
    assert capsys.readouterr().out.split("\n   steps ")[1] == whole and whole.count("\n") == 5
    assert rl(["--resume", "stopped"]) == 0 and capsys.readouterr().out.endswith(whole)
