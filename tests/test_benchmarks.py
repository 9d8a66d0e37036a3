"""The benchmarks run, verify before they time, and refuse what they cannot do in one line."""

import json

import pytest

from benchmarks import ops, step
from microgpt.common.errors import MicrogptError
from microgpt.training.report import peak_memory

TINY = ["--preset", "tiny", "--vocab-size", "300", "--threads", "1", "--steps", "1", "--json"]


def test_a_step_is_measured(capsys):
    step.main(TINY)
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["threads"] == 1 and found["step_s"] > 0 and 0 < found["mfu"] < 1.5
    assert 0 < found["peak_rss_bytes"] <= peak_memory()
    assert found["n_params"] == 34_336


@pytest.mark.parametrize("main, flags, words", [
    (step.main, [*TINY, "--threads", "many"], "--threads many"),
    (step.main, [*TINY, "--steps", "0"], "--steps"),
    (ops.main, ["--threads", "0"], "--threads 0"),
    (ops.main, ["--repeats", "0"], "--repeats 0"),
    (ops.main, ["dance"], "dance"),
])  # fmt: skip
def test_mistakes_are_named(main, flags, words):
    with pytest.raises(MicrogptError, match=words):
        main(flags)
