"""microgpt completion, in the shells themselves; and mistyped names of commands and presets."""

import shutil
import subprocess

import pytest

from microgpt.__main__ import COMMANDS, main
from microgpt.commands import completion, train
from microgpt.tokenizer import __main__ as tokenizer


@pytest.fixture(scope="module")
def scripts():
    """What the command prints, by shell."""
    shtab = pytest.importorskip("shtab")
    whole = completion.whole_parser(shtab.FILE, shtab.DIRECTORY)
    return {shell: shtab.complete(whole, shell) for shell in completion.SHELLS}


def test_every_command_is_completed():
    assert {name for name, _ in completion.all_commands()} == set(COMMANDS)


def completed(script, *words):
    """What bash offers for the last of some words."""
    asked = f"COMP_WORDS=(microgpt {' '.join(words)}); COMP_CWORD={len(words)}; _shtab_microgpt"
    text = f"{script}\n{asked} microgpt '{words[-1]}' ''\nprintf '%s\\n' \"${{COMPREPLY[@]}}\""
    found = subprocess.run(["bash", "--norc"], input=text, capture_output=True, text=True, check=True)
    return [word.strip() for word in found.stdout.split()]


def test_bash_completes_commands_flags_and_values(scripts):
    assert completed(scripts["bash"], "tra") == ["train"]
    assert completed(scripts["bash"], "train", "--eval-e") == ["--eval-every"]
    assert "34m-llama" in completed(scripts["bash"], "train", "--preset", "34m")
    assert completed(scripts["bash"], "tokenizer", "enc") == ["encode"]
    assert completed(scripts["bash"], "help", "com") == ["compare", "completion"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_take_it(scripts, shell, tmp_path):
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    (tmp_path / "script").write_text(scripts[shell])
    subprocess.run([shell, "--no-exec" if shell == "fish" else "-n", tmp_path / "script"], check=True)
    assert "eval-every" in scripts[shell] and "34m-llama" in scripts[shell]


def test_the_command_prints_it(capsys):
    pytest.importorskip("shtab")
    assert completion.main(["bash"]) == 0
    assert "_shtab_microgpt" in capsys.readouterr().out


@pytest.mark.parametrize(
    "run, words, meant",
    [
        (main, ["trian"], "train"),
        (main, ["help", "repotr"], "report"),
        (train.main, ["--preset", "10n"], "10m"),
        (train.main, ["--eval-evry", "5"], "--eval-every"),
        (tokenizer.main, ["encod"], "encode"),
        (tokenizer.main, ["train", "x", "--mergs", "5"], "--merges"),
    ],
)
def test_what_may_have_been_meant_is_told(run, words, meant, capsys):
    with pytest.raises(SystemExit) as stop:
        run(words)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and f"(did you mean {meant}?)" in error and error.count("\n") == 1
