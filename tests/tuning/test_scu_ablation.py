"""Control against fixed strengths: what is compared, on what, and that nothing is trained twice."""

import json
from pathlib import Path

import pytest

from microgpt.commands.scu_ablate import main
from microgpt.common.errors import ConfigError
from microgpt.runs.metrics import read_metrics
from tests.training.toys import text  # noqa: F401
from tests.tuning.test_sft import parent  # noqa: F401

FLAGS = {
    "from": "parent",
    "data": "talk.jsonl",
    "target-s": 0.5,
    "max-steps": 6,
    "lr": 0.02,
    "sample-every": 0,
}
FLAGS |= {"eval-every": 6, "threads": 1, "seeds": 1, "out-dir": "out"}
WORDS = [word for flag, value in FLAGS.items() for word in (f"--{flag}", str(value))]


def test_it_compares_control_with_fixed_strengths_and_with_the_parent(parent, capsys):  # noqa: F811
    main([*WORDS, "--json", "--lambdas", "0,50"])
    rows = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert list(rows) == ["lambda 0", "parent", "lambda 50", "controlled"]
    assert rows["parent"]["tokens"] == 0 and len({rows[n]["tokens"] for n in rows if n != "parent"}) == 1
    for name in ("parent", "lambda 50", "controlled"):
        one = rows[name]
        assert one["difference"] == pytest.approx(one["bpb"][0] - rows["lambda 0"]["bpb"][0])
        assert one["documents_low"] <= one["difference"] <= one["documents_high"]
    first, last = (
        line for line in read_metrics(Path("out/lambda-0-seed0/metrics.jsonl")) if line["event"] == "eval"
    )
    assert rows["parent"]["bpb"][0] == pytest.approx(first["bpb"], rel=1e-5), "the answers, as in training"
    assert rows["lambda 0"]["bpb"][0] == pytest.approx(last["bpb"], rel=1e-5)
    control = {one["name"]: one for one in json.loads(Path("out/control.json").read_text())}
    assert control["lambda 0"]["final_s"] > control["lambda 50"]["final_s"] > 0
    assert control["controlled"]["lambda_range"][0] < control["controlled"]["lambda_range"][1]

    made = {path: path.stat().st_mtime_ns for path in Path("out").rglob("model.safetensors")}
    main([*WORDS, "--lambdas", "0,50"])
    shown = capsys.readouterr().out
    assert made == {path: path.stat().st_mtime_ns for path in Path("out").rglob("model.safetensors")}
    assert "above lambda 0, the mean over seeds" in shown and "| controlled | 0 | " in shown
    assert "the target of 50.0000% is above that" in shown


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--stop-after", "2"], "--stop-after: tokens would not be equal"),
        (["--max-time", "9s"], "--max-time: tokens would not be equal"),
        (["--lambdas", "0,-1"], "--lambda-init -1"),
    ],
)
def test_what_cannot_be_compared_is_refused(parent, words, line):  # noqa: F811
    with pytest.raises(ConfigError, match=line):
        main([*WORDS, *words])
    assert not Path("out").exists()
