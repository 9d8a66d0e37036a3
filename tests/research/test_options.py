"""What could be trained instead: every number counted, and a guide's table of options checked against it."""

import dataclasses

import pytest

from microgpt.commands import options as command
from microgpt.common.errors import ConfigError
from microgpt.common.words import format_amount
from microgpt.evaluation.forecast import Forecaster
from microgpt.evaluation.laws import fit
from microgpt.model import count_parameters, flop_per_token
from microgpt.research.options import options
from microgpt.runs.spec import Spec
from microgpt.training.needs import memory_estimate
from tests.evaluation.test_laws import grid, ray, runs_of

DAY = 86_400.0
GUIDE = Spec.of(  # a model of 163.6M parameters, and a plan to make more of it on a card of 24 GB
    "125m-llama",
    n_embd=768,
    n_layer=20,
    n_head=12,
    n_kv_head=4,
    n_inner=2048,
    seq_len=1024,
    batch_size=48,
    dropout=0.0,
).plan(49_152)


@pytest.fixture(scope="module")
def of_guide():
    return {one.name: one for one in options(GUIDE, 24e9, 7 * DAY, 60_000.0)}


def test_the_guides_table_where_it_is_right(of_guide):
    millions = {name: round(one.n_params / 1e6, 1) for name, one in of_guide.items()}
    assert millions["as it is"] == 163.6 and millions["wide"] == 320.9 and millions["deep"] == 264.3
    assert millions["experts"] == 352.4 and millions["recompute"] == 163.6
    assert of_guide["wide"].settings == {"n_embd": 1024, "n_head": 16, "n_layer": 24, "n_inner": 2816}
    assert of_guide["deep"].settings == {"n_layer": 36}
    assert of_guide["wide"].best_tokens == pytest.approx(6.4e9, rel=5e-3)  # 20 tokens for each parameter


def test_the_guides_table_where_it_is_wrong(of_guide):
    assert round(of_guide["experts"].n_active / 1e6, 1) == 210.9  # it says 280
    short, wide = (32, 512), (24, 1024)  # "50 % more tokens per step": they are a third fewer
    assert short[0] * short[1] < wide[0] * wide[1]


def test_each_option_is_counted_as_training_counts_it(of_guide):
    for one in of_guide.values():
        changes = {name: value for name, value in one.settings.items() if name != "recompute"}
        model = dataclasses.replace(GUIDE.model, **changes)
        train = dataclasses.replace(GUIDE.train, recompute="recompute" in one.settings, batch_size=one.batch)
        assert one.n_params == count_parameters(model)
        assert one.memory == memory_estimate(model, train) <= 24e9
        assert 48 * 1024 <= one.tokens_per_step < 1.2 * 48 * 1024
        work = flop_per_token(model) * (4 / 3 if train.recompute else 1)
        assert one.tok_per_s == pytest.approx(60_000 * flop_per_token(GUIDE.model) / work)
        assert one.tokens == pytest.approx(7 * DAY * one.tok_per_s)
    assert of_guide["recompute"].memory < of_guide["as it is"].memory


def test_a_loss_is_foretold_where_something_foretells_it(of_guide):
    assert (
        of_guide["wide"].loss[0] < of_guide["as it is"].loss[0]
        and "published fits" in of_guide["wide"].loss_note
    )
    for name in ("experts", "short window", "short, then long"):
        assert of_guide[name].loss is None and "not known" in of_guide[name].loss_note
    small = Spec("1m").plan(1361)
    assert all(one.loss is None for one in options(small, 1e9, 600.0, 1e4))
    forecaster = Forecaster(fit(grid(noise=0.002)), runs_of(grid()), 100, 0)
    known = options(small, 1e9, 600.0, 3e4, forecaster)[0]
    model = forecaster.of(known.n_params, known.tokens)
    assert known.loss == (model.loss, model.run_low, model.run_high)
    assert known.best_tokens == forecaster.tokens_for(known.n_active)
    assert "too far" in options(small, 1e9, 600.0, 3e7, forecaster)[0].loss_note
    along = Forecaster(fit(ray(noise=0.002)), runs_of(ray()), 100, 0)
    assert "along 4 tokens" in options(small, 1e9, 600.0, 3e4, along)[0].loss_note


def test_what_can_begin_with_the_present_weights(of_guide):
    goes_on = {name for name, one in of_guide.items() if one.weights.startswith("yes")}
    assert goes_on == {"as it is", "recompute", "short window", "short, then long"}
    assert [phase.split(" on ")[0] for phase in of_guide["short, then long"].phases[:2]] == [
        "windows of 512",
        "windows of 1024",
    ]
    tokens = of_guide["short, then long"].tokens
    assert f"on {format_amount(0.9 * tokens)} tokens" in of_guide["short, then long"].phases[0]
    assert f"on {format_amount(0.1 * tokens)} tokens" in of_guide["short, then long"].phases[1]
    learned = dataclasses.replace(GUIDE, model=dataclasses.replace(GUIDE.model, positions="learned"))
    found = {one.name: one for one in options(learned, 24e9, DAY, 1e4)}
    assert found["short window"].weights.startswith("no") and "short, then long" not in found


def test_what_does_not_fit_is_said():
    one = options(GUIDE, 1e9, DAY, 1e4)[0]
    assert one.batch == 0
    assert "too much" in "\n".join(command.lines_of([one], 1e9, "1d"))


def test_the_command(capsys, tmp_path):
    command.main(["--preset", "10m", "--memory", "8GB", "--time", "12h", "--tok-per-s", "4000"])
    out = capsys.readouterr().out
    assert "10M" in out and "in 8 GB and 12h:" in out and "173M" in out  # tokens: 12 h of 4,000 a second
    for words, told in (
        (["--time", "soon"], "expected a time"),
        (["--time", "1h", "--memory", "much"], "expected an amount"),
        (["--time", "1h", "--tok-per-s", "-1"], "above 0"),
        (["--time", "1h", "--preset", "1m", "--spec", str(tmp_path)], "one of the two"),
    ):
        with pytest.raises(ConfigError, match=told):
            command.main(words)
