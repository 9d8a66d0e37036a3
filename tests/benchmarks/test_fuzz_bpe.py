"""A short run of benchmarks/fuzz/__main__.py: nothing is found in the tokenizer, and a planted mistake is."""

import shutil
from pathlib import Path

import pytest

from benchmarks.fuzz import __main__, build
from microgpt.common.errors import MicrogptError

CSRC = Path(__file__).parents[2] / "csrc" / "tokenizer"
CASES = {"trainer": 60, "encoder": 80, "tokenizer-json": 40}


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """The build with sanitizers."""
    try:
        build.environment()
        return build.build(tmp_path_factory.mktemp("build"))
    except MicrogptError as error:
        pytest.skip(str(error))


def run(monkeypatch, library, folder, target, n_cases):
    monkeypatch.setattr(__main__, "build", lambda _: library)
    words = [target, "--cases", str(n_cases), "--seed", "1", "--findings", str(folder / "found")]
    return __main__.main(words)


@pytest.mark.parametrize("target", CASES)
def test_nothing_is_found(target, library, tmp_path, monkeypatch, capfd):
    code = run(monkeypatch, library, tmp_path, target, CASES[target])
    out = capfd.readouterr().out
    assert code == 0, out
    assert out.startswith(f"{target}: {CASES[target]} cases, ") and ", 0 findings, seed 1" in out


MISTAKES = {
    "reads one byte too many": ("hash.h", "room < 8", "room < 7", "heap-buffer-overflow"),
    "cuts elsewhere": ("split.h", "j == n || last == i", "last == i", "AssertionError"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MISTAKES)
def test_a_planted_mistake_is_found(name, library, tmp_path, monkeypatch, capfd):
    source, right, wrong, word = MISTAKES[name]
    shutil.copytree(CSRC, tmp_path / "csrc")
    text = (CSRC / source).read_text()
    assert text.count(right) == 1
    (tmp_path / "csrc" / source).write_text(text.replace(right, wrong))
    spoilt = build.build(tmp_path, tmp_path / "csrc")
    monkeypatch.setattr(__main__, "MAX_FINDINGS", 1)
    assert run(monkeypatch, spoilt, tmp_path, "encoder", 100) == 1
    line = capfd.readouterr().out.splitlines()[0]
    assert word in line
    found = Path(line.split()[2].rstrip(":"))
    assert found.is_file() and word in found.with_name(f"{found.name}.report").read_text()
    assert __main__.main(["encoder", "--input", str(found)]) == 1


def test_a_compiler_without_sanitizers_is_one_line(tmp_path, monkeypatch):
    for compiler in ("false", "no-such-compiler"):
        monkeypatch.setenv("CC", compiler)
        with pytest.raises(MicrogptError, match=r"sanitize|no C compiler"):
            __main__.main(["encoder", "--cases", "1"])
