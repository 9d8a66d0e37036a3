"""Preferences: golden numbers, the gradient, a run that learns them, resumed to the bit."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from microgpt.commands.dpo import main as dpo
from microgpt.commands.dpo import table
from microgpt.common.errors import ConfigError, DataError
from microgpt.model import GPT, IGNORED, ModelConfig
from microgpt.runs.events import Trained
from microgpt.runs.metrics import read_metrics
from microgpt.training.run import train_run
from microgpt.tuning.answers import Answered, log_probs, rows_of
from microgpt.tuning.dpo import dpo_spec, held_out_of, preference, read_pairs
from tests.training.fakes import StopAt
from tests.training.toys import checkpoint_bytes, text  # noqa: F401
from tests.tuning.test_sft import FIXED, parent  # noqa: F401

# By dpo_trainer of TRL, beta and the losses of two pairs.
CHOSEN, REJECTED = np.array([-12.3, -8.1]), np.array([-14.0, -7.9])
CHOSEN_REF, REJECTED_REF = np.array([-12.0, -9.0]), np.array([-13.5, -8.2])
GOLDEN = {0.1: (0.6831972, 0.6635971), 0.5: (0.6443967, 0.5543553)}


@pytest.mark.parametrize("beta", GOLDEN)
def test_the_loss_is_that_of_the_golden_numbers(beta):
    losses, _ = preference(CHOSEN, REJECTED, CHOSEN_REF, REJECTED_REF, beta)
    assert losses == pytest.approx(GOLDEN[beta], abs=1e-7)
    same, _ = preference(CHOSEN, REJECTED, CHOSEN, REJECTED, beta)
    assert same == pytest.approx(math.log(2))


def test_weights_give_the_gradient_of_the_loss():
    """Central differences of the mean loss of pairs, through the model, in float64."""
    model = GPT(ModelConfig(2, 2, 8, 12, 17, init_std=0.3), np.float64).init(1)
    draw = np.random.default_rng(0)
    answered = [
        Answered(draw.integers(0, 17, n).astype(np.int32), draw.integers(0, 17, m).astype(np.int32))
        for n, m in ((2, 5), (4, 3), (2, 2), (4, 8))
    ]
    batch, before = rows_of(answered), np.array([-9.0, -8.0, -6.0, -20.0])

    def loss():
        after = log_probs(model, batch)
        return preference(after[:2], after[2:], before[:2], before[2:], 0.5)

    _, pulls = loss()
    n = int((batch.targets != IGNORED).sum())
    assert n == 18
    weights = np.concatenate([pulls, -pulls])[:, None] * n / 2 * np.ones(batch.ids.shape)
    model.loss_and_grad(batch._replace(weights=weights))
    grads, flat = model.grads.flat / n, model.params.flat
    for i in range(0, flat.size, 37):
        sides = []
        for step in (1e-5, -1e-5):
            flat[i] += step
            sides.append(loss()[0].mean())
            flat[i] -= step
        assert (sides[0] - sides[1]) / 2e-5 == pytest.approx(grads[i], abs=1e-6)


@pytest.fixture
def pairs(parent):  # noqa: F811
    lines = [{"prompt": f"Say {n}.", "chosen": f"It is {n}.", "rejected": f"No {n}."} for n in range(40)]
    path = Path("pairs.jsonl")
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def spec_of(pairs, steps, **settings):
    return dpo_spec(
        "parent", pairs, FIXED | {"max_steps": steps, "batch_size": 4, "eval_every": 6} | settings
    )


def test_what_is_preferred_becomes_likelier_on_pairs_that_were_held_out_too(pairs):
    heard = []
    train_run(spec_of(pairs, 13, lr=0.003), "a", [heard.append])
    told = [event.facts for event in heard if isinstance(event, Trained)]
    assert told[0]["preference_loss"] == pytest.approx(math.log(2), abs=1e-6), "the model it began with"
    assert told[0]["margin"] == pytest.approx(0, abs=1e-5)
    assert told[-1]["preference_loss"] < 0.6 and told[-1]["held_out_margin"] > 0.05
    assert told[-1]["held_out_preferred_share"] > 0.7


@pytest.mark.parametrize("adapters", [{}, {"lora_rank": 2}], ids=["all weights", "adapters"])
def test_a_stopped_run_goes_on_to_the_bit(pairs, adapters):
    spec = spec_of(pairs, 6, **adapters)
    straight = train_run(spec, "straight", [])
    stop = StopAt(3)
    train_run(spec, "cut", [stop], stop=stop)
    assert checkpoint_bytes(train_run(spec, "cut", [])) == checkpoint_bytes(straight)


def test_pairs_that_changed_or_are_none_are_refused(pairs):
    spec = spec_of(pairs, 6)
    stop = StopAt(3)
    train_run(spec, "cut", [stop], stop=stop)
    pairs.write_text(pairs.read_text() + "\n")
    with pytest.raises(ConfigError, match="other pairs than the run began with"):
        train_run(spec, "cut", [])
    with pytest.raises(ConfigError, match="--grad-accum 2"):
        train_run(spec_of(pairs, 2, grad_accum=2), "b", [])
    for wrong in (
        '{"prompt": "a"}',
        "x",
        '{"prompt": "a", "chosen": 3, "rejected": "b"}',
        '{"prompt": [], "chosen": "a", "rejected": "b"}',
        '{"prompt": "a", "chosen": "b", "rejected": ["c", 3]}',
        '{"prompt": [{"role": "bot", "content": "a"}, {"role": "user", "content": "b"}], "chosen": "a", '
        '"rejected": "b"}',
        '{"prompt": [{"role": "user", "content": 3}], "chosen": "a", "rejected": "b"}',
        "[" * 100_000,
    ):
        pairs.write_text(f"{wrong}\n{wrong}\n")
        with pytest.raises(DataError, match=r"pairs.jsonl, line 1: .*expected .\"prompt\""):
            read_pairs(pairs)


def test_several_rejected_answers_make_as_many_pairs_and_a_line_ends_with_its_line(tmp_path):
    lines = [
        {"prompt": "a", "chosen": "b", "rejected": ["c\u2028d", "", "e"]},
        {"prompt": "a", "chosen": "b", "rejected": []},
        {"prompt": "a", "chosen": "b", "rejected": "f"},
    ]
    path = tmp_path / "p.jsonl"
    whole = "\r\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    path.write_bytes(whole.encode("utf-8-sig"))
    assert [other for _, _, other in read_pairs(path)] == ["c\u2028d", "e", "f"]


def test_pairs_of_one_prompt_are_on_one_side():
    prompts = [n // 3 for n in range(60)]
    sides = held_out_of(prompts)
    assert {p for p, is_out in zip(prompts, sides, strict=True) if is_out} == {9, 19} and sides.count(
        True
    ) == 6
    assert held_out_of("abcab") == [False, False, True, False, False]
    assert held_out_of("aa") == [True, True]


def test_one_pass_counts_the_pairs_that_are_learned(pairs):
    assert dpo_spec("parent", pairs, {"batch_size": 6}).train["max_steps"] == 6
    lines = [json.dumps({"prompt": "a", "chosen": "b", "rejected": "c" * n}) for n in (1, 2, 3)]
    pairs.write_text("\n".join(lines))
    with pytest.raises(DataError, match="all pairs answer one prompt"):
        train_run(spec_of(pairs, 2), "a", [])


def test_the_command(pairs, capsys):
    with pytest.raises(ConfigError, match="preferences need --from RUN"):
        dpo(["--from", "parent"])
    words = [
        "--from",
        "parent",
        "--data",
        "pairs.jsonl",
        "--threads",
        "1",
        "--max-steps",
        "2",
        "--beta",
        "0.2",
    ]
    assert dpo([*words, "--eval-every", "1", "--out-dir", "runs/a"]) == 0
    shown = capsys.readouterr().out
    assert "36 to learn from, 4 held out, beta 0.2" in shown and "held-out pairs" in shown
    for flag, value in (("--from", "parent"), ("--data", "other.jsonl"), ("--beta", "0.3")):
        with pytest.raises(ConfigError, match=f"{flag}: cannot be changed where a run goes on"):
            dpo(["--resume", "a", flag, value])
    assert dpo(["--resume", "a", "--max-steps", "3"]) == 0
    table = capsys.readouterr().out.partition("held-out pairs\n")[2].splitlines()
    assert [line.split()[0] for line in table] == ["steps", "0", "1", "2"], "of all sessions"


def test_held_out_pairs_are_written_down_however_seldom_steps_are(pairs, capsys):
    train_run(spec_of(pairs, 5, eval_every=2, log_every=4), "seldom", [])
    logged = [line for line in read_metrics(Path("seldom/metrics.jsonl")) if line["event"] == "train"]
    assert [line["step"] for line in logged] == [1, 3, 4, 5]
    assert len(table(logged)) == 2 + 3


def test_numbers_that_are_none_stand_in_the_table_as_words():
    held_out = {f"held_out_{name}": "nan" for name in ("preferred_share", "margin", "preference_loss")}
    assert table([{"event": "train", "step": 1, "facts": held_out}])[-1].split() == [
        "0",
        "nan%",
        "nan",
        "nan",
    ]


def test_train_goes_on_with_preferences_by_itself():
    told = "import microgpt.commands.train; from microgpt.runs.kinds import PENALTIES, SOURCES; "
    told += "assert 'preferences' in SOURCES and 'scu' in PENALTIES"
    subprocess.run([sys.executable, "-c", told], check=True)
