"""Whatever number a flag is given, the answer is one line, and no work is done for what cannot be."""

import argparse
import functools
import itertools

import pytest

from microgpt.__main__ import run
from microgpt.commands import chat, eval, prepare, quickstart, sample, train
from microgpt.model import ModelConfig, architecture, count_parameters
from microgpt.model.presets import PRESETS
from microgpt.runs.settings import TrainConfig
from microgpt.training import assemble
from microgpt.training.needs import memory_estimate

COMMANDS = {  # each ends at once with numbers that are good, too: there is nothing to read
    "train": (train, ["--preset", "tiny", "--data", "nowhere.txt"]),
    "resume": (train, ["--resume", "nowhere"]),
    "eval": (eval, ["nowhere"]),
    "sample": (sample, ["nowhere"]),
    "chat": (chat, ["nowhere"]),
    "prepare": (prepare, ["nowhere.txt"]),
    "quickstart": (quickstart, ["--preset", "none"]),
}
TEXTS = [
    "0",
    "-1",
    "1e400",
    "1" + 20 * "0",
    "9" * 400,
    "-" + "9" * 400,
    "9" * 5000,
    "nan",
    "inf",
    "-inf",
    "",
    "0x10",
    "a\nb",
    "\x1b[31m",
]


def flags_of(command):
    """The flags of a command that take a value other than a choice."""
    for action in command.parser()._actions:
        takes_one = action.option_strings and action.nargs is None and not action.choices
        if takes_one and not isinstance(action, argparse.BooleanOptionalAction):
            yield action.option_strings[-1]


def ended(name, words, capsys):
    """Exit code and what was said."""
    with pytest.raises(SystemExit) as end:
        run("train" if name == "resume" else name, words)
    return end.value.code, capsys.readouterr().err


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_flag_answers_any_value_in_one_line(name, capsys, monkeypatch):
    command, words = COMMANDS[name]
    monkeypatch.setattr(command, "parser", functools.cache(command.parser))  # most of the time goes to it
    for flag, text in itertools.product(flags_of(command), TEXTS):
        if flag == "--write-spec" or (flag == "--out-dir" and (text == "" or name == "quickstart")):
            continue  # good ones
        code, said = ended(name, [*words, f"{flag}={text}"], capsys)
        assert code == 2 and said.count("\n") == 1 and len(said) < 600, (flag, text, said)
        assert said.startswith("microgpt") and said.rstrip("\n").isprintable(), (flag, text, said)


@pytest.mark.parametrize(
    "name, flag, text",
    [
        ("train", "--merges", str(10**26)),
        ("train", "--vocab-size", str(10**26)),
        ("train", "--smalltalk-bytes", str(10**26)),
        ("train", "--batch-size", str(10**26)),
        ("train", "--max-time", "9" * 400),
        ("train", "--max-time", f"{10**20}h"),
        ("resume", "--max-time", "9" * 400),
        ("prepare", "--merges", str(10**26)),
        ("prepare", "--seq-len", str(10**20)),
        ("sample", "--n", str(10**20)),
        ("sample", "--top-k", "-" + "9" * 400),
        ("eval", "--questions", str(10**20)),
    ],
)
def test_a_number_beyond_all_use_is_refused_by_name(name, flag, text, capsys, monkeypatch):
    _, words = COMMANDS[name]
    if name == "resume":
        limit = lambda _, spec, *rest: TrainConfig(max_time=spec.train["max_time"]).time_limit_s  # noqa: E731
        monkeypatch.setattr(train, "resume_run", limit)
    code, said = ended(name, [*words, flag, text], capsys)
    assert code == 2 and flag.strip("-") in said and "nowhere" not in said


@pytest.mark.parametrize(
    "flags",
    [
        ["--n-layer", "1000000"],
        ["--batch-size", str(10**18)],
        ["--batch-size", str(10**18), "--recompute"],
        ["--n-embd", str(1 << 20), "--n-head", str(1 << 16)],
        ["--n-layer", str(10**9), "--vocab-size", "1000"],
    ],
)
def test_what_no_memory_holds_is_refused_before_any_of_it_is_made(flags, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(architecture, "table", lambda config: pytest.fail("a row for each tensor was made"))
    monkeypatch.setattr(assemble, "open_corpus", lambda *_: pytest.fail("the text was read"))
    (tmp_path / "text.txt").write_text("Some text.\n")
    code, said = ended("train", ["--preset", "tiny", "--data", str(tmp_path / "text.txt"), *flags], capsys)
    assert code == 2 and "GB of memory" in said


def test_layers_are_counted_without_making_them_one_by_one():
    for L in (1, 2, 7):
        config = ModelConfig.from_preset("tiny", 300, n_layer=L)
        assert count_parameters(config) == sum(row.size for row in architecture.table(config))
    made = ModelConfig.from_preset("10m", 2188, n_layer=10**9)
    assert count_parameters(made) == pytest.approx(10**9 * 12 * PRESETS["10m"]["n_embd"] ** 2, rel=0.01)


def test_the_estimate_of_a_batch_beyond_all_memory_grows_with_it():
    model = ModelConfig.from_preset("10m", 2188)
    small, large = (memory_estimate(model, TrainConfig(batch_size=n)) for n in (1 << 40, 1 << 62))
    assert large / small == pytest.approx(1 << 22, rel=0.01)
