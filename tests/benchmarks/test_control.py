"""The tables of control and reward: a target that steps, also over a resume, and the family to practise."""

import numpy as np
import pytest

from benchmarks.control import made_pairs, more_and_less_liked, parser, partly_known, right_and_wrong
from microgpt.common.errors import ConfigError
from microgpt.corpus.smalltalk import practice
from microgpt.files.records import read_json
from microgpt.runs.events import Trained
from microgpt.training.run import train_run
from microgpt.tuning.dpo import read_pairs
from tests.training.fakes import StopAt
from tests.training.toys import text  # noqa: F401
from tests.tuning.test_sft import parent, spec_of  # noqa: F401


def test_a_target_steps_once_also_in_a_run_that_was_stopped(parent):  # noqa: F811
    told = {"target_s": 0.02, "to": 0.01, "at": 3}
    spec = spec_of(6, lora_rank=2, lr=0.02, penalty="control that steps", penalty_settings=told)
    heard, stop = [], StopAt(4)
    straight = train_run(spec, "straight", [heard.append])
    train_run(spec, "cut", [heard.append, stop], stop=stop)
    cut = train_run(spec, "cut", [heard.append])
    targets = [event.facts["target"] for event in heard if isinstance(event, Trained)]
    assert targets == [0.02, 0.02, 0.02, 0.01, 0.01, 0.01] * 2
    states = [read_json(run.checkpoint / "state.json")["penalty"] for run in (straight, cut)]
    assert states[0] == states[1] and np.isfinite(states[0]["law"]["strength"])


def test_the_family_in_the_middle_is_practised():
    assert partly_known({"name": 0.9, "order": 0.42, "stories": 0.6, "things": 0.1}) == "stories"
    with pytest.raises(ConfigError, match="no family is at 40% to 70%: name 90%, order 10%"):
        partly_known({"name": 0.9, "order": 0.1})


def test_pairs_are_of_a_right_answer_and_a_wrong_one(parent, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr("benchmarks.control.FAMILIES", ("persona", "opposites"))
    args = parser().parse_args(["--pairs", "4", "--out-dir", str(tmp_path)])
    pairs = read_pairs(made_pairs(args, "parent", "right", right_and_wrong))
    assert len(pairs) == 4 and all(chosen != rejected for _, chosen, rejected in pairs)


def test_a_taste_prefers_what_the_text_reward_likes_and_has_none_where_answers_are_alike():
    question = practice("order", 0, 0)
    long, short = "This is a whole answer of very many different words, which somebody may like.", "no no"
    assert more_and_less_liked(question, ["No", short, long]) == (long, short)
    assert more_and_less_liked(question, [long, long]) is None
