"""Fine-tuning: what it learns from, resumed to the bit with replay and adapters, both held-out losses."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from microgpt.commands.sft import main as sft
from microgpt.common.errors import CheckpointError, ConfigError, DataError
from microgpt.evaluation.chat_probe import knows_chats
from microgpt.files.records import read_json
from microgpt.model import IGNORED
from microgpt.runs.checkpoint import load_model, read_config
from microgpt.runs.events import Evaluated, EvaluatedBeside, Trained
from microgpt.runs.kept import MODEL_FILES, find_checkpoint
from microgpt.runs.spec import Plan, Spec
from microgpt.training import assemble
from microgpt.training.run import train_run
from microgpt.tuning import sft as sft_room
from microgpt.tuning.sft import rank_for, sft_spec
from tests.training.fakes import StopAt
from tests.training.toys import (  # noqa: F401
    checkpoint_bytes,
    small,
    text,
    train_and_kill,
    trained_lines,
)

FIXED = {"threads": "1", "sample_every": 0, "log_every": 1, "eval_tokens": 64}


@pytest.fixture
def parent(text):  # noqa: F811
    chats = [
        [("user", f"Say {n}."), ("assistant", f"It is {n}."), ("user", "And?"), ("assistant", "No.")]
        for n in range(90)
    ]
    lines = [json.dumps({"messages": [{"role": r, "content": c} for r, c in chat]}) for chat in chats]
    Path("talk.jsonl").write_text("\n".join(lines))
    return train_run(small(text, 4, merges=60, seq_len=96), "runs/parent", [])


def spec_of(steps=6, replay=(), share=0.0, data="talk.jsonl", **settings):
    values = FIXED | {"data": [data], "max_steps": steps, "eval_every": 4} | settings
    return sft_spec("parent", values, replay, share)


def test_only_what_the_assistant_says_is_learned(parent, monkeypatch):
    heard, seen = [], []
    whole = assemble.GPT.loss_and_grad
    monkeypatch.setattr(
        assemble.GPT,
        "loss_and_grad",
        lambda self, batch, *others: seen.append(batch) or whole(self, batch, *others),
    )
    train_run(spec_of(2), "a", [heard.append])
    tokenizer = load_model("parent")[1]
    user, end = (tokenizer.special_id(name) for name in ("<|user|>", "<|end|>"))
    for batch in seen:
        learned = batch.targets[batch.targets != IGNORED]
        assert user not in learned and (learned == end).any()
        words = tokenizer.decode(learned).decode()
        assert "It is" in words and "Say" not in words and "And" not in words
        assert batch.starts is not None, "conversations do not see each other"
    assert len([event for event in heard if isinstance(event, Trained)]) == 2


def test_who_learned_answers_alone_is_known_to_converse(parent):
    def knows(place):
        path = find_checkpoint(place, MODEL_FILES, say=lambda line: None)
        return knows_chats(*load_model(place)[:2], Plan.from_dict(read_config(path)))

    train_run(spec_of(2), "answers", [])
    train_run(Spec.of(parent="answers", data="text.txt", max_steps=1, **FIXED), "on", [])
    train_run(small("talk.jsonl", 40, merges=60, seq_len=96, lr=0.02), "chats", [])
    assert [knows(name) for name in ("parent", "answers", "on", "chats")] == [False, True, True, True]


def test_what_has_learned_nothing_does_not_seem_to_converse(parent):
    model, tokenizer, _ = load_model("parent")
    plan = Plan.from_dict(read_config(find_checkpoint("parent", MODEL_FILES)))
    assert not any(knows_chats(model.init(seed), tokenizer, plan) for seed in range(20))


def test_it_takes_from_its_parent_what_is_not_given(parent):
    spec = spec_of(2)
    assert spec.train["lr"] == pytest.approx(0.001) and spec.train["batch_size"] == 2
    assert spec.train["packing"] == "documents" and spec.train["stop_after"] == 3
    assert "epochs" in sft_spec("parent", {"data": "talk.jsonl"}).train and "epochs" not in spec.train
    assert spec_of(2, lr=0.5).train["min_lr"] == 0.05
    assert [rank_for(n) for n in (1e6, 1e9, 2e9, 3e9, 1e11)] == [8, 16, 16, 32, 32]
    assert spec.plan().train.optimizer == "adam", "its own, whatever its parent had"


def test_a_dozen_chats_are_learned_for_a_hundred_steps_unless_a_length_is_typed(parent, monkeypatch, capsys):
    lines = Path("talk.jsonl").read_text().splitlines()
    Path("dozen.jsonl").write_text("\n".join(lines[:12]))
    words = [
        "--from",
        "parent",
        "--data",
        "dozen.jsonl",
        "--threads",
        "1",
        "--eval-every",
        "0",
        "--stop-after",
        "0",
    ]
    sft([*words, "--out-dir", "few"])
    out = capsys.readouterr().out
    assert "plan     100 steps of " in out and "epochs; so little text needs as many" in out
    sft([*words, "--out-dir", "typed", "--epochs", "3"])
    out = capsys.readouterr().out
    assert "plan     100 steps" not in out and "needs as many" not in out
    sft(["--resume", "typed", "--epochs", "4"])
    assert "more steps, from" in capsys.readouterr().out


def test_as_much_small_talk_is_replayed_as_the_parent_had(monkeypatch):
    plan = Spec.of("tiny", smalltalk_bytes=70_000).plan()
    monkeypatch.setattr(sft_room, "begin_with", lambda name: SimpleNamespace(plan=plan))
    assert sft_spec("parent", {}, ["smalltalk"], 0.2).data["smalltalk_bytes"] == 70_000
    assert "smalltalk_bytes" not in sft_spec("parent", {}, ["text.txt"], 0.2).data
    assert sft_spec("parent", {"smalltalk_bytes": 9000}, ["smalltalk"]).data["smalltalk_bytes"] == 9000


@pytest.mark.parametrize(
    "adapters", [{}, {"lora_rank": 2, "base_weights": "bf16"}], ids=["all weights", "adapters"]
)
def test_a_fine_tuning_that_was_stopped_or_killed_goes_on_to_the_bit(parent, adapters):
    how = {"replay": ["text.txt"], "share": 0.3, **adapters}
    heard = []
    straight = train_run(spec_of(8, **how), "straight", [heard.append])
    stop = StopAt(3)
    train_run(spec_of(8, **how), "cut", [stop], stop=stop)
    assert checkpoint_bytes(train_run(spec_of(8, **how), "cut", [])) == checkpoint_bytes(straight)
    spec, again = spec_of(8, save_every=2, **how), []
    train_and_kill(spec, "killed", 5)
    killed = train_run(spec, "killed", [again.append])
    assert checkpoint_bytes(killed) == checkpoint_bytes(straight)
    assert trained_lines(killed.run) == trained_lines(straight.run)
    steps = [event.step for event in again if isinstance(event, Trained)]
    assert steps[0] in (3, 5) and steps[-1] == 8, "it went on from a checkpoint"
    beside = [event for event in heard if isinstance(event, EvaluatedBeside)]
    assert len(beside) == len([event for event in heard if isinstance(event, Evaluated)]) == 3
    assert all(event.text.endswith("text.txt") and np.isfinite(event.loss_nats) for event in beside)


def test_a_text_beside_that_changed_is_told_on_resume(parent):
    how = {"replay": ["text.txt"], "share": 0.3}
    stop = StopAt(3)
    train_run(spec_of(8, **how), "cut", [stop], stop=stop)
    Path("text.txt").write_text(Path("text.txt").read_text() + "\n\nOne more hat.\n\n")
    with pytest.raises(CheckpointError, match="text beside the corpus was"):
        train_run(spec_of(8, **how), "cut", [])


def test_texts_are_mixed_by_their_shares_in_training_from_nothing_too(parent):
    spec = small("talk.jsonl", 4, merges=60, seq_len=48, mixed=["text.txt"], shares=[0.75, 0.25])
    outcome = train_run(spec, "mixed", [])
    plan = Plan.from_dict(read_json(outcome.checkpoint / "config.json"))
    assert plan.data.all_shares == [0.75, 0.25] and plan.data.mixed == (str(Path("text.txt").absolute()),)
    assert checkpoint_bytes(train_run(spec, "mixed", [])) == checkpoint_bytes(outcome)


def test_text_without_an_answer_is_refused(parent):
    lines = [json.dumps({"messages": [{"role": "user", "content": f"Only {n}."}]}) for n in range(60)]
    Path("ask.jsonl").write_text("\n".join(lines))
    for data in ("ask.jsonl", "text.txt"):
        with pytest.raises(
            ConfigError, match=f"{data}: no message in it is the assistant's; .* `microgpt train --from`"
        ):
            train_run(spec_of(2, data=data), "a", [])


def test_the_command(parent, monkeypatch, capsys):
    words = [
        "--from",
        "parent",
        "--data",
        "talk.jsonl",
        "--threads",
        "1",
        "--max-steps",
        "2",
        "--sample-every",
        "0",
    ]
    for wrong, line in (
        (words[:2], "needs --from RUN"),
        ([*words, "--replay-share", "0.2"], "name with --replay"),
        ([*words, "--lora-alpha", "3"], "there are no adapters"),
        ([*words, "--data", "x=0.3"], "give each of several texts its share"),
        ([*words[:2], "--data", "talk.jsonl=0.5", "text.txt=0.7"], "shares 0.5 0.7: .* add up to 1"),
        ([*words[:2], "--data", "talk.jsonl=1.5", "text.txt=-0.5"], "shares 1.5 -0.5: .* above 0"),
        ([*words, "--replay", "nowhere.txt"], "nowhere.txt: cannot read"),
        ([*words, "--lora-rank", "9999"], "--lora-rank 9999: expected 1 to"),
        ([*words, "--scu", "auto", "--lora-rank", "9999"], "--lora-rank 9999: expected 1 to"),
    ):
        with monkeypatch.context() as patch, pytest.raises((ConfigError, DataError), match=line):
            patch.setattr(assemble, "open_corpus", lambda *args: pytest.fail("read"))
            sft(wrong)
    assert sft([*words, "--out-dir", "runs/a", "--lora", "--replay", "text.txt"]) == 0
    header = capsys.readouterr().out
    assert " tokens of answers alone (microgpt eval: of all)" in header
    assert "--warmup-steps 30 " in header and "--warmup-steps 2000" not in header
    model, _, _ = load_model("a")
    assert model.config.lora_rank == 8
    plan = Plan.from_dict(read_json(Path("runs/a/step_00000002/config.json")))
    assert plan.data.replay_share == 0.3 and plan.train.answers_only
    for flag in ("--from=x", "--replay-share=0.5", "--lora", "--scu", "--scu-table=x", "--target-s=0.1"):
        with pytest.raises(ConfigError, match=f"{flag.partition('=')[0]}: cannot be changed"):
            sft(["--resume", "a", flag])
    Path("talk.jsonl").rename("moved.jsonl")
    assert sft(["--resume", "a", "--max-steps", "3", "--data", "moved.jsonl"]) == 0
