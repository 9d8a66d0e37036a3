"""Runs count as they were planned, and not as somebody has trained them on."""

import pytest

from microgpt.common.errors import ConfigError
from microgpt.research.as_planned import arrived, newest
from microgpt.research.search import Until
from microgpt.runs.spec import Spec
from microgpt.training.run import resume_run, train_run

TEXT = "".join(f"The {thing} of number {n} is red.\n\n" for n in range(90) for thing in ("hat", "boat"))


def test_a_run_that_left_its_plan_does_not_count_though_it_came_back_to_its_length(write, tmp_path):
    small = {"n_layer": 1, "n_embd": 16, "n_head": 2, "seq_len": 32, "merges": 30, "batch_size": 4}
    quiet = {"threads": "1", "sample_every": 0, "probes": False, "eval_every": 2, "eval_tokens": 256}
    rates = {"max_steps": 6, "schedule": "linear", "warmup_steps": 1}
    spec = Spec.of("tiny", data=str(write("text.txt", TEXT)), **small, **quiet, **rates)
    plan, run = spec.plan(), tmp_path / "run"
    assert newest(plan, run) is None
    two, four = Until(2), Until(4)
    train_run(spec, run, [two.hear], stop=two)
    assert newest(plan, run).state.step == 2 and arrived(plan, run, 2) and not arrived(plan, run, 4)
    resume_run(run, Spec.of(max_steps=20), listeners=[four.hear], stop=four)
    with pytest.raises(ConfigError, match="with other settings, for 20 steps, where 6 steps are planned"):
        newest(plan, run)
    resume_run(run, Spec.of(max_steps=6))
    with pytest.raises(ConfigError, match="with other settings, by other rates from step 4, where 6"):
        newest(plan, run)
