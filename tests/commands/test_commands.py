"""Every command as a shell calls it: help, mistakes, exit codes, closed streams."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from microgpt.__main__ import COMMANDS, main
from microgpt.commands import chat, eval, sample
from microgpt.commands import train as train_command
from microgpt.common.errors import CheckpointError, ConfigError, DataError

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def here(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.delenv("MICROGPT_DATA_DIR", raising=False)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_can_be_printed(name, capsys):
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    said = capsys.readouterr().out
    assert end.value.code == 0 and f"usage: microgpt {name}" in said
    with pytest.raises(SystemExit):
        main(["help", name])
    assert capsys.readouterr().out == said


NEEDLESS = """
import contextlib, io, sys
from microgpt.__main__ import COMMANDS, main

LARGE = {"scipy", "statsmodels", "optuna", "matplotlib", "pandas", "pyarrow", "torch"}
assert not LARGE & set(sys.modules), "microgpt itself imports a large package"
for name in COMMANDS:
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            main([name, "--help"])
    except SystemExit as end:
        assert end.code == 0, f"{name} --help ends with {end.code}"
    assert not LARGE & set(sys.modules), f"{name} --help imports {LARGE & set(sys.modules)}"
"""


def test_help_imports_no_large_package():
    subprocess.run([sys.executable, "-c", NEEDLESS], check=True, cwd=ROOT)


@pytest.mark.parametrize("command", [eval, train_command])
def test_files_that_are_named_one_by_one_add_up(command):
    assert command.parser().parse_args(["--data", "a", "--data", "b", "c"]).files == ["a", "b", "c"]


@pytest.mark.parametrize("command", [chat, sample, eval])
@pytest.mark.parametrize(
    "flags, error, words",
    [
        (["runs/none"], CheckpointError, "runs/none: no such directory"),
        (["runs"], CheckpointError, "no checkpoint in it"),
        (["--threads", "many"], ConfigError, "--threads many"),
    ],
)
def test_mistakes_about_the_model_are_named(command, flags, error, words):
    with pytest.raises(error, match=words):
        command.main([*flags, "-p", "x"] if command is sample else flags)


@pytest.mark.parametrize(
    "command, flags, error, words",
    [
        (chat, ["-t", "-1"], ConfigError, "temperature is -1"),
        (chat, ["--system", "word " * 500], ConfigError, "no room to talk beside a system prompt"),
        (sample, ["--top-p", "0"], ConfigError, "top-p is 0"),
        (sample, ["--chat", "-p", " "], ConfigError, "-p TEXT"),
        (sample, ["--system", "x"], ConfigError, "--system without --chat"),
        (sample, ["--chat", "-p", "x", "--system", "word " * 99], ConfigError, "no room to talk"),
        (eval, ["--data", "no.txt"], DataError, "no.txt"),
    ],
)
def test_mistakes_about_flags_are_named(command, flags, error, words):
    with pytest.raises(error, match=words):
        command.main(flags)


@pytest.mark.parametrize(
    "command, flags, words",
    [
        (chat, ["--temp"], "--temp"),
        (chat, ["--max-tokens", "0"], "'0': expected a whole number from 1 up"),
        (sample, ["--n", "x"], "'x': expected a whole number"),
        (sample, ["--seed", "-5"], "'-5'"),
        (eval, ["--nonsense"], "--nonsense"),
    ],
)
def test_wrong_flags_are_one_line_and_exit_code_2(command, flags, words, capsys):
    with pytest.raises(SystemExit) as stopped:
        command.main(flags)
    err = capsys.readouterr().err
    assert stopped.value.code == 2 and words in err and err.count("\n") == 1


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_microgpt_lists_its_commands(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(words)
    out = capsys.readouterr().out
    assert stopped.value.code == 0 and all(f"\n  {name} " in out for name in COMMANDS)


def test_every_command_has_its_file_and_the_other_way_round():
    files = {path.stem for path in (ROOT / "microgpt").glob("*.py")} - {"__init__", "__main__"}
    assert files <= set(COMMANDS)


def test_microgpt_runs_a_command(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["sample", "-p", "Hi", "--max-tokens", "2", "--seed", "0"])
    assert stopped.value.code == 0 and capsys.readouterr().out.startswith("Hi")


@pytest.mark.parametrize("words", [["dance"], ["chat", "runs/none"], ["eval", "--nonsense"]])
def test_microgpt_ends_mistakes_with_one_line_and_code_2(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(words)
    err = capsys.readouterr().err
    assert stopped.value.code == 2 and err.startswith("microgpt") and err.count("\n") == 1


def python_m(*words, stdin="", **options):
    return subprocess.run(
        [sys.executable, "-m", *words],
        input=stdin,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "PYTHONUTF8": "1"},
        timeout=600,
        **options,
    )


def test_as_programs():
    version = python_m("microgpt", "--version")
    assert (version.returncode, version.stderr) == (0, "") and version.stdout.startswith("microgpt ")
    mistake = python_m("microgpt", "chat", "runs/none")
    assert mistake.returncode == 2 and mistake.stderr.count("\n") == 1 and mistake.stdout == ""
    silent = python_m("microgpt", "chat")
    assert silent.returncode == 0 and silent.stdout == ""


def test_the_tokenizer_is_a_command_too(tmp_path):
    (tmp_path / "a.txt").write_text("low lower lowest " * 9)
    trained = python_m("microgpt", "tokenizer", "train", "a.txt", "--merges", "3", cwd=tmp_path)
    assert (trained.returncode, trained.stderr) == (0, "") and trained.stdout.startswith("tokenizer.json: ")
    alone = [python_m(name, "show", cwd=tmp_path) for name in ("tokenizer", "microgpt.tokenizer")]
    assert alone[0].returncode == 0 and alone[0].stdout == alone[1].stdout != ""


@pytest.mark.parametrize(
    "named, code, says",
    [
        ("a", 0, "vocabulary "),
        ("runs/a/step_00000007", 0, "vocabulary "),
        ("b", 2, "b: no such directory; expected a tokenizer.json, a prepared corpus, or a run"),
        ("tokenizer.json", 2, "tokenizer.json: "),
        ("x" * 300, 2, "x: File name too long; expected a tokenizer.json, "),
    ],
)
def test_the_tokenizer_of_a_run_is_shown(named, code, says, capsys):
    with pytest.raises(SystemExit) as end:
        main(["tokenizer", "show", "--tokenizer", named, "--text", "Hi"])
    out, err = capsys.readouterr()
    assert end.value.code == code and says in out + err and out.count("\n") + err.count("\n") <= 3


def test_names_in_the_current_folder_hide_nothing(tmp_path):
    """A folder that is named like the clone, and a file that is named like one of its folders."""
    (tmp_path / "microgpt").mkdir()
    (tmp_path / "tokenizer.py").write_text("raise SystemExit(9)")
    (tmp_path / "a.txt").write_text("low lower lowest " * 9)
    assert python_m("microgpt", "--version", cwd=tmp_path).returncode == 0
    assert python_m("microgpt", "prepare", "a.txt", "--merges", "3", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(
    "command, code",
    [
        ("train --data a.txt --preset tiny --merges 3 --max-steps 1 --out-dir run", 0),
        ("tokenizer train a.txt --merges 3", 0),
        ("prepare a.txt --merges 3", 0),
        ("prepare missing.txt", 2),
        ("dance", 2),
        ("eval --nonsense", 2),
    ],
)
def test_what_is_meant_for_a_closed_stderr_goes_nowhere(command, code, tmp_path):
    (tmp_path / "a.txt").write_text("low lower lowest\n\n" * 99)
    done = subprocess.run(
        f"{sys.executable} -m microgpt {command} 2>&-",
        shell=True,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path)},
    )
    assert done.returncode == code and bool(done.stdout) == (code == 0)


@pytest.mark.parametrize("closed, code", [("<&-", 0), (">&-", 2), ("2>&-", 0)])
def test_the_tokenizer_alone_has_closed_streams_too(closed, code, tmp_path):
    (tmp_path / "a.txt").write_text("low lower lowest\n\n" * 99)
    done = subprocess.run(
        f"{sys.executable} -m tokenizer train a.txt --merges 3 {closed}",
        shell=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == code and (tmp_path / "tokenizer.json").exists() == (code == 0)


def test_help_is_instant_because_nothing_is_imported():
    code = "import sys; from microgpt.__main__ import HELP; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=600).returncode == 0
